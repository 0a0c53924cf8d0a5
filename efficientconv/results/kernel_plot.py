"""A picture of intra-channel kernels: for each stage the kernels, their kinds, and how near they are to the identity.

Two runs stand side by side, for example with and without the residual connection. Random kernels stand beside them, so that
each share can be compared with chance.
"""

from __future__ import annotations

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb

from efficientconv.results.kernel_measures import KINDS, TEMPLATES, Kernels, edges, of_random, templates
from efficientconv.results.kernels import RunKernels, by_stage
from efficientconv.results.pictures import STYLE, rendered

SHOWN, COLUMNS = 128, 16  # the most kernels of a stage, and kernels in a row
TILE, FRAME, GAP = 30, 4, 6  # pixels: whole ones for each entry of 2 x 2, 3 x 3 and 5 x 5
MOSAIC_WIDTH, CHARTS_WIDTH = 4.9, 7.2  # inches
COLORS = dict(zip(KINDS, ("#2f9e60", "#8e63b5", "#e69f00", "#4ba3c7", "#d0d0d0", "#7a7a7a")))
RUN_COLORS = ("#222222", "#d1495b")
FOOTNOTE = """\
Each kernel has its own scale: red is positive, blue negative, white zero. The frame is the kernel's kind: the template that
holds at least half of its energy, whatever its sign; edges may have any direction. Random: independent Gaussian entries."""
CONDITIONS = "{data_name}{tier}, layout {layout}, width {width:g}, epochs {epochs}, seed {seed}, top-1 {top1_percent:.2f} %"


def draw_kernels(runs: dict[str, RunKernels]) -> bytes:
    """The PNG of one run, or of two runs side by side. `runs` are by label."""
    groups = by_stage(runs)
    heights = [max(map(_mosaic_inches, group.values())) for group in groups.values()]
    widths = [*(MOSAIC_WIDTH for _ in runs), CHARTS_WIDTH / 2, CHARTS_WIDTH / 2]
    size = (sum(widths) + 0.6, 0.5 + sum(heights) + 0.75 * len(groups) + 1.2)
    with plt.rc_context(STYLE | {"axes.grid": False, "axes.titlesize": 9}):
        figure = plt.figure(figsize=size, layout="constrained")
        title = "\n".join(["Intra-channel kernels", *(f"{label}: {_conditions(run)}" for label, run in runs.items())])
        figure.suptitle(title, x=0.01, ha="left", fontsize=11)
        figure.supxlabel(FOOTNOTE, x=0.01, ha="left", fontsize=8, color="0.35")
        rows = figure.add_gridspec(len(groups) + 1, len(widths), width_ratios=widths, height_ratios=[0.45, *heights])
        _draw_legend(figure.add_subplot(rows[0, :]))
        for row, (key, group) in enumerate(groups.items(), 1):
            _draw_row([figure.add_subplot(rows[row, column]) for column in range(len(widths))], *key, list(runs), group)
        return rendered(figure, [".png"])[".png"]


def tile(kernel: np.ndarray, kind: str) -> np.ndarray:
    """A k x k kernel, scaled by its largest entry, in a frame of its kind's colour: S x S x 3, of 0 .. 1."""
    zoom = TILE // len(kernel)
    scaled = np.kron(kernel / max(np.abs(kernel).max(), np.finfo(float).tiny), np.ones((zoom, zoom)))
    image = np.full((TILE + 2 * FRAME, TILE + 2 * FRAME, 3), to_rgb(COLORS[kind]))
    inside = slice(start := FRAME + (TILE - len(scaled)) // 2, start + len(scaled))
    image[inside, inside] = matplotlib.colormaps["RdBu_r"](scaled / 2 + 0.5)[..., :3]
    return image


def mosaic(kernels: np.ndarray, kinds: np.ndarray, columns: int) -> np.ndarray:
    """n x k x k kernels row by row on white, `columns` in a row: H x W x 3."""
    pitch = TILE + 2 * FRAME + GAP
    image = np.ones((-(-len(kernels) // columns) * pitch - GAP, columns * pitch - GAP, 3))
    for index, (kernel, kind) in enumerate(zip(kernels, kinds)):
        y, x = (pitch * place for place in divmod(index, columns))
        image[y : y + pitch - GAP, x : x + pitch - GAP] = tile(kernel, kind)
    return image


def _draw_row(axes: list[Axes], stage: str, size: int, labels: list[str], group: dict[str, Kernels]) -> None:
    """The kernels of one size in one stage. A run that has none leaves its place empty."""
    *mosaics, kinds, identity = axes
    for place, label in zip(mosaics, labels):
        place.set_axis_off()
        if label in group:
            _draw_mosaic(place, group[label], f"{label}, {stage}, {size} x {size}")
    _draw_kinds(kinds, group | {"random": of_random(size)})
    _draw_identity(identity, group, size, dict(zip(labels, RUN_COLORS)))


def _conditions(run: RunKernels) -> str:
    return CONDITIONS.format_map(run.summary | {"tier": f", tier {run.tier}" if run.tier else ""})


def _mosaic_inches(kernels: Kernels) -> float:
    return max(1.4, -(-min(SHOWN, len(kernels)) // COLUMNS) * MOSAIC_WIDTH / COLUMNS)


def _draw_legend(axes: Axes) -> None:
    """The kinds with their templates."""
    examples = dict(zip(TEMPLATES, (*templates(3), edges(3)[0])))
    axes.set_axis_off()
    for index, kind in enumerate(KINDS):
        example = axes.inset_axes((0.08 * index, 0, 0.02, 1), anchor="W")
        example.imshow(tile(examples.get(kind, np.zeros(9)).reshape(3, 3), kind))
        example.set_axis_off()
        axes.text(0.08 * index + 0.024, 0.5, kind, va="center", transform=axes.transAxes)


def _draw_mosaic(axes: Axes, kernels: Kernels, title: str) -> None:
    """Draws kernels at even distances from the list that is sorted by kind, the clearest of each kind first."""
    order = np.lexsort((-np.nan_to_num(np.abs(kernels.cosines)).max(axis=1), list(map(KINDS.index, kernels.kinds))))
    chosen = order[np.linspace(0, len(order) - 1, min(SHOWN, len(order))).round().astype(int)]
    axes.imshow(mosaic(kernels.entries[chosen], kernels.kinds[chosen], COLUMNS))
    axes.set_anchor("NW")
    axes.set_title(f"{title}: {len(chosen)} of {len(kernels)} kernels", loc="left")


def _draw_kinds(axes: Axes, groups: dict[str, Kernels]) -> None:
    left = np.zeros(len(groups))
    for kind in KINDS:
        shares = np.array([100 * kernels.share_of(kind) for kernels in groups.values()])
        bars = axes.barh(list(groups), shares, left=left, color=COLORS[kind], height=0.6)
        axes.bar_label(bars, [f"{share:.0f}" if share >= 6 else "" for share in shares], label_type="center", fontsize=8)
        left += shares
    axes.invert_yaxis()
    axes.set_xlim(0, 100)
    axes.tick_params(left=False)
    axes.spines["left"].set_visible(False)
    axes.set_title("kinds, % of all kernels", loc="left")


def _draw_identity(axes: Axes, groups: dict[str, Kernels], size: int, colors: dict[str, str]) -> None:
    axes.set_title("|cosine| with identity, % of kernels", loc="left")
    if size % 2 == 0:
        axes.set_axis_off()
        axes.text(0.5, 0.5, f"{size} x {size} has no centre,\nand so no identity", ha="center", va="center")
        return
    for label, kernels in ({"random": of_random(size)} | groups).items():
        filled = {"histtype": "stepfilled", "color": "#d9d9d9"}
        style = {"histtype": "step", "color": colors[label], "linewidth": 1.4} if label in groups else filled
        weights = np.full(len(kernels.identity), 100 / max(1, len(kernels.identity)))
        axes.hist(kernels.identity, np.linspace(0, 1, 11).tolist(), weights=weights, label=label, **style)
    axes.set_xlim(0, 1)
    axes.legend(loc="upper right")
