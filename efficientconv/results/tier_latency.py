"""Measured time of a tier's networks, kept in results/<tier>/latency.csv: all measured in one run, interleaved."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch

from efficientconv.config import ModelConfig
from efficientconv.engine.environment import environment
from efficientconv.files import write_atomically
from efficientconv.latency import Latency, measure_latency
from efficientconv.models import create_model, image_size_of
from efficientconv.results.markdown import csv_rows, csv_text

BATCH_SIZES = {64: 64, 1024: 16}  # by the largest image size, in pixels a side, that it is for


def tier_latencies(
    models: Mapping[str, ModelConfig], path: Path, image_size: int | None, num_classes: int, device: torch.device,
    again: bool = False,
) -> dict[str, Latency]:  # fmt: skip
    """Those in the file where it has all of `models`, else of all of them, measured now.

    Times are comparable only within one run on one machine: nothing is ever added to an earlier measurement.
    """
    if again or not models.keys() <= read_latencies(path).keys():
        _write(path, _measure(models, image_size, num_classes, device), _place(device))
    return read_latencies(path)


def read_latencies(path: Path) -> dict[str, Latency]:
    """By model; empty where nothing was measured yet."""
    return {
        row["model"]: Latency(float(row["ms_per_image"]), float(row["ms_per_image_iqr"]), int(row["batch_size"]))
        for row in _read(path)
    }


def measured_on(path: Path) -> str:
    return next((row["measured_on"] for row in _read(path)), "not measured")


def _measure(
    models: Mapping[str, ModelConfig], image_size: int | None, num_classes: int, device: torch.device
) -> dict[str, Latency]:
    sizes = {name: image_size_of(config, image_size) for name, config in models.items()}
    batch_size = next(batch for largest, batch in BATCH_SIZES.items() if max(sizes.values()) <= largest)
    networks = {name: create_model(config, num_classes, image_size=image_size) for name, config in models.items()}
    return measure_latency(networks, sizes, batch_size=batch_size, device=device)


def _place(device: torch.device) -> str:
    facts = environment(device)
    place = facts["gpu"] or f"{facts['cpu']}, threads: {facts['threads']}"
    return f"{place}, torch {facts['packages']['torch']}"


def _read(path: Path) -> list[dict[str, str]]:
    return csv_rows(path) if path.exists() else []


def _write(path: Path, latencies: Mapping[str, Latency], place: str) -> None:
    rows = [
        {
            "model": name, "ms_per_image": f"{latency.ms_per_image:.4g}", "ms_per_image_iqr": f"{latency.iqr_ms:.2g}",
            "batch_size": latency.batch_size, "measured_on": place,
        }
        for name, latency in latencies.items()
    ]  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, csv_text(rows).encode())
