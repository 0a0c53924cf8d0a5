"""metrics.jsonl: one record an epoch, the truth that tables, reports and trackers read.

A record is a line at the file's end. A reader may come while it is being written, and a crash may cut it off: what has no
end of line yet is no record. Checkpoints hold the records of the epochs before them, so that none is lost with the file.
"""

from __future__ import annotations

import json
import os
import warnings
from pathlib import Path

from efficientconv.errors import UserError
from efficientconv.files import open_to_append, read_bytes, write_atomically

RESTORE = (
    "put the file back from a copy, or delete it and, if it is there, the summary.json beside it: the command that trained "
    "the run restores both from the checkpoint"
)
_TOTALLED = ("train_seconds", "train_images")  # what a summary adds up


class EpochLog:
    """A run's records, and how many of them its file has: one that found no space on the disk is written with the next."""

    def __init__(self, path: Path):
        self.path = path
        self.values: list[dict] = []
        self._written: int | None = None  # None: the file is to be written anew
        self._bytes = 0  # of the file, as far as it has these records

    def add(self, record: dict) -> bool:
        self.values.append(record)
        return self.write()

    def text(self, epochs: int) -> str:
        """The lines of the first `epochs` records, as a checkpoint keeps them."""
        return _lines(self.values[:epochs])

    def resume(self, epochs: int, kept: str | None) -> None:
        """Goes back to the first `epochs` records: a resumed run writes the later ones again.

        Args:
            kept: what `text` gave for the checkpoint; None: it has none, as those of earlier versions, and the file must do.

        Raises:
            UserError: the file lacks one of them.
        """
        remedy = f"put the file back, or delete the folder {self.path.parent} to train from the start"
        if kept is None:
            values = _parsed(read_bytes(self.path) or b"", self.path, remedy)
        else:
            values = _parsed(kept.encode(), "the checkpoint's records", remedy)
        self.values, self._written = values[:epochs], None
        for epoch in range(1, epochs + 1):
            if epoch > len(self.values) or not _is_record(self.values[epoch - 1], epoch):
                raise UserError(
                    f"{self.path} lacks the record of epoch {epoch}, but the checkpoint goes on after epoch {epochs}; "
                    f"{remedy}"
                )

    def restore(self) -> None:
        """Writes the file as it was at the checkpoint, and says so where it lacked something. Raises UserError."""
        found = read_bytes(self.path) or b""
        if not found.startswith(_lines(self.values).encode()):
            warnings.warn(f"{self.path} lacked records or was damaged; they are those of the checkpoint again", stacklevel=2)
        self.write()

    def write(self) -> bool:
        """What the file lacks. False, after a warning, when the disk refuses."""
        try:
            if self._written is None or not self._append(_lines(self.values[self._written :]).encode()):
                self._replace(_lines(self.values).encode())
        except OSError as error:
            warnings.warn(f"{self.path} could not be written ({error.strerror}); training goes on", stacklevel=2)
            return False
        self._written = len(self.values)
        return True

    def _append(self, lines: bytes) -> bool:
        """False where the file is no longer what was written."""
        with open_to_append(self.path) as file:
            if file.tell() < self._bytes:
                return False
            file.truncate(self._bytes)  # a full disk may have cut off the last try
            file.write(lines)
            file.flush()
            os.fsync(file.fileno())
        self._bytes += len(lines)
        return True

    def _replace(self, lines: bytes) -> None:
        write_atomically(self.path, lines)
        self._bytes = len(lines)


def read_records(path: Path) -> list[dict]:
    """Those whose lines have an end; none where there is no file. Raises UserError for a line that is no record."""
    return _parsed(read_bytes(path) or b"", path, RESTORE)


def training_totals(records: list[dict]) -> dict:
    """Over the epochs' records: the best held-out accuracy (an extra: nothing is chosen by it), time, throughput."""
    watched = [record for record in records if "val_top1_percent" in record]
    best = max(watched, key=lambda record: record["val_top1_percent"], default={})
    seconds = sum(record["train_seconds"] for record in records)
    images = sum(record["train_images"] for record in records)
    return {
        "best_val_top1_percent": best.get("val_top1_percent"),
        "best_val_epoch": best.get("epoch"),
        "train_seconds": seconds,
        "train_images_per_s": images / seconds if seconds else None,
    }


def _parsed(content: bytes, origin: object, remedy: str) -> list[dict]:
    records = []
    for number, line in enumerate(content.split(b"\n")[:-1], 1):
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            record = None
        if not isinstance(record, dict):
            raise UserError(f"line {number} of {origin} is damaged; {remedy}")
        records.append(record)
    return records


def _is_record(record: dict, epoch: int) -> bool:
    return record.get("epoch") == epoch and all(isinstance(record.get(key), (int, float)) for key in _TOTALLED)


def _lines(records: list[dict]) -> str:
    return "".join(json.dumps(record) + "\n" for record in records)
