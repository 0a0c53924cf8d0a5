"""Rows of a benchmark as csv, a markdown table and a plot of measured against theoretical speed-up."""

from __future__ import annotations

import math
import os
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import torch

from efficientconv.engine.environment import environment
from efficientconv.results.markdown import csv_text

matplotlib.use("Agg")  # no screen is needed


@dataclass(frozen=True)
class Row:
    """One layer or model in one place. Gains are against the standard layer or model A beside it, in the same run."""

    layout: str
    place: str  # channels x height x width, or the image
    batch: int
    kind: str  # forward or training
    name: str
    macs: float  # of one image
    ms: float  # median of a batch
    ms_low: float  # quartiles
    ms_high: float
    ideal_gain: float  # in MACs
    gain: float  # in time
    share: float  # gain / ideal_gain
    peak_share: float  # of the machine's measured peak; a training step counts three times the MACs of a forward pass
    peak_mb: float  # of memory: tensors, without the kernels' scratch space


def write(
    rows: list[Row], peak: dict[str, float], path: Path, title: str, device: torch.device, repeats: int, command: str
) -> str:
    """path.csv, path.md and path.png; returns the text of the table."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figures = [{k: f"{v:.6g}" if isinstance(v, float) else v for k, v in asdict(row).items()} for row in rows]
    path.with_suffix(".csv").write_text(csv_text(figures))
    parts = [f"# {title}", f"`{command}`", conditions(peak, device, repeats), summary(rows), table(rows)]
    text = "\n\n".join(part for part in parts if part) + "\n"
    path.with_suffix(".md").write_text(text)
    plot(rows, path.with_suffix(".png"), title)
    return text


def conditions(peak: dict[str, float], device: torch.device, repeats: int) -> str:
    facts = environment(device)
    place = facts["gpu"] or f"{facts['cpu']}, {torch.get_num_threads()} threads of {os.cpu_count()} cores"
    load = f", load average {os.getloadavg()[0]:.1f} at the end" if hasattr(os, "getloadavg") else ""
    peaks = "; ".join(f"{name} {2 * macs / 1e9:.0f}" for name, macs in peak.items())
    return (
        f"{place}, torch {torch.__version__}, float32{load}.\n"
        f"Medians of {repeats} interleaved repeats, quartiles in brackets. "
        f"Peak of the library's own, GFLOP/s (2 FLOPs a MAC): {peaks}. Share = measured gain / gain in MACs."
    )


def summary(rows: Iterable[Row]) -> str:
    """Geometric means over the places of a layout; the bottleneck, which the paper derives from SIC, against that too."""
    groups = defaultdict(list)
    for row in rows:
        groups[row.layout, row.batch, row.kind, row.name].append(row)
    lines = ["| layout | batch | pass | name | gain in MACs | measured gain | share |", "|---|---|---|---|---|---|---|"]
    for (*place, name), group in groups.items():
        if len(group) < 2:
            continue
        ideal, gain = mean(r.ideal_gain for r in group), mean(r.gain for r in group)
        lines.append(_line(*place, name, f"{ideal:.2f}", f"{gain:.2f}", f"{gain / ideal:.2f}"))
        if name == "bottleneck 2x2" and (sic := groups.get((*place, "SIC 3x3"))):
            ideal, gain = ideal / mean(r.ideal_gain for r in sic), gain / mean(r.gain for r in sic)
            lines.append(_line(*place, f"{name} against SIC 3x3", f"{ideal:.2f}", f"{gain:.2f}", f"{gain / ideal:.2f}"))
    return "Geometric means over the shapes of a layout:\n\n" + "\n".join(lines) if len(lines) > 2 else ""


def _line(*cells: object) -> str:
    return f"| {' | '.join(map(str, cells))} |"


def table(rows: Iterable[Row]) -> str:
    lines = [
        "| layout | input | batch | pass | name | M MACs | ms | gain in MACs | measured gain | share | of peak | MB |",
        "|" + "---|" * 12,
    ]
    for r in rows:
        lines.append(
            f"| {r.layout} | {r.place} | {r.batch} | {r.kind} | {r.name} | {r.macs / 1e6:.2f} | {r.ms:.2f} "
            f"({r.ms_low:.2f} to {r.ms_high:.2f}) | {r.ideal_gain:.2f} | {r.gain:.2f} | {r.share:.2f} | {r.peak_share:.2f} "
            f"| {r.peak_mb:.1f} |"
        )
    return "\n".join(lines)


def plot(rows: list[Row], path: Path, title: str) -> None:
    """A point a row, and the line on which time follows the MACs."""
    kinds = list(dict.fromkeys(row.kind for row in rows))
    figure, panels = plt.subplots(1, len(kinds), figsize=(5.6 * len(kinds), 5), layout="constrained", squeeze=False)
    names = list(dict.fromkeys(row.name for row in rows))
    for axes, kind in zip(panels[0], kinds):
        for i, name in enumerate(names):
            chosen = [row for row in rows if row.name == name and row.kind == kind]
            marker = "osD^v<>Pph*X"[i % 12]
            axes.scatter([r.ideal_gain for r in chosen], [r.gain for r in chosen], label=name, marker=marker, alpha=0.8)
        ends = [0.8, 1.25 * max(row.ideal_gain for row in rows)]
        axes.plot(ends, ends, color="gray", linewidth=1)
        axes.axhline(1, color="gray", linewidth=0.5)
        axes.set(xscale="log", yscale="log", xlabel="gain in MACs", ylabel="measured gain", title=kind)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(matplotlib.ticker.LogLocator(subs=(1, 2, 5)))
            axis.set_major_formatter(matplotlib.ticker.FormatStrFormatter("%g"))
            axis.set_minor_formatter(matplotlib.ticker.NullFormatter())
        axes.grid(alpha=0.3)
    panels[0][0].legend(fontsize="small")
    figure.suptitle(title)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def mean(values: Iterable[float]) -> float:
    logs = [math.log(v) for v in values]
    return math.exp(sum(logs) / len(logs))
