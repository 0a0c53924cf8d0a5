"""metrics.jsonl: one record for each epoch. Tables, reports and loggers read this file.

A record is one line, added at the end of the file. A line without its end is not a record yet: it is being written, or a
crash cut it off. A checkpoint also holds the records of the epochs before it, so that no record is lost with the file.
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
_TOTALLED = ("train_seconds", "train_images")  # a summary adds these up


class EpochLog:
    """A run's records. If the disk is full, a record is written later, together with the next one."""

    def __init__(self, path: Path):
        self.path = path
        self.values: list[dict] = []
        self._written: int | None = None  # None: the file is to be written anew
        self._bytes = 0  # length of the file with these records

    def add(self, record: dict) -> bool:
        self.values.append(record)
        return self.write()

    def text(self, epochs: int) -> str:
        """The lines of the first `epochs` records, as a checkpoint keeps them."""
        return _lines(self.values[:epochs])

    def continue_after(self, epochs: int, kept: str | None) -> None:
        """Keeps the first `epochs` records only: a continued run writes the later ones again.

        Args:
            kept: the records in the checkpoint, as `text` gave them. None: the checkpoint is of an earlier version and has
                no records, so the file is read.

        Raises:
            UserError: one of these records is missing.
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
        """Writes the file as it was at the checkpoint; warns if records were missing or damaged. Raises UserError."""
        found = read_bytes(self.path) or b""
        if not found.startswith(_lines(self.values).encode()):
            warnings.warn(f"{self.path} lacked records or was damaged; the checkpoint restores them", stacklevel=2)
        self.write()

    def write(self) -> bool:
        """Writes the records that the file lacks. Returns False, after a warning, if they could not be written."""
        try:
            if self._written is None or not self._append(_lines(self.values[self._written :]).encode()):
                self._replace(_lines(self.values).encode())
        except OSError as error:
            warnings.warn(f"{self.path} could not be written ({error.strerror}); training goes on", stacklevel=2)
            return False
        self._written = len(self.values)
        return True

    def _append(self, lines: bytes) -> bool:
        """Adds `lines` to the file. Returns False if the file is shorter than what was written to it."""
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
    """The records of the file `path`; none if there is no file. Raises UserError for a line that is not a record."""
    return _parsed(read_bytes(path) or b"", path, RESTORE)


def training_totals(records: list[dict]) -> dict:
    """Time and throughput over all epochs, and the best held-out accuracy, which decides nothing."""
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
