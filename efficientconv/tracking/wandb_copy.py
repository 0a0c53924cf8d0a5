"""A run's copy in Weights & Biases.

metrics.jsonl is the source. Online, W&B's server tells at each start which epochs it has, and receives the later ones.
Offline, each start writes a new copy of the whole run and removes the old copy, so that each epoch is there once. wandb.json
keeps the id and the settings of the W&B run, and the last epoch that the server is known to have.

All code that sends data to W&B is in this file: `described` (the run's configuration and facts), `add` (the record of an
epoch), `finish` (summary.json and kernels.png). W&B itself adds the data that MACHINE_OFF leaves out.
"""

from __future__ import annotations

import json
import os
import secrets
import shlex
import shutil
import struct
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from efficientconv.errors import UserError
from efficientconv.files import CONFIG_DIR
from efficientconv.tracking.run_files import one_line, read_config, read_json

if TYPE_CHECKING:
    from wandb.proto.wandb_internal_pb2 import Record

START_LIMIT_S = 10.0  # for the server's first answer; without an answer the copy stays offline
UPLOAD_LIMIT_S = 10.0  # for the rest of the upload after the end of the training
BLOCK_BYTES = 32768  # of a .wandb file
DEFAULTS_FILE = CONFIG_DIR / "logger" / "wandb.yaml"
PATHS = {"": ("output_root", "run_dir"), "data": ("root",)}  # of the configuration
# machine=false: W&B gets no names of host and user, no paths, hardware, packages, git remote or load
MACHINE_OFF: dict[str, Any] = {
    "host": "", "username": "", "program": "train.py", "disable_git": True, "disable_code": True, "x_disable_meta": True,
    "x_disable_stats": True, "x_disable_machine_info": True, "x_save_requirements": False,
}  # fmt: skip


class Copy:
    """One W&B run for one run folder, even if the training is continued many times."""

    epochs: int  # that the copy has

    def __init__(self, folder: Path, settings: dict):
        os.environ["WANDB_SILENT"] = "true"  # without it a login asks the server for the user's name, only to print it
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # W&B's telemetry about itself
        import wandb  # imported here, so that a broken installation is reported like any other problem

        self.wandb = wandb
        self.folder = folder
        self.state_file = folder / "wandb.json"
        new = {"id": secrets.token_hex(4), "sent_epochs": 0}
        defaults = yaml.safe_load(DEFAULTS_FILE.read_text())["wandb"]
        given = {key: value for key, value in settings.items() if value is not None}
        self.state = defaults | new | read_json(self.state_file) | given
        self.state["project"] = self.state["project"] or default_project()
        self._save()
        self.problem: Exception | None = None

    def start(self) -> None:
        """Offline where no key is configured, or where the server does not answer as it should."""
        mode = os.environ.get("WANDB_MODE") or ("online" if self.wandb.login(prompt=False, verify=False) else "offline")
        try:
            self._start(mode)
        except Exception as error:  # no server, no answer, a wrong key: anything
            traceback.print_exc()
            self.problem = error
            self._start("offline")

    def add(self, record: dict) -> None:
        if record["epoch"] > self.epochs:
            self.run.log(record, step=record["epoch"], commit=True)
            self.epochs = record["epoch"]

    def finish(self) -> str:
        """The line that says where the copy is. Raises an exception if the copy is not whole."""
        try:
            return self._finish()
        finally:
            if not self._machine:
                self._remove_logs()

    def _finish(self) -> str:
        summary = read_json(self.folder / "summary.json")
        self.run.summary.update(summary)
        self._add_picture()
        self.run.finish(exit_code=0 if summary else 1)
        self.wandb.teardown()  # this closes the file of the copy
        self._note_sent()
        if self.run.offline and not is_whole(Path(self.run.dir).parent):
            raise OSError("the offline copy is cut off; is the disk full?")  # W&B writes that to its log only
        copies = self.folder / "wandb"
        if self.problem:
            raise UserError(f"{one_line(self.problem)}; an offline copy is in {copies}")
        if not self.run.offline:
            return f"W&B: {self.epochs} epochs at {self.run.url}"
        show, send = shlex.join(["wandb", "leet", str(copies)]), shlex.join(["scripts/track.py", str(self.folder)])
        return f"W&B: kept offline; to see it: {show}; to send it: python {send}"

    @property
    def _machine(self) -> bool:
        return self.state.get("machine", True)

    def _start(self, mode: str) -> None:
        self.wandb.teardown()  # after a failed start a service still holds the id
        config = described(self.folder, self._machine)
        given = {key: self.state[key] for key in yaml.safe_load(DEFAULTS_FILE.read_text())["wandb"] if key != "machine"}
        given |= {
            "mode": mode,
            "group": given["group"] or os.environ.get("WANDB_RUN_GROUP") or config.get("tier"),
            "tags": list(dict.fromkeys([*given["tags"], *labels(config)])),
        }
        self.run = self.wandb.init(
            **given, name=self.folder.name, id=self.state["id"], resume="allow", dir=self.folder, config=config,
            settings=self.wandb.Settings(
                console="off", x_stats_pid=os.getppid(), init_timeout=START_LIMIT_S, finish_timeout=UPLOAD_LIMIT_S,
                finish_timeout_raises=True, **({} if self._machine else MACHINE_OFF),
            ),
        )  # fmt: skip
        self.epochs = max(self.run.starting_step - 1, 0)  # the epoch is the step
        self._note_sent()
        self._remove_earlier_copies()

    def _add_picture(self) -> None:
        """Goes to the summary: the picture is made after the training and belongs to no epoch."""
        picture = self.folder / "kernels.png"  # of scripts/visualize_kernels.py
        if picture.exists():
            self.run.summary["kernels"] = self.wandb.Image(str(picture))

    def _remove_logs(self) -> None:
        """W&B's logs of itself name folders or lie in the user's, and no setting prevents it."""
        shutil.rmtree(Path(self.run.dir).parent / "logs", ignore_errors=True)
        for link in (self.folder / "wandb").glob("debug*.log"):
            link.unlink()

    def _note_sent(self) -> None:
        if not self.run.offline:
            self.state |= {"sent_epochs": self.epochs, "url": self.run.url}
            self._save()

    def _remove_earlier_copies(self) -> None:
        for copy in (self.folder / "wandb").glob(f"*run-*-{self.state['id']}*"):
            if copy.name != Path(self.run.dir).parent.name:
                shutil.rmtree(copy, ignore_errors=True)

    def _save(self) -> None:
        # not write_atomically: the next start of the run removes *.tmp while this process may still write
        temporary = self.state_file.with_name("wandb.json.new")
        temporary.unlink(missing_ok=True)  # left by a kill, or a link that somebody put there
        with open(temporary, "x") as file:
            file.write(json.dumps(self.state, indent=2) + "\n")
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, self.state_file)


def default_project() -> str:
    return os.environ.get("WANDB_PROJECT") or "efficientconv"


def described(folder: Path, machine: bool) -> dict:
    """W&B's config: the run's facts and its configuration; without paths where the machine is to stay unknown."""
    config = read_json(folder / "facts.json") | read_config(folder)
    for section, keys in {} if machine else PATHS.items():
        part = config[section] if section else config
        for key in keys:
            part.pop(key, None)
    return config


def labels(config: dict) -> list[str]:
    """The run's tier, and the paper's tables that its model is trained for."""
    tables = {path.stem: yaml.safe_load(path.read_text()) for path in sorted((CONFIG_DIR / "table").glob("*.yaml"))}
    own = [
        f"table{name}" if name.isdigit() else f"table_{name}"
        for name, table in tables.items()
        if table.get("trained", True) and config["model"]["name"] in _models(table)
    ]
    return [config["tier"], *own] if config.get("tier") else own


def _models(table: dict) -> set[str]:
    """The models in the rows of a table. A row is written <model> or <model>@<MACs>."""
    return {row.partition("@")[0] for row in [*table["rows"], *table.get("quoted", [])]}


def is_whole(folder: Path) -> bool:
    """Whether W&B wrote the whole run, up to its exit record, into this folder."""
    from google.protobuf.message import DecodeError

    try:
        return any(record.HasField("exit") for record in read_copy(folder))
    except DecodeError:
        return False


def read_copy(folder: Path) -> Iterator[Record]:
    """The records that W&B wrote into this folder of a run: 7 bytes, then LevelDB's log format."""
    from wandb.proto.wandb_internal_pb2 import Record

    data = b"".join(path.read_bytes() for path in folder.glob("run-*.wandb"))  # one file, or none on a full disk
    position, record = 7, b""
    while position + 7 <= len(data):
        room = BLOCK_BYTES - position % BLOCK_BYTES
        if room < 7:  # no header fits into the rest of the block
            position += room
            continue
        length, kind = struct.unpack_from("<HB", data, position + 4)
        record += data[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in (1, 4):  # whole in this block, or its last part
            yield Record.FromString(record)
            record = b""
