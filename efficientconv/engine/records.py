"""metrics.jsonl: one record an epoch, the truth that tables, reports and trackers read."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

from efficientconv.files import write_atomically


class Records:
    """The file's records, held in memory too, so that one that found no space on the disk is written with the next."""

    def __init__(self, path: Path):
        self.path = path
        self.values = read_records(path)

    def add(self, record: dict) -> bool:
        self.values.append(record)
        return self.write()

    def rewind(self, epochs: int) -> None:
        """Keeps the first `epochs`: a resumed run writes the later ones again."""
        self.values = self.values[:epochs]

    def write(self) -> bool:
        """All of them, at once: no line is ever cut off. False, after a warning, when the disk refuses."""
        try:
            write_atomically(self.path, "".join(json.dumps(value) + "\n" for value in self.values).encode())
        except OSError as error:
            warnings.warn(f"{self.path} could not be written ({error.strerror}); training goes on", stacklevel=2)
            return False
        return True


def read_records(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
