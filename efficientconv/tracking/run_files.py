"""Reads the files of a run folder for a follower. Does not import torch, which takes 800 MB and seconds of work."""

from __future__ import annotations

import json
import os
from pathlib import Path

import yaml

from efficientconv import files
from efficientconv.errors import UserError


def one_line(error: Exception) -> str:
    text = " ".join(str(error).split())[:300]
    return text if isinstance(error, UserError) else f"{type(error).__name__}: {text}"


def read_json(path: Path) -> dict:
    """Empty if there is no file. Raises UserError for a damaged file."""
    return files.read_json(path, dict, "put it back from a copy, or delete it") or {}


def read_config(folder: Path) -> dict:
    """Raises UserError for a damaged file."""
    path = folder / "config.yaml"
    try:
        return yaml.safe_load(files.read_bytes(path) or b"") | {}
    except (yaml.YAMLError, ValueError, RecursionError, TypeError):
        raise UserError(f"{path} is damaged; put it back from a copy") from None


class NewRecords:
    """The new records of metrics.jsonl; all records again if a start has written the file anew."""

    def __init__(self, path: Path):
        self.path = path
        self.file: int | None = None  # its inode
        self.position = 0  # up to which it was read

    def read(self) -> list[dict]:
        """The records since the last call. A line that is still being written is left for the next call."""
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
        try:
            return [json.loads(line) for line in lines]
        except (ValueError, RecursionError):
            raise UserError(f"{self.path} is damaged; the command that trained the run writes it again") from None
