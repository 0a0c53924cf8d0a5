"""The measures of kernels: a row a kernel in csv, a row a stage on the terminal, beside what chance gives."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from efficientconv.results.kernel_measures import KINDS, TEMPLATES, Measures, of_random
from efficientconv.results.kernels import RunKernels
from efficientconv.results.table import Column, Table


def kernel_table(run: RunKernels) -> Table:
    """`kernel` is the place in the layer's weight, `size` is k; for the others see `Measures`. Empty: not defined for k."""
    rows = [(layer, index) for layer in run.layers for index in range(len(layer.kernels))]
    return Table(rows, [
        Column(None, lambda row: row[0].stage, name="stage"),
        Column(None, lambda row: row[0].layer, name="layer"),
        Column(None, lambda row: row[1], name="kernel"),
        Column(None, lambda row: row[0].kernels.shape[-1], name="size"),
        Column(None, lambda row: row[0].measures.norms[row[1]], name="norm"),
        *(Column(None, lambda row, place=place: _defined(row[0].measures.cosines[row[1], place]), name=f"cosine_{name}")
          for place, name in enumerate(name.replace("-", "_") for name in TEMPLATES)),
        Column(None, lambda row: str(row[0].measures.kinds[row[1]]), name="kind"),
    ])  # fmt: skip


def summary_table(runs: Mapping[str, RunKernels]) -> Table:
    """By the label of each run; at the end random kernels of the same sizes. The dead are in no mean."""
    groups = {label: run.groups() for label, run in runs.items()}
    keys = list(dict.fromkeys(key for of_run in groups.values() for key in of_run))
    rows = [
        (stage, f"{label} {size}x{size}", of_run[stage, size].measures)
        for stage, size in keys for label, of_run in groups.items() if (stage, size) in of_run
    ]  # fmt: skip
    rows += [("", f"random {size}x{size}", of_random(size)) for size in sorted({size for _, size in keys})]
    return Table(rows, [
        Column("stage", lambda row: row[0]),
        Column("kernels", lambda row: row[1]),
        Column("number", lambda row: len(row[2].norms)),
        *(Column(f"{kind} %", lambda row, kind=kind: 100 * row[2].share_of(kind), ".1f") for kind in KINDS),
        Column("|cosine| identity", lambda row: _mean_identity(row[2]), ".2f"),
    ])  # fmt: skip


def _mean_identity(found: Measures) -> float | None:
    return _defined(found.identity.mean()) if len(found.identity) else None


def _defined(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
