"""Copies of a run's numbers for Weights & Biases. metrics.jsonl is the truth: a tracker that fails is dropped, once, aloud."""

from __future__ import annotations

import netrc
import os
import secrets
import warnings
from pathlib import Path
from urllib.parse import urlparse

from efficientconv.config import LoggerConfig

START_TIMEOUT_S = 20.0


class Tracker:
    """`log` each epoch's record, `finish` with the summary. This one keeps nothing: logger=jsonl or none."""

    def log(self, record: dict) -> None:
        pass

    def finish(self, summary: dict) -> None:
        pass


class WandbTracker(Tracker):
    """One W&B run for one run folder, however often the run is resumed: its id lies there in wandb_id.

    Online where a key is configured, else offline into the run folder.
    """

    def __init__(self, config: LoggerConfig, folder: Path, values: dict):
        import wandb  # only those who use it wait for its import

        id_file = folder / "wandb_id"
        if not id_file.exists():
            id_file.write_text(secrets.token_hex(4))
        self.run = wandb.init(
            project=config.project, entity=config.entity, group=config.group, tags=config.tags,
            name=folder.name, id=id_file.read_text(), resume="allow", dir=folder, config=values,
            mode=os.environ.get("WANDB_MODE") or ("online" if _key_is_configured() else "offline"),
            settings=wandb.Settings(silent=True, console="off", init_timeout=START_TIMEOUT_S),
        )  # fmt: skip

    def log(self, record: dict) -> None:
        self.run.log(record, step=record["epoch"])

    def finish(self, summary: dict) -> None:
        self.run.summary.update(summary)
        self.run.finish()


class Guarded(Tracker):
    """A tracker whose failures end the tracking, not the run."""

    def __init__(self, start):
        self.tracker = None
        self._try(lambda: setattr(self, "tracker", start()))

    def log(self, record: dict) -> None:
        if self.tracker is not None:
            self._try(lambda: self.tracker.log(record))

    def finish(self, summary: dict) -> None:
        if self.tracker is not None:
            self._try(lambda: self.tracker.finish(summary))

    def _try(self, action) -> None:
        try:
            action()
        except Exception as error:  # whatever a tracker raises, the run goes on
            self.tracker = None
            warnings.warn(f"W&B is off for the rest of this run ({type(error).__name__}: {error})", stacklevel=2)


def start_tracker(config: LoggerConfig, folder: Path, values: dict) -> Tracker:
    """`values`: the run's configuration with its MACs and parameters."""
    if config.name != "wandb":
        return Tracker()
    return Guarded(lambda: WandbTracker(config, folder, values))


def _key_is_configured() -> bool:
    if os.environ.get("WANDB_API_KEY"):
        return True
    host = urlparse(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname
    try:
        return netrc.netrc(os.environ.get("NETRC")).authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False
