"""Measures the networks of a tier, all together."""

from __future__ import annotations

from typing import Any, Literal

import torch
from tqdm import tqdm

from efficientconv.engine.identity import network_digest
from efficientconv.info import environment
from efficientconv.latency import Latency, measure_latency, measure_training
from efficientconv.models import create_model, image_size_of
from efficientconv.reproduce.tier import Tier
from efficientconv.results.times import NetworkKey, Times, network_of, read_times, write_times
from efficientconv.roofline.peaks import Peaks, measured_peaks, of_limit

Measure = Literal["missing", "again", "never"]
BATCH_SIZES = {64: 64, 1024: 16}  # by the largest image size, in pixels a side, that it is for
PEAK_REPEATS = 3


def tier_times(tier: Tier, device: torch.device, measure: Measure = "missing") -> dict[NetworkKey, Times]:
    """Of a forward pass of every network of the tier, and of a training step of those that were trained.

    Times are comparable only within one run on one machine. So a network that the tier's file lacks is not added to an
    earlier measurement: all are measured anew. So are times of a network whose model was edited afterwards. Raises UserError
    for a damaged file, unless all are to be measured.
    """
    trained = {network_of(record.run_config.model) for record in tier.records}
    found = {} if measure == "again" else read_times(tier.folder)
    kept = {key: times for key, times in found.items() if key not in tier.networks or times.is_of(tier.networks[key])}
    timed_in_training = {key for key, times in kept.items() if times.training_ms_per_image is not None}
    if measure == "never" or tier.networks.keys() <= kept.keys() and trained <= timed_in_training:
        return kept
    write_times(tier.folder, _measured(tier, trained, device))
    return read_times(tier.folder)  # as the file has them: a table that is made again is the same to the digit


def _measured(tier: Tier, trained: set[NetworkKey], device: torch.device) -> list[Times]:
    image_size, num_classes = tier.images
    sizes = {key: image_size_of(model, image_size) for key, model in tier.networks.items()}
    batch_size = next(batch for largest, batch in BATCH_SIZES.items() if max(sizes.values()) <= largest)
    networks = {key: create_model(model, num_classes, image_size=image_size) for key, model in tier.networks.items()}
    peaks = measured_peaks(PEAK_REPEATS, device, tqdm(disable=True))
    inference = measure_latency(networks, sizes, batch_size=batch_size, device=device)
    to_train = {key: network for key, network in networks.items() if key in trained}
    training = measure_training(to_train, sizes, batch_size=batch_size, device=device)
    place = _place(device, peaks)

    def figures(kind: str, key: NetworkKey, latency: Latency | None) -> dict[str, Any]:
        """kind: training_ or nothing, the start of the names of columns."""
        found: tuple = (None, None, None)
        if latency is not None:
            share = of_limit(networks[key], sizes[key], latency, peaks, training=bool(kind))
            found = latency.ms_per_image, latency.iqr_ms, None if share is None else str(share)
        return dict(zip((f"{kind}ms_per_image", f"{kind}ms_per_image_iqr", f"{kind}of_limit"), found))

    return [
        Times(
            model=key[0], width=key[1], batch_size=batch_size, **figures("", key, latency),
            **figures("training_", key, training.get(key)), measured_on=place,
            network_digest=network_digest(tier.networks[key]),
        )
        for key, latency in inference.items()
    ]  # fmt: skip


def _place(device: torch.device, peaks: Peaks) -> str:
    facts = environment(device)
    place = facts["gpu"] or f"{facts['cpu']}, threads: {facts['threads']}"
    reached = f"peaks {peaks.flops_per_s / 1e9:.0f} GFLOP/s, {peaks.bytes_per_s / 1e9:.1f} GB/s"
    return f"{place}, torch {facts['packages']['torch']}, {reached}"
