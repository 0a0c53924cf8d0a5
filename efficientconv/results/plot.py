"""Accuracy against cost, as pictures: PNG and SVG."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import matplotlib
import matplotlib.pyplot as plt
from adjustText import adjust_text
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawing

from efficientconv.results.families import family_of
from efficientconv.results.figures import FIGURES, Figure
from efficientconv.results.record import RunRecord
from efficientconv.results.statistics import Spread, spread
from efficientconv.text import printable

matplotlib.use("Agg")  # no screen is needed

GREY, FAINT = "0.45", "0.75"
STYLE = {
    "font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.alpha": 0.25,
    "svg.hashsalt": "efficientconv",
}  # fmt: skip
Picture = Mapping[str, bytes]  # .png and .svg
Place = tuple[float, float]


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


def label(axes: Axes, named: Sequence[tuple[str, str, Place]], avoid: Sequence[Place]) -> None:
    """Names in their colours, beside their places, those of `avoid` and each other; a line leads there where it is far."""
    texts = [axes.text(*place, shown(name), color=colour, fontsize=9) for name, colour, place in named]
    line = {"arrowstyle": "-", "color": FAINT, "linewidth": 0.7}
    spread = {"expand": (1.5, 1.6), "force_static": (0.3, 0.3), "iter_lim": 600}  # by the clock, pictures would differ
    adjust_text(texts, *zip(*avoid), ax=axes, arrowprops=line, min_arrow_len=6, **spread)


def shown(name: str) -> str:
    """The paper's models by their letter; `$` as it is: matplotlib would take what stands between two for a formula."""
    letter, *width = printable(name).split(" ", 1)
    return " ".join([letter.upper() if len(letter) == 1 else letter, *width]).replace("$", r"\$")


def _drawn(draw: Callable[[Axes], None], title: str, cost: Figure) -> Picture:
    with plt.rc_context(STYLE):
        drawing, axes = plt.subplots(figsize=(8, 5.4), layout="constrained")
        axes.set_xscale("log")
        axes.set_xlabel(cost.about)
        axes.set_ylabel(FIGURES["top1_percent"].about)
        axes.set_title(printable(title).replace("$", r"\$"), loc="left")
        draw(axes)
        return rendered(drawing)


def _scaled(points: Sequence[Point], cost: Figure) -> list[Point]:
    return [Point(p.name, p.cost / cost.scale, p.top1, p.series) for p in points]


def _draw_points(axes: Axes, points: Sequence[Point]) -> None:
    _format(axes, points)
    several = list(dict.fromkeys(point.series for point in points))
    for number, series in enumerate(several):
        front = pareto_front([point for point in points if point.series == series])
        name = "front: no cheaper network is as accurate" + (f"; {series}" if len(several) > 1 else "")
        style = ("-", "--", ":", "-.")[number % 4]
        axes.plot([p.cost for p in front], [p.top1.mean for p in front], style, color=FAINT, label=shown(name), zorder=1)
    for family in dict.fromkeys(family_of(point.name) for point in points):
        _errorbars(axes, [p for p in points if family_of(p.name) == family], family.title, family.colour, fmt="o")
    ends = [(p.cost, p.top1.mean + side * (p.top1.std or 0.0)) for p in points for side in (-1, -0.5, 0, 0.5, 1)]
    label(axes, [(p.name, family_of(p.name).colour, (p.cost, p.top1.mean)) for p in points], avoid=ends)
    _legend(axes, points)


def _draw_curves(axes: Axes, points: Sequence[Point], cost: Figure) -> None:
    _format(axes, points)
    lines = {name: sorted((p for p in points if p.series == name), key=lambda p: p.cost)
             for name in dict.fromkeys(point.series for point in points)}  # fmt: skip
    for number, (name, line) in enumerate(lines.items()):
        style = {"fmt": ("o", "s", "D", "^", "v", "P", "X", "*")[number % 8], "linestyle": "-"}
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
