"""Accuracy against cost, as pictures: PNG and SVG."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import matplotlib
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawing

from efficientconv.results.families import family_of
from efficientconv.results.figures import FIGURES, Figure
from efficientconv.results.labels import FAINT, Place, label, shown
from efficientconv.results.record import RunRecord
from efficientconv.results.statistics import Spread, spread

matplotlib.use("Agg")  # no screen is needed

MARKERS, LINES = "osD^v<>Pph*X", ("-", "--", ":", "-.")
STYLE = {
    "font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.alpha": 0.25,
    "svg.hashsalt": "efficientconv",
}  # fmt: skip
Picture = Mapping[str, bytes]  # .png and .svg


@dataclass(frozen=True)
class Point:
    """A network. Points of one `series` are comparable; `cost` as it is stored."""

    name: str
    cost: float
    top1: Spread
    series: str = ""

    @classmethod
    def of(cls, name: str, cost: float, runs: Sequence[RunRecord], series: str = "") -> Point:
        return cls(name, cost, spread([run.summary["top1_percent"] for run in runs]), series)


def plot(points: Sequence[Point], title: str, cost: Figure) -> Picture:
    """A point a network on a logarithmic axis of cost, coloured by family, and each series' front."""
    return _drawn(lambda axes: _draw_points(axes, _scaled(points, cost)), title, cost)


def plot_curves(points: Sequence[Point], title: str, cost: Figure) -> Picture:
    """A line a series through all its points, each with its number of seeds, on a logarithmic axis of cost."""
    return _drawn(lambda axes: _draw_curves(axes, _scaled(points, cost), cost), title, cost)


def pareto_front(points: Sequence[Point]) -> list[Point]:
    """By cost: each is more accurate than all cheaper ones."""
    front: list[Point] = []
    for point in sorted(points, key=lambda p: (p.cost, -p.top1.mean)):
        if not front or point.top1.mean > front[-1].top1.mean:
            front.append(point)
    return front


def rendered(drawing: Drawing, endings: Sequence[str] = (".png", ".svg")) -> Picture:
    """The drawing is closed."""
    images = {}
    for ending in endings:
        image = io.BytesIO()
        metadata = {"Date": None} if ending == ".svg" else {}  # the same picture, the same file
        drawing.savefig(image, format=ending[1:], dpi=150, metadata=metadata)
        images[ending] = image.getvalue()
    plt.close(drawing)
    return images


def log_axis(axis: matplotlib.axis.Axis) -> None:
    """Ticks at 1, 2 and 5 of each power of ten, written out."""
    axis.set_major_locator(matplotlib.ticker.LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(matplotlib.ticker.FormatStrFormatter("%g"))
    axis.set_minor_formatter(matplotlib.ticker.NullFormatter())


def _drawn(draw: Callable[[Axes], None], title: str, cost: Figure) -> Picture:
    with plt.rc_context(STYLE):
        drawing, axes = plt.subplots(figsize=(8, 5.4), layout="constrained")
        axes.set_xscale("log")
        axes.set_xlabel(cost.about)
        axes.set_ylabel(FIGURES["top1_percent"].about)
        axes.set_title(shown(title), loc="left")
        draw(axes)
        return rendered(drawing)


def _scaled(points: Sequence[Point], cost: Figure) -> list[Point]:
    return [Point(p.name, p.cost / cost.scale, p.top1, p.series) for p in points]


def _draw_points(axes: Axes, points: Sequence[Point]) -> None:
    _format(axes, points)
    several, lines = list(dict.fromkeys(point.series for point in points)), [_bar(point) for point in points]
    for number, series in enumerate(several):
        front = [(p.cost, p.top1.mean) for p in pareto_front([point for point in points if point.series == series])]
        name = "front: no cheaper network is as accurate" + (f"; {series}" if len(several) > 1 else "")
        axes.plot(*zip(*front), LINES[number % len(LINES)], color=FAINT, label=shown(name), zorder=1)
        lines += zip(front, front[1:])
    for family in dict.fromkeys(family_of(point.name) for point in points):
        _errorbars(axes, [p for p in points if family_of(p.name) == family], family.title, family.colour, fmt="o")
    _legend(axes, points)
    label(axes, [(p.name, family_of(p.name).colour, (p.cost, p.top1.mean)) for p in points], lines)


def _bar(point: Point) -> tuple[Place, Place]:
    std = point.top1.std or 0.0
    return (point.cost, point.top1.mean - std), (point.cost, point.top1.mean + std)


def _draw_curves(axes: Axes, points: Sequence[Point], cost: Figure) -> None:
    _format(axes, points)
    lines = {name: sorted((p for p in points if p.series == name), key=lambda p: p.cost)
             for name in dict.fromkeys(point.series for point in points)}  # fmt: skip
    for number, (name, line) in enumerate(lines.items()):
        style = {"fmt": MARKERS[number % len(MARKERS)], "linestyle": "-"}
        _errorbars(axes, line, name, family_of(name).colour, **style)
        axes.annotate(shown(name), (line[-1].cost, line[-1].top1.mean), (5, 3), textcoords="offset points",
                      color=family_of(name).colour)  # fmt: skip
    if cost.name == "macs":
        for number, macs in enumerate(p.cost for p in lines[points[0].series]):
            axes.axvline(macs, color=FAINT, linewidth=0.8, linestyle=":", zorder=0, label="" if number else "equal MACs")
    _legend(axes, points)


def _errorbars(axes: Axes, points: Sequence[Point], name: str, colour: str, **style) -> None:
    axes.errorbar(
        [p.cost for p in points], [p.top1.mean for p in points], yerr=[p.top1.std or 0.0 for p in points],
        label=shown(name), color=colour, markersize=5, linewidth=1.3, elinewidth=1, capsize=2, zorder=3, **style,
    )  # fmt: skip


def _legend(axes: Axes, points: Sequence[Point]) -> None:
    seeds = sorted({point.top1.n for point in points})
    counted = f"{seeds[0]} seed{'s' * (seeds[0] > 1)}" if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]} seeds"
    legend = axes.legend(fontsize=8, frameon=False, title=f"mean of {counted}; bars: ± standard deviation")
    legend.get_title().set_fontsize(8)


def _format(axes: Axes, points: Sequence[Point]) -> None:
    costs = [point.cost for point in points]
    axes.set_xlim(min(costs) / 1.25, max(costs) * 1.25)
    axes.margins(y=0.15)
    log_axis(axes.xaxis)
