"""The width at which a model costs a budget of MACs.

Widths are k / 512, so that the widest stage of a plain layout has k channels. A width is left out if its channels do not fit
a topology or a pair of layers.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

from efficientconv.complexity import NetworkCost, count
from efficientconv.config import ModelConfig
from efficientconv.errors import UserError
from efficientconv.layers import TopologicalConv2d, Topology
from efficientconv.layers.topology import MAX_RELATIVE_DRIFT
from efficientconv.models.builder import create_model, image_size_of

STEPS = 512  # widths between 0 and 1
LARGEST = 4 * STEPS
FARTHEST = 0.03  # the largest allowed distance from a budget of MACs, as a share of the budget
NEAR = 0.01  # share of the budget: among nearer widths other criteria decide; beyond FARTHEST none is taken


@dataclass(frozen=True)
class Fit:
    """A model at `width`: its cost, and the cost's distance from the budget as a share of the budget (above: positive)."""

    width: float
    macs: int
    off: float
    drift: float  # the largest relative change of a topology's share of connections from its share at width 1

    @property
    def meets(self) -> bool:
        return abs(self.off) <= FARTHEST

    def __str__(self) -> str:
        side = "above" if self.off > 0 else "below"
        return f"width {self.width:g}, {self.macs / 1e6:.3f} M MACs, {abs(self.off):.2%} {side} the budget"


def width_for(model: ModelConfig, budget: float, num_classes: int, image_size: int | None) -> Fit:
    """The width at which `model` costs `budget` MACs, for images of `image_size` pixels a side (None: the layout's own).

    Raises:
        UserError: no width comes within 3 % (the message names the two nearest), or the model has only one width.
    """
    best, *others = fits(model, budget, num_classes, image_size)
    if best.meets:
        return best
    nearest = " and ".join(map(str, [best, *others[:1]]))
    raise UserError(
        f"model.macs={budget:g}: no width of model '{model.name}' comes within {FARTHEST:.0%} of it; the nearest are "
        f"{nearest}: choose one of them with model.width=<width>, or another budget"
    )


def fits(model: ModelConfig, budget: float, num_classes: int, image_size: int | None) -> list[Fit]:
    """The candidates for the nearest width, on both sides of the budget, the best first.

    Widths within 1 % of the budget come first. Among them the order is: topologies that keep their share of connections
    best, then an even k, then the smallest distance. The other widths follow, the nearest first.

    Raises UserError for a model with only one width, and for a budget that no width can reach.
    """
    if model.trunk == "torchvision":
        raise UserError(f"model.macs={budget:g} is for the paper's models; '{model.name}' has width 1 only")
    return sorted(_Search(model, budget, num_classes, image_size).fits(), key=_preference)


def _preference(fit: Fit) -> tuple[bool, float, bool, float]:
    if abs(fit.off) > NEAR:
        return True, 0.0, False, abs(fit.off)
    return False, fit.drift, fit.width * STEPS % 2 == 1, abs(fit.off)


def at_width(model: ModelConfig, width: float) -> ModelConfig:
    """`model` at this width. A budget of MACs is dropped, because the width meets it."""
    return model.model_copy(update={"width": width, "macs": None})


class _Search:
    """The search counts the cost of a width once, on a network with one layer of each kind."""

    def __init__(self, model: ModelConfig, budget: float, num_classes: int, image_size: int | None):
        stages = {name: stage.model_copy(update={"depth": 1}) for name, stage in model.stages.items()}
        self.model, self.shallow = model, model.model_copy(update={"stages": stages, "macs": None})
        self.budget, self.num_classes, self.image_size = budget, num_classes, image_size
        self.found: dict[int, Fit | None] = {}

    def fits(self) -> list[Fit]:
        """The candidates on both sides of the budget. Raises UserError for a budget that no width can reach."""
        k = self._start()
        return [*self._walk(range(k, 0, -1), -1), *self._walk(range(k + 1, LARGEST + 1), 1)]

    def _start(self) -> int:
        """The first step, near the budget: MACs grow with the square of the width, or a little slower."""
        k, seen = STEPS // 4, set()
        while k not in seen:
            seen.add(k)
            fit = next(filter(None, map(self.fit, range(k, LARGEST + 1))), None)
            if fit is None or not 1 <= (k := round(fit.width * STEPS * math.sqrt(self.budget / fit.macs))) <= LARGEST:
                raise UserError(
                    f"model.macs={self.budget:g} is not a cost that model '{self.model.name}' can have at a width from "
                    f"{1 / STEPS:g} to {LARGEST / STEPS:g}; choose another budget"
                )
        return k

    def _walk(self, steps: range, side: int) -> Iterator[Fit]:
        """Fits away from the budget, up to the width from which no drift of a topology's share leads back to the budget."""
        for fit in filter(None, map(self.fit, steps)):
            yield fit
            if fit.off * side > FARTHEST + self._most_drift:
                return

    @property
    def _most_drift(self) -> float:
        blocks = (block for stage in self.model.stages.values() for block in stage.blocks)
        return MAX_RELATIVE_DRIFT if any("topology" in block.args for block in blocks) else 0.0

    def fit(self, k: int) -> Fit | None:
        """The fit of width k / 512; None if the channels do not fit."""
        if k not in self.found:
            self.found[k] = self._fit(k / STEPS)
        return self.found[k]

    def _fit(self, width: float) -> Fit | None:
        size = image_size_of(self.model, self.image_size)
        try:
            with torch.device("meta"):
                network = create_model(self.shallow, self.num_classes, width=width, image_size=self.image_size)
        except UserError:
            return None
        macs = self._deep_macs(count(network, (3, size, size)))
        return Fit(width, macs, macs / self.budget - 1, self._drift(network))

    def _deep_macs(self, cost: NetworkCost) -> int:
        again = (cost.within(f"stages.{name}.layers").macs * (stage.depth - 1) for name, stage in self.model.stages.items())
        return cost.macs + sum(again)

    def _drift(self, network: Any) -> float:
        drifts = [0.0]
        for name, stage in self.model.stages.items():
            asked = [Topology(**block.args["topology"]) for block in stage.blocks if "topology" in block.args]
            got = [conv.topology for conv in network.stages[name].modules() if isinstance(conv, TopologicalConv2d)]
            drifts += [abs(_share(new) / _share(old) - 1) for new, old in zip(got, asked)]
        return round(max(drifts), 9)


def _share(topology: Topology) -> float:
    return topology.fan / topology.channels
