"""Measured time of a tier's networks: results/<tier>/latency.csv, all measured in one run (reproduce/measure.py)."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

from pydantic import Field, TypeAdapter, ValidationError

from efficientconv.config import ModelConfig
from efficientconv.csv_files import csv_rows
from efficientconv.engine.identity import network_digest
from efficientconv.errors import UserError
from efficientconv.results.pages import write_files
from efficientconv.results.table import Table

FILE = "latency.csv"
NORMAL_IQR = 1.349  # the range between the quartiles of a normal distribution, in standard deviations
NetworkKey = tuple[str, float]  # name and width: no two networks of a tier have both in common


@dataclass(frozen=True)
class Times:
    """A network's line of the file. None: not measured, or nobody counted what the network's layers move.

    ms_per_image: of a forward pass over `batch_size` images in eval mode, divided by it; of a step of training likewise.
    Medians, with the range between the quartiles. of_limit: as `roofline.peaks.OfLimit` reads.
    """

    model: str
    width: float
    batch_size: int
    ms_per_image: float
    ms_per_image_iqr: float
    of_limit: str | None
    training_ms_per_image: float | None
    training_ms_per_image_iqr: float | None
    training_of_limit: str | None
    measured_on: str
    network_digest: str | None = None  # earlier versions did not write it

    @property
    def limit_share(self) -> float | None:
        """The share in `of_limit`."""
        return None if self.of_limit is None else float(self.of_limit.split()[0])

    @property
    def binds(self) -> str | None:
        """The limit in `of_limit`."""
        return None if self.of_limit is None else self.of_limit.split()[1]

    def is_of(self, model: ModelConfig) -> bool:
        """Whether the times are of this network, not of one that the model's file had before an edit. None: assumed."""
        return self.network_digest in (None, network_digest(model))

    def error(self, figure: str) -> float:
        """The standard error of a measured `figure`, as a share of it.

        It is the standard deviation of the repeats by the range between their quartiles. The number of repeats does not
        divide it: what else the machine does lasts longer than a repeat.
        """
        return getattr(self, f"{figure}_iqr") / getattr(self, figure) / NORMAL_IQR


_LINES = TypeAdapter(Annotated[list[Times], Field(min_length=1)])


def network_of(model: ModelConfig) -> NetworkKey:
    return model.name, model.width


def read_times(folder: Path) -> dict[NetworkKey, Times]:
    """Empty where nothing was measured yet. Raises UserError for a damaged file, and for one of an earlier version."""
    path = folder / FILE
    if not path.exists():
        return {}
    try:
        lines = _LINES.validate_python([{name: cell or None for name, cell in row.items()} for row in csv_rows(path)])
    except (ValidationError, UnicodeDecodeError, csv.Error) as error:
        fault = error.errors()[0] if isinstance(error, ValidationError) else {"loc": (), "msg": "no csv"}
        what = ": ".join(map(str, [*fault["loc"][1:], fault["msg"]]))
        raise UserError(
            f"{path} is damaged or of an earlier version ({what}); scripts/reproduce.py with --measure again measures all "
            "times anew"
        ) from None
    return {(line.model, line.width): line for line in lines}


def write_times(folder: Path, lines: Iterable[Times]) -> None:
    """Widths with all their digits: a network is found by its width."""
    write_files(folder, {FILE: Table.of([asdict(line) | {"width": f"{line.width:.9g}"} for line in lines]).csv()})


def measured_on(times: Mapping[NetworkKey, Times]) -> str | None:
    """The machine of the times; None: there are none."""
    return next((line.measured_on for line in times.values()), None)
