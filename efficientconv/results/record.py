"""A run as one small JSON file: all that tables, plots and reports need of it, with nothing of the machine's paths.

results/<tier>/runs/<run>.json are kept in git, so that every figure of ours can be made again from them.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path

from efficientconv.config import OWN_SETS, RunConfig
from efficientconv.engine.identity import identity
from efficientconv.engine.records import read_records
from efficientconv.engine.run_folder import TRAIN, RunFolder
from efficientconv.errors import UserError
from efficientconv.files import write_atomically
from efficientconv.validation import validate

_PLACES = {"": ("output_root", "run_dir", "logger"), "data": ("root", "workers")}  # where it ran, not what it was
_PLACEHOLDERS = {"output_root": "outputs", "run_dir": None, "logger": {}, "data": {"root": None}}
_FIGURES = (  # that a finished run has
    "model_name", "data_name", "layout", "width", "image_size", "num_classes", "epochs", "seed", "macs", "params",
    "top1_percent", "top5_percent",
)  # fmt: skip


@dataclass(frozen=True)
class RunRecord:
    """`state` as in status.json; `summary` is empty until the run is done; `metrics`: a record an epoch."""

    run: str  # the folder's name
    tier: str | None
    state: str
    reason: str | None  # why it ended early
    config: dict
    summary: dict = field(default_factory=dict)
    metrics: list[dict] = field(default_factory=list)
    environment: dict = field(default_factory=dict)

    def __post_init__(self):
        if missing := [key for key in _FIGURES if self.state == "done" and key not in self.summary]:
            raise UserError(f"the summary of the finished run {self.run} lacks {', '.join(missing[:3])}")

    @cached_property
    def run_config(self) -> RunConfig:
        values = {**_PLACEHOLDERS, **self.config}
        return validate(RunConfig, values | {"data": {"root": None} | self.config["data"]}, where=self.run)

    @cached_property
    def group(self) -> tuple:
        """Runs alike in this differ in nothing but their seed. Raises UserError where the configuration is none."""
        values = identity(self.run_config)
        values.pop("seed")
        return self.tier, repr(values), self.own_images

    @property
    def own_images(self) -> str | None:
        """Which images a finished run was trained on, where the name of its set does not say it."""
        return self.summary.get(TRAIN) if self.summary.get("data_name") in OWN_SETS else None

    @property
    def model(self) -> str:
        return self.config["model"]["name"]

    @property
    def seed(self) -> int:
        return self.config["seed"]


def record_of(folder: RunFolder) -> RunRecord:
    """What a run folder holds, at whatever state the run is. Raises UserError when it holds no run."""
    config = folder.config()
    status = folder.read_json("status.json")
    return RunRecord(
        run=folder.path.name, tier=config.tier, state=folder.state(), reason=status.get("reason"),
        config=_placeless(config), summary=folder.summary() or {}, metrics=read_records(folder.metrics_file),
        environment=folder.read_json("environment.json"),
    )  # fmt: skip


def write_record(record: RunRecord, folder: Path) -> Path:
    """As <folder>/<run>.json, whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{record.run}.json"
    write_atomically(path, (json.dumps(asdict(record), indent=1) + "\n").encode())
    return path


def read_record(path: Path) -> RunRecord:
    """Raises UserError when the file is none of write_record's."""
    try:
        return RunRecord(**json.loads(path.read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"{path} is no record of a run ({error}); delete it, and reproduce.py makes it anew") from None


def read_records_in(folder: Path) -> list[RunRecord]:
    return [read_record(path) for path in sorted(folder.glob("*.json"))]


def _placeless(config: RunConfig) -> dict:
    values = config.model_dump()
    for section, keys in _PLACES.items():
        part = values[section] if section else values
        for key in keys:
            del part[key]
    return values
