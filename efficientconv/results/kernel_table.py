"""The measures of kernels as text: a row a kernel in csv, a line a stage on the terminal, beside what chance gives."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from efficientconv.results.kernel_measures import KINDS, TEMPLATES, Measures, of_random
from efficientconv.results.kernels import LayerKernels, RunKernels

COSINES = [f"cosine_{name.replace('-', '_')}" for name in TEMPLATES]
COLUMNS = [
    "run", "stage", "layer", "kernel", "size", "norm", *COSINES, "edge_degrees", "share_mean", "share_odd", "share_even",
    "kind",
]  # fmt: skip
HEADER = ["stage", "kernels", "number", *(f"{kind} %" for kind in KINDS), "|cosine| identity", "mean %", "odd %", "even %"]


def write_kernels(path: Path, runs: list[RunKernels]) -> None:
    """`kernel` is the place in the layer's weight, `size` is k; for the others see `Measures`. Empty: not defined for k."""
    with open(path, "w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for run in runs:
            for layer in run.layers:
                writer.writerows([run.run, layer.stage, layer.layer, *cells] for cells in _cells(layer))


def summary_text(runs: dict[str, RunKernels]) -> str:
    """By the label of each run; at the end random kernels of the same sizes."""
    groups = {label: run.groups() for label, run in runs.items()}
    keys = dict.fromkeys(key for of_run in groups.values() for key in of_run)
    lines = [
        _line(stage, f"{label} {size}x{size}", of_run[stage, size].measures)
        for stage, size in keys
        for label, of_run in groups.items()
        if (stage, size) in of_run
    ]
    lines += [_line("", f"random {size}x{size}", of_random(size)) for size in sorted({size for _, size in keys})]
    widths = [max(map(len, column)) for column in zip(HEADER, *lines)]
    return "\n".join("  ".join(_aligned(line, widths)).rstrip() for line in [HEADER, *lines])


def _cells(layer: LayerKernels) -> list[list[object]]:
    """Six digits are more than a float32 weight's shape is known to."""
    found, size = layer.measures, layer.kernels.shape[-1]
    figures = np.column_stack([found.norms, found.cosines, found.degrees, found.shares])
    return [
        [index, size, *("" if np.isnan(value) else f"{value:.6g}" for value in row), kind]
        for index, (row, kind) in enumerate(zip(figures, found.kinds))
    ]


def _line(stage: str, label: str, found: Measures) -> list[str]:
    alive = found.alive
    identity = np.abs(found.cosines[alive, 0]).mean()
    shares = [100 * share for share in (*map(found.share_of, KINDS), *found.shares[alive].mean(axis=0))]
    cells = [f"{share:.1f}" for share in shares]
    cells.insert(len(KINDS), "" if np.isnan(identity) else f"{identity:.2f}")
    return [stage, label, str(len(found.norms)), *cells]


def _aligned(line: list[str], widths: list[int]) -> list[str]:
    return [cell.ljust(width) if index < 2 else cell.rjust(width) for index, (cell, width) in enumerate(zip(line, widths))]
