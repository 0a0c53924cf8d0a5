"""Replaces the standard convolutions of a network by layers of this project.

    report = convert(torchvision.models.resnet18(), "sic", exclude=["conv1"], init="svd", shape=(3, 224, 224))
    print(report)

The network keeps its other modules, its names and its devices.
"""

from __future__ import annotations

import inspect
import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
from numbers import Real
from typing import Any

from torch import nn
from torch.nn.parameter import is_lazy

from efficientconv.complexity import Cost, NetworkCost, count
from efficientconv.deploy.folding import copied
from efficientconv.errors import UserError, did_you_mean, refuse_frozen, require_network
from efficientconv.layers import LAYERS, UnravelledConv2d
from efficientconv.layers.base import check_arguments
from efficientconv.layers.geometry import Geometry
from efficientconv.replacement import reason_to_keep, replacement

Choose = Callable[[dict[str, nn.Conv2d]], set[str]]  # the names of those convolutions that the caller chose
INITS = (None, "svd")
TAKEN_OVER = {*Geometry._fields, "bias", "device", "dtype"}  # from the convolution
GIVEN = {"model", "layer", "args", "in_channels", "out_channels"}  # no options of `convert`


@dataclass(frozen=True)
class Converted:
    """The result for the convolution `name` of a network. MACs are 0 if no shape was given."""

    name: str
    reason: str | None  # why it was kept; None: it was replaced
    before: Cost
    after: Cost
    error: float | None  # relative error of the weights, if the new weights approximate the old ones


@dataclass(frozen=True)
class Report:
    """The result of `convert` for each convolution, and the cost of the network. str() has a line for each convolution."""

    layers: list[Converted]
    before: Cost
    after: Cost

    @property
    def replaced(self) -> list[Converted]:
        return [layer for layer in self.layers if layer.reason is None]

    @property
    def skipped(self) -> list[Converted]:
        return [layer for layer in self.layers if layer.reason is not None]

    def __str__(self) -> str:
        width = max((len(layer.name) for layer in self.layers), default=0)
        lines = [f"{layer.name:{width}}  {_outcome(layer)}" for layer in self.layers]
        return "\n".join([*lines, f"{len(self.replaced)} of {len(self.layers)} replaced; {_change(self)}"])


def convert(
    model: nn.Module,
    layer: str,
    *,
    include: Iterable[str] | None = None,
    exclude: Iterable[str] = (),
    where: Callable[[str, nn.Conv2d], bool] | None = None,
    init: str | None = None,
    shape: Sequence[int] | None = None,
    budget: float | None = None,
    **args: object,
) -> Report:
    """Replaces standard convolutions of `model` by the registered `layer`, in place. Returns a report of each convolution.

        print(convert(torchvision.models.resnet18(), "sic", exclude=["conv1"], init="svd", shape=(3, 224, 224)))

    The new layer has the convolution's name, channels, kernel, stride, padding, dilation, groups, bias, device, dtype, mode
    and backend. 1 x 1 and depthwise convolutions are kept, and also those that the layer cannot replace: the report says
    why.

    Args:
        layer: "sic", "unravelled", ...: a name in `efficientconv.layers.LAYERS`.
        include, exclude: patterns, as in a shell, of names that `model.named_modules()` has: "layer1.*";
            a string is one pattern. include=None: all.
        where: a function of a name and a convolution that passed `include` and `exclude`; False keeps the convolution.
        init: None: the layer's own random weights. "svd", for sic and unravelled: the nearest approximation of the
            convolution's weights; exact with bases=k * k.
        shape: (channels, height, width) of an image, for MACs in the report; None: the report has parameters only.
        budget: MACs that the network may cost for an image of `shape`. "unravelled" layers get as many bases as the
            budget allows, at most k * k.
        args: the layer's own: bases=4, topology=...
    Raises:
        UserError: an unknown layer, argument, init or pattern; a `model` that is itself a convolution; a budget that is too
            small for one basis. The model is then unchanged.
    """
    require_network(model, "convert")
    refuse_frozen(model, "converted")
    if any(map(is_lazy, model.parameters())):
        raise UserError("convert: the model has parameters without a shape yet; run it on one image first")
    include, exclude = None if include is None else _patterns(include), _patterns(exclude)
    choose = partial(_chosen, include=include, exclude=exclude, where=where)
    if budget is not None:
        args = args | {"bases": _bases_within(budget, model, layer, args, choose, shape)}
    return _converted(model, layer, init, args, choose, shape)


def _converted(
    model: nn.Module, layer: str, init: str | None, args: dict[str, object], choose: Choose, shape: Sequence[int] | None
) -> Report:
    convolutions = {name: module for name, module in model.named_modules() if isinstance(module, nn.Conv2d)}
    _check(layer, args, init, convolutions)
    chosen = choose(convolutions)
    uses = Counter(p for module in model.modules() for p in module.parameters(recurse=False))
    before, new, reasons, errors = _costs(model, convolutions, shape), {}, {}, {}
    for name, conv in convolutions.items():
        reasons[name] = reason_to_keep(conv, uses) if name in chosen else "not chosen"
        if reasons[name] is None:
            try:
                new[conv], errors[name] = replacement(layer, conv, init, args)
            except UserError as error:
                reasons[name] = str(error)
    for name, module in list(model.named_modules(remove_duplicate=False)):
        if module in new:
            model.set_submodule(name, new[module])
    after = _costs(model, convolutions, shape)
    layers = [Converted(name, reasons[name], before[name], after[name], errors.get(name)) for name in convolutions]
    return Report(layers, before[""], after[""])


def _bases_within(
    budget: float, model: nn.Module, layer: str, args: dict[str, object], choose: Choose, shape: Sequence[int] | None
) -> int:
    """The largest number of bases within the budget. Each basis of a layer costs the same, so that one count is enough."""
    if layer != "unravelled" or "bases" in args or shape is None:
        raise UserError("convert: a budget chooses the bases of 'unravelled' layers; give the image's shape and no bases")
    if not isinstance(budget, Real) or not math.isfinite(budget):
        raise UserError(f"convert: budget={budget!r} is no number of MACs")
    one = _converted(copied(model), layer, None, args | {"bases": 1}, choose, shape)
    each = sum(replaced.after.macs for replaced in one.replaced)
    if budget < one.after.macs:
        raise UserError(
            f"convert: with one basis a channel the network costs {one.after.macs:,} MACs, more than budget={budget:g}; "
            "choose a larger budget, or exclude fewer convolutions"
        )
    kernels: Any = [model.get_submodule(replaced.name).kernel_size for replaced in one.replaced]
    most = max(map(math.prod, kernels), default=1)
    return min(1 + int((budget - one.after.macs) // each), most) if each else 1


def _check(layer: str, args: dict, init: str | None, convolutions: dict[str, nn.Conv2d]) -> None:
    own = inspect.signature(LAYERS.get(layer)).parameters.keys() - TAKEN_OVER
    known = [name for name in (own | inspect.signature(convert).parameters.keys()) if name not in GIVEN]
    for name in args:
        if name in TAKEN_OVER:
            raise UserError(f"convert: {name}={args[name]!r} cannot be chosen: a layer has its convolution's")
        if name not in known:
            raise UserError(f"convert: layer '{layer}' has no argument '{name}': {did_you_mean(name, known)}")
    check_arguments(layer, LAYERS.get(layer), {"kernel_size": 3, **args})
    if init not in INITS:
        raise UserError(f"convert: unknown init {init!r}: {did_you_mean(init, ['svd'])}, or None")
    if init == "svd" and (not issubclass(LAYERS.get(layer), UnravelledConv2d) or args.get("topology") is not None):
        raise UserError("convert: init='svd' is for sic and unravelled layers without a topology; choose one, or init=None")
    if "" in convolutions:
        raise UserError("convert: the model is itself a convolution; give the network that holds it")


def _chosen(
    convolutions: dict[str, nn.Conv2d],
    include: list[str] | None,
    exclude: list[str],
    where: Callable[[str, nn.Conv2d], bool] | None,
) -> set[str]:
    wanted = include or []
    matched = {pattern: {n for n in convolutions if fnmatchcase(n, pattern)} for pattern in [*wanted, *exclude]}
    for pattern, names in matched.items():
        if not names:
            raise UserError(f"convert: no convolution is named '{pattern}': {did_you_mean(pattern, convolutions)}")
    chosen = set(convolutions) if include is None else set().union(*(matched[pattern] for pattern in wanted))
    chosen = chosen.difference(*(matched[pattern] for pattern in exclude))
    return {name for name in chosen if where is None or where(name, convolutions[name])}


def _patterns(names: str | Iterable[str]) -> list[str]:
    patterns = list(names) if isinstance(names, Iterable) and not isinstance(names, str) else [names]
    if not all(isinstance(pattern, str) for pattern in patterns):
        raise UserError(f"convert: names of convolutions are strings such as 'layer1.*', got {patterns}")
    return patterns


def _costs(model: nn.Module, names: Iterable[str], shape: Sequence[int] | None) -> dict[str, Cost]:
    """The cost of each module and, under "", of the whole network."""
    counted = NetworkCost() if shape is None else count(model, shape)
    macs = {"": counted.macs} | {name: counted.within(name).macs for name in names}
    return {name: Cost(macs[name], sum(p.numel() for p in model.get_submodule(name).parameters())) for name in macs}


def _outcome(layer: Converted) -> str:
    if layer.reason is not None:
        return f"stays: {layer.reason}"
    error = "" if layer.error is None else f"; weights off by {layer.error:.1%}"
    return _change(layer) + error


def _change(what: Converted | Report) -> str:
    params = f"{what.before.params:,} -> {what.after.params:,} parameters"
    macs = f"{what.before.macs / 1e6:,.2f} -> {what.after.macs / 1e6:,.2f} M MACs, " if what.before.macs else ""
    return macs + params
