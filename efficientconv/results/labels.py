"""Puts names beside the points of a picture; places never change.

Names cover no points, lines or other names. A name stands nearest to its own point, or a line leads to it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.transforms import Bbox

from efficientconv.text import printable

Place = tuple[float, float]
Line = tuple[Place, Place]
Array = np.ndarray
RADII, DIRECTIONS = (7, 11, 16, 24, 34, 46, 60, 80), 16  # pixels from a point to its name; number of directions
CLEAR, NEAR = 4, 16  # pixels that stay free around lines and points; a line leads to a name farther away than NEAR
FAINT = "0.75"


def label(axes: Axes, named: Sequence[tuple[str, str, Place]], lines: Sequence[Line], bars: Sequence[Line] = ()) -> None:
    """Writes names in their colours beside their places. Names cover no `lines` and no `bars`.

    A point is a line of no length. A bar belongs to the point in its middle. Where it can, the line from a point to its name
    crosses no other point's bar. Set the limits of the axes and the legend before.
    """
    axes.figure.draw_without_rendering()
    drawn = [box for line in (*lines, *bars) for box in _along(*axes.transData.transform(line))]
    if legend := axes.get_legend():
        drawn.append(legend.get_window_extent().get_points())
    taken, names, leaders = np.array(drawn), np.empty((0, 2, 2)), np.empty((0, 2, 2))
    points = axes.transData.transform([place for _, _, place in named])
    for number, (name, colour, place) in enumerate(named):
        text = axes.text(*place, shown(name), color=colour, fontsize=9, ha="center", va="center")
        point, bars_of_others = points[number], _bars_of_others(axes, bars, points[number])
        others = np.array([*np.delete(points, number, axis=0), *(bar.mean(axis=0) for bar in bars_of_others)])
        along = [box.mean(axis=0) for bar in bars_of_others for box in _along(*bar)]
        crossed = np.concatenate([names, leaders, _sizeless([*others, *along])])
        boxes = list(_boxes(point, np.array(text.get_window_extent().size)))
        covered = np.concatenate([taken, names, leaders])
        free = [box for box in boxes if _inside(box, axes.bbox) and not _overlap(box, covered)]
        box = min(free or boxes[:1], key=lambda box: _misleading(box, point, others, crossed))
        names = np.concatenate([names, [box + [[-CLEAR], [CLEAR]]]])
        text.set_position(tuple(axes.transData.inverted().transform(box.mean(axis=0))))
        if leader := _leader(box, point):
            leaders = np.concatenate([leaders, _along(*leader)])
            axes.plot(*axes.transData.inverted().transform(leader).T, color=FAINT, linewidth=0.7, zorder=2)


def shown(name: str) -> str:
    """The name as shown: a capital letter for the paper's models. `$` is escaped, because matplotlib reads formulas."""
    letter, *width = printable(name).split(" ", 1)
    return " ".join([letter.upper() if len(letter) == 1 else letter, *width]).replace("$", r"\$")


def _boxes(point: Array, size: Array) -> Iterator[Array]:
    """The possible places of a name of this size, the nearest first. A box is its lower and its upper corner."""
    for radius in RADII:
        for step in range(DIRECTIONS):
            angle = 2 * math.pi * step / DIRECTIONS
            direction = np.array([math.cos(angle), math.sin(angle)])
            centre = point + radius * direction + size / 2 * np.clip(1.5 * direction, -1, 1)
            yield np.array([centre - size / 2, centre + size / 2])


def _misleading(box: Array, point: Array, others: Array, crossed: Array) -> tuple[bool, int]:
    """Whether a name there seems to belong to another point, and how much the line to it crosses."""
    if not (leader := _leader(box, point)):
        return any(_distance(box, other) < _distance(box, point) for other in others), 0
    return any(_distance(box, other) <= NEAR for other in others), sum(_overlap(step, crossed) for step in _along(*leader))


def _bars_of_others(axes: Axes, bars: Sequence[Line], point: Array) -> list[Array]:
    """The error bars of all points but this one, whose own bar has it in its middle."""
    return [bar for bar in map(axes.transData.transform, bars) if math.dist(bar.mean(axis=0), point) > 1]


def _sizeless(places: Sequence[Array]) -> Array:
    """Places as boxes of no size, N x 2 x 2."""
    return np.reshape([[place, place] for place in places], (-1, 2, 2))


def _leader(box: Array, point: Array) -> list[Array]:
    """The ends of the line from a point to its name; empty if the name is so near that it needs none."""
    return [point, np.clip(point, *box)] if _distance(box, point) > NEAR else []


def _distance(box: Array, point: Array) -> float:
    return math.dist(point, np.clip(point, *box))


def _along(start: Array, end: Array) -> list[Array]:
    steps = 1 + int(math.dist(start, end) / CLEAR)
    points = (start + (end - start) * step / steps for step in range(steps + 1))
    return [np.array([point - CLEAR, point + CLEAR]) for point in points]


def _inside(box: Array, outer: Bbox) -> bool:
    return bool(np.all(box[0] >= outer.min) and np.all(box[1] <= outer.max))


def _overlap(box: Array, others: Array) -> bool:
    """Whether a box overlaps any of N others, N x 2 x 2."""
    return bool(np.any(np.all((box[0] < others[:, 1]) & (others[:, 0] < box[1]), axis=1)))
