"""Rows of `peers` as csv and as a page: milliseconds by program, and each model compared with A in A's fastest program."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch

from efficientconv.benchmark.peers import OURS, ms_of, programs_in, versions
from efficientconv.benchmark.report import machine
from efficientconv.results.pages import sections, write_report
from efficientconv.results.table import Column, Row, Table
from efficientconv.roofline.peaks import OF_LIMIT, Peaks

ABOUT = """\
{machine}, float32, {versions}.
Medians of {repeats} interleaved repeats. A short rest and runs that do not count come before each repeat.
Freed memory is kept, as in train.py and eval.py. `ours` is the network frozen by `efficientconv.freeze`, `torch` is PyTorch,
channels-last, and `compiled` is the same compiled with frozen weights. ONNX Runtime and OpenVINO run the file that
`scripts/export.py` writes for this batch size.
{peaks}
{of_limit}"""


def write(rows: Sequence[Row], folder: Path, peaks: Peaks, repeats: int, made_by: str) -> str:
    """Writes benchmark_peers.csv and .md. Returns the page."""
    facts = {"machine": machine(torch.device("cpu")), "versions": versions(), "repeats": repeats}
    about = ABOUT.format(**facts, peaks=peaks.about, of_limit=OF_LIMIT)
    columns = [
        Column("model"),
        *(Column(f"{name}, ms (of limit)", partial(_time, program=name)) for name in programs_in(rows[0])),
        Column("fastest peer / ours", _lead, ".2f"), Column("limit", "binds"),
    ]  # fmt: skip
    tables = sections(rows, columns, lambda row: "{layout}, 3 x {side} x {side}, batch {batch}".format(**row))
    title = "# Inference beside other programs"
    return write_report(folder / "benchmark_peers", rows, title, about, _against_fastest_a(rows), *tables, made_by)


def _against_fastest_a(rows: Sequence[Row]) -> str:
    """How many times faster each model is than A. A user would run A in the program that runs A fastest."""
    a = {(row["layout"], row["batch"]): row for row in rows if row["model"] == "a"}
    lines: dict[str, dict[str, str]] = {}
    for row in rows:
        of_a, line = a[row["layout"], row["batch"]], lines.setdefault(row["model"], {"model": row["model"]})
        line[f"{row['layout']}: MACs"] = f"{of_a['macs'] / row['macs']:.2f}"
        line[f"{row['layout']}, batch {row['batch']}"] = f"{min(_times(of_a).values()) / ms_of(row, OURS):.2f}"
    about = "The time of A in the program that runs A fastest, over the time of the model in ours:"
    return f"{about}\n\n{Table.of([*lines.values()]).markdown()}"


def _times(row: Row) -> dict[str, float]:
    return {program: ms_of(row, program) for program in programs_in(row)}


def _lead(row: Row) -> float:
    """The time of the fastest other program, over ours."""
    times = _times(row)
    return min(time for program, time in times.items() if program != OURS) / times[OURS]


def _time(row: Row, program: str) -> str:
    """The time, and the share of the limit that it reaches. The limit is the same for all programs."""
    share = row["limit_share"] * ms_of(row, OURS) / ms_of(row, program)
    return f"{ms_of(row, program):.2f} ({share:.2f})"
