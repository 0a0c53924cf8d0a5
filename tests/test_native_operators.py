"""The native operators called directly, with what does not fit: they raise, and touch no memory but their own.

Without sanitizers a fault shows as a crash or not at all; run with them, as test_native_sanitizers.py says, it always does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor

from efficientconv.layers import SICConv2d, SpatialBottleneckConv2d, TopologicalConv2d, Topology
from efficientconv.native import build
from efficientconv.native.plan import stem_plans

needs_kernels = pytest.mark.skipif(not build.available(), reason="no C++ compiler")

TOPOLOGICAL = TopologicalConv2d(24, 24, 3, topology=Topology((4, 6), (2, 5)))
SIC, BOTTLENECK = SICConv2d(17, 17, 3), SpatialBottleneckConv2d(16, 16, 2)
X, W = torch.randn(2, 24, 6, 6), torch.randn(24, 10, 3, 3)  # of TOPOLOGICAL


def plan_with(change: Callable[[list[Tensor]], None]) -> list[Tensor]:
    """The forward plan of TOPOLOGICAL, changed."""
    plan = [t.clone() for t in TOPOLOGICAL.native().plans.forward]
    change(plan)
    return plan


PLAN_FAULTS = {
    "three tensors": lambda plan: plan.pop(),
    "int64": lambda plan: plan.__setitem__(2, plan[2].long()),
    "not contiguous": lambda plan: plan.__setitem__(2, torch.stack([plan[2], plan[2]], 2)[..., 0]),
    "other dimensions": lambda plan: plan.__setitem__(1, plan[1].reshape(-1)),
    "a row too far": lambda plan: plan[2].view(-1)[0].fill_(24 * 9 * 3 * build.lanes()),
    "a row before the first": lambda plan: plan[2].view(-1)[0].fill_(-3 * build.lanes()),
    "a weight too far": lambda plan: plan[3].view(-1)[0].fill_(24 * 10 * 9),
    "a weight before the first": lambda plan: plan[3].view(-1)[0].fill_(-2),
    "a segment too far": lambda plan: plan[0][-1].add_(1),
    "a segment's end too far": lambda plan: plan[1][-1, 2].add_(9),
    "a segment's start before the first": lambda plan: plan[1][0, 1].fill_(-9),
    "a tile fewer": lambda plan: plan.__setitem__(0, plan[0][:-1]),
    "strides too far": lambda plan: plan.__setitem__(3, torch.tensor([1000, 1], dtype=torch.int32)),
    "strides before the first": lambda plan: plan.__setitem__(3, torch.tensor([-9, 1], dtype=torch.int32)),
}


@needs_kernels
@pytest.mark.parametrize("fault", PLAN_FAULTS)
def test_plans_that_would_read_past_their_tensors_are_refused(fault: str):
    ops, good = torch.ops.efficientconv, TOPOLOGICAL.native().plans
    expected = ops.connected(X, None, W, good.forward, good.backward)
    assert torch.equal(ops.convolve(X, None, W, 3, good.forward, 24, (), 0.0, None, False), expected)
    plan = plan_with(PLAN_FAULTS[fault])
    with pytest.raises(RuntimeError, match="plan"):
        ops.convolve(X, None, W, 3, plan, 24, (), 0.0, None, False)
    with pytest.raises(RuntimeError, match="plan"):
        ops.connected(X, None, W, plan, good.backward)
    with pytest.raises(RuntimeError, match="plan"):
        ops.connected(X.clone().requires_grad_(), None, W, good.forward, plan).sum().backward()


@needs_kernels
def test_a_plan_that_is_written_to_is_looked_at_again():
    plan = plan_with(lambda plan: None)
    torch.ops.efficientconv.convolve(X, None, W, 3, plan, 24, (), 0.0, None, False)
    plan[2].add_(24 * 9 * 3 * build.lanes())
    with pytest.raises(RuntimeError, match="plan"):
        torch.ops.efficientconv.convolve(X, None, W, 3, plan, 24, (), 0.0, None, False)


def _calls() -> dict[str, tuple[str, list]]:
    """A right call of every operator that takes maps: its name and arguments."""
    topology, sic, bottleneck = (conv.native().plans for conv in (TOPOLOGICAL, SIC, BOTTLENECK))
    (filters, weight), (reduce, project, expand) = SIC.native_params(), BOTTLENECK.native_params()
    stem = stem_plans(3, 10, 3)
    x17, x16, x3 = torch.randn(2, 17, 6, 6), torch.randn(2, 16, 6, 6), torch.randn(2, 3, 6, 6)

    def vectors(n: int) -> list[Tensor]:
        return [torch.rand(n) for _ in range(4)]

    return {
        "connected": ("connected", [X, None, W, topology.forward, topology.backward]),
        "connected, filters": ("connected", [x17, filters, weight, sic.forward, sic.backward]),
        "connected_layer": (
            "connected_layer", [x17, filters, weight, *vectors(17)[:2], 0.1, True, sic.forward, sic.backward]
        ),
        "norm_layer": ("norm_layer", [x17, x17, *vectors(17)[:2], 0.1]),
        "bottleneck_train": ("bottleneck_train", [x16, reduce, project, expand, 0, bottleneck.forward, bottleneck.backward]),
        "bottleneck_layer": (
            "bottleneck_layer",
            [x16, reduce, project, expand, *vectors(16)[:2], 0.1, True, 0, bottleneck.forward, bottleneck.backward],
        ),
        "track_statistics": ("track_statistics", [*vectors(9)[:2], 7, 0.1, *vectors(9)[:2], torch.tensor(0)]),
        "convolve": ("convolve", [X, None, W, 3, topology.forward, 24, vectors(24), 0.1, X, True]),
        "convolve, filters": ("convolve", [x17, filters, weight, 3, sic.forward, 17, vectors(17), 0.1, x17, True]),
        "reduce": ("reduce", [x16, reduce, 0]),
        "expand": ("expand", [x16, expand, 0, 12, 11, vectors(16), 0.1, torch.randn(2, 16, 12, 11), True]),
        "bottleneck": (
            "bottleneck", [x16, reduce, project, expand, 0, bottleneck.forward, 16, vectors(16), 0.1, x16, True]
        ),
        "stem": ("stem", [x3, torch.randn(10, 3, 3, 3), 1, 1, stem.forward, 10, vectors(10), 0.1, [2, 2, 0]]),
        "max_pool": ("max_pool", [x3, [2, 2, 0]]),
    }  # fmt: skip


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


def _worked_or_refused(name: str, args: list) -> None:
    """Either is fine where the sanitizers, or the process's life, say that only its own memory was touched."""
    args = [a.detach().clone().requires_grad_() if isinstance(a, Tensor) and a.is_floating_point() else a for a in args]
    try:
        found = getattr(torch.ops.efficientconv, name)(*args)
        first = found[0] if isinstance(found, tuple) else found
        if isinstance(first, Tensor) and first.requires_grad:
            first.sum().backward()
    except (RuntimeError, IndexError, NotImplementedError, ValueError):
        pass


def _is_float(argument: object) -> bool:
    return isinstance(argument, Tensor) and argument.is_floating_point()


def _wrong(argument: object) -> Iterator[object]:
    """What may stand in the place of an argument."""
    if _is_float(argument):
        yield from (fault(argument.detach()) for fault in TENSOR_FAULTS.values())
    elif type(argument) is int:
        yield from (-1, 0, 2, 5, 1000)
    elif isinstance(argument, list) and all(type(number) is int for number in argument):
        yield from ([0, 2, 0], [2, 0, 0], [2, 2, 2], [7, 2, 0], [2, 2, -1], [2, 2])
    elif isinstance(argument, list) and all(map(_is_float, argument)):
        yield from ([*argument[:i], wrong, *argument[i + 1 :]] for i, t in enumerate(argument) for wrong in _wrong(t))


@needs_kernels
@pytest.mark.parametrize("call", _calls())
def test_operators_called_with_wrong_arguments_touch_their_own_memory_only(call: str):
    name, right = _calls()[call]
    getattr(torch.ops.efficientconv, name)(*right)
    for place, argument in enumerate(right):
        for wrong in _wrong(argument):
            _worked_or_refused(name, [*right[:place], wrong, *right[place + 1 :]])
