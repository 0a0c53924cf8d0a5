"""Steps that were measured on a GPU: compared with model A's and with their limit, and as a picture of time and MACs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import matplotlib.pyplot as plt
import torch
from matplotlib.axes import Axes

from efficientconv.gpu_day.training import least_mixing
from efficientconv.models import create_model, model_config
from efficientconv.results.families import family_of
from efficientconv.results.figures import FIGURES
from efficientconv.results.labels import FAINT, label
from efficientconv.results.pictures import MARKERS, STYLE, Picture, log_axes, rendered
from efficientconv.results.table import Column, Table, grouped
from efficientconv.roofline.execution import least_passes
from efficientconv.roofline.expect import BASELINE, Ways, ways_of
from efficientconv.roofline.limit import limit
from efficientconv.roofline.machine import Machine
from efficientconv.roofline.measured import BY_COMPILE_MODE
from efficientconv.roofline.step import Setting, step_of
from efficientconv.roofline.work import Work

IN_TRITON, IN_REFERENCE = ", Triton", ", reference"  # ends of the names of runs with such a layers.backend
OWN_WAY_ON_GPUS = "spatial_bottleneck"  # the layer that layers.backend=auto does not compute as `reference` does

LEAST, MOST = 0.2, 1.1  # the picture shows these MACs over A's


@dataclass(frozen=True)
class MeasuredStep:
    """`over_a`, `macs_over_a`: over those of model A, run the same way on the same images; None: no A."""

    model: str
    layout: str
    run: str
    macs: int
    ms: float
    ms_low: float
    ms_high: float
    peak_mb: float | None
    held_mb: float | None
    over_a: float | None
    macs_over_a: float | None
    share: float | None  # of the limit; None if the machine's peaks are not known
    commit: str | None


COLUMNS = (
    Column("model"),
    Column("run"),
    FIGURES["macs"].column(),
    Column("ms a step (quartiles)", lambda step: f"{step.ms:.2f} ({step.ms_low:.2f} to {step.ms_high:.2f})"),
    Column("time over a's", "over_a", ".2f"),
    Column("share of the limit", "share", ".0%"),
    Column("MB, a step's tensors", "peak_mb", ",.0f"),
    Column("MB held in all", "held_mb", ",.0f"),
)


def steps_of(rows: Sequence[dict], everything: Sequence[dict], machine: Machine | None) -> list[MeasuredStep]:
    """The steps in `rows`. Model A's rows are in `everything`. A has no layers in Triton, so one A serves both backends."""
    baselines = {_like(row): row for row in everything if row["model"] == BASELINE}
    return [_step(row, baselines.get(_like(row)), machine) for row in rows]


def _like(row: dict) -> tuple:
    return row["layout"], row["batch"], row["precision"], row["compiled"]


def _step(row: dict, a: dict | None, machine: Machine | None) -> MeasuredStep:
    over_a, macs_over_a = (None if a is None else row[key] / a[key] for key in ("ms_per_step", "macs"))
    return MeasuredStep(
        row["model"], row["layout"], BY_COMPILE_MODE[row["compiled"]] + _backend(row), row["macs"], row["ms_per_step"],
        row["ms_low"], row["ms_high"], row["peak_mb"], row.get("held_mb"), over_a, macs_over_a,
        share_of_limit(row, machine),
        row.get("commit"),
    )  # fmt: skip


def share_of_limit(row: dict, machine: Machine | None) -> float | None:
    """The share of the limit that a measured step reaches, an inference (time of an image), or mixing (of no model)."""
    if machine is None:
        return None
    if row["model"] is None:
        return 1e3 * limit([least_mixing(row["batch"])], machine, "fp32").seconds / row["ms_per_step"]
    training = "ms_per_step" in row
    ways = _ways(row["model"], Setting(row["batch"], row["precision"], row["layout"], training))
    way = "fused" if _in_triton(row) else "eager" if row.get("compiled", "no") == "no" else "compiled"
    ms = row["ms_per_step"] if training else row["ms_per_image"] * row["batch"]
    return 1e3 * limit(ways[way], machine, row["precision"]).seconds / ms


def share_of_layer(row: dict, machine: Machine | None) -> float | None:
    """The share of the limit that a measured pass of a model's first layer reaches, in training and bf16."""
    if machine is None:
        return None
    forward, backward = _passes_of_layer(row["model"], row["maps"])
    work = forward if row["pass"] == "forward" else backward
    return 1e3 * limit([work], machine, "bf16").seconds / row["ms"]


@cache
def _passes_of_layer(model: str, maps: str) -> tuple[Work, Work]:
    """The least work of each pass. maps: batch x channels x height x width."""
    batch, *shape = map(int, maps.split("x"))
    with torch.device("meta"):
        full: Any = create_model(model, num_classes=1)
        width = shape[0] / full.stages["stage2"].layers[0].conv.in_channels
        narrow: Any = create_model(model, num_classes=1, width=width)
    layer = narrow.stages["stage2"].layers[0]
    return least_passes(step_of(layer, shape, batch, torch.bfloat16, alone=True))


def _in_triton(row: dict) -> bool:
    return row.get("backend") == "triton"


def _backend(row: dict) -> str:
    """The end of the run's name; empty if layers.backend=auto computes the same."""
    if _in_triton(row):
        return IN_TRITON
    stages = model_config(row["model"]).stages.values()
    own_way = any(block.layer == OWN_WAY_ON_GPUS for stage in stages for block in stage.blocks)
    return IN_REFERENCE if own_way and row.get("backend") == "reference" else ""


@cache
def _ways(model: str, setting: Setting) -> Ways:
    return ways_of(model_config(model), setting)


def over_a_tables(steps: Sequence[MeasuredStep]) -> list[Table]:
    """A table for each layout, with a row for each model and a column for each way of running it."""
    compared = grouped((step for step in steps if step.over_a), lambda step: step.layout)
    return [_over_a_table(layout, in_layout) for layout, in_layout in compared.items()]


def _over_a_table(layout: str, steps: Sequence[MeasuredStep]) -> Table:
    times = {(step.model, step.run): step.over_a for step in steps}
    macs = {step.model: step.macs_over_a for step in steps}
    return Table(list(macs), [
        Column(f"{layout}: model", str), Column("MACs over a's", macs.get, ".2f"),
        *(Column(f"time over a's, {run}", lambda model, run=run: times.get((model, run)), ".2f")
          for run in dict.fromkeys(step.run for step in steps)),
    ])  # fmt: skip


def plot(steps: Sequence[MeasuredStep]) -> Picture:
    """A panel for each layout: time over A's against MACs over A's, with the lines of equal time and of time = MACs."""
    shown = [step for step in steps if step.over_a and step.model != BASELINE]
    layouts = grouped(shown, lambda step: step.layout)
    with plt.rc_context(STYLE):
        size = (5.2 * len(layouts), 4.6)
        drawing, panels = plt.subplots(1, len(layouts), figsize=size, layout="constrained", squeeze=False, sharey=True)
        for axes, (layout, in_layout) in zip(panels[0], layouts.items()):
            axes.set_title(f"a step of training, layout {layout}", loc="left")
            axes.set(ylim=(LEAST, 1.2 * max(step.over_a or 0 for step in shown)))
            _draw(axes, in_layout)
        return rendered(drawing)


def _draw(axes: Axes, steps: Sequence[MeasuredStep]) -> None:
    log_axes(axes, "MACs against A's, times", "time of a step against A's, times")
    axes.set(xlim=(LEAST, MOST))
    axes.plot((LEAST, MOST), (LEAST, MOST), color=FAINT, linewidth=1, zorder=1, label="time = MACs")
    axes.plot((LEAST, MOST), (1, 1), ":", color=FAINT, linewidth=1, zorder=1, label="A's time")
    placed = [(step, (step.macs_over_a, step.over_a)) for step in steps if step.macs_over_a and step.over_a]
    for number, run in enumerate(run + end for end in ("", IN_TRITON, IN_REFERENCE) for run in BY_COMPILE_MODE.values()):
        if not (chosen := [(step, place) for step, place in placed if step.run == run]):
            continue
        colours = [family_of(step.model).colour for step, _ in chosen]
        macs, times = zip(*(place for _, place in chosen))
        axes.scatter(macs, times, 26, colours, marker=MARKERS[number], zorder=3)
        axes.scatter([], [], 26, "0.4", marker=MARKERS[number], label=run)
    axes.legend(loc="upper right")  # few networks have more MACs than A
    named = [(step.model, family_of(step.model).colour, place) for step, place in placed]
    label(axes, named, [(place, place) for _, place in placed])
