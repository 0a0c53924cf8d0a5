"""A run's folder: where it is, what lies in it, and that it belongs to one configuration.

config.yaml, environment.json, metrics.jsonl (a record an epoch), checkpoints/, model.safetensors, summary.json (once done).
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import yaml

from efficientconv.config import RunConfig
from efficientconv.errors import UserError
from efficientconv.files import write_atomically
from efficientconv.validation import validate

# What may differ between two starts of one run: where things lie, what watches it, what it runs on.
_NOT_IDENTITY = {
    "": ("tier", "output_root", "run_dir", "layers", "logger"),
    "model": ("description", "source"),
    "data": ("workers", "max_damaged_fraction"),
    "trainer": ("device", "checkpoint_minutes"),
}


def identity(config: RunConfig) -> dict:
    """The part of the configuration that the run's numbers depend on.

    Without what stands at the schema's default, so that a setting added later leaves the runs before it what they are.
    """
    values = config.model_dump(exclude_defaults=True)
    for section, keys in _NOT_IDENTITY.items():
        part = values[section] if section else values
        for key in keys:
            part.pop(key, None)
    if config.data.name != "folder":
        values["data"].pop("root", None)  # a named set is the same wherever it lies; a folder is what it is by its place
    return values


def run_name(config: RunConfig) -> str:
    """Of its folder: the same configuration has the same one, on every machine."""
    digest = hashlib.sha256(json.dumps(identity(config), sort_keys=True).encode()).hexdigest()[:8]
    return f"{config.model.name}-{config.data.name}-s{config.seed}-{digest}"


def run_folder(config: RunConfig) -> RunFolder:
    """The folder that this configuration asks for, whether it is there or not."""
    if config.run_dir is not None:
        return RunFolder(Path(config.run_dir))
    return RunFolder(Path(config.output_root) / (config.tier or "") / run_name(config))


class RunFolder:
    """Paths of a run folder, and its small files read and written."""

    def __init__(self, path: Path):
        self.path = path
        self.config_file = path / "config.yaml"
        self.metrics_file = path / "metrics.jsonl"
        self.summary_file = path / "summary.json"
        self.weights_file = path / "model.safetensors"
        self.damaged_file = path / "damaged.json"
        self.classes_file = path / "classes.json"  # by label
        self.checkpoints = path / "checkpoints"

    def check(self, config: RunConfig) -> None:
        """Raises UserError when the folder is another configuration's, or somebody else's."""
        if self.config_file.exists():
            self._refuse_another(config)
        elif self.path.exists() and (not self.path.is_dir() or any(self.path.iterdir())):
            raise UserError(f"run_dir={self.path} is not empty and holds no run; choose another folder")

    def claim(self, config: RunConfig) -> None:
        """Makes the folder for `config`, or takes it up again: what may differ between two starts is from then on as now."""
        self.check(config)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            if not self.config_file.exists() or self.config() != config:
                write_atomically(self.config_file, yaml.safe_dump(config.model_dump(), sort_keys=False).encode())
        except OSError as error:
            raise UserError(
                f"cannot make the run folder {self.path} ({error.strerror}); choose another output_root"
            ) from None

    def _refuse_another(self, config: RunConfig) -> None:
        old, new = _flat(identity(self.config())), _flat(identity(config))
        changed = [key for key in {**old, **new} if old.get(key) != new.get(key)]
        if changed:
            key = changed[0]
            more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
            raise UserError(
                f"{self.path} holds a run with {key}={old.get(key)}, not {new.get(key)}{more}; "
                "choose another run_dir, or leave it out"
            )

    def refuse_other_pixels(self, pixels: str) -> None:
        """Raises UserError when the run was begun on other copies of its images (DataSet.pixels)."""
        begun = self.read_json("facts.json").get("data_pixels", pixels)
        if begun != pixels:
            raise UserError(
                f"{self.path} was begun on {begun} images, and those of data.root are {pixels}: set data.root to where the "
                "others are, or delete the folder to begin anew"
            )

    def config(self) -> RunConfig:
        """Raises UserError when the folder holds no run."""
        try:
            values = yaml.safe_load(self.config_file.read_text())
        except FileNotFoundError:
            raise UserError(f"{self.path} is no run folder: it has no config.yaml") from None
        except (OSError, yaml.YAMLError, UnicodeDecodeError):
            raise UserError(f"{self.config_file} cannot be read; the run folder is damaged") from None
        if not isinstance(values, dict):
            raise UserError(f"{self.config_file} holds no configuration; the run folder is damaged")
        return validate(RunConfig, values, where=str(self.config_file))

    def summary(self) -> dict | None:
        """What the finished run ended with; None while it is not finished."""
        return self.read_json(self.summary_file.name) or None

    def finished_summary(self) -> dict:
        """Raises UserError when the run is not finished."""
        summary = self.summary()
        if summary is None:
            raise UserError(f"{self.path} is not finished: it has no summary.json; the command that began it continues it")
        return summary

    def state(self) -> str:
        """missing, planned (no step was made yet), or as status.json says; `running` may be a run that was killed."""
        if not self.config_file.exists():
            return "missing"
        if self.summary_file.exists():
            return "done"
        state = self.read_json("status.json").get("state", "planned")
        return "trained" if state == "done" else state  # the summary was lost: the same command writes it again

    def read_json(self, name: str) -> dict:
        """A small file of the run; empty while it is not there."""
        path = self.path / name
        return json.loads(path.read_text()) if path.exists() else {}

    def add_damaged(self, image: str, reason: str) -> None:
        """One more training image that could not be read; those of earlier starts stay listed."""
        self.write_json(self.damaged_file.name, self.read_json(self.damaged_file.name) | {image: reason})

    def write_json(self, name: str, values: dict | list) -> None:
        write_atomically(self.path / name, (json.dumps(values, indent=2) + "\n").encode())


def _flat(values: dict, prefix: str = "") -> dict[str, object]:
    flat = {}
    for key, value in values.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat
