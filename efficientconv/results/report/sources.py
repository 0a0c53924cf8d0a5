"""Finds runs: run folders, folders that contain run folders, and records (results/<tier>/runs/*.json), in any mix."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

from efficientconv.engine.epoch_log import training_totals
from efficientconv.engine.run_folder import RunFolder
from efficientconv.errors import UserError
from efficientconv.files import named
from efficientconv.results.record import RunRecord, read_record, record_of

T = TypeVar("T")
TRAINED = ("trained", "finished")  # states of runs that did not evaluate the test images: trials of a search
RECORDS = "runs"  # the name of a folder of records; files beside it belong to the same tier


@dataclass(frozen=True)
class FoundRun:
    """A run and the file or folder that it was read from."""

    record: RunRecord
    path: Path
    ended: str = ""  # the time of its last status, in UTC; empty for a record
    facts: dict = field(default_factory=dict)  # its images and cost, before its end too; empty for a record

    @property
    def result(self) -> dict:
        """The run's summary. Without one: its facts and, if it was trained to its end, what its epochs add up to."""
        whole = self.record.state in TRAINED  # a trial that was pruned says nothing of its setting
        return self.record.summary or self.facts | (training_totals(self.record.metrics) if whole else {})

    @property
    def own(self) -> bool:
        """Whether the run has a run folder here. Records came with the repository."""
        return self.path.is_dir()


@dataclass
class Sources:
    """The runs that were found. `tier_folders` hold a folder of records. `warnings` name unreadable files with reasons."""

    runs: list[FoundRun] = field(default_factory=list)
    tier_folders: list[Path] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def attempt(self, read: Callable[[Path], T], path: Path) -> T | None:
        """`read(path)`; None and a warning if the file is damaged."""
        try:
            return read(path)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            text = " ".join(str(error).split())
            reason = text if isinstance(error, UserError) else f"{type(error).__name__}: {text}"
            self.warnings.append(f"{path} is left out: {reason}")
            return None


def find_sources(paths: Iterable[Path]) -> Sources:
    """Every run once: run folders before records, the newest first, then by model and width.

    If a run lies in two places, the finished one counts. A copy under another name is a run of its own, with a warning.

    Raises:
        UserError: a path that does not exist; no run at all.
    """
    sources = Sources()
    found: dict[tuple, FoundRun] = {}
    for place in _places(paths, sources):
        run = sources.attempt(_read, place)
        if run is not None:
            key = run.record.tier or "", run.record.run, run.record.group, run.record.seed
            found[key] = max(found.get(key, run), run, key=lambda run: run.record.state == "done")
        records = named(place).parent
        if place.suffix == ".json" and records.name == RECORDS and records.parent not in sources.tier_folders:
            sources.tier_folders.append(records.parent)
    sources.runs = sorted(sorted(found.values(), key=_order), key=lambda run: (run.own, run.ended), reverse=True)
    if not sources.runs:
        raise UserError("; ".join([*sources.warnings, "no run was found; train one, or name run folders"]))
    sources.warnings += _copies(sources.runs)
    return sources


def _copies(runs: Iterable[FoundRun]) -> Iterator[str]:
    """A warning for each finished run that has the settings, the seed and the losses of another: it is no further sample."""
    found: dict[tuple, FoundRun] = {}
    for run in runs:
        losses = tuple(epoch.get("train_loss") for epoch in run.record.metrics)
        if not (losses and run.record.summary):
            continue
        first = found.setdefault((run.record.group, run.record.seed, losses), run)
        if first is not run:
            yield f"{run.path} counts as one more seed, but has the seed and losses of {first.path}; leave one of them out"


def _order(run: FoundRun) -> tuple:
    record = run.record
    return record.tier or "", record.model, record.config["model"]["width"], record.run, record.group, record.seed


def _places(paths: Iterable[Path], sources: Sources) -> Iterator[Path]:
    """Run folders and records, each once, also if several links lead to it."""
    waiting, seen = list(paths), set()
    for path in waiting:
        if not path.exists():
            raise UserError(f"{path} is not there; name run folders, folders that contain them, or results/<tier>/runs")
    while waiting:
        path = waiting.pop(0)
        if path.resolve() in seen:
            continue
        seen.add(path.resolve())
        if path.is_file() or sources.attempt(_is_run, path):
            yield from [path] if path.is_dir() or path.suffix == ".json" else []
        else:
            waiting = [*(sources.attempt(_inside, path) or []), *waiting]


def _is_run(path: Path) -> bool:
    return (path / "config.yaml").exists()


def _inside(path: Path) -> list[Path]:
    """The entries of a folder that may be a run or contain runs. Files count only in folders of records."""
    records = sorted(path.glob("*.json")) if named(path).name == RECORDS else []
    return records + sorted(child for child in path.iterdir() if child.is_dir() and not child.name.startswith("."))


def _read(place: Path) -> FoundRun:
    if place.is_file():
        run = FoundRun(read_record(place), place)
    else:
        folder = RunFolder(place)
        status, record = folder.read_json("status.json"), record_of(folder)
        ended = str(status.get("heartbeat") or "")
        if record.state == "running":  # or it was killed: only the time of its last status is known
            record = replace(record, reason=f"last sign of life {ended}")
        elif record.state in ("trained", "preempted") and "trial" in status:  # the search tells how it ended
            record = replace(record, state=str(status["trial"]))
        elif record.state == "trained":
            record = replace(record, reason="the test images were not evaluated")
        run = FoundRun(record, place, ended, {} if record.summary else folder.facts())
    run.record.group  # noqa: B018  raises if the configuration is not valid
    return run
