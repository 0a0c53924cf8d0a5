"""The intra-channel kernels of finished runs: each is the k x k filter of one channel, before the projection."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from efficientconv.engine.run_folder import RunFolder
from efficientconv.engine.trained_run import read_run
from efficientconv.errors import UserError
from efficientconv.models.network import Network
from efficientconv.results.kernel_measures import Measures, joined, measure
from efficientconv.results.record import record_of


@dataclass(frozen=True)
class LayerKernels:
    """`layer` is the convolution's name in the network; `kernels`: n x k x k, in the order of its weight.

    An unravelled layer's b kernels of one channel stand beside each other. A transposed convolution's kernel is what it
    paints for one value, any other's what it compares its input with.
    """

    stage: str
    layer: str
    kernels: np.ndarray
    measures: Measures


@dataclass(frozen=True)
class KernelGroup:
    """All kernels of one size in one stage."""

    kernels: np.ndarray
    measures: Measures


@dataclass(frozen=True)
class RunKernels:
    """`summary` is the run's own. With a residual connection a layer is x + P(G(x)): these are the kernels of G alone."""

    run: str
    tier: str | None
    summary: dict
    layers: list[LayerKernels]

    @property
    def model(self) -> str:
        return self.summary["model_name"]

    def groups(self) -> dict[tuple[str, int], KernelGroup]:
        """By stage and k, in the network's order."""
        parts: dict[tuple[str, int], list[LayerKernels]] = {}
        for layer in self.layers:
            parts.setdefault((layer.stage, layer.kernels.shape[-1]), []).append(layer)
        return {
            key: KernelGroup(np.concatenate([one.kernels for one in same]), joined([one.measures for one in same]))
            for key, same in parts.items()
        }


def kernels_of_run(path: Path) -> RunKernels:
    """Of the weights that the run ended with. Raises UserError: no finished run, or a model without such kernels."""
    folder = RunFolder(path)
    folder.config()  # raises where it is no run
    folder.finished_summary()
    record = record_of(folder)
    model = read_run(path, folder.weights_file).network("", torch.device("cpu"))
    layers = find_kernels(model)
    if not layers:
        raise UserError(
            f"{path}: model {record.model} has no intra-channel kernels; models b to e and i to o have them, in their "
            "layers sic, unravelled, spatial_bottleneck and channel_bottleneck"
        )
    return RunKernels(path.resolve().name, record.tier, record.summary, layers)


def find_kernels(model: nn.Module) -> list[LayerKernels]:
    """Of every convolution of a stage whose filters are larger than 1 x 1 and see one channel each, whatever its name."""
    stages = model.stages if isinstance(model, Network) else {}
    return [
        _layer_kernels(stage_name, f"stages.{stage_name}.{name}", module)
        for stage_name, stage in stages.items()
        for name, module in stage.named_modules()
        if _is_intra_channel(module)
    ]


def _is_intra_channel(module: nn.Module) -> bool:
    is_convolution = isinstance(module, (nn.Conv2d, nn.ConvTranspose2d))
    return is_convolution and module.groups == module.in_channels and module.kernel_size != (1, 1)


def _layer_kernels(stage: str, layer: str, conv: nn.Conv2d | nn.ConvTranspose2d) -> LayerKernels:
    kernels = conv.weight.detach().double().flatten(0, 1).numpy()
    return LayerKernels(stage, layer, kernels, measure(kernels))
