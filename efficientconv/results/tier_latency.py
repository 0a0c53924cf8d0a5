"""Measured times of a tier's networks, in results/<tier>/latency*.csv. Each file is measured in one run, interleaved."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch
from torch import nn
from tqdm import tqdm

from efficientconv.benchmark.peaks import OfLimit, Peaks, measured_peaks
from efficientconv.config import ModelConfig
from efficientconv.errors import UserError
from efficientconv.files import write_atomically
from efficientconv.info import environment
from efficientconv.latency import Latency, measure_latency, measure_training
from efficientconv.models import create_model, image_size_of
from efficientconv.results.csv_files import csv_lines, number
from efficientconv.results.table import Table
from efficientconv.roofline.execution import least
from efficientconv.roofline.step import step_of

Measure = Literal["missing", "again", "never"]
COLUMNS = ("model", "ms_per_image", "ms_per_image_iqr", "batch_size", "measured_on")  # and of training, if measured
BATCH_SIZES = {64: 64, 1024: 16}  # by the largest image size, in pixels a side
PEAK_REPEATS = 3
PREFIXES = {"inference": "", "training": "training_"}  # prefixes of columns, by kind of pass


@dataclass(frozen=True)
class Times:
    """The times of a network: of a forward pass and, if measured, of a training step.

    of_limit: the share of the limit of each, if the machine's peaks were measured in the same run.
    """

    inference: Latency
    training: Latency | None = None
    of_limit: Mapping[str, OfLimit] = field(default_factory=dict)


def tier_times(
    models: Mapping[str, ModelConfig], path: Path, image_size: int | None, num_classes: int, device: torch.device,
    measure: Measure = "missing", with_training: bool = False,
) -> dict[str, Times]:  # fmt: skip
    """The times by row: from the file if it has all `models` or nothing is to be measured, else all measured now.

    Times are comparable only within one run on one machine, so nothing is added to an earlier measurement.
    """
    if measure == "again" or measure == "missing" and not models.keys() <= read_times(path).keys():
        peaks = measured_peaks(PEAK_REPEATS, device, tqdm(disable=True))
        _write(path, _measure(models, image_size, num_classes, device, with_training, peaks), _place(device, peaks))
    return read_times(path)


def read_times(path: Path) -> dict[str, Times]:
    """The times in the file, by row; none if nothing was measured yet. Raises UserError for a damaged file."""
    try:
        return {row["model"]: _times(row) for row in _read(path)}
    except (KeyError, ValueError, csv.Error) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{path} is damaged; delete it, and reproduce.py measures the times anew") from None


def measured_on(path: Path) -> str:
    return next((row["measured_on"] for row in _read(path)), "not measured")


def _measure(
    models: Mapping[str, ModelConfig], image_size: int | None, num_classes: int, device: torch.device, with_training: bool,
    peaks: Peaks,
) -> dict[str, Times]:  # fmt: skip
    sizes = {name: image_size_of(config, image_size) for name, config in models.items()}
    batch_size = next(batch for largest, batch in BATCH_SIZES.items() if max(sizes.values()) <= largest)
    networks = {name: create_model(config, num_classes, image_size=image_size) for name, config in models.items()}
    inference = measure_latency(networks, sizes, batch_size=batch_size, device=device)
    training = measure_training(networks, sizes, batch_size=batch_size, device=device) if with_training else {}
    measured: dict[str, dict[str, OfLimit]] = {name: {} for name in networks}
    for kind, latencies in (("inference", inference), ("training", training)):
        for name, latency in latencies.items():
            if of_limit := _of_limit(networks[name], sizes[name], latency, kind == "training", peaks):
                measured[name][kind] = of_limit
    return {name: Times(latency, training.get(name), measured[name]) for name, latency in inference.items()}


def _of_limit(network: nn.Module, size: int, latency: Latency, training: bool, peaks: Peaks) -> OfLimit | None:
    """The share of the limit; None for a network without this project's layers, whose bytes are not counted."""
    step = step_of(network, (3, size, size), latency.batch_size, torch.float32, training)
    return peaks.of_limit(least(step), latency.ms_per_image * latency.batch_size / 1000) if step.layers else None


def _times(row: Mapping[str, str]) -> Times:
    shares = {kind: number(row.get(f"{prefix}limit_share")) for kind, prefix in PREFIXES.items()}
    of_limit = {kind: OfLimit(share, row[f"{PREFIXES[kind]}binds"]) for kind, share in shares.items() if share}
    return Times(_latency(row, ""), _latency(row, "training_") if "training_ms_per_image" in row else None, of_limit)


def _latency(row: Mapping[str, str], kind: str) -> Latency:
    return Latency(float(row[f"{kind}ms_per_image"]), float(row[f"{kind}ms_per_image_iqr"]), int(row["batch_size"]))


def _place(device: torch.device, peaks: Peaks) -> str:
    facts = environment(device)
    place = facts["gpu"] or f"{facts['cpu']}, threads: {facts['threads']}"
    reached = f"peaks {peaks.flops_per_s / 1e9:.0f} GFLOP/s, {peaks.bytes_per_s / 1e9:.1f} GB/s"
    return f"{place}, torch {facts['packages']['torch']}, {reached}"


def _read(path: Path) -> list[dict[str, str]]:
    names, *lines = (csv_lines(path) if path.exists() else []) or [COLUMNS]
    if not set(COLUMNS) <= set(names):
        raise ValueError(f"{path} has other columns")
    return [dict(zip(names, line)) for line in lines]


def _write(path: Path, times: Mapping[str, Times], place: str) -> None:
    rows = [
        {"model": name, **_figures(time, "inference"), **_figures(time, "training")}
        | {"batch_size": time.inference.batch_size, "measured_on": place}
        for name, time in times.items()
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, Table.of(rows).csv().encode())


def _figures(times: Times, kind: Literal["inference", "training"]) -> dict[str, str]:
    latency, (share, binds) = getattr(times, kind), times.of_limit.get(kind, (None, ""))
    if latency is None:
        return {}
    figures = {"ms_per_image": f"{latency.ms_per_image:.4g}", "ms_per_image_iqr": f"{latency.iqr_ms:.2g}"}
    figures |= {"limit_share": "" if share is None else f"{share:.3g}", "binds": binds}
    return {PREFIXES[kind] + name: figure for name, figure in figures.items()}
