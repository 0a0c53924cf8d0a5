"""A run's folder: where it is, what lies in it, and that it belongs to one configuration.

config.yaml, environment.json, metrics.jsonl (a record an epoch), checkpoints/, model.safetensors, summary.json (once done).
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
    from efficientconv.data.fingerprint import Images  # with torch, which takes seconds

TRAIN, TEST = "train_images_digest", "test_images_digest"  # in facts.json: what a run was begun on
_RESULT = ("top1", "top5", "images", "loss")  # numbers of every summary
_REMEDIES = {
    "summary.json": "delete it, and the command that trained the run writes it again from the last checkpoint",
    "facts.json": "put it back from a copy, or delete it: its images are then no longer compared",
}


def run_folder(config: RunConfig, images: Images | None = None) -> RunFolder:
    """The folder that this configuration asks for with these images, whether it is there or not.

    Where an earlier version has begun that run under another name, it is that one.
    """
    if config.run_dir is not None:
        return RunFolder(Path(config.run_dir))
    parent = Path(config.output_root) / (config.tier or "")
    folder = RunFolder(parent / run_name(config, images))
    if images is None or not images.own or folder.holds_run():
        return folder
    # Their names had the spelling of data.root in them, or nothing of the images.
    earlier = map(RunFolder, sorted(parent.glob(f"{name_stem(config)}-*")))
    return next((old for old in earlier if old.is_this(config, images)), folder)


class RunFolder:
    """Paths of a run folder, and its small files read and written."""

    def __init__(self, path: Path):
        self.path = path
        self.config_file = path / "config.yaml"
        self.metrics_file = path / "metrics.jsonl"
        self.summary_file = path / "summary.json"
        self.weights_file = path / "model.safetensors"
        self.damaged_file = path / "damaged.json"
        self.note_file = path / "note.txt"  # a person's
        self.classes_file = path / "classes.json"  # by label
        self.checkpoints = path / "checkpoints"

    def holds_run(self) -> bool:
        """Raises UserError where nobody may look."""
        with refused_in_one_line(f"look at the run folder {self.path}", "choose another output_root or run_dir"):
            return self.config_file.exists()

    def is_this(self, config: RunConfig, images: Images) -> bool:
        """Whether its run is that of the configuration on these images; an earlier version noted their place alone."""
        try:
            own, begun = self.config(), self.facts().get(TRAIN)
        except UserError:  # somebody else's, or damaged
            return False
        return identity(own) == identity(config) and (same_place(own, config) if begun is None else begun == images.train)

    def check(self, config: RunConfig) -> None:
        """Raises UserError when the folder is another configuration's, or somebody else's."""
        if self.holds_run():
            self._refuse_another(config)
            return
        with refused_in_one_line(f"look at the run folder {self.path}", "choose another output_root or run_dir"):
            if self.path.exists() and (not self.path.is_dir() or any(map(_is_foreign, self.path.iterdir()))):
                raise UserError(f"run_dir={self.path} is not empty and holds no run; choose another folder")

    def hold(self, config: RunConfig) -> int:
        """Makes the folder for `config` and locks it. Nothing in it changes where that is refused."""
        self.check(config)
        with refused_in_one_line(f"make the run folder {self.path}", "choose another output_root or run_dir"):
            make_folder(self.path)
        return lock(self.path)

    def claim(self, config: RunConfig) -> None:
        """For who holds the folder: it is this configuration's, and what may differ between two starts is as now."""
        self.check(config)
        with refused_in_one_line(f"write into the run folder {self.path}", "make that possible, or choose another run_dir"):
            remove_leftovers(self.path)
            if not self.config_file.exists() or self.config() != config:
                write_atomically(self.config_file, yaml.safe_dump(config.model_dump(), sort_keys=False).encode())

    def prepare(self, config: RunConfig) -> None:
        """Holds and claims the folder for a start that comes later; one that runs there already is left alone.

        That start will say so.
        """
        try:
            held = self.hold(config)
        except InUse:
            return
        try:
            self.claim(config)
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
        """Whether there is anything that a start would go on from."""
        return self.summary_file.exists() or any(self.checkpoints.glob("step-*.pt"))

    def config(self) -> RunConfig:
        """Raises UserError when the folder holds no run."""
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
        """What the run says of itself; empty until it has begun."""
        return self.read_json("facts.json") or self.read_json(self.summary_file.name)

    def summary(self) -> dict | None:
        """What the finished run ended with; None while it is not finished. Raises UserError where that is damaged."""
        name = self.summary_file.name
        summary = self.read_json(name)
        if summary and not all(isinstance(summary.get(key), (int, float)) for key in _RESULT):
            raise UserError(f"{self.summary_file} is damaged: it has no result; {_REMEDIES[name]}")
        return summary or None

    def finished_summary(self) -> dict:
        """Raises UserError when the run is not finished."""
        summary = self.summary()
        if summary is None:
            raise UserError(f"{self.path} is not finished: it has no summary.json; the command that began it continues it")
        return summary

    def records(self) -> list[dict]:
        """An epoch each. Raises UserError for a damaged file, and where a finished run lacks some."""
        records, summary = read_records(self.metrics_file), self.summary()
        if summary is not None and len(records) < summary.get("epochs", 0):
            epochs = f"{len(records)} of {summary['epochs']} epochs"
            raise UserError(f"{self.metrics_file} has records of {epochs} of a finished run; {RESTORE}")
        return records

    def state(self) -> str:
        """missing, planned (no step was made yet), or as status.json says; `running` may be a run that was killed."""
        if not self.config_file.exists():
            return "missing"
        if self.summary_file.exists():
            return "done"
        state = self.read_json("status.json").get("state", "planned")
        return "trained" if state == "done" else state  # the summary was lost: the same command writes it again

    def note(self) -> str:
        """Empty where there is none."""
        return (read_bytes(self.note_file) or b"").decode(errors="replace").strip()

    def read_json(self, name: str) -> dict:
        """A small file of the run; empty while it is not there. Raises UserError for a damaged one."""
        return read_json(self.path / name, dict, _REMEDIES.get(name, "put it back from a copy, or delete it")) or {}

    def add_damaged(self, image: str, reason: str) -> None:
        """One more training image that could not be read; those of earlier starts stay listed."""
        self.write_json(self.damaged_file.name, self.read_json(self.damaged_file.name) | {image: reason})

    def write_json(self, name: str, values: dict | list) -> None:
        write_atomically(self.path / name, (json.dumps(values, indent=2) + "\n").encode())


def lock(folder: Path) -> int:
    """Holds the run folder for this process until it ends. Raises InUse when another one has it, else UserError."""
    return files.lock(folder / "run.lock", f"{folder} is in use by another process; wait for it, or choose another run_dir")


def in_use(folder: Path) -> bool:
    """Whether another process holds the run folder now. Not for a process that holds it: looking would drop its lock."""
    try:
        os.close(lock(folder))
    except InUse:
        return True
    return False


def same_place(old: RunConfig, new: RunConfig) -> bool:
    """Whether data.root is one folder in both, however it is spelt."""
    return Path(old.data.root or "").expanduser().resolve() == Path(new.data.root or "").expanduser().resolve()


def _is_foreign(path: Path) -> bool:
    """What a start that was stopped at once may have left is not."""
    return path.name != "run.lock" and path.suffix != ".tmp"
