"""A run's folder: its path, its files, and the check that it belongs to one configuration.

The files are config.yaml, environment.json, metrics.jsonl (one record for each epoch), checkpoints/, model.safetensors, and
summary.json once the run is done.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from efficientconv import files
from efficientconv.config import RunConfig
from efficientconv.engine.epoch_log import RESTORE, read_records
from efficientconv.engine.identity import identity, name_stem, run_name
from efficientconv.errors import UserError
from efficientconv.files import (
    InUse,
    make_folder,
    read_bytes,
    read_json,
    refused_in_one_line,
    remove_leftovers,
    write_atomically,
)
from efficientconv.validation import flat, validate

if TYPE_CHECKING:
    from efficientconv.data.fingerprint import Fingerprint  # with torch, which takes seconds

TRAIN, TEST = "train_images_digest", "test_images_digest"  # in facts.json: the images that a run was begun on
_RESULT = ("epochs", "top1", "top5", "images", "loss")  # numbers of every summary
_REMEDIES = {
    "summary.json": "delete it, and the command that trained the run writes it again from the last checkpoint",
    "facts.json": "put it back from a copy, or delete it: its images are then no longer compared",
}


def run_folder(config: RunConfig, fingerprint: Fingerprint | None = None) -> RunFolder:
    """The folder of the run with this configuration and these images, whether it exists or not.

    If an earlier version has begun the same run under another name, the folder has that name.
    """
    if config.run_dir is not None:
        return RunFolder(Path(config.run_dir))
    parent = Path(config.output_root) / (config.tier or "")
    folder = RunFolder(parent / run_name(config, fingerprint))
    if fingerprint is None or not fingerprint.own or folder.holds_run():
        return folder
    # The hash in earlier names depended on the spelling of data.root, or did not depend on the images.
    earlier = map(RunFolder, sorted(parent.glob(f"{name_stem(config)}-*")))
    return next((old for old in earlier if old.is_this(config, fingerprint)), folder)


class RunFolder:
    """Paths of a run folder, and its small files read and written."""

    def __init__(self, path: Path):
        self.path = path
        self.config_file = path / "config.yaml"
        self.metrics_file = path / "metrics.jsonl"
        self.summary_file = path / "summary.json"
        self.weights_file = path / "model.safetensors"
        self.damaged_file = path / "damaged.json"
        self.note_file = path / "note.txt"  # written by a person
        self.classes_file = path / "classes.json"  # by label
        self.checkpoints = path / "checkpoints"
        self.lock_file = path / "run.lock"

    def holds_run(self) -> bool:
        """Whether a run was begun here. Raises UserError if the folder cannot be read."""
        with refused_in_one_line(f"look at the run folder {self.path}", "choose another output_root or run_dir"):
            return self.config_file.exists()

    def is_this(self, config: RunConfig, fingerprint: Fingerprint) -> bool:
        """Whether the folder holds the run of `config` on `images`. Earlier versions noted only the place of the images."""
        try:
            own, begun = self.config(), self.facts().get(TRAIN)
        except UserError:  # not a run, or damaged
            return False
        if identity(own) != identity(config):
            return False
        return same_place(own, config) if begun is None else begun == fingerprint.train

    def check(self, config: RunConfig) -> None:
        """Raises UserError if the folder holds a run of another configuration, or other files."""
        if self.holds_run():
            self._refuse_another(config)
            return
        with refused_in_one_line(f"look at the run folder {self.path}", "choose another output_root or run_dir"):
            if self.path.exists() and (not self.path.is_dir() or any(map(_is_foreign, self.path.iterdir()))):
                raise UserError(f"run_dir={self.path} is not empty and holds no run; choose another folder")

    def hold(self, config: RunConfig) -> int:
        """Makes the folder for `config` and locks it. Raises UserError, and then changes nothing in it."""
        self.check(config)
        with refused_in_one_line(f"make the run folder {self.path}", "choose another output_root or run_dir"):
            make_folder(self.path)
        return lock(self.path)

    def write_config(self, config: RunConfig) -> None:
        """Writes the configuration of this start. Only for the process that holds the folder. Raises UserError."""
        self.check(config)
        with refused_in_one_line(f"write into the run folder {self.path}", "make that possible, or choose another run_dir"):
            remove_leftovers(self.path)
            if not self.config_file.exists() or self.config() != config:
                write_atomically(self.config_file, yaml.safe_dump(config.model_dump(), sort_keys=False).encode())

    def prepare(self, config: RunConfig) -> None:
        """Makes the folder and its config.yaml for a later start. Does nothing while a run is active there."""
        try:
            held = self.hold(config)
        except InUse:
            return
        try:
            self.write_config(config)
        finally:
            os.close(held)

    def _refuse_another(self, config: RunConfig) -> None:
        old, new = flat(identity(self.config())), flat(identity(config))
        changed = [key for key in {**old, **new} if old.get(key) != new.get(key)]
        if changed:
            key = changed[0]
            more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
            raise UserError(
                f"{self.path} holds a run with {key}={old.get(key)}, not {new.get(key)}{more}; "
                "choose another run_dir, or leave it out"
            )

    def has_begun(self) -> bool:
        """Whether a start would continue a run here."""
        return self.summary_file.exists() or any(self.checkpoints.glob("step-*.pt"))

    def config(self) -> RunConfig:
        """The run's configuration. Raises UserError if the folder holds no run."""
        content = read_bytes(self.config_file)
        if content is None:
            raise UserError(f"{self.path} is no run folder: it has no config.yaml")
        try:
            values = yaml.safe_load(content)
        except (yaml.YAMLError, UnicodeDecodeError, RecursionError):
            raise UserError(f"{self.config_file} cannot be read; the run folder is damaged") from None
        if not isinstance(values, dict):
            raise UserError(f"{self.config_file} holds no configuration; the run folder is damaged")
        return validate(RunConfig, values, where=str(self.config_file))

    def facts(self) -> dict:
        """facts.json: the run's images and cost; empty until the run has begun."""
        return self.read_json("facts.json") or self.read_json(self.summary_file.name)

    def summary(self) -> dict | None:
        """summary.json: the result of the run; None until the run is finished. Raises UserError if the file is damaged."""
        name = self.summary_file.name
        summary = self.read_json(name)
        found = {"epochs": 0, **summary}  # earlier versions did not count them there
        if summary and not all(isinstance(found.get(key), (int, float)) for key in _RESULT):
            raise UserError(f"{self.summary_file} is damaged: it has no result; {_REMEDIES[name]}")
        return summary or None

    def finished_summary(self) -> dict:
        """The same as `summary`, but raises UserError if the run is not finished."""
        summary = self.summary()
        if summary is None:
            raise UserError(f"{self.path} is not finished: it has no summary.json; the command that began it continues it")
        return summary

    def records(self) -> list[dict]:
        """One record for each epoch. Raises UserError if the file is damaged, or if a finished run lacks records."""
        records, summary = read_records(self.metrics_file), self.summary()
        if summary is not None and len(records) < summary.get("epochs", 0):
            epochs = f"{len(records)} of {summary['epochs']} epochs"
            raise UserError(f"{self.metrics_file} has records of {epochs} of a finished run; {RESTORE}")
        return records

    def state(self) -> str:
        """missing, planned (no step yet), or the state in status.json, where `running` may also be a run that was killed."""
        if not self.config_file.exists():
            return "missing"
        if self.summary_file.exists():
            return "done"
        state = self.read_json("status.json").get("state", "planned")
        return "trained" if state == "done" else state  # the summary was lost: the same command writes it again

    def note(self) -> str:
        """note.txt; empty if there is none."""
        return (read_bytes(self.note_file) or b"").decode(errors="replace").strip()

    def read_json(self, name: str) -> dict:
        """A small file of the run; empty if there is none. Raises UserError if it is damaged."""
        return read_json(self.path / name, dict, _REMEDIES.get(name, "put it back from a copy, or delete it")) or {}

    def add_damaged(self, image: str, reason: str) -> None:
        """Adds a training image that could not be read to damaged.json."""
        self.write_json(self.damaged_file.name, self.read_json(self.damaged_file.name) | {image: reason})

    def write_json(self, name: str, values: dict | list) -> None:
        write_atomically(self.path / name, (json.dumps(values, indent=2) + "\n").encode())


def lock(folder: Path) -> int:
    """Locks the run folder until this process ends. Raises InUse if another process has the lock, and UserError."""
    busy = f"{folder} is in use by another process; wait for it, or choose another run_dir"
    return files.lock(RunFolder(folder).lock_file, busy)


def in_use(folder: Path) -> bool:
    """Whether another process holds the run folder. A process that holds it must not ask: it would lose its lock."""
    try:
        os.close(lock(folder))
    except InUse:
        return True
    return False


def same_place(old: RunConfig, new: RunConfig) -> bool:
    """Whether data.root is the same folder in both, however it is written."""
    return Path(old.data.root or "").resolve() == Path(new.data.root or "").resolve()


def _is_foreign(path: Path) -> bool:
    """Whether `path` is not one of the files that a start leaves if it is stopped at once."""
    return path.name != "run.lock" and path.suffix != ".tmp"
