"""A run as one small JSON file, with everything that tables, plots and reports need, and without paths of the machine.

The files results/<tier>/runs/<run>.json are kept in git, so that every figure of this project can be made again.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from efficientconv.config import OWN_SETS, RunConfig
from efficientconv.engine.identity import identity
from efficientconv.engine.run_folder import TRAIN, RunFolder
from efficientconv.errors import UserError
from efficientconv.files import named, read_json, write_atomically
from efficientconv.results.figures import FIGURES
from efficientconv.validation import flat, validate

_PLACES = {"": ("output_root", "run_dir", "logger"), "data": ("root", "workers")}  # the numbers do not depend on these
_PLACEHOLDERS = {"output_root": "outputs", "run_dir": None, "logger": {}, "data": {"root": None}}
_NAMES = ("model_name", "data_name", "layout")  # the summary of a finished run has these
_NUMBERS = ("width", "image_size", "num_classes", "epochs", "seed", "macs", "params", "top1_percent", "top5_percent")
_REMEDY = "delete it, and reproduce.py makes it anew"


@dataclass(frozen=True)
class RunRecord:
    """`state` is as in status.json. `summary` is empty until the run is done. `metrics` has a record for each epoch."""

    run: str  # the folder's name
    tier: str | None
    state: str
    reason: str | None  # why it ended early
    config: dict
    summary: dict = field(default_factory=dict)
    metrics: list[dict] = field(default_factory=list)
    environment: dict = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.state != "done":
            return
        optional = [key for key in FIGURES if key != "loss" and self.summary.get(key) is not None]  # a loss may be infinite
        wrong = [key for key in _NAMES if not isinstance(self.summary.get(key), str)]
        wrong += [key for key in dict.fromkeys([*_NUMBERS, *optional]) if not _is_number(self.summary.get(key))]
        if wrong:
            raise UserError(f"the summary of the finished run {self.run} lacks a valid {', '.join(wrong[:3])}")
        if self.summary["model_name"] != self.run_config.model.name:
            raise UserError(f"the summary of the finished run {self.run} is of another model than its configuration")

    @cached_property
    def run_config(self) -> RunConfig:
        """The configuration. Raises UserError if it is not valid."""
        values, data = {**_PLACEHOLDERS, **self.config}, self.config.get("data")
        return validate(RunConfig, values | ({"data": {"root": None} | data} if isinstance(data, dict) else {}), self.run)

    @cached_property
    def settings(self) -> dict[str, object]:
        """Every setting by its dotted name, also those that earlier versions did not have. Raises UserError, as above."""
        return flat(_placeless(self.run_config))

    @cached_property
    def group(self) -> tuple:
        """The same for runs that differ only in their seed. Raises UserError if the configuration is not valid."""
        values = identity(self.run_config)
        values.pop("seed")
        return self.tier, repr(values), self.own_images

    @property
    def own_images(self) -> str | None:
        """The images that a finished run was trained on, if the name of the data set does not identify them."""
        return self.summary.get(TRAIN) if self.summary.get("data_name") in OWN_SETS else None

    @property
    def model(self) -> str:
        return self.config["model"]["name"]

    @property
    def seed(self) -> int:
        return self.config["seed"]


_RECORD = TypeAdapter(RunRecord)


def record_of(folder: RunFolder) -> RunRecord:
    """The record of a run folder, in any state of the run. Raises UserError if the folder holds no run."""
    config = folder.config()
    status = folder.read_json("status.json")
    return RunRecord(
        run=named(folder.path).name, tier=config.tier, state=folder.state(), reason=status.get("reason"),
        config=_placeless(config), summary=folder.summary() or {}, metrics=folder.records(),
        environment=folder.read_json("environment.json"),
    )  # fmt: skip


def write_record(record: RunRecord, folder: Path) -> Path:
    """Writes <folder>/<run>.json, whole or not at all. Returns its path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{record.run}.json"
    write_atomically(path, (json.dumps(asdict(record), indent=1) + "\n").encode())
    return path


def read_record(path: Path) -> RunRecord:
    """The record in the file. Raises UserError if write_record did not write the file."""
    values = read_json(path, dict, _REMEDY)
    try:
        record = _RECORD.validate_python(values)
        record.run_config  # noqa: B018  raises where the configuration is none
    except ValidationError as error:
        fault = error.errors()[0]
        where = "".join(f"{part}: " for part in fault["loc"])
        raise UserError(f"{path} is no record of a run ({where}{fault['msg']}); {_REMEDY}") from None
    except UserError as error:
        raise UserError(f"{path} is no record of a run ({error}); {_REMEDY}") from None
    return record


def read_records_in(folder: Path) -> list[RunRecord]:
    return [read_record(path) for path in sorted(folder.glob("*.json"))]


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)


def _placeless(config: RunConfig) -> dict:
    values = config.model_dump()
    for section, keys in _PLACES.items():
        part = values[section] if section else values
        for key in keys:
            del part[key]
    return values
