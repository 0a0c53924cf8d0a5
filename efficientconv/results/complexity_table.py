"""What every model costs in every layout, and the abstracts' claims about it: rows for csv files and for the terminal.

The paper's own figures, each with the mark of how sure it is, are read from results/paper.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from efficientconv.complexity import Cost, NetworkCost, count
from efficientconv.config import ModelConfig
from efficientconv.models import create_model, image_size_of, list_models, model_config
from efficientconv.models.budget import Fit
from efficientconv.results.markdown import csv_rows, csv_text, text_table
from efficientconv.results.paper import PAPER_DIR, figure

# layout: classes, and pixels a side (None: those that the model was drawn for)
LAYOUTS: dict[str, tuple[int, int | None]] = {"imagenet": (1000, None), "cifar": (10, 32)}
# AlexNet's pools leave nothing of 32 x 32 pixels
IMPOSSIBLE = {("alexnet", "cifar")}


@dataclass(frozen=True)
class CostRow:
    """One line of results/complexity.csv. Stages: all the layers in them but the 1x1 ones that change the channels."""

    model: str
    layout: str
    image_size: int
    num_classes: int
    width: int
    macs: int
    params: int
    activations: int
    stage_macs: int | None  # None: torchvision's networks have no such stages
    stage_macs_vs_a: str  # decimal; empty outside model A's trunk
    ideal_fraction: str  # the paper's, projections only; empty where it gives none
    ideal_source: str


@dataclass(frozen=True)
class ClaimRow:
    """One line of results/claims.csv: how many times fewer MACs `model` needs than the network it is set against."""

    model: str
    against: str
    claimed_ratio: str
    claim_source: str
    macs: int
    quoted_macs: int  # of the other network, as commonly quoted
    quoted_source: str
    ratio_quoted: str
    counted_macs: int  # of the other network, counted in torchvision's
    ratio_counted: str
    confirmed: bool  # the quoted MACs give the claimed ratio, rounded as it is


def network_cost(model: str, layout: str) -> tuple[int, NetworkCost]:
    """Pixels a side and the cost of one image of that size.

    Raises:
        UserError: an unknown model; images of the layout's size that the model cannot take.
    """
    num_classes, data_size = LAYOUTS[layout]
    size = image_size_of(model_config(model).model_copy(update={"layout": layout}), data_size)
    with torch.device("meta"):  # shapes are all that counting needs
        network = create_model(model, num_classes, layout=layout, image_size=size)
    return size, count(network, (3, size, size))


def stage_macs(model: ModelConfig, cost: NetworkCost) -> int | None:
    """Of the layers in stages, without the 1x1 layers between them; None for torchvision's networks."""
    layers = (cost.within(f"stages.{stage}.layers") for stage in model.stages)
    return sum(layers, Cost()).macs if model.stages else None


def cost_rows() -> list[CostRow]:
    """A row for each model and layout that go together, a layout at a time."""
    rows = []
    for layout in LAYOUTS:
        baseline = stage_macs(model_config("a"), network_cost("a", layout)[1])
        for model in list_models():
            if (model, layout) not in IMPOSSIBLE:
                rows.append(_cost_row(model, layout, baseline))
    return rows


def _cost_row(model: str, layout: str, baseline: int) -> CostRow:
    size, cost = network_cost(model, layout)
    in_stages = stage_macs(model_config(model), cost)
    ideal = figure(model, "stage_macs_vs_a")
    comparable = model_config(model).trunk == model_config("a").trunk
    return CostRow(
        model, layout, size, LAYOUTS[layout][0], 1, cost.macs, cost.params, cost.activations,
        in_stages, f"{in_stages / baseline:.4f}" if comparable else "",
        ideal.value if ideal else "", ideal.source if ideal else "",
    )  # fmt: skip


def claim_rows(costs: Iterable[CostRow]) -> list[ClaimRow]:
    """The abstracts' ratios beside those that `costs` give, each to two decimals."""
    macs = {row.model: row.macs for row in costs if row.layout == "imagenet"}
    rows = []
    for claim in csv_rows(PAPER_DIR / "claims.csv"):
        ours, other = macs[claim["model"]], macs[claim["against"]]
        quoted, claimed = int(claim["quoted_macs_million"]) * 10**6, claim["claimed_ratio"]
        decimals = len(claimed.partition(".")[2])
        rows.append(
            ClaimRow(
                claim["model"], claim["against"], claimed, claim["claim_source"],
                ours, quoted, claim["quoted_source"], f"{quoted / ours:.2f}", other, f"{other / ours:.2f}",
                confirmed=f"{quoted / ours:.{decimals}f}" == f"{float(claimed):.{decimals}f}",
            )
        )  # fmt: skip
    return rows


# ---------------------------------------------------------------- files and text


def write_csv(path: Path, rows: Sequence[CostRow | ClaimRow]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(csv_text([asdict(row) for row in rows]))


def millions(number: int | None) -> str:
    return "-" if number is None else f"{number / 1e6:,.2f}"


def cost_text(rows: Iterable[CostRow]) -> str:
    header = ("model", "image", "MACs M", "params M", "activations M", "stages' MACs M", "vs a", "ideal", "source")
    return text_table(
        header,
        (
            (
                row.model, row.image_size, millions(row.macs), millions(row.params), millions(row.activations),
                millions(row.stage_macs), row.stage_macs_vs_a or "-",
                row.ideal_fraction or "-", row.ideal_source or "-",
            )
            for row in rows
        ),
    )  # fmt: skip


def claim_text(rows: Iterable[ClaimRow]) -> str:
    header = (
        "model", "against", "claimed", "claimed in", "MACs M", "its MACs M as quoted", "source", "ratio",
        "its MACs M in torchvision", "ratio", "as quoted",
    )  # fmt: skip
    return text_table(
        header,
        (
            (
                row.model, row.against, row.claimed_ratio, row.claim_source, millions(row.macs),
                millions(row.quoted_macs), row.quoted_source, row.ratio_quoted,
                millions(row.counted_macs), row.ratio_counted, "confirmed" if row.confirmed else "not confirmed",
            )
            for row in rows
        ),
    )  # fmt: skip


def width_text(fits: Mapping[str, Sequence[Fit]]) -> str:
    """By model, the one to take first; where it does not meet the budget, the next one beside it."""
    rows = [
        (model, f"{fit.width:.9g}", millions(fit.macs), f"{fit.off:+.2%}", "" if fit.meets else "too far")
        for model, found in fits.items()
        for fit in (found[:1] if found[0].meets else found[:2])
    ]
    return text_table(("model", "model.width", "MACs M", "off", ""), rows)


def layer_text(cost: NetworkCost) -> str:
    entries = [*cost.layers.items(), ("total", cost)]
    return text_table(
        ("layer", "MACs", "params", "activations"),
        ((name, f"{c.macs:,}", f"{c.params:,}", f"{c.activations:,}") for name, c in entries),
    )
