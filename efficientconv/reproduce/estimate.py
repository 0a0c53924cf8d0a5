"""Estimates the cost of runs: time from the measured throughput, bytes from the content of a run folder."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from efficientconv.config import DataConfig
from efficientconv.data import find_data
from efficientconv.engine.device import choose_device
from efficientconv.engine.epoch_log import read_records
from efficientconv.errors import UserError
from efficientconv.models import create_model, image_size_of
from efficientconv.reproduce.plan import PlannedRun
from efficientconv.timing import seconds

TRIAL_BATCH = 32
RECENT_EPOCHS = 3
START_SECONDS = 6  # imports, data and network of a run


@dataclass(frozen=True)
class DataFacts:
    """`images`: training images, without the held-out ones; None if the data set is not on this machine."""

    images: int | None
    num_classes: int


@dataclass(frozen=True)
class Estimate:
    """The estimated cost of the rest of a run, alone on this machine."""

    seconds: float | None  # None: it can't be told how many images there are
    disk_bytes: int
    rate_source: str  # what the rate was measured on


def estimate(pending: Sequence[PlannedRun], everything: Sequence[PlannedRun], facts: DataFacts) -> dict[Path, Estimate]:
    """By `run.record`, of each of `pending`. The rates are from runs of `everything` on this machine, else measured now."""
    rates: dict[str, tuple[float, str]] = {}
    for run in pending:
        if run.row not in rates:
            rates[run.row] = _measured_rate(run.row, everything) or _trial_rate(run, facts.num_classes)
    return {run.record: _estimate(run, facts, *rates[run.row]) for run in pending}


def data_facts(config: DataConfig) -> DataFacts:
    """The facts of the data set at data.root. Raises UserError for a part of a set: a tier's tables are of the whole."""
    try:
        data = find_data(config)
    except UserError:
        return DataFacts(None, 1000 if config.image_size is None else 10)
    if data.name != config.name:
        raise UserError(
            f"'{config.root}' holds {data.name}, {len(data.train)} training images, and a tier's tables are of the whole: "
            "set data.root to all of it, or train on the part with python train.py"
        )
    return DataFacts(round(len(data.train) * (1 - config.val_fraction)), data.num_classes)


def _estimate(run: PlannedRun, facts: DataFacts, images_per_s: float, source: str) -> Estimate:
    left = run.config.trainer.epochs - run.epochs_done
    time_left = None if facts.images is None else left * facts.images / images_per_s + START_SECONDS
    return Estimate(time_left, _disk_bytes(run, facts.num_classes), source)


def _measured_rate(row: str, runs: Sequence[PlannedRun]) -> tuple[float, str] | None:
    """Images per second of the newest epochs of this row's runs in the folders of this machine."""
    newest = [read_records(run.folder.metrics_file)[-RECENT_EPOCHS:] for run in runs if run.row == row]
    rates = [record["images_per_s"] for records in newest for record in records]
    return (statistics.median(rates), "its epochs here") if rates else None


def _trial_rate(run: PlannedRun, num_classes: int) -> tuple[float, str]:
    """Images per second of a few training steps on random images, without the loader."""
    device = choose_device(run.config.trainer.device)
    model, size = _network(run, num_classes)
    model.to(device).to(memory_format=torch.channels_last)
    batch = torch.randn(TRIAL_BATCH, 3, size, size, device=device).contiguous(memory_format=torch.channels_last)
    labels = torch.zeros(TRIAL_BATCH, dtype=torch.int64, device=device)
    return TRIAL_BATCH / seconds(lambda: cross_entropy(model(batch), labels).backward(), device), "steps tried now"


def _disk_bytes(run: PlannedRun, num_classes: int) -> int:
    """The bytes of two checkpoints (weights, momentum, and the moving average if any) and the final weights, in float32."""
    with torch.device("meta"):
        model, _ = _network(run, num_classes)
    weights = sum(tensor.numel() * 4 for tensor in model.state_dict().values())
    copies = 2 if run.config.trainer.ema_decay is None else 3
    return weights * (2 * copies + 1)


def _network(run: PlannedRun, num_classes: int) -> tuple[nn.Module, int]:
    """The network of a run, and the pixels a side of its input."""
    model, size = run.config.model, run.config.data.image_size
    return create_model(model, num_classes=num_classes, image_size=size), image_size_of(model, size)
