"""The common parts of all pictures: style, axes, and their PNG and SVG files."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawing

matplotlib.use("Agg")  # no screen is needed

MARKERS = "osD^v<>Pph*X"
STYLE: dict[Any, Any] = {
    "font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.alpha": 0.25,
    "legend.edgecolor": "none", "legend.borderpad": 0.1,  # no frame, but lines fade behind the text
    "legend.fontsize": 8, "legend.title_fontsize": 8,
    "svg.hashsalt": "efficientconv",
}  # fmt: skip
Picture = Mapping[str, bytes]  # .png and .svg


def rendered(drawing: Drawing, endings: Sequence[str] = (".png", ".svg")) -> Picture:
    """The picture of a drawing, as files. Closes the drawing."""
    images = {}
    for ending in endings:
        image = io.BytesIO()
        metadata = {"Date": None} if ending == ".svg" else {}  # the same picture, the same file
        drawing.savefig(image, format=ending[1:], dpi=150, metadata=metadata)
        images[ending] = image.getvalue()
    plt.close(drawing)
    return images


def log_axes(axes: Axes, x: str, y: str) -> None:
    axes.set(xscale="log", yscale="log", xlabel=x, ylabel=y)
    log_axis(axes.xaxis)
    log_axis(axes.yaxis)


def log_axis(axis: matplotlib.axis.Axis) -> None:
    """Ticks at 1, 2 and 5 of each power of ten, written out."""
    axis.set_major_locator(matplotlib.ticker.LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(matplotlib.ticker.FormatStrFormatter("%g"))
    axis.set_minor_formatter(matplotlib.ticker.NullFormatter())
