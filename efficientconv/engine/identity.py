"""What a run is: its configuration, as far as its numbers depend on it, and its images; and the name that follows."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

from efficientconv.config import RunConfig

if TYPE_CHECKING:
    from efficientconv.data.fingerprint import Images  # with torch, which takes seconds

# What may differ between two starts of one run: where things lie, what watches it, what it runs on.
_NOT_IDENTITY = {
    "": ("tier", "output_root", "run_dir", "layers", "logger"),
    "model": ("description", "source"),
    "data": ("root", "workers", "max_damaged_fraction"),
    "trainer": ("device", "checkpoint_minutes"),
}


def identity(config: RunConfig) -> dict:
    """The part of the configuration that the run's numbers depend on.

    Without what stands at the schema's default, so that a setting added later leaves the runs before it what they are.
    """
    values = config.model_dump(exclude_defaults=True)
    for section, keys in _NOT_IDENTITY.items():
        part = values[section] if section else values
        for key in keys:
            part.pop(key, None)
    return values


def run_name(config: RunConfig, images: Images | None = None) -> str:
    """Of its folder: the same configuration has the same one, on every machine; with other images of the user's, another."""
    values = identity(config)
    if images is not None and images.own:
        values["data"]["images"] = images.train
    return f"{name_stem(config)}-{hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:8]}"


def name_stem(config: RunConfig) -> str:
    """What the names of all runs of that model, data set and seed begin with."""
    return f"{config.model.name}-{config.data.name}-s{config.seed}"
