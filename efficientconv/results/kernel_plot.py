"""Intra-channel kernels as a picture: stage by stage the kernels, their kinds, and how near they are to the identity.

Runs stand side by side, so that a model shows what it learns with and without its residual connection; kernels of chance
stand beside them, so that a share shows what it is worth.
"""

from __future__ import annotations

import io
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

from efficientconv.files import write_atomically
from efficientconv.results import kernel_tiles as tiles
from efficientconv.results.kernel_measures import KINDS, TEMPLATES, Measures, edges, of_random, templates
from efficientconv.results.kernels import KernelGroup, RunKernels

matplotlib.use("Agg")  # no screen is needed

SHOWN = 128  # kernels of a stage at most
COLUMNS = 16
MOSAIC_WIDTH, MARGIN = 4.9, 0.2  # inches
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
    heights = [max(_mosaic_inches(of_run[key]) for of_run in groups.values() if key in of_run) for key in keys]
    with plt.rc_context(STYLE):
        page = _Page(list(runs), heights)
        page.figure.text(page.left, page.top(0.15), _title(runs), va="top", fontsize=11)
        _draw_legend(page.legend(), step=1.35 / (page.width - 2 * MARGIN))
        for row, key in enumerate(keys):
            _draw_row(page, row, *key, {label: of_run.get(key) for label, of_run in groups.items()})
        page.figure.text(page.left, 0.12 / page.height, FOOTNOTE, fontsize=8, color="#555555")
        picture = io.BytesIO()
        page.figure.savefig(picture, format="png", dpi=150)
        plt.close(page.figure)
    write_atomically(path, picture.getbuffer())


class _Page:
    """A figure with room for its title, a legend, and a row a stage: a mosaic a run, then two charts. Lengths in inches."""

    def __init__(self, labels: list[str], heights: list[float]):
        self.head, foot, gap = 1.05 + 0.2 * len(labels), 0.85, 0.65
        names = 0.08 * max(map(len, [*labels, "random"])) + 0.2  # beside the first chart
        self.width = 2 * MARGIN + MOSAIC_WIDTH * len(labels) + names + 5.8
        self.height = self.head + sum(heights) + gap * len(heights) + foot - 0.35
        self.figure = plt.figure(figsize=(self.width, self.height))
        self.left = MARGIN / self.width
        middle = MARGIN + MOSAIC_WIDTH * len(labels)
        rows = {
            "nrows": len(heights), "height_ratios": heights, "hspace": gap * len(heights) / sum(heights),
            "top": self.top(self.head + 0.3), "bottom": foot / self.height,
        }  # fmt: skip
        self.mosaics = self.figure.add_gridspec(
            ncols=len(labels), left=self.left, right=middle / self.width, wspace=0.05, **rows
        )
        self.charts = self.figure.add_gridspec(
            ncols=2, left=(middle + names) / self.width, right=1 - self.left, wspace=0.16, **rows
        )

    def top(self, inches: float) -> float:
        return 1 - inches / self.height

    def legend(self) -> Axes:
        return self.figure.add_axes((self.left, self.top(self.head - 0.1), 1 - 2 * self.left, 0.4 / self.height))


def _draw_row(page: _Page, row: int, stage: str, size: int, groups: dict[str, KernelGroup | None]) -> None:
    """The kernels of one size in one stage; None for a run that has none."""
    present = {label: group for label, group in groups.items() if group is not None}
    for column, label in enumerate(groups):
        if label in present:
            title = f"{label}, {stage}, {size} x {size}"
            _draw_mosaic(page.figure.add_subplot(page.mosaics[row, column]), present[label], title)
    measures = {label: group.measures for label, group in present.items()}
    _draw_kinds(page.figure.add_subplot(page.charts[row, 0]), measures | {"random": of_random(size)})
    colors = dict(zip(groups, RUN_COLORS))
    _draw_identity(page.figure.add_subplot(page.charts[row, 1]), measures, size, colors)


def _title(runs: dict[str, RunKernels]) -> str:
    return "\n".join(["Intra-channel kernels", *(f"{label}: {_conditions(run)}" for label, run in runs.items())])


def _conditions(run: RunKernels) -> str:
    s = run.summary
    tier = f", tier {run.tier}" if run.tier else ""
    return (
        f"{s['data_name']}{tier}, layout {s['layout']}, width {s['width']:g}, epochs {s['epochs']}, seed {s['seed']}, "
        f"top-1 {s['top1_percent']:.2f} %"
    )


def _mosaic_inches(group: KernelGroup) -> float:
    rows = -(-min(SHOWN, len(group.kernels)) // COLUMNS)
    return max(1.4, rows * MOSAIC_WIDTH / COLUMNS)


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


def _draw_mosaic(axes: Axes, group: KernelGroup, title: str) -> None:
    chosen = _chosen(group.measures)
    axes.imshow(tiles.mosaic(group.kernels[chosen], group.measures.kinds[chosen], COLUMNS))
    axes.set_anchor("NW")
    axes.set_axis_off()
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
