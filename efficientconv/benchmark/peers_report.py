"""Rows of `peers` as csv and as a page: milliseconds by program, and each model compared with A in A's fastest program."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from operator import attrgetter
from pathlib import Path

import torch

from efficientconv.benchmark.peers import OURS, PeerRow, versions
from efficientconv.benchmark.report import machine
from efficientconv.results.pages import page, write_files
from efficientconv.results.table import Column, Table
from efficientconv.roofline.peaks import OF_LIMIT, Peaks

ABOUT = """\
{machine}, float32, {versions}.
Medians of {repeats} interleaved repeats. A short rest and a run that does not count come before each repeat.
Freed memory is kept, as in train.py and eval.py. `torch` is PyTorch, channels-last, and `compiled` is the same compiled with
frozen weights. ONNX Runtime and OpenVINO run the file that `scripts/export.py` writes for this batch size.
{peaks}
{of_limit}"""


CSV_NAMES = ("layout", "side", "batch", "model", "macs", "of_limit.limit_share", "of_limit.binds")


def write(rows: Sequence[PeerRow], folder: Path, peaks: Peaks, repeats: int, made_by: str) -> str:
    """Writes benchmark_peers.csv and .md. Returns the page."""
    facts = {"machine": machine(torch.device("cpu")), "versions": versions(), "repeats": repeats}
    about = ABOUT.format(**facts, peaks=peaks.about, of_limit=OF_LIMIT)
    text = page("# Inference beside other programs", about, _against_fastest_a(rows), *_tables(rows), made_by)
    write_files(folder, {"benchmark_peers.csv": Table(rows, _csv_columns(rows)).csv(), "benchmark_peers.md": text})
    return text


def _tables(rows: Sequence[PeerRow]) -> list[str]:
    """A heading and a table for each layout, image size and batch."""
    columns = [
        Column("model", lambda row: row.model), *(Column(f"{name}, ms (of limit)", _time(name)) for name in rows[0].times),
        Column("fastest peer / ours", lambda row: row.lead, ".2f"), Column("limit", lambda row: row.of_limit.binds),
    ]  # fmt: skip
    return [part for place, group in _places(rows).items() for part in (f"## {place}", Table(group, columns).markdown())]


def _against_fastest_a(rows: Sequence[PeerRow]) -> str:
    """How many times faster each model is than A. A user would run A in the program that runs A fastest."""
    fastest = {(row.layout, row.batch): row for row in rows if row.model == "a"}
    lines: dict[str, dict[str, object]] = {}
    for row in rows:
        a, line = fastest[row.layout, row.batch], lines.setdefault(row.model, {"model": row.model})
        line[f"{row.layout}: MACs"] = f"{a.macs / row.macs:.2f}"
        line[f"{row.layout}, batch {row.batch}"] = f"{a.fastest / row.times[OURS].median:.2f}"
    table = Table.of([*lines.values()]).markdown()
    return f"The time of A in the program that runs A fastest, over the time of the model in ours:\n\n{table}"


def _places(rows: Sequence[PeerRow]) -> dict[str, list[PeerRow]]:
    places: dict[str, list[PeerRow]] = {}
    for row in rows:
        places.setdefault(f"{row.layout}, 3 x {row.side} x {row.side}, batch {row.batch}", []).append(row)
    return places


def _csv_columns(rows: Sequence[PeerRow]) -> list[Column]:
    columns = [Column(None, attrgetter(name), name=name.split(".")[-1]) for name in CSV_NAMES]
    for program in rows[0].times:
        prefix = re.sub(r"\W+", "_", program.lower())
        for end in ("median", "low", "high"):
            columns.append(
                Column(None, lambda row, p=program, e=end: 1e3 * getattr(row.times[p], e), name=f"{prefix}_ms_{end}")
            )
    return columns


def _time(program: str) -> Callable[[PeerRow], str]:
    return lambda row: f"{1e3 * row.times[program].median:.2f} ({row.limit_share(program):.2f})"
