"""Finds runs: run folders, folders that contain them, and kept records (results/<tier>/runs/*.json), in any mix."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TypeVar

from efficientconv.engine.run_folder import RunFolder, identity
from efficientconv.errors import UserError
from efficientconv.results.record import RunRecord, read_record, record_of

T = TypeVar("T")
RECORDS = "runs"  # the name of a folder of records; what lies beside it belongs to the same tier


@dataclass(frozen=True)
class Run:
    """A run and the file or folder that it was read from."""

    record: RunRecord
    path: Path

    @cached_property
    def group(self) -> tuple:
        """Runs alike in this differ in nothing but their seed. Raises UserError where the configuration is none."""
        values = identity(self.record.run_config)
        values.pop("seed")
        return self.record.tier, repr(values)


@dataclass
class Sources:
    """What was found. `tier_folders`: those that hold a folder of records; `warnings`: what could not be read, and why."""

    runs: list[Run] = field(default_factory=list)
    tier_folders: list[Path] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def attempt(self, read: Callable[[Path], T], path: Path) -> T | None:
        """`read(path)`; None, and a warning, where whatever lies there is damaged."""
        try:
            return read(path)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            text = " ".join(str(error).split())
            reason = text if isinstance(error, UserError) else f"{type(error).__name__}: {text}"
            self.warnings.append(f"{path} is left out: {reason}")
            return None


def find_sources(paths: Iterable[Path]) -> Sources:
    """Every run once, in the order of tiers and names; a finished one before an unfinished one of the same name.

    Raises:
        UserError: a path that is not there; no run at all.
    """
    sources, found = Sources(), {}
    for place in dict.fromkeys(place for path in paths for place in _places(path)):
        run = sources.attempt(_read, place)
        if run is not None:
            key = run.record.tier or "", run.record.run
            found[key] = max(found.get(key, run), run, key=lambda run: run.record.state == "done")
        if place.suffix == ".json" and place.parent.name == RECORDS and place.parent.parent not in sources.tier_folders:
            sources.tier_folders.append(place.parent.parent)
    sources.runs = [found[key] for key in sorted(found)]
    if not sources.runs:
        raise UserError("; ".join([*sources.warnings, "no run was found; train one, or name run folders"]))
    return sources


def _places(path: Path) -> Iterator[Path]:
    """Run folders and records."""
    if not path.exists():
        raise UserError(f"{path} is not there; name run folders, folders that contain them, or results/<tier>/runs")
    if path.is_file() or (path / "config.yaml").exists():
        yield path
        return
    if path.name == RECORDS:
        yield from sorted(path.glob("*.json"))
    for folder in sorted(child for child in path.iterdir() if child.is_dir() and not child.name.startswith(".")):
        yield from _places(folder)


def _read(place: Path) -> Run:
    if place.is_file():
        run = Run(read_record(place), place)
    else:
        run = Run(_with_last_sign(record_of(RunFolder(place)), place), place)
    run.group  # noqa: B018  raises where the configuration is none
    return run


def _with_last_sign(record: RunRecord, folder: Path) -> RunRecord:
    """A run that says it runs may have been killed: when it last said so is all that is known."""
    if record.state != "running":
        return record
    return replace(record, reason=f"last sign of life {RunFolder(folder).read_json('status.json')['heartbeat']}")
