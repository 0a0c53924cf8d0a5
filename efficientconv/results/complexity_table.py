"""The cost of every model in every layout, and the abstracts' claims about the cost.

The paper's own figures, each with the mark of how sure it is, are read from results/paper.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache

import torch

from efficientconv.complexity import Cost, NetworkCost, count
from efficientconv.config import ModelConfig
from efficientconv.csv_files import csv_rows
from efficientconv.models import LAYOUTS, create_model, image_size_of, list_models, model_config
from efficientconv.models.budget import Fit
from efficientconv.results import paper
from efficientconv.results.figures import FIGURES
from efficientconv.results.table import Column, Row, Table

# AlexNet's pools leave nothing of 32 x 32 pixels
IMPOSSIBLE = {("alexnet", "cifar")}
MACS = FIGURES["macs"]
COST_COLUMNS = [
    Column("model"),
    Column("image", "image_size"),
    *(FIGURES[name].column() for name in ("macs", "params", "activations")),
    MACS.column("stage_macs", "stages' M MACs"),
    Column("vs a", "stage_macs_vs_a"),
    Column("ideal", "ideal_fraction"),
    Column("mark", "ideal_source"),
]


def network_cost(config: ModelConfig, image_size: int | None, num_classes: int) -> NetworkCost:
    """The cost of one image of `image_size` pixels a side (None: the model's own size). Raises UserError: too few pixels."""
    size = image_size_of(config, image_size)
    with torch.device("meta"):  # counting needs only shapes
        return count(create_model(config, num_classes, image_size=image_size), (3, size, size))


@cache
def cost_in(layout: str, model: str) -> tuple[int, NetworkCost]:
    """Pixels a side, and the cost of one image of that size. Raises UserError: an unknown model, too small an image."""
    num_classes, data_size = LAYOUTS[layout]
    config = model_config(model).model_copy(update={"layout": layout})
    return image_size_of(config, data_size), network_cost(config, data_size, num_classes)


def stage_macs(model: ModelConfig, cost: NetworkCost) -> int | None:
    """The MACs of the layers in stages, without the 1x1 layers between them; None for torchvision's networks."""
    layers = (cost.within(f"stages.{stage}.layers") for stage in model.stages)
    return sum(layers, Cost()).macs if model.stages else None


def cost_rows() -> list[Row]:
    """The rows of results/complexity.csv: the cost of each model in each layout that it has."""
    return [_cost_row(model, layout) for layout in LAYOUTS for model in list_models() if (model, layout) not in IMPOSSIBLE]


def _cost_row(model: str, layout: str) -> Row:
    """stage_macs_vs_a: the stages' MACs over those of model A, if the model is comparable with A."""
    (size, cost), config, a = cost_in(layout, model), model_config(model), model_config("a")
    in_stages, ideal = stage_macs(config, cost), paper.figure(model, "stage_macs_vs_a")
    vs_a = f"{in_stages / stage_macs(a, cost_in(layout, 'a')[1]):.4f}" if config.trunk == a.trunk else None
    return {
        "model": model, "layout": layout, "image_size": size, "num_classes": LAYOUTS[layout][0], "width": 1,
        "macs": cost.macs, "params": cost.params, "activations": cost.activations,
        "stage_macs": in_stages, "stage_macs_vs_a": vs_a,
        "ideal_fraction": ideal and ideal.value, "ideal_source": ideal and ideal.source,
    }  # fmt: skip


def ratio_table(costs: Sequence[Row]) -> Table:
    """results/claims.csv: how many times fewer MACs a model has than another network.

    The ratio is as claimed, by the MACs quoted for the other network, and by the MACs counted in torchvision's network. A
    claim is confirmed if the quoted MACs give the claimed ratio, rounded to the claim's decimals.
    """
    macs = {row["model"]: row["macs"] for row in costs if row["layout"] == "imagenet"}

    def quoted(claim: dict[str, str]) -> int:
        return int(claim["quoted_macs_million"]) * 10**6

    def ratio(claim: dict[str, str]) -> float:
        return quoted(claim) / macs[claim["model"]]

    def confirmed(claim: dict[str, str]) -> bool:
        decimals = len(claim["claimed_ratio"].partition(".")[2])
        return f"{ratio(claim):.{decimals}f}" == f"{float(claim['claimed_ratio']):.{decimals}f}"

    return Table(csv_rows(paper.PAPER_DIR / "claims.csv"), [
        Column("model", name="model"),
        Column("against", name="against"),
        Column("claimed", name="claimed_ratio"),
        Column("claimed in", name="claim_source"),
        MACS.column(lambda claim: macs[claim["model"]]),
        MACS.column(quoted, title="its M MACs as quoted", name="quoted_macs"),
        Column("mark", name="quoted_source"),
        Column("ratio", lambda claim: f"{ratio(claim):.2f}", name="ratio_quoted"),
        MACS.column(lambda claim: macs[claim["against"]], title="its M MACs in torchvision", name="counted_macs"),
        Column("ratio", lambda claim: f"{macs[claim['against']] / macs[claim['model']]:.2f}", name="ratio_counted"),
        Column("as quoted", confirmed, lambda found: "confirmed" if found else "not confirmed", name="confirmed"),
    ])  # fmt: skip


def width_table(fits: Mapping[str, Sequence[Fit]]) -> Table:
    """The best width of each model; if it does not meet the budget, also the next best width."""
    rows = [(model, fit) for model, found in fits.items() for fit in (found[:1] if found[0].meets else found[:2])]
    return Table(rows, [
        Column("model", lambda row: row[0]),
        Column("model.width", lambda row: row[1].width, ".9g"),
        MACS.column(lambda row: row[1].macs),
        Column("off", lambda row: row[1].off, "+.2%"),
        Column("", lambda row: "" if row[1].meets else "too far"),
    ])  # fmt: skip


def layer_table(cost: NetworkCost) -> Table:
    return Table([*cost.layers.items(), ("total", cost)], [
        Column("layer", lambda row: row[0]),
        Column("MACs", lambda row: row[1].macs, ","),
        Column("params", lambda row: row[1].params, ","),
        Column("activations", lambda row: row[1].activations, ","),
    ])  # fmt: skip
