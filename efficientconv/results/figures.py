"""A run's figures: the name and unit of each, its format for people, and whether more or less is better.

Tables, plots and the report read this; the loggers get every figure by its name. A new figure is one line here, and a place
that measures it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from efficientconv.results.table import Column

Better = Literal["higher", "lower"]


@dataclass(frozen=True)
class Figure:
    """`title` heads a column and has the unit; `about` stands at an axis. `form` is a format of Python and of d3."""

    name: str  # in summary.json, in an epoch's record, and in csv files
    title: str
    unit: str  # of the shown number; "" for a number without a unit
    about: str
    form: str = ".2f"
    scale: float = 1.0  # the stored number is shown divided by it
    better: Better | None = None

    def show(self, value: object) -> str:
        """A stored number, or a `Spread` of such numbers, formatted for people; "" for None."""
        if value is None:
            return ""
        return format(value if self.scale == 1.0 else value / self.scale, self.form)

    def column(
        self, value: Callable[..., object] | str | None = None, title: str | None = None, name: str | None = None
    ) -> Column:
        """A column. `value` takes the figure out of a row, as in `Column`. `title` and `name`: of a figure shown twice."""
        return Column(title or self.title, value, self.show, name or self.name, self.better)


_ALL = (
    # of a finished run: summary.json
    Figure("top1_percent", "top-1 %", "%", "top-1 % on the test images", better="higher"),
    Figure("top5_percent", "top-5 %", "%", "top-5 % on the test images", better="higher"),
    Figure("loss", "loss", "", "cross-entropy on the test images", ".4f", better="lower"),
    Figure("macs", "M MACs", "M", "million MACs of one image (1 MAC = 2 FLOPs)", ",.2f", 1e6, "lower"),
    Figure("params", "M parameters", "M", "million parameters", ",.3f", 1e6, "lower"),
    Figure("activations", "M activations", "M", "million activations of one image", ",.2f", 1e6, "lower"),
    Figure("ms_per_image", "ms per image", "ms", "ms per image, measured: inference", ".3g", better="lower"),
    Figure("training_ms_per_image", "ms per image, training", "ms", "ms per image, measured: a training step", ".3g",
           better="lower"),
    Figure("limit_share", "ms per image, of limit", "", "least time by measured peaks, over the measured one", ".2f",
           better="higher"),
    Figure("best_val_top1_percent", "best held-out top-1 %", "%", "top-1 % on held-out training images, best epoch",
           better="higher"),
    Figure("train_seconds", "seconds of training", "s", "seconds of training", ",.0f", better="lower"),
    Figure("train_images_per_s", "training images/s", "images/s", "training images a second", ",.0f", better="higher"),
    # of an epoch: metrics.jsonl
    Figure("lr", "learning rate", "", "learning rate", ".3g"),
    Figure("train_loss", "training loss", "", "cross-entropy on training images, augmented", ".4f", better="lower"),
    Figure("val_loss", "held-out loss", "", "cross-entropy on held-out training images", ".4f", better="lower"),
    Figure("train_top1_percent", "training top-1 %", "%", "top-1 % on training images, augmented", better="higher"),
    Figure("train_top5_percent", "training top-5 %", "%", "top-5 % on training images, augmented", better="higher"),
    Figure("val_top1_percent", "held-out top-1 %", "%", "top-1 % on held-out training images", better="higher"),
    Figure("val_top5_percent", "held-out top-5 %", "%", "top-5 % on held-out training images", better="higher"),
    Figure("images_per_s", "images/s", "images/s", "training images a second", ",.0f", better="higher"),
    Figure("data_wait_percent", "waiting for data %", "%", "% of the time that training waits for data", ".1f",
           better="lower"),
)  # fmt: skip

FIGURES = {figure.name: figure for figure in _ALL}
