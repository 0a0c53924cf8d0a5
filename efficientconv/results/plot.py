"""Accuracy against cost, as a picture."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib
import matplotlib.pyplot as plt
from adjustText import adjust_text
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from efficientconv.text import printable

matplotlib.use("Agg")  # no screen is needed

MACS_LABEL = "million MACs of one image (1 MAC = 2 FLOPs)"
TIME_LABEL = "ms per image, measured"
CURVE_LABELS = {"macs": MACS_LABEL, "inference": f"{TIME_LABEL}: inference", "training": f"{TIME_LABEL}: a training step"}


@dataclass(frozen=True)
class Point:
    """A network. `std` of its accuracy over `seeds`, None where there is one run; those of one `series` are comparable."""

    name: str
    cost: float  # what the axis says
    top1_percent: float
    std: float | None = None
    series: str = ""
    seeds: int = 1


def plot(points: Sequence[Point], title: str, cost_label: str) -> bytes:
    """PNG: a point a network on a logarithmic axis of cost, and each series' front of those that none beats in both."""
    figure, axes = plt.subplots(figsize=(6.8, 4.6), layout="constrained")
    series = list(dict.fromkeys(point.series for point in points))
    for name in series:
        _draw_series(axes, [point for point in points if point.series == name], name)
    if len(series) > 1:
        axes.legend(fontsize=8)
    _format(axes, [p.cost for p in points])
    _write_names(axes, points)
    axes.set_xlabel(cost_label)
    axes.set_ylabel("top-1 % on the test images")
    axes.set_title(_text(title))
    return _png(figure)


def plot_curves(points: Sequence[Point], title: str, cost_label: str) -> bytes:
    """PNG: a line a series through all its points, each with its number of seeds, on a logarithmic axis of cost."""
    figure, axes = plt.subplots(figsize=(7.6, 5.2), layout="constrained")
    for number, name in enumerate(dict.fromkeys(point.series for point in points)):
        line = sorted((point for point in points if point.series == name), key=lambda point: point.cost)
        axes.errorbar(
            [p.cost for p in line], [p.top1_percent for p in line], yerr=[p.std or 0.0 for p in line], label=_label(name),
            color=f"C{number % 10}", marker="osD^vPX*"[number % 8], markersize=5, linewidth=1.3, elinewidth=1, capsize=2,
        )  # fmt: skip
        for p in line:
            axes.annotate(
                str(p.seeds), (p.cost, p.top1_percent), (4, -9), textcoords="offset points", fontsize=6, color="0.35"
            )
    _format(axes, [p.cost for p in points])
    axes.legend(fontsize=8, ncols=2)
    axes.set_xlabel(cost_label)
    axes.set_ylabel("top-1 % on the test images")
    axes.set_title(f"{_text(title)}\n(bars: standard deviation over seeds; small figures: how many seeds)", fontsize=10)
    return _png(figure)


def _png(figure: Figure) -> bytes:
    image = io.BytesIO()
    figure.savefig(image, dpi=150)
    plt.close(figure)
    return image.getvalue()


def _draw_series(axes: Axes, points: Sequence[Point], name: str) -> None:
    front = pareto_front(points)
    axes.plot([p.cost for p in front], [p.top1_percent for p in front], color="0.75", linewidth=1, zorder=1)
    axes.errorbar(
        [p.cost for p in points], [p.top1_percent for p in points], yerr=[p.std or 0.0 for p in points],
        fmt="o", label=_text(name), ecolor="0.5", elinewidth=1, capsize=2, zorder=3,
    )  # fmt: skip


def pareto_front(points: Sequence[Point]) -> list[Point]:
    """By cost: each is more accurate than all cheaper ones."""
    front: list[Point] = []
    for point in sorted(points, key=lambda p: (p.cost, -p.top1_percent)):
        if not front or point.top1_percent > front[-1].top1_percent:
            front.append(point)
    return front


def _write_names(axes: Axes, points: Sequence[Point]) -> None:
    """Beside the points, their error bars and each other, with a line where that is not near."""
    names = [axes.text(p.cost, p.top1_percent, _label(p.name), fontsize=9) for p in points]
    ends = [(p.cost, p.top1_percent + side * (p.std or 0.0)) for p in points for side in (-1, 0, 1)]
    x, y = zip(*ends)
    line = {"arrowstyle": "-", "color": "0.6", "linewidth": 0.7}
    spread = {"expand": (1.7, 1.7), "force_static": (0.4, 0.2), "iter_lim": 300}  # by the clock, pictures would differ
    adjust_text(names, x, y, ax=axes, arrowprops=line, min_arrow_len=8, **spread)


def _label(name: str) -> str:
    """The paper's models by their letter."""
    letter, *width = name.split(" ", 1)
    return _text(" ".join([letter.upper() if len(letter) == 1 else letter, *width]))


def _text(text: str) -> str:
    """As it is: matplotlib would take what stands between two $ for a formula."""
    return printable(text).replace("$", r"\$")


def _format(axes: Axes, costs: Sequence[float]) -> None:
    axes.set_xscale("log")
    axes.set_xlim(min(costs) / 1.4, max(costs) * 1.4)
    axes.xaxis.set_major_locator(matplotlib.ticker.LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(matplotlib.ticker.FormatStrFormatter("%g"))
    axes.xaxis.set_minor_formatter(matplotlib.ticker.NullFormatter())
    axes.margins(y=0.2)
    axes.grid(alpha=0.3)
