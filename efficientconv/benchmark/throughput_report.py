"""The throughput of data pipelines as csv and as a markdown table, compared with the targets."""

from __future__ import annotations

import os
from dataclasses import dataclass
from importlib.metadata import version
from operator import attrgetter
from pathlib import Path

import torch

from efficientconv.benchmark.pipelines import BATCH, FOLDERS, PREPARED, USUAL
from efficientconv.benchmark.throughput import Throughput
from efficientconv.info import environment
from efficientconv.results.data_tables import DECODE_PREPARED, share_of_limit
from efficientconv.results.pages import page, write_files
from efficientconv.results.table import Column, Table

TARGETS = ((FOLDERS, USUAL, 1.7), (PREPARED, USUAL, 5.0), (PREPARED, DECODE_PREPARED, 0.85))


@dataclass(frozen=True)
class Row:
    """One pipeline with one number of workers."""

    pipeline: str
    workers: int
    kb: float  # read for an image
    images_per_s: float  # median of the epochs
    images_per_s_low: float  # quartiles
    images_per_s_high: float
    worker_us: float  # processor time for an image in microseconds, all workers
    main_us: float  # the same for the training process
    gain: float  # images/s over those of torchvision with the same number of workers
    limit_share: float | None  # images/s over those of decoding alone, with the same number of workers


def rows_of(results: dict[tuple, Throughput], kb: dict[str, float]) -> list[Row]:
    """`results` are by (pipeline, workers). `kb`: kB read for an image, by pipeline."""
    rows = []
    for (name, workers), result in results.items():
        rate, usual = result.images_per_s, results[USUAL, workers].images_per_s
        speeds = {other: found.images_per_s.median for (other, number), found in results.items() if number == workers}
        shares = rate.median / usual.median, share_of_limit(name, speeds)
        rows.append(
            Row(name, workers, kb[name], rate.median, rate.low, rate.high, result.worker_us, result.main_us, *shares)
        )
    return rows


COLUMNS = [
    *(Column(name, attrgetter(name), name=name) for name in ("pipeline", "workers")),
    Column("kB an image", lambda row: row.kb, ".0f", "kb"),
    Column("images/s", lambda row: f"{row.images_per_s:.0f} ({row.images_per_s_low:.0f} to {row.images_per_s_high:.0f})"),
    *(Column(None, attrgetter(name), name=name) for name in ("images_per_s", "images_per_s_low", "images_per_s_high")),
    Column("times torchvision's", lambda row: row.gain, ".2f", "gain"),
    Column("of decode alone", lambda row: row.limit_share, ".2f", "limit_share"),
    Column("workers, us", lambda row: row.worker_us, ".0f", "worker_us"),
    Column("training process, us", lambda row: row.main_us, ".0f", "main_us"),
]  # fmt: skip


def write(rows: list[Row], images: str, repeats: int, path: Path, made_by: str) -> str:
    """Writes path.csv and path.md. Returns the text. `made_by`: the command and the commit, in Markdown."""
    table = Table(rows, COLUMNS)
    about = _conditions(images, repeats)
    text = page("# From images to batches", about, table.markdown(), _against_targets(rows), made_by)
    write_files(path.parent, {f"{path.name}.csv": table.csv(), f"{path.name}.md": text})
    return text


def _conditions(images: str, repeats: int) -> str:
    facts, packages = environment(torch.device("cpu")), ("torch", "torchvision", "pillow", "simplejpeg")
    versions, load = ", ".join(f"{name} {version(name)}" for name in packages), os.getloadavg()[0]
    return (
        f"{facts['cpu']}, {facts['cpu_cores']} cores, load average {load:.1f} at the end; {versions}.\n"
        f"{images} Batches of {BATCH}, medians of {repeats} interleaved epochs, quartiles in brackets. us: microseconds "
        "of processor time for an image.\n\n"
        "Pipelines resize both sides to 256, crop 221 at random, flip, and normalise to float32. `decode alone` decodes\n"
        "files in memory with libjpeg-turbo: this is the limit. Ours ends with a batch that the device has normalised. The\n"
        "device is the CPU here, in the training process. A GPU would take this work off the training process."
    )


def _against_targets(rows: list[Row]) -> str:
    """The ratios by the clock, and by the workers' processor time, which other programs on the machine hardly change."""
    one = {row.pipeline: row for row in rows if row.workers == 1}
    return Table(TARGETS, [
        Column("images/s of one worker", lambda target: f"{target[0]} over {target[1]}"),
        Column("target", lambda target: target[2], "g"),
        Column("by the clock", lambda target: one[target[0]].images_per_s / one[target[1]].images_per_s, ".2f"),
        Column("by the workers' processor time", lambda target: one[target[1]].worker_us / one[target[0]].worker_us, ".2f"),
    ]).markdown()  # fmt: skip
