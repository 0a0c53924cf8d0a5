"""The identity of a run: its images, and the settings that its numbers depend on. The identity gives the run its name."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

from efficientconv.config import ModelConfig, RunConfig

if TYPE_CHECKING:
    from efficientconv.data.fingerprint import Fingerprint  # with torch, which takes seconds

# Settings that may differ between two starts of one run: places of files, loggers, device.
_NOT_IDENTITY = {
    "": ("tier", "output_root", "run_dir", "layers", "logger"),
    "model": ("description", "source"),
    "data": ("root", "workers", "max_damaged_fraction"),
    "trainer": ("device", "checkpoint_minutes"),
}


def identity(config: RunConfig) -> dict:
    """The part of the configuration that the run's numbers depend on.

    Settings at the schema's default are left out, so that a setting added later leaves earlier runs as they are.
    """
    values = config.model_dump(exclude_defaults=True)
    for section, keys in _NOT_IDENTITY.items():
        part = values[section] if section else values
        for key in keys:
            part.pop(key, None)
    return values


def run_name(config: RunConfig, fingerprint: Fingerprint | None = None) -> str:
    """The name of the run's folder. It depends on the configuration and on the user's own images, not on the machine."""
    values = identity(config)
    if fingerprint is not None and fingerprint.own:
        values["data"]["images"] = fingerprint.train
    return f"{name_stem(config)}-{_digest(values)}"


def network_digest(model: ModelConfig) -> str:
    """A digest of what a network computes at any width: its layers, layout and decisions."""
    values = model.model_dump(exclude_defaults=True)
    return _digest({key: value for key, value in values.items() if key not in (*_NOT_IDENTITY["model"], "width", "macs")})


def _digest(values: dict) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:8]


def name_stem(config: RunConfig) -> str:
    """The start of the names of all runs of this model, data set and seed."""
    return f"{config.model.name}-{config.data.name}-s{config.seed}"
