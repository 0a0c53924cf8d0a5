"""Rows of `kernels` as csv and as a page: the times of models without each optimization, over the time with all."""

from __future__ import annotations

from collections.abc import Sequence
from operator import itemgetter
from pathlib import Path

import torch

from efficientconv.benchmark.ablation import CPU, OPTIMIZATIONS
from efficientconv.benchmark.report import machine
from efficientconv.results.pages import write_report
from efficientconv.results.table import Row, Table, grouped
from efficientconv.roofline.peaks import OF_LIMIT, Peaks

ABOUT = """\
The time of a model without one optimization of the C++ kernels, over the time with all of them. Medians of {repeats}
interleaved repeats, quartiles in brackets. At 1.00 the optimization gains nothing. Some optimizations have no part in a
pass, such as `image_by_image` in a forward pass: the distance of their ratio from 1.00 shows the noise.
{machine}, torch {torch}, float32. Freed memory is kept, as in train.py and eval.py.
{peaks}
{of_limit}"""


def write(rows: Sequence[Row], folder: Path, peaks: Peaks, repeats: int, made_by: str) -> str:
    """Writes benchmark_kernels.csv and .md. Returns the page."""
    facts = {"machine": machine(CPU), "torch": torch.__version__, "peaks": peaks.about, "of_limit": OF_LIMIT}
    known = [{"without": name, "what it does": optimization.about} for name, optimization in OPTIMIZATIONS.items()]
    title, about = "# What the optimizations of the C++ kernels gain", ABOUT.format(repeats=repeats, **facts)
    return write_report(
        folder / "benchmark_kernels", rows, title, about, Table.of(known).markdown(), *_tables(rows), made_by
    )


def _tables(rows: Sequence[Row]) -> list[str]:
    """A heading and a table for each place, with a line for each optimization and a column for each model."""
    parts = []
    for place, group in grouped(rows, lambda row: f"{row['layout']}, batch {row['batch']}, {row['kind']}").items():
        with_all = {row["model"]: f"{1e3 * row['seconds_with_all']:.1f}, {row['limit_share']:.2f} {row['binds']}"
                    for row in group}  # fmt: skip
        lines = [
            {"without": name} | {row["model"]: f"{row['ratio']:.2f} ({row['ratio_low']:.2f} to {row['ratio_high']:.2f})"
                                 for row in of_one}
            for name, of_one in grouped(group, itemgetter("without")).items()
        ]  # fmt: skip
        table = Table.of([{"without": "(ms with all, of limit)"} | with_all, *lines])
        parts += [f"## {place}", table.markdown()]
    return parts
