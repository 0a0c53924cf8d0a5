"""Rows of `kernels` as csv and as a page: the times of models without each optimization, over the time with all."""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter
from pathlib import Path

import torch

from efficientconv.benchmark.ablation import CPU, OPTIMIZATIONS, AblationRow
from efficientconv.benchmark.report import machine
from efficientconv.results.pages import page, write_files
from efficientconv.results.table import Column, Table
from efficientconv.roofline.peaks import OF_LIMIT, Peaks

ABOUT = """\
The time of a model without one optimization of the C++ kernels, over the time with all of them. Medians of {repeats}
interleaved repeats, quartiles in brackets. At 1.00 the optimization gains nothing. Some optimizations have no part in a
pass, such as `image_by_image` in a forward pass: the distance of their ratio from 1.00 shows the noise.
{machine}, torch {torch}, float32. Freed memory is kept, as in train.py and eval.py.
{peaks}
{of_limit}"""
CSV = {
    "layout": "layout", "batch": "batch", "kind": "kind", "model": "model", "without": "optimization",
    "seconds_with_all": "seconds", "limit_share": "of_limit.limit_share", "binds": "of_limit.binds",
    "ratio": "ratio.median", "ratio_low": "ratio.low", "ratio_high": "ratio.high",
}  # fmt: skip


def write(rows: Sequence[AblationRow], folder: Path, peaks: Peaks, repeats: int, made_by: str) -> str:
    """Writes benchmark_kernels.csv and .md. Returns the page."""
    facts = {"machine": machine(CPU), "torch": torch.__version__, "peaks": peaks.about, "of_limit": OF_LIMIT}
    about = ABOUT.format(repeats=repeats, **facts)
    lines = [{"without": name, "what it does": optimization.about} for name, optimization in OPTIMIZATIONS.items()]
    known = Table.of(lines).markdown()
    text = page("# What the optimizations of the C++ kernels gain", about, known, *_tables(rows), made_by)
    columns = [Column(None, attrgetter(path), name=name) for name, path in CSV.items()]
    write_files(folder, {"benchmark_kernels.csv": Table(rows, columns).csv(), "benchmark_kernels.md": text})
    return text


def _tables(rows: Sequence[AblationRow]) -> list[str]:
    """A heading and a table for each place, with a line for each optimization and a column for each model."""
    places: dict[str, dict[str, dict[str, object]]] = {}
    for row in rows:
        lines = places.setdefault(row.place, {})
        with_all = lines.setdefault("", {"without": "(ms with all, of limit)"})
        with_all[row.model] = f"{1e3 * row.seconds:.1f}, {row.of_limit}"
        line, ratio = lines.setdefault(row.optimization, {"without": row.optimization}), row.ratio
        line[row.model] = f"{ratio.median:.2f} ({ratio.low:.2f} to {ratio.high:.2f})"
    return [
        part for place, lines in places.items() for part in (f"## {place}", Table.of([*lines.values()]).markdown())
    ]  # fmt: skip
