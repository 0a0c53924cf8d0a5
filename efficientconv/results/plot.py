"""Accuracy against MACs, as a picture."""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("Agg")  # no screen is needed

import matplotlib.pyplot as plt  # noqa: E402

from efficientconv.results.run_table import RunRow  # noqa: E402


def plot_accuracy_against_macs(rows: list[RunRow], path: Path, title: str | None = None) -> None:
    """A point a run, named by its model, on a logarithmic axis of MACs; written to `path` (PNG)."""
    figure, axes = plt.subplots(figsize=(6.4, 4.4), layout="constrained")
    macs = [row.macs / 1e6 for row in rows]
    axes.scatter(macs, [row.top1_percent for row in rows], color="tab:blue", zorder=3)
    for row in rows:
        axes.annotate(
            row.model.upper() if len(row.model) == 1 else row.model, (row.macs / 1e6, row.top1_percent),
            textcoords="offset points", xytext=(7, 4),
        )  # fmt: skip
    axes.set_xscale("log")
    axes.set_xlim(min(macs) / 1.6, max(macs) * 1.6)
    axes.xaxis.set_major_locator(matplotlib.ticker.LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(matplotlib.ticker.FormatStrFormatter("%g"))
    axes.xaxis.set_minor_formatter(matplotlib.ticker.NullFormatter())
    axes.set_xlabel("million MACs of one image (1 MAC = 2 FLOPs)")
    axes.set_ylabel("top-1 % on the test images")
    axes.set_title(title or _title(rows))
    axes.margins(y=0.2)
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def _title(rows: list[RunRow]) -> str:
    data = ", ".join(sorted({row.data for row in rows}))
    widths = ", ".join(f"{width:g}" for width in sorted({row.width for row in rows}))
    epochs = ", ".join(map(str, sorted({row.epochs for row in rows})))
    return f"{data}, width {widths}, {epochs} epochs"
