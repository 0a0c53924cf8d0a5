"""Kinds of operation that were measured on a GPU, beside their least time by the GPU's data sheet."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt

from efficientconv.results.pictures import STYLE, Picture, rendered
from efficientconv.results.table import Column, Table
from efficientconv.roofline.limit import limit
from efficientconv.roofline.machine import Machine
from efficientconv.roofline.work import Work

COLOURS = {"bf16": "#0072b2", "fp32": "#e69f00"}


def share(row: dict, machine: Machine | None) -> float | None:
    """The share of the limit that the measured time reaches. None for a launch, and if the machine's peaks are unknown."""
    if machine is None or row["kind"] == "launch":
        return None
    work = Work(row["kind"], row["flops"], row["bytes"])
    return 1e3 * limit([work], machine, row["precision"]).seconds / row["ms"]


def table(rows: Sequence[dict], machine: Machine | None) -> Table:
    return Table(rows, [
        Column("operation"), Column("precision"),
        Column("GFLOP", lambda row: row["flops"] / 1e9, ",.2f"), Column("MB", lambda row: row["bytes"] / 1e6, ",.0f"),
        Column("ms", show=".4f"), Column("TFLOP/s", "tflop_per_s", ",.1f"),
        Column("GB/s", "gb_per_s", ",.0f"), Column("share of the limit", lambda row: share(row, machine), ".0%"),
    ])  # fmt: skip


def plot(rows: Sequence[dict], machine: Machine) -> Picture:
    """A bar for each operation and precision, in percent of the limit."""
    names = list(dict.fromkeys(row["operation"] for row in rows if row["kind"] != "launch"))
    with plt.rc_context(STYLE):
        drawing, axes = plt.subplots(figsize=(8, 0.32 * len(names) + 1.2), layout="constrained")
        for number, (precision, colour) in enumerate(COLOURS.items()):
            chosen = [row for row in rows if row["precision"] == precision and row["kind"] != "launch"]
            places = [names.index(row["operation"]) + 0.4 * (number - 0.5) for row in chosen]
            axes.barh(places, [100 * share(row, machine) for row in chosen], 0.38, color=colour, label=precision)
        axes.set_yticks(range(len(names)), names)
        axes.invert_yaxis()
        axes.set(xlabel="share of the limit that memory and arithmetic leave, %", xlim=(0, 100))
        axes.set_title(f"operations of model C, against {machine.name}'s data sheet", loc="left")
        axes.legend(loc="lower right")
        return rendered(drawing)
