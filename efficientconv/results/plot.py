"""Pictures of accuracy against cost: PNG and SVG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.axes import Axes

from efficientconv.results.comparable import series_names
from efficientconv.results.configurations import by_configuration
from efficientconv.results.equal_cost import front
from efficientconv.results.families import Family, family_of
from efficientconv.results.figures import FIGURES, Figure
from efficientconv.results.labels import FAINT, Line, Place, label, shown
from efficientconv.results.pictures import STYLE, Picture, log_axis, rendered
from efficientconv.results.record import RunRecord
from efficientconv.results.statistics import Spread, spread
from efficientconv.results.table import grouped

LINES = ("-", "--", ":", "-.")


@dataclass(frozen=True)
class Point:
    """A network. Points of one `series` are comparable. `cost` is in the unit of storage."""

    name: str
    cost: float
    top1: Spread
    series: str = ""

    @classmethod
    def of(cls, name: str, cost: float, runs: Sequence[RunRecord], series: str = "") -> Point:
        return cls(name, cost, spread([run.summary["top1_percent"] for run in runs]), series)


def points_of(records: Sequence[RunRecord]) -> list[Point]:
    """A point for each configuration of finished runs: mean and deviation over its seeds."""
    groups = by_configuration(records)
    firsts = [runs[0] for runs in groups]
    described = zip(_names(firsts), series_names(firsts), groups)
    return [Point.of(name, runs[0].summary["macs"], runs, series) for name, series, runs in described]


def plot(points: Sequence[Point], title: str, cost: Figure, joined: bool = False) -> Picture:
    """A picture with a point for each network on a logarithmic axis of cost, coloured by family.

    A line joins the front of each series. joined: a series is one model at several widths, the line is in its colour, and
    points off it are rings with the model's name.
    """
    scaled = [Point(p.name, p.cost / cost.scale, p.top1, p.series) for p in points]
    with plt.rc_context(STYLE):
        drawing, axes = plt.subplots(figsize=(8, 5.4), layout="constrained")
        axes.set(xscale="log", xlabel=cost.about, ylabel=FIGURES["top1_percent"].about)
        axes.set_title(shown(title), loc="left")
        axes.set_xlim(min(p.cost for p in scaled) / 1.25, max(p.cost for p in scaled) * 1.25)
        axes.margins(y=0.15)
        log_axis(axes.xaxis)
        _draw(axes, scaled, joined, equal="equal MACs" if joined and cost.name == "macs" else None)
        return rendered(drawing)


def pareto_front(points: Sequence[Point]) -> list[Point]:
    """The points that are more accurate than all cheaper points, by cost."""
    return front(points, lambda point: point.cost, lambda point: point.top1.mean)


def _names(records: Sequence[RunRecord]) -> list[str]:
    """The names of the models, with the width if a model has several widths."""
    by_model = grouped(records, lambda record: record.model)
    widths = {model: {record.summary["width"] for record in found} for model, found in by_model.items()}
    return [f"{r.model} x {r.summary['width']:.3g}" if len(widths[r.model]) > 1 else r.model for r in records]


def _draw(axes: Axes, points: Sequence[Point], joined: bool, equal: str | None) -> None:
    """Draws the points. `equal`: the label of vertical lines through the first series."""
    groups = grouped(points, lambda point: point.series)
    series = {name: sorted(group, key=lambda point: point.cost) for name, group in groups.items()}
    paths = [_draw_lines(axes, number, *of_series, joined, len(series)) for number, of_series in enumerate(series.items())]
    behind = [p for line in series.values() for p in line if p not in pareto_front(line)] if joined else []
    for family, of_family in grouped(points, lambda point: family_of(point.name)).items():
        for hollow, those in grouped(of_family, lambda point: point in behind).items():
            _draw_errorbars(axes, those, family, hollow)
    for number, point in enumerate(next(iter(series.values())) if equal else ()):
        axes.axvline(point.cost, color=FAINT, linewidth=0.8, linestyle=":", zorder=0, label="" if number else equal)
    axes.legend(title=_told(points, joined, behind))
    ends = [(name, pareto_front(line)[-1]) for name, line in series.items()] if joined else [(p.name, p) for p in points]
    ends += [(point.series, point) for point in behind]  # no line leads to them
    named = [(name, family_of(p.name).colour, (p.cost, p.top1.mean)) for name, p in ends]
    label(axes, named, [line for path in paths for line in zip(path, path[1:])], [_bar(point) for point in points])


def _told(points: Sequence[Point], joined: bool, behind: Sequence[Point]) -> str:
    """The title of the legend. It stays as short as the entries allow, so that the legend finds room."""
    seeds = sorted({point.top1.n for point in points})
    counted = f"{seeds[0]} seed{'s' * (seeds[0] > 1)}" if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]} seeds"
    lines = "lines: fronts of models; rings: widths off them" if behind else "lines: fronts of models at several widths"
    return f"mean of {counted}; bars: ± standard deviation" + f"\n{lines}" * joined


def _draw_lines(axes: Axes, number: int, name: str, line: list[Point], joined: bool, of: int) -> list[Place]:
    """Draws a line through the front of series `number` of `of`. Returns the corners of the line."""
    path = [(p.cost, p.top1.mean) for p in pareto_front(line)]
    told = "front: no cheaper network is as accurate" + (f"; {name}" if of > 1 else "")
    style: dict[str, Any] = {"color": family_of(name).colour} if joined else {"color": FAINT, "label": shown(told)}
    axes.plot(*zip(*path), LINES[number % len(LINES)], linewidth=1.3, zorder=1, **style)
    return path


def _draw_errorbars(axes: Axes, points: Sequence[Point], family: Family, hollow: bool) -> None:
    """Draws points; hollow ones have no entry in the legend."""
    axes.errorbar(
        [p.cost for p in points], [p.top1.mean for p in points], yerr=[p.top1.std or 0.0 for p in points], fmt="o",
        label="" if hollow else family.title, color=family.colour, markerfacecolor="white" if hollow else family.colour,
        markersize=5, elinewidth=1, capsize=2, zorder=3,
    )  # fmt: skip


def _bar(point: Point) -> Line:
    std = point.top1.std or 0.0
    return (point.cost, point.top1.mean - std), (point.cost, point.top1.mean + std)
