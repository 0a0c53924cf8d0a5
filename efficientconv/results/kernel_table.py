"""The measures of kernels as text: a row a kernel in csv, a line a stage on the terminal, beside what chance gives."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from efficientconv.files import write_atomically
from efficientconv.results.kernel_measures import KINDS, TEMPLATES, Measures, of_random
from efficientconv.results.kernels import LayerKernels, RunKernels
from efficientconv.results.markdown import csv_text
from efficientconv.text import printable

COSINES = [f"cosine_{name.replace('-', '_')}" for name in TEMPLATES]
COLUMNS = [
    "stage", "layer", "kernel", "size", "norm", *COSINES, "edge_degrees", "share_mean", "share_odd", "share_even", "kind",
]  # fmt: skip
HEADER = ["stage", "kernels", "number", *(f"{kind} %" for kind in KINDS), "|cosine| identity", "mean %", "odd %", "even %"]


def write_kernels(path: Path, run: RunKernels) -> None:
    """`kernel` is the place in the layer's weight, `size` is k; for the others see `Measures`. Empty: not defined for k."""
    rows = [dict(zip(COLUMNS, row)) for layer in run.layers for row in _rows(layer)]
    write_atomically(path, csv_text(rows).encode())


def summary_text(runs: dict[str, RunKernels]) -> str:
    """By the label of each run; at the end random kernels of the same sizes."""
    groups = {label: run.groups() for label, run in runs.items()}
    keys = dict.fromkeys(key for of_run in groups.values() for key in of_run)
    lines = [
        _line(stage, f"{printable(label)} {size}x{size}", of_run[stage, size].measures)
        for stage, size in keys
        for label, of_run in groups.items()
        if (stage, size) in of_run
    ]
    lines += [_line("", f"random {size}x{size}", of_random(size)) for size in sorted({size for _, size in keys})]
    widths = [max(map(len, column)) for column in zip(HEADER, *lines)]
    return "\n".join("  ".join(_aligned(line, widths)).rstrip() for line in [HEADER, *lines])


def _rows(layer: LayerKernels) -> list[list[object]]:
    """Six digits are nearly all that a float32 weight has."""
    found, size = layer.measures, layer.kernels.shape[-1]
    figures = np.column_stack([found.norms, found.cosines, found.degrees, found.shares])
    return [
        [layer.stage, layer.layer, index, size, *(_number(value, ".6g") for value in row), kind]
        for index, (row, kind) in enumerate(zip(figures, found.kinds))
    ]


def _line(stage: str, label: str, found: Measures) -> list[str]:
    """The dead count as a kind, and in no mean."""
    kinds = [f"{100 * found.share_of(kind):.1f}" for kind in KINDS]
    figures = np.column_stack([np.abs(found.cosines[:, 0]), 100 * found.shares])[found.alive]
    means = figures.mean(axis=0) if len(figures) else np.full(4, np.nan)
    formats = (".2f", ".1f", ".1f", ".1f")
    return [stage, label, str(len(found.norms)), *kinds, *map(_number, means, formats)]


def _number(value: float, form: str) -> str:
    return "" if np.isnan(value) else f"{value:{form}}"


def _aligned(line: list[str], widths: list[int]) -> list[str]:
    return [cell.ljust(width) if index < 2 else cell.rjust(width) for index, (cell, width) in enumerate(zip(line, widths))]
