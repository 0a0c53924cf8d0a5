"""Intra-channel kernels as a picture: stage by stage the kernels, their kinds, and how near they are to the identity.

Runs stand side by side, so that a model shows what it learns with and without its residual connection; kernels of chance
stand beside them, so that a share shows what it is worth.
"""

from __future__ import annotations

from pathlib import Path

import matplotlib
import numpy as np

matplotlib.use("Agg")  # no screen is needed

import matplotlib.pyplot as plt  # noqa: E402
from matplotlib.axes import Axes  # noqa: E402

from efficientconv.results import kernel_tiles as tiles  # noqa: E402
from efficientconv.results.kernel_measures import KINDS, TEMPLATES, Measures, edges, of_random, templates  # noqa: E402
from efficientconv.results.kernels import KernelGroup, RunKernels  # noqa: E402

SHOWN = 128  # kernels of a stage at most
COLUMNS = 16
RUN_COLORS = ("#222222", "#d1495b")
RANDOM_COLOR = "#d9d9d9"
FOOTNOTE = """\
Each kernel has its own scale: red is positive, blue negative, white zero. The frame is the kernel's kind: the template that
holds at least half of its energy, whatever its sign; edges may have any direction. Random: independent Gaussian entries."""
STYLE = {"font.size": 9, "axes.titlesize": 9, "axes.spines.top": False, "axes.spines.right": False}


def draw_kernels(runs: dict[str, RunKernels], path: Path) -> None:
    """One run, or two side by side, by their labels; written to `path` (PNG)."""
    groups = {label: run.groups() for label, run in runs.items()}
    keys = list(dict.fromkeys(key for of_run in groups.values() for key in of_run))
    heights = [max(_mosaic_rows(of_run[key]) for of_run in groups.values() if key in of_run) for key in keys]
    widths = [5.0] * len(runs) + [3.3, 2.7]
    inches = [0.5, *(max(1.5, 0.31 * rows + 0.6) for rows in heights)]
    with plt.rc_context(STYLE):
        figure = plt.figure(figsize=(sum(widths), sum(inches) + 1.1), layout="constrained")
        grid = figure.add_gridspec(len(inches), len(widths), height_ratios=inches, width_ratios=widths)
        _draw_legend(figure.add_subplot(grid[0, :]), step=1.35 / sum(widths))
        for row, (stage, size) in enumerate(keys, start=1):
            present = {label: of_run[stage, size] for label, of_run in groups.items() if (stage, size) in of_run}
            axes = [figure.add_subplot(grid[row, column]) for column in range(len(runs) + 2)]
            for ax, label in zip(axes, runs):
                _draw_mosaic(ax, present.get(label), f"{label}, {stage}, {size} x {size}")
            measures = {label: group.measures for label, group in present.items()}
            colors = dict(zip(runs, RUN_COLORS))
            _draw_kinds(axes[-2], measures | {"random": of_random(size)})
            _draw_identity(axes[-1], measures, size, colors)
        figure.suptitle("\n".join(f"{label}: {_conditions(run)}" for label, run in runs.items()), fontsize=11)
        figure.supxlabel(FOOTNOTE, fontsize=8, color="#555555")
        figure.savefig(path, dpi=150)
        plt.close(figure)


def _conditions(run: RunKernels) -> str:
    s = run.summary
    tier = f", tier {run.tier}" if run.tier else ""
    return (
        f"model {s['model_name']}, layout {s['layout']}, width {s['width']:g}, trained on {s['data_name']}{tier}, "
        f"{s['epochs']} epochs, seed {s['seed']}, top-1 {s['top1_percent']:.2f} %"
    )


def _mosaic_rows(group: KernelGroup) -> int:
    return -(-min(SHOWN, len(group.kernels)) // COLUMNS)


def _draw_legend(axes: Axes, step: float) -> None:
    """The kinds with their templates, `step` of the width apart."""
    examples = dict(zip(TEMPLATES, (*templates(3), edges(3)[0])))
    axes.set_axis_off()
    for index, kind in enumerate(KINDS):
        kernel = examples.get(kind, np.zeros(9)).reshape(3, 3)
        example = axes.inset_axes((index * step, 0, 0.3 * step, 1), anchor="W")
        example.imshow(tiles.tile(kernel, kind))
        example.set_axis_off()
        axes.text((index + 0.36) * step, 0.5, kind, va="center", transform=axes.transAxes)


def _draw_mosaic(axes: Axes, group: KernelGroup | None, title: str) -> None:
    axes.set_axis_off()
    if group is not None:
        chosen = _chosen(group.measures)
        axes.imshow(tiles.mosaic(group.kernels[chosen], group.measures.kinds[chosen], COLUMNS), interpolation="nearest")
        axes.set_title(f"{title}: {len(chosen)} of {len(group.kernels)} kernels", loc="left")


def _chosen(measures: Measures) -> np.ndarray:
    """Which kernels are drawn: sorted by kind, the clearest of each first, and taken from there at even distances."""
    kind = [KINDS.index(kind) for kind in measures.kinds]
    clearness = np.nan_to_num(np.abs(measures.cosines)).max(axis=1)
    order = np.lexsort((-clearness, kind))
    return order[np.linspace(0, len(order) - 1, min(SHOWN, len(order))).round().astype(int)]


def _draw_kinds(axes: Axes, measures: dict[str, Measures]) -> None:
    left = np.zeros(len(measures))
    for kind in KINDS:
        shares = np.array([100 * found.share_of(kind) for found in measures.values()])
        bars = axes.barh(list(measures), shares, left=left, color=tiles.COLORS[kind], height=0.6)
        axes.bar_label(bars, [f"{share:.0f}" if share >= 6 else "" for share in shares], label_type="center", fontsize=8)
        left += shares
    axes.invert_yaxis()
    axes.set_xlim(0, 100)
    axes.tick_params(left=False)
    axes.spines["left"].set_visible(False)
    axes.set_title("kinds, % of all kernels", loc="left")


def _draw_identity(axes: Axes, measures: dict[str, Measures], size: int, colors: dict[str, str]) -> None:
    axes.set_title("|cosine| with identity, % of kernels", loc="left")
    if size % 2 == 0:
        axes.set_axis_off()
        axes.text(0.5, 0.5, f"{size} x {size} has no centre,\nand so no identity", ha="center", va="center")
        return
    bins = np.linspace(0, 1, 11)
    _draw_histogram(axes, of_random(size), bins, "random", histtype="stepfilled", color=RANDOM_COLOR)
    for label, found in measures.items():
        _draw_histogram(axes, found, bins, label, histtype="step", color=colors[label], linewidth=1.4)
    axes.set_xlim(0, 1)
    axes.legend(frameon=False, fontsize=8, loc="upper right")


def _draw_histogram(axes: Axes, found: Measures, bins: np.ndarray, label: str, **style: object) -> None:
    cosines = np.abs(found.cosines[found.alive, 0])
    axes.hist(cosines, bins, weights=np.full(len(cosines), 100 / max(1, len(cosines))), label=label, **style)
