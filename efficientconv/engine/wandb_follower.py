"""Copies a run folder to Weights & Biases, in a process of its own, so that nothing W&B does can touch the training.

    python wandb_follower.py RUN [SETTINGS]     SETTINGS: project, entity, group, tags as JSON; left out: those of last time

It follows metrics.jsonl until a line comes on its stdin or stdin ends, which it does when the training dies, and prints
what went wrong, if anything did. Whatever else W&B says goes to wandb.log.

metrics.jsonl is the truth. Online, W&B's server says at each start which epochs it has, and gets the later ones.
Offline, each start writes the whole run anew and removes the copy before: there is one, with each epoch once. wandb.json
keeps the W&B run's id, its settings, and up to which epoch the server is known to have it.

Imports nothing of this package: that would bring torch, 800 MB and seconds of work, into a second process of every run.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import shutil
import signal
import struct
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

if TYPE_CHECKING:
    from wandb.proto.wandb_internal_pb2 import Record

POLL_S = 1.0
START_LIMIT_S = 10.0  # for the server's first answer; without one the copy is kept offline
UPLOAD_LIMIT_S = 10.0  # for what is still to be uploaded when the training has ended
END_LIMIT_S = 25.0  # from the training's end to this process's, whatever W&B does
BLOCK_BYTES = 32768  # of a .wandb file
CONFIGS = next(folder for home in Path(__file__).resolve().parents[1:3] if (folder := home / "configs").is_dir())
DEFAULTS_FILE = CONFIGS / "logger" / "wandb.yaml"


class WandbCopy:
    """One W&B run for one run folder, however often the training is resumed. Every method may raise anything."""

    def __init__(self, folder: Path, settings: dict):
        import wandb  # here, so that a broken installation is a problem like any other

        self.wandb = wandb
        self.folder = folder
        self.state_file = folder / "wandb.json"
        new = {"id": secrets.token_hex(4), "sent_epochs": 0}
        self.state = yaml.safe_load(DEFAULTS_FILE.read_text()) | new | _read_json(self.state_file) | settings
        self._save()
        self.records = NewRecords(folder / "metrics.jsonl")

    def mode(self) -> str:
        """Offline where no key is configured."""
        return os.environ.get("WANDB_MODE") or ("online" if self.wandb.login(prompt=False, verify=False) else "offline")

    def start(self, mode: str) -> None:
        self.wandb.teardown()  # a start that failed leaves a service behind that holds the id
        config = yaml.safe_load((self.folder / "config.yaml").read_text())
        tags = [*self.state["tags"], *labels(config)]
        self.run = self.wandb.init(
            project=self.state["project"], entity=self.state["entity"], group=self.state["group"] or config.get("tier"),
            tags=list(dict.fromkeys(tags)), name=self.folder.name, id=self.state["id"], resume="allow", mode=mode,
            dir=self.folder, config=_read_json(self.folder / "facts.json") | config,
            settings=self.wandb.Settings(
                console="off", x_stats_pid=os.getppid(), init_timeout=START_LIMIT_S, finish_timeout=UPLOAD_LIMIT_S,
                finish_timeout_raises=True,
            ),
        )  # fmt: skip
        self.epochs = max(self.run.starting_step - 1, 0)  # the epoch is the step
        self._note_sent()
        self._remove_earlier_copies()

    def send_new(self) -> None:
        """Epochs that a resumed training writes again are the same as before, and passed over."""
        for record in self.records.read():
            if record["epoch"] > self.epochs:
                self.run.log(record, step=record["epoch"], commit=True)
                self.epochs = record["epoch"]

    def finish(self) -> None:
        summary = _read_json(self.folder / "summary.json")
        self.run.summary.update(summary)
        self._add_picture()
        self.run.finish(exit_code=0 if summary else 1)
        self.wandb.teardown()  # only then the copy's file is closed
        self._note_sent()
        if self.run.offline and not is_whole(Path(self.run.dir).parent):
            raise OSError("the offline copy is cut off; is the disk full?")  # W&B writes that to its log only

    def _add_picture(self) -> None:
        """To the summary: made after the training, it belongs to no epoch."""
        picture = self.folder / "kernels.png"  # of scripts/visualize_kernels.py
        if picture.exists():
            self.run.summary["kernels"] = self.wandb.Image(str(picture))

    def _note_sent(self) -> None:
        if not self.run.offline:
            self.state |= {"sent_epochs": self.epochs, "url": self.run.url}
            self._save()

    def _remove_earlier_copies(self) -> None:
        for copy in (self.folder / "wandb").glob(f"*run-*-{self.state['id']}*"):
            if copy.name != Path(self.run.dir).parent.name:
                shutil.rmtree(copy, ignore_errors=True)

    def _save(self) -> None:
        temporary = self.state_file.with_name("wandb.json.new")
        temporary.unlink(missing_ok=True)  # of a kill, or a link that somebody put there
        with open(temporary, "x") as file:
            file.write(json.dumps(self.state, indent=2) + "\n")
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, self.state_file)


class NewRecords:
    """What is added to metrics.jsonl; after a start that wrote the file anew, all of it again."""

    def __init__(self, path: Path):
        self.path = path
        self.file, self.position = None, 0  # which file it was, and up to where it was read

    def read(self) -> list[dict]:
        """Since the last call. A line that is still being written is left for the next."""
        try:
            with open(self.path, "rb") as file:
                found = os.fstat(file.fileno())
                if found.st_ino != self.file or found.st_size < self.position:
                    self.file, self.position = found.st_ino, 0
                file.seek(self.position)
                lines = file.read().split(b"\n")[:-1]
        except FileNotFoundError:
            return []
        self.position += sum(len(line) + 1 for line in lines)
        return [json.loads(line) for line in lines]


def labels(config: dict) -> list[str]:
    """The run's tier, and the paper's tables that its model is trained for."""
    tables = {path.stem: yaml.safe_load(path.read_text()) for path in sorted((CONFIGS / "table").glob("*.yaml"))}
    own = [
        f"table{name}" if name.isdigit() else f"table_{name}"
        for name, table in tables.items()
        if table.get("trained", True) and config["model"]["name"] in _models(table)
    ]
    return [config["tier"], *own] if config.get("tier") else own


def _models(table: dict) -> set[str]:
    """Those of the rows of a table, which are written <model> or <model>@<MACs>."""
    return {row.partition("@")[0] for row in [*table["rows"], *table.get("quoted", [])]}


def copy_run(folder: Path, settings: dict, ended: threading.Event) -> str:
    """Returns why the copy is kept offline where it should not be; nothing when all went well."""
    copy = WandbCopy(folder, settings)
    problem = ""
    try:
        copy.start(copy.mode())
    except Exception as error:  # no server, no answer, a wrong key: anything
        traceback.print_exc()
        problem = f"{_one_line(error)}; an offline copy is in {folder / 'wandb'}"
        copy.start("offline")
    while not ended.wait(POLL_S):
        copy.send_new()
    copy.send_new()
    copy.finish()
    return problem


def is_whole(folder: Path) -> bool:
    """Whether W&B could write all of a run into its folder there, up to the exit."""
    from google.protobuf.message import DecodeError

    try:
        return any(record.HasField("exit") for record in read_copy(folder))
    except DecodeError:
        return False


def read_copy(folder: Path) -> Iterator[Record]:
    """What W&B wrote into a run's folder there, in LevelDB's log format after 7 other bytes."""
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


def watch_training(ended: threading.Event, leave: Callable[[str], None]) -> None:
    """Sets `ended` when the training says so or is gone; leaves when that was long ago."""
    sys.stdin.readline()
    ended.set()
    time.sleep(END_LIMIT_S)
    leave(f"W&B was not done {END_LIMIT_S:g} s after the training")


def main() -> None:
    folder, settings = Path(sys.argv[1]).resolve(), json.loads(sys.argv[2]) if len(sys.argv) > 2 else {}
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):  # a scheduler may send them to all of a job's processes
        signal.signal(number, signal.SIG_IGN)
    os.environ["WANDB_SILENT"] = "true"  # otherwise a login asks the server for the user's name, to print it
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # W&B's telemetry about itself
    report = os.dup(1)

    def leave(problem: str) -> None:
        try:
            os.write(report, problem.encode())
        finally:
            os._exit(1 if problem else 0)  # past W&B's exit hooks, which wait for the server

    ended = threading.Event()
    threading.Thread(target=watch_training, args=(ended, leave), daemon=True).start()
    try:
        _print_to(folder / "wandb.log")
        fcntl.lockf(1, fcntl.LOCK_EX)  # of that file: the follower of a killed training may still be at work
        leave(copy_run(folder, settings, ended))
    except Exception as error:
        try:
            traceback.print_exc()
        finally:  # even where the disk has no room for that
            leave(_one_line(error))


def _print_to(path: Path) -> None:
    """All that this process and W&B's own print from here on."""
    log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o644)
    os.dup2(log, 1)
    os.dup2(log, 2)


def _read_json(path: Path) -> dict:
    return json.loads(path.read_text()) if path.exists() else {}


def _one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]


if __name__ == "__main__":
    sys.path.pop(0)  # this folder: nobody is to import its metrics.py or environment.py by these names
    main()
