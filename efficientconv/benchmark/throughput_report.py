"""The throughput of data pipelines as csv and as a markdown table, with what was asked of them."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

import torch

from efficientconv.benchmark.pipelines import BATCH, DECODE_PREPARED, FOLDERS, PREPARED, USUAL
from efficientconv.benchmark.throughput import Throughput
from efficientconv.engine.environment import environment
from efficientconv.results.markdown import csv_text

ASKED = ((FOLDERS, USUAL, 1.7), (PREPARED, USUAL, 5.0), (PREPARED, DECODE_PREPARED, 0.85))


@dataclass(frozen=True)
class Row:
    """One pipeline with one number of workers."""

    pipeline: str
    workers: int
    kb: float  # read for an image
    images_per_s: float  # median of the epochs
    images_per_s_low: float  # quartiles
    images_per_s_high: float
    worker_us: float  # of processor time an image, all workers
    main_us: float  # and of the training process
    gain: float  # images/s over torchvision's with as many workers


def rows_of(results: dict[tuple, Throughput], kb: dict[str, float]) -> list[Row]:
    """`results` by (pipeline, workers); `kb` read for an image, by pipeline."""
    rows = []
    for (name, workers), result in results.items():
        rate, usual = result.images_per_s, results[USUAL, workers].images_per_s
        gain = rate.median / usual.median
        times = result.worker_us, result.main_us
        rows.append(Row(name, workers, kb[name], rate.median, rate.low, rate.high, *times, gain))
    return rows


def write(rows: list[Row], images: str, repeats: int, path: Path) -> str:
    """path.csv and path.md; returns the text."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figures = [{k: f"{v:.4g}" if isinstance(v, float) else v for k, v in asdict(row).items()} for row in rows]
    path.with_suffix(".csv").write_text(csv_text(figures))
    text = "\n\n".join(["# From images to batches", _conditions(images, repeats), _table(rows), _asked(rows)]) + "\n"
    path.with_suffix(".md").write_text(text)
    return text


def _conditions(images: str, repeats: int) -> str:
    facts, packages = environment(torch.device("cpu")), ("torch", "torchvision", "pillow", "simplejpeg")
    versions, load = ", ".join(f"{name} {version(name)}" for name in packages), os.getloadavg()[0]
    return (
        f"{facts['cpu']}, {facts['cpu_cores']} cores, load average {load:.1f} at the end; {versions}.\n"
        f"{images} Batches of {BATCH}, medians of {repeats} interleaved epochs, quartiles in brackets. us: processor "
        "time an image.\n\n"
        "Both sides resized to 256, random crops of 221, flips, normalised float32. `decode alone` is libjpeg-turbo on\n"
        "files that lie in memory: the limit. Ours ends with the batch normalised on the device, here the CPU: that is the\n"
        "time of the training process, and a GPU's where there is one."
    )


def _table(rows: list[Row]) -> str:
    head = ("pipeline", "workers", "kB an image", "images/s", "times torchvision's", "workers, us", "training process, us")
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for r in rows:
        rate = f"{r.images_per_s:.0f} ({r.images_per_s_low:.0f} to {r.images_per_s_high:.0f})"
        cells = (r.pipeline, r.workers, f"{r.kb:.0f}", rate, f"{r.gain:.2f}", f"{r.worker_us:.0f}", f"{r.main_us:.0f}")
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def _asked(rows: list[Row]) -> str:
    """By the processor time of the workers, which other programs on the machine hardly change, and by the clock."""
    one = {row.pipeline: row for row in rows if row.workers == 1}
    lines = ["| one worker | asked | by the clock | by the workers' processor time |", "|---|---|---|---|"]
    for name, other, least in ASKED:
        clock = one[name].images_per_s / one[other].images_per_s
        work = one[other].worker_us / one[name].worker_us
        lines.append(f"| {name} over {other} | {least:g} | {clock:.2f} | {work:.2f} |")
    return "\n".join(lines)
