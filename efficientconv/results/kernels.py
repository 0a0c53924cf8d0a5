"""The intra-channel kernels of finished runs, and their tables. A kernel is the k x k filter of one channel."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from efficientconv.engine.run_folder import RunFolder
from efficientconv.engine.trained_run import read_run
from efficientconv.errors import UserError
from efficientconv.models.network import Network
from efficientconv.results.kernel_measures import KINDS, TEMPLATES, Kernels, joined, measure, of_random
from efficientconv.results.record import record_of
from efficientconv.results.table import Column, Table


@dataclass(frozen=True)
class LayerKernels:
    """`layer` is the convolution's name in the network; `kernels` are in the order of its weight.

    An unravelled layer's b kernels of one channel follow each other. The kernel of a transposed convolution is its output
    for one input value. Any other kernel is the pattern that its input is compared with.
    """

    stage: str
    layer: str
    kernels: Kernels


@dataclass(frozen=True)
class RunKernels:
    """The kernels of a run. With a residual connection a layer is x + P(G(x)), and its kernels are those of G alone."""

    run: str
    tier: str | None
    summary: dict
    layers: list[LayerKernels]

    def groups(self) -> dict[tuple[str, int], Kernels]:
        """The kernels of one size in one stage together, by stage and k, in the network's order."""
        parts: dict[tuple[str, int], list[Kernels]] = {}
        for layer in self.layers:
            parts.setdefault((layer.stage, layer.kernels.size), []).append(layer.kernels)
        return {key: joined(same) for key, same in parts.items()}


def kernels_of_run(path: Path) -> RunKernels:
    """The kernels of the run's final weights. Raises UserError: no finished run, or a model without such kernels."""
    folder = RunFolder(path)
    folder.config()  # raises UserError if the folder holds no run
    folder.finished_summary()
    record = record_of(folder)
    layers = find_kernels(read_run(path, folder.weights_file).network("", torch.device("cpu")))
    if not layers:
        raise UserError(
            f"{path}: model {record.model} has no intra-channel kernels; models b to e and i to o have them, in their "
            "layers sic, unravelled, spatial_bottleneck and channel_bottleneck"
        )
    return RunKernels(path.resolve().name, record.tier, record.summary, layers)


def find_kernels(model: nn.Module) -> list[LayerKernels]:
    """The kernels of every convolution of a stage whose filters are larger than 1 x 1 and see one channel each."""
    return [
        LayerKernels(stage_name, f"stages.{stage_name}.{name}", measure(conv.weight.detach().double().flatten(0, 1).numpy()))
        for stage_name, stage in (model.stages.items() if isinstance(model, Network) else ())
        for name, conv in stage.named_modules()
        if isinstance(conv, (nn.Conv2d, nn.ConvTranspose2d))
        and conv.groups == conv.in_channels
        and conv.kernel_size != (1, 1)
    ]


def kernel_table(run: RunKernels) -> Table:
    """For a file. `kernel` is the place in the layer's weight, `size` is k; for the others see `Kernels`. Empty: not defined
    for k."""
    names = [f"cosine_{name.replace('-', '_')}" for name in TEMPLATES]
    return Table.of([
        {"stage": layer.stage, "layer": layer.layer, "kernel": place, "size": layer.kernels.size, "norm": norm}
        | {name: _defined(cosine) for name, cosine in zip(names, cosines)} | {"kind": str(kind)}
        for layer in run.layers
        for place, (norm, cosines, kind) in enumerate(zip(layer.kernels.norms, layer.kernels.cosines, layer.kernels.kinds))
    ])  # fmt: skip


def summary_table(runs: Mapping[str, RunKernels]) -> Table:
    """A table for people: a row for each stage and run, and at the end random kernels of the same sizes."""
    groups = {label: run.groups() for label, run in runs.items()}
    keys = list(dict.fromkeys(key for of_run in groups.values() for key in of_run))
    rows = [
        (stage, f"{label} {size}x{size}", of_run[stage, size])
        for stage, size in keys for label, of_run in groups.items() if (stage, size) in of_run
    ] + [("", f"random {size}x{size}", of_random(size)) for size in sorted({size for _, size in keys})]  # fmt: skip
    return Table(rows, [
        Column("stage", lambda row: row[0]),
        Column("kernels", lambda row: row[1]),
        Column("number", lambda row: len(row[2])),
        *(Column(f"{kind} %", lambda row, kind=kind: 100 * row[2].share_of(kind), ".1f") for kind in KINDS),
        Column("|cosine| identity", lambda row: _defined(row[2].identity.mean()) if len(row[2].identity) else None, ".2f"),
    ])  # fmt: skip


def _defined(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
