"""The throughput of data pipelines as csv and as a markdown table, compared with the targets."""

from __future__ import annotations

import os
from importlib.metadata import version
from pathlib import Path

import torch

from efficientconv.benchmark.pipelines import BATCH
from efficientconv.benchmark.throughput import Throughput
from efficientconv.info import environment
from efficientconv.results.data_tables import DECODE_PREPARED, FOLDERS, PREPARED, USUAL, share_of_limit
from efficientconv.results.pages import write_report
from efficientconv.results.table import Column, Row, Table

TARGETS = ((FOLDERS, USUAL, 1.7), (PREPARED, USUAL, 5.0), (PREPARED, DECODE_PREPARED, 0.85))


def rows_of(results: dict[tuple, Throughput], kb: dict[str, float]) -> list[Row]:
    """A row for each pipeline and number of workers. `results` are by both. `kb`: kB read for an image, by pipeline.

    gain: images/s over torchvision's, with the same number of workers. limit_share: over those of decoding alone.
    """
    rows: list[Row] = []
    for (name, workers), found in results.items():
        rate = found.images_per_s
        speeds = {other: result.images_per_s.median for (other, number), result in results.items() if number == workers}
        rows.append({
            "pipeline": name, "workers": workers, "kb": kb[name],
            "images_per_s": rate.median, "images_per_s_low": rate.low, "images_per_s_high": rate.high,
            "gain": rate.median / speeds[USUAL], "limit_share": share_of_limit(name, speeds),
            "worker_us": found.worker_us, "main_us": found.main_us,
        })  # fmt: skip
    return rows


COLUMNS = [
    Column("pipeline"),
    Column("workers"),
    Column("kB an image", "kb", ".0f"),
    Column("images/s", lambda row: "{images_per_s:.0f} ({images_per_s_low:.0f} to {images_per_s_high:.0f})".format(**row)),
    Column("times torchvision's", "gain", ".2f"),
    Column("of decode alone", "limit_share", ".2f"),
    Column("workers, us", "worker_us", ".0f"),
    Column("training process, us", "main_us", ".0f"),
]


def write(rows: list[Row], images: str, repeats: int, path: Path, made_by: str) -> str:
    """Writes path.csv and path.md. Returns the text. `made_by`: the command and the commit, in Markdown."""
    table = Table(rows, COLUMNS).markdown()
    about = _conditions(images, repeats)
    return write_report(path, rows, "# From images to batches", about, table, _against_targets(rows), made_by)


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
    one = {row["pipeline"]: row for row in rows if row["workers"] == 1}

    def ratio(figure: str, pipeline: str, other: str) -> float:
        return one[pipeline][figure] / one[other][figure]

    return Table(TARGETS, [
        Column("images/s of one worker", lambda target: f"{target[0]} over {target[1]}"),
        Column("target", lambda target: target[2], "g"),
        Column("by the clock", lambda target: ratio("images_per_s", target[0], target[1]), ".2f"),
        Column("by the workers' processor time", lambda target: ratio("worker_us", target[1], target[0]), ".2f"),
    ]).markdown()  # fmt: skip
