"""Rows of a benchmark as csv, a markdown page, and a picture of measured against theoretical speed-up.

A row is a layer or model at one shape, compared with the standard layer or model A of the same run (scripts/benchmark.py).
"""

from __future__ import annotations

import os
import statistics
from collections.abc import Mapping, Sequence
from operator import itemgetter
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import torch
from matplotlib.axes import Axes

from efficientconv.benchmark import FORMATS
from efficientconv.benchmark.subjects import LAYER_MODELS
from efficientconv.csv_files import read_rows, rows_in, typed
from efficientconv.info import environment
from efficientconv.results.families import family_of
from efficientconv.results.figures import FIGURES
from efficientconv.results.labels import FAINT, Place, label
from efficientconv.results.pages import page, sections, write_files
from efficientconv.results.pictures import MARKERS, STYLE, Picture, log_axes, rendered
from efficientconv.results.table import Column, Row, Table, grouped
from efficientconv.roofline.peaks import OF_LIMIT, Peaks

PANEL_AND_NAME, GAINS = itemgetter("layout", "batch", "kind", "name"), itemgetter("ideal_gain", "gain")  # of a row
MODEL_OF = {name: model for model, name in LAYER_MODELS.items()}

COLUMNS = [
    Column("name"),
    FIGURES["macs"].column(),
    Column("ms (quartiles)", lambda row: "{ms:.2f} ({ms_low:.2f} to {ms_high:.2f})".format(**row)),
    Column("gain in MACs", "ideal_gain", ".2f"),
    Column("measured gain", "gain", ".2f"),
    Column("share", show=".2f"),
    Column("MB", "peak_mb", ".1f"),
    Column("of limit", lambda row: "{limit_share:.2f} {binds}".format(**row) if row.get("limit_share") else None),
]
SUMMARY = ("layout", "batch", "pass", "name", "gain in MACs", "measured gain", "share")


def write(rows: Sequence[Row], path: Path, title: str, about: str, made_by: str) -> str:
    """Writes path.csv, path.md, path.png and path.svg. Returns the page.

    `about`: the conditions of the measurement. `made_by`: its command and commit, in Markdown.
    """
    csv = Table.of(rows).csv()
    return _write_page(path, typed(rows_in(csv)), title, about, made_by, {".csv": csv})


def written_again(folder: Path) -> None:
    """Writes the pages and pictures in `folder` and its subfolders again, from their csv files.

    The conditions of the measurement on each page stay.
    """
    found = [path for what in ("layers", "models") for path in sorted(folder.glob(f"**/benchmark_{what}.csv"))]
    for path in found:
        title, *parts = path.with_suffix(".md").read_text().strip().split("\n\n")
        about = next(part for part in parts if "interleaved repeats" in part)
        _write_page(path.with_suffix(""), read_rows(path), title.removeprefix("# "), about, parts[-1], {})


def _write_page(
    path: Path, rows: Sequence[Row], title: str, about: str, made_by: str, others: Mapping[str, str | bytes]
) -> str:
    """Writes the page of `rows`, which are rounded as in the csv file, its pictures, and `others`, by their endings."""
    tables = sections(rows, COLUMNS, lambda row: "{layout}, {place}, batch {batch}, {kind}".format(**row))
    text = page(f"# {title}", about, _summary(rows), *tables, made_by)
    files: dict[str, str | bytes] = {**others, ".md": text, **plot(rows, title)}
    write_files(path.parent, {path.name + ending: content for ending, content in files.items()})
    return text


def conditions(peaks: Peaks, device: torch.device, repeats: int, precision: str) -> str:
    load = f", load average {os.getloadavg()[0]:.1f} at the end" if hasattr(os, "getloadavg") else ""
    return (
        f"{machine(device)}, torch {torch.__version__}, {FORMATS[precision]}{load}.\n"
        f"Medians of {repeats} interleaved repeats, quartiles in brackets. {peaks.about} "
        f"Share = measured gain / gain in MACs.\n{OF_LIMIT}"
    )


def machine(device: torch.device) -> str:
    facts = environment(device)
    return facts["gpu"] or f"{facts['cpu']}, {torch.get_num_threads()} threads of {os.cpu_count()} cores"


def plot(rows: Sequence[Row], title: str) -> Picture:
    """A line of panels for each layout and batch: a point for each row; lines of equal MACs, equal time, and time = MACs."""
    kinds = list(dict.fromkeys(row["kind"] for row in rows))
    panels_of = grouped(rows, itemgetter("layout", "batch", "kind"))
    places = list(dict.fromkeys((row["layout"], row["batch"]) for row in rows))
    with plt.rc_context(STYLE):
        size = (5.2 * len(kinds), 5.2 * len(places))
        drawing, panels = plt.subplots(len(places), len(kinds), figsize=size, layout="constrained", squeeze=False)
        drawing.suptitle(title, fontsize="medium")
        for line, (layout, batch) in zip(panels, places):
            for axes, kind in zip(line, kinds):
                axes.set_title(f"{layout}, batch {batch}: {kind}", loc="left")
                _draw(axes, panels_of[layout, batch, kind])
        if len(rows) > len(grouped(rows, PANEL_AND_NAME)):  # else each point has its name
            drawing.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=2)
        return rendered(drawing)


def _draw(axes: Axes, rows: Sequence[Row]) -> None:
    log_axes(axes, "gain in MACs, times", "measured gain in time, times")
    by_name = grouped(rows, itemgetter("name"))
    colours = {name: family_of(MODEL_OF.get(name, name)).colour for name in by_name}
    for number, (name, of_name) in enumerate(by_name.items()):
        x, y = zip(*map(GAINS, of_name))
        axes.scatter(x, y, 26, colours[name], marker=MARKERS[number % len(MARKERS)], alpha=0.85, label=name, zorder=3)
    _draw_lines(axes, rows)
    if len(rows) == len(by_name):
        places = list(map(GAINS, rows))
        label(axes, list(zip(by_name, colours.values(), places)), [*zip(places, places), *_lines(*axes.get_xlim())])


def _draw_lines(axes: Axes, rows: Sequence[Row]) -> None:
    gains = [gain for row in rows for gain in GAINS(row)]
    low, high = min(gains) / 1.3, max(gains) * 1.3
    axes.set(xlim=(low, high), ylim=(low, high), aspect="equal")
    for line, style in zip(_lines(low, high), ("-", ":", ":")):
        axes.plot(*zip(*line), style, color=FAINT, linewidth=1, zorder=1)
    text: dict[str, Any] = {"textcoords": "offset points", "fontsize": 8, "color": "0.45"}
    along: dict[str, Any] = {"rotation": 45, "rotation_mode": "anchor", "ha": "right", "va": "bottom"}
    axes.annotate("time = MACs", (high, high), (-10, -4), **along, **text)
    room = low < 0.7  # on the left, where points are few
    axes.annotate("equal time", (low if room else high, 1), (4 if room else -4, 3), ha="left" if room else "right", **text)
    axes.annotate("equal MACs", (1, high), (-4, -4), rotation=90, ha="right", va="top", **text)


def _lines(low: float, high: float) -> list[tuple[Place, Place]]:
    """The lines of time = MACs, equal time and equal MACs."""
    return [((low, low), (high, high)), ((low, 1), (high, 1)), ((1, low), (1, high))]


def _summary(rows: Sequence[Row]) -> str:
    """Geometric means over the shapes of a layout. The bottleneck is compared with SIC too, as in the paper."""
    groups: dict[tuple, list[Row]] = grouped(rows, PANEL_AND_NAME)
    means = {key: [statistics.geometric_mean(gains) for gains in zip(*map(GAINS, group))]
             for key, group in groups.items() if len(group) > 1}  # fmt: skip
    lines = []
    for (*place, name), (ideal, gain) in means.items():
        lines.append((*place, name, ideal, gain, gain / ideal))
        sic = (*place, "SIC 3x3")
        if name == "bottleneck 2x2" and sic in means:
            ideal, gain = (ours / other for ours, other in zip((ideal, gain), means[sic]))
            lines.append((*place, f"{name} against SIC 3x3", ideal, gain, gain / ideal))
    columns = [Column(title, itemgetter(n), ".2f" if n > 3 else "") for n, title in enumerate(SUMMARY)]
    return f"Geometric means over the shapes of a layout:\n\n{Table(lines, columns).markdown()}" if lines else ""
