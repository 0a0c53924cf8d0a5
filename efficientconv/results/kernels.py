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
class RunKernels:
    """The kernels of a run, as `find_kernels` gives them.

    With a residual connection a layer is x + P(G(x)), and its kernels are those of G alone.
    """

    run: str
    tier: str | None
    summary: dict
    layers: dict[str, Kernels]


def by_stage(runs: Mapping[str, RunKernels]) -> dict[tuple[str, int], dict[str, Kernels]]:
    """The kernels of one size in one stage together, by stage and k, in the networks' order, and by the run's label."""
    parts: dict[tuple[str, int], dict[str, list[Kernels]]] = {}
    for label, run in runs.items():
        for layer, kernels in run.layers.items():
            parts.setdefault((_stage(layer), kernels.size), {}).setdefault(label, []).append(kernels)
    return {key: {label: joined(same) for label, same in of_runs.items()} for key, of_runs in parts.items()}


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


def find_kernels(model: nn.Module) -> dict[str, Kernels]:
    """The kernels of every convolution of a stage whose filters are larger than 1 x 1 and see one channel each, by the
    convolution's name in the network, in the order of its weight.

    An unravelled layer's b kernels of one channel follow each other. The kernel of a transposed convolution is its output
    for one input value. Any other kernel is the pattern that its input is compared with.
    """
    return {
        name: measure(conv.weight.detach().double().flatten(0, 1).numpy())
        for name, conv in (model.stages.named_modules(prefix="stages") if isinstance(model, Network) else ())
        if isinstance(conv, (nn.Conv2d, nn.ConvTranspose2d))
        and conv.groups == conv.in_channels
        and conv.kernel_size != (1, 1)
    }


def kernel_table(run: RunKernels) -> Table:
    """For a file. `kernel` is the place in the layer's weight, `size` is k; for the others see `Kernels`. Empty: not defined
    for k."""
    names = [f"cosine_{name.replace('-', '_')}" for name in TEMPLATES]
    return Table.of([
        {"stage": _stage(layer), "layer": layer, "kernel": place, "size": found.size, "norm": norm}
        | {name: _defined(cosine) for name, cosine in zip(names, cosines)} | {"kind": str(kind)}
        for layer, found in run.layers.items()
        for place, (norm, cosines, kind) in enumerate(zip(found.norms, found.cosines, found.kinds))
    ])  # fmt: skip


def summary_table(runs: Mapping[str, RunKernels]) -> Table:
    """A table for people: a row for each stage and run, and at the end random kernels of the same sizes."""
    groups = by_stage(runs)
    groups |= {("", size): {"random": of_random(size)} for size in sorted({size for _, size in groups})}
    rows = [(stage, f"{label} {size}x{size}", found)
            for (stage, size), group in groups.items() for label, found in group.items()]  # fmt: skip
    return Table(rows, [
        Column("stage", lambda row: row[0]),
        Column("kernels", lambda row: row[1]),
        Column("number", lambda row: len(row[2])),
        *(Column(f"{kind} %", lambda row, kind=kind: 100 * row[2].share_of(kind), ".1f") for kind in KINDS),
        Column("|cosine| identity", lambda row: _defined(row[2].identity.mean()) if len(row[2].identity) else None, ".2f"),
    ])  # fmt: skip


def _stage(layer: str) -> str:
    return layer.split(".")[1]


def _defined(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
