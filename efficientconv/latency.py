"""Measured times of networks."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from efficientconv.timing import Job, Key, Quartiles, measure

SLICE_SECONDS = 0.05  # of a measurement, since runs train beside other load


@dataclass(frozen=True)
class Latency:
    """The time of a pass over `batch_size` images, divided by `batch_size`."""

    ms_per_image: float  # median over the repeats
    iqr_ms: float  # between the quartiles
    batch_size: int

    @staticmethod
    def of(seconds: Quartiles, batch_size: int) -> Latency:
        """`seconds`: of a batch."""
        return Latency(1e3 * seconds.median / batch_size, 1e3 * (seconds.high - seconds.low) / batch_size, batch_size)


def measure_latency(
    models: dict[Key, nn.Module], image_sizes: dict[Key, int], *, batch_size: int, device: torch.device, repeats: int = 9
) -> dict[Key, Latency]:
    """Inference: a forward pass of each of `models` on images of its own size (3 x S x S), channels-last, in eval mode,
    fp32; torch's global random numbers are not touched."""
    images = _images(models, image_sizes, batch_size, device)
    passes: dict[Key, Job] = {name: partial(model.eval(), images[name]) for name, model in models.items()}
    with torch.inference_mode():
        return _measure(passes, batch_size, device, repeats)


def measure_training(
    models: dict[Key, nn.Module], image_sizes: dict[Key, int], *, batch_size: int, device: torch.device, repeats: int = 9
) -> dict[Key, Latency]:
    """A step of training: forward, loss, backward, SGD with momentum; channels-last, fp32. Leaves other weights behind."""
    images = _images(models, image_sizes, batch_size, device)
    labels = torch.zeros(batch_size, dtype=torch.int64, device=device)
    sgd = partial(torch.optim.SGD, lr=1e-6, momentum=0.9, fused=True)  # as train.py
    optimizers = {name: sgd(model.parameters()) for name, model in models.items()}

    def step(name: Key) -> None:
        optimizers[name].zero_grad()
        cross_entropy(models[name](images[name]), labels).backward()
        optimizers[name].step()

    for model in models.values():
        model.train()
    return _measure({name: partial(step, name) for name in models}, batch_size, device, repeats)


def _images(models: dict[Key, nn.Module], sizes: dict[Key, int], batch_size: int, device: torch.device) -> dict[Key, Tensor]:
    """Images for each network. Puts the networks on the device."""
    images, noise = {}, torch.Generator().manual_seed(0)
    for name, model in models.items():
        model.to(device).to(memory_format=torch.channels_last)
        made = torch.randn(batch_size, 3, sizes[name], sizes[name], generator=noise)
        images[name] = made.to(device, memory_format=torch.channels_last)
    return images


def _measure(passes: dict[Key, Job], batch_size: int, device: torch.device, repeats: int) -> dict[Key, Latency]:
    times = measure(passes, repeats, device, slice_s=SLICE_SECONDS)
    return {name: Latency.of(seconds, batch_size) for name, seconds in times.items()}
