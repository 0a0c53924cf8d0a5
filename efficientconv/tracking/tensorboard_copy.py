"""A run's copy for TensorBoard: event files in the run folder, under tensorboard/.

The figures keep their names. The step is the epoch. The configuration and the facts (macs, params) are the run's
hyperparameters: TensorBoard's page HPARAMS draws accuracy against MACs over all runs.
"""

from __future__ import annotations

import shlex
import shutil
import time
from pathlib import Path

from efficientconv.tracking.run_files import read_config, read_json
from efficientconv.validation import flat


class Copy:
    """Each start writes the whole run anew and removes what was there before: each epoch is there once."""

    def __init__(self, folder: Path, settings: dict):
        self.run, self.folder = folder, folder / "tensorboard"
        self.epochs = 0

    def start(self) -> None:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.plugins.hparams.summary_v2 import hparams_pb
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        if self.folder.exists():
            shutil.rmtree(self.folder)
        self.writer, self.event = EventFileWriter(str(self.folder)), Event
        settings = {name: _plain(value) for name, value in flat(read_config(self.run)).items()}
        self._write(hparams_pb(read_json(self.run / "facts.json") | settings, trial_id=self.run.name), step=0)

    def add(self, record: dict) -> None:
        self.epochs = record["epoch"]
        self._add(record)
        self.writer.flush()

    def finish(self) -> str:
        self._add(read_json(self.run / "summary.json"))
        self.writer.close()
        command = shlex.join(["tensorboard", "--logdir", str(self.run.parent)])
        return f"TensorBoard: to see it and the runs beside it: {command}"

    def _add(self, figures: dict) -> None:
        from tensorboard.plugins.scalar.summary_v2 import scalar_pb

        for name, value in figures.items():
            if isinstance(value, (int, float)) and not isinstance(value, bool):
                self._write(scalar_pb(name, value), self.epochs)

    def _write(self, summary: object, step: int) -> None:
        self.writer.add_event(self.event(wall_time=time.time(), step=step, summary=summary))


def _plain(value: object) -> bool | int | float | str:
    """The value; text if TensorBoard does not have its type."""
    return value if isinstance(value, (bool, int, float, str)) else str(value)
