"""The native operators called directly, with what does not fit: they raise or run the reference, in their own memory.

Without sanitizers a fault shows as a crash or not at all; run with them, as test_native_sanitizers.py says, it always does.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from efficientconv.errors import UserError
from efficientconv.layers.operators import ops
from efficientconv.native import build

needs_kernels = pytest.mark.skipif(not build.available(), reason="no C++ compiler")


def _calls() -> dict[str, tuple[str, list]]:
    """A right call of every operator that takes maps: its name and arguments."""
    n, topology, full = torch.randn, ([4, 6], [2, 5], "center"), ([], [], "center")
    sic = [n(2, 17, 6, 6), n(17, 1, 3, 3), n(17, 17, 1, 1), 17, 1, *full]
    connected = [n(2, 24, 6, 6), n(24, 10, 3, 3), 1, *topology]
    cells = [n(2, 16, 6, 6), n(16, 1, 2, 2), n(16, 16, 1, 1), n(16, 1, 2, 2)]

    def end(channels: int, training: bool, residual: Tensor | None) -> list:
        return [residual, *(torch.rand(channels) for _ in range(4)), torch.tensor(0), training, 0.1, 1e-5]

    to_24 = ops.frozen_weight(n(24, 10, 3, 3), torch.rand(24), 24, *topology)
    frozen = [n(17, 1, 3, 3), n(17, 17, 1, 1), n(17), 3, *full]
    found = {"norm_relu": ("norm_relu", [n(2, 17, 6, 6), *end(17, True, n(2, 17, 6, 6))])}
    for training in (True, False):
        for name, arguments in (("sic", sic), ("topological", connected), ("spatial_bottleneck", [*cells, 2, 0])):
            x = arguments[0]
            found[f"{name}_layer, training {training}"] = (f"{name}_layer", [*arguments, *end(x.shape[1], training, x)])
    return found | {
        "sic": ("sic", sic),
        "sic, topology": ("sic", [n(2, 12, 6, 6), n(24, 1, 5, 5), n(24, 10, 1, 1), 12, 2, *topology]),
        "sic_backward": ("sic_backward", [n(2, 17, 6, 6), *sic, [True] * 3]),
        "topological": ("topological", connected),
        "topological_backward": ("topological_backward", [n(2, 24, 6, 6), *connected, [True] * 2]),
        "spatial_bottleneck": ("spatial_bottleneck", [*cells, 2, 0]),
        "spatial_bottleneck_backward": (
            "spatial_bottleneck_backward", [n(2, 16, 6, 6), *cells, n(2, 16, 3, 3), n(2, 16, 3, 3), 2, 0, [True] * 4]
        ),
        "stem": ("stem", [n(2, 3, 6, 6), n(10, 3, 3, 3), 1, 1, *(torch.rand(10) for _ in range(4)), 0.1, [2, 2, 0]]),
        "frozen_weight": ("frozen_weight", [n(24, 10, 3, 3), torch.rand(24), 24, *topology]),
        "frozen_layer": ("frozen_layer", [n(2, 17, 6, 6), n(2, 17, 6, 6), *frozen]),
        "frozen_layer, topology": ("frozen_layer", [n(2, 24, 6, 6), None, None, to_24, n(24), 3, *topology]),
        "frozen_spatial_bottleneck": ("frozen_spatial_bottleneck", [cells[0], cells[0], *cells[1:], n(16), 2, 0]),
        "max_pool": ("max_pool", [n(2, 3, 6, 6), [2, 2, 0]]),
    }  # fmt: skip


LARGEST = {"sic": 2, "topological": 1, "spatial_bottleneck": 2}  # the place of the weights between all channels


@needs_kernels
@pytest.mark.parametrize("frozen", ["x", "largest", "weights", "x and first"])
@pytest.mark.parametrize("whole", [False, True], ids=["operator", "layer"])
@pytest.mark.parametrize("name", LARGEST)
def test_gradients_that_nobody_wants_are_not_computed(name: str, whole: bool, frozen: str) -> None:
    operator, arguments = _calls()[f"{name}_layer, training True" if whole else name]
    largest, inputs = LARGEST[name], 4 if name == "spatial_bottleneck" else LARGEST[name] + 1
    places = {"x": {0}, "largest": {largest}, "weights": {*range(1, inputs)}, "x and first": {0, *range(1, largest)}}[frozen]

    def gradients(places: set[int]) -> tuple[Tensor | None, ...]:
        given = [a.detach().clone().requires_grad_(i not in places) for i, a in enumerate(arguments[:inputs])]
        given += arguments[inputs:]
        if whole:
            given[-9] = given[0]  # the residual
        y = getattr(ops, operator)(*given)
        y = y if isinstance(y, Tensor) else y[0]
        with torch.no_grad():  # else they could be differentiated again, and would be those of the reference
            others = [None, None] if whole or name == "spatial_bottleneck" else []
            return y.grad_fn(y.detach(), *others)

    found, full = gradients(places), gradients(set())
    assert (found[largest] is None) == (largest in places)
    if not (whole and name == "sic"):  # of which one kernel computes all, unless the largest weights are frozen
        alone = name == "topological" or name == "spatial_bottleneck" and not whole  # otherwise with the first filters'
        assert (found[0] is None) == (places >= ({0} if alone else {0, 1}))
    for place in set(range(inputs)) - places:
        if whole and name == "sic":  # in another order of the sums
            torch.testing.assert_close(found[place], full[place], rtol=1e-4, atol=1e-4)
        else:
            assert torch.equal(found[place], full[place])


TENSOR_FAULTS = {
    "a channel fewer": lambda t: t[:, :-1].contiguous() if t.dim() > 1 else t[:-1].contiguous(),
    "a channel more": lambda t: torch.cat([t, t[:, :1]], 1) if t.dim() > 1 else torch.cat([t, t[:1]]),
    "the first row alone": lambda t: t[:1].clone(),
    "another dimension": lambda t: t[None],
    "a dimension fewer": lambda t: t.flatten(),
    "one element": lambda t: t.flatten()[:1].clone(),
    "no element": lambda t: t[:0].clone(),
    "columns missing": lambda t: t[..., :-1].contiguous(),
    "double": lambda t: t.double(),
    "integers": lambda t: t.int(),
    "on another device": lambda t: t.to("meta"),
    "every other element": lambda t: torch.stack([t, t], -1)[..., 0],
    "negated lazily": lambda t: torch._neg_view(t),
    "zeros without memory": lambda t: torch._efficientzerotensor(t.shape),
    "sparse": lambda t: t.to_sparse(),
}  # fmt: skip


def _differentiable(t: Tensor) -> Tensor:
    return t.detach().clone().requires_grad_()


def _worked_or_refused(name: str, args: list) -> None:
    """Either is fine where the sanitizers, or the process's life, say that only its own memory was touched."""
    args = [_differentiable(a) if isinstance(a, Tensor) and a.is_floating_point() and a.dim() > 1 else a for a in args]
    try:
        found = getattr(ops, name)(*args)
        first = found[0] if isinstance(found, tuple) else found
        if isinstance(first, Tensor) and first.requires_grad:
            first.sum().backward()
    except (RuntimeError, IndexError, NotImplementedError, TypeError, ValueError, UserError):
        pass


def _is_float(argument: object) -> bool:
    return isinstance(argument, Tensor) and argument.is_floating_point()


def _wrong(argument: object) -> Iterator[object]:
    """What may stand in the place of an argument."""
    if _is_float(argument):
        yield from (fault(argument.detach()) for fault in TENSOR_FAULTS.values())
    elif type(argument) is int:
        yield from (-1, 0, 2, 5, 1000)
    elif isinstance(argument, list):  # a pool, or a topology's dimensions or connections
        yield from ([0, 2, 0], [2, 0, 0], [2, 2, 2], [7, 2, 0], [2, 2, -1], [2, 2], [6, 4], [-4, -6], [24], [2**62, 4], [])
    elif isinstance(argument, str):
        yield from ("corner", "middle", "")
    elif argument is None:
        yield torch.randn(2, 17, 6, 6)


@needs_kernels
@pytest.mark.parametrize("call", _calls())
def test_operators_called_with_wrong_arguments_touch_their_own_memory_only(call: str):
    name, right = _calls()[call]
    getattr(ops, name)(*right)
    for place, argument in enumerate(right):
        for wrong in _wrong(argument):
            _worked_or_refused(name, [*right[:place], wrong, *right[place + 1 :]])
