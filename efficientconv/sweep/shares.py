"""What each of several runs at a time gets of the machine: its cores and, where there are several, one of its GPUs."""

from __future__ import annotations

import os

import torch

from efficientconv.data.parallel import CORES, available_cores


def shares(jobs: int) -> list[dict[str, str]]:
    """The environment variables of each of `jobs` at a time. A run alone gets everything."""
    return [_cores(jobs) | _gpu(slot) for slot in range(jobs)] if jobs > 1 else [{}]


def _cores(jobs: int) -> dict[str, str]:
    """For torch's and the kernels' threads, and for the decoding processes. The user's own number of threads stays."""
    cores = str(max(available_cores() // jobs, 1))
    return {CORES: cores, "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", cores)}


def _gpu(slot: int) -> dict[str, str]:
    gpus = _visible_gpus()
    return {"CUDA_VISIBLE_DEVICES": gpus[slot % len(gpus)]} if len(gpus) > 1 else {}


def _visible_gpus() -> list[str]:
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    return [str(number) for number in range(torch.cuda.device_count())] if given is None else given.split(",")
