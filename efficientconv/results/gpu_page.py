"""results/gpu/<device>/: a table a stage of the day, as csv and on one page."""

from __future__ import annotations

from collections.abc import Sequence
from operator import itemgetter
from pathlib import Path

from efficientconv.files import write_atomically
from efficientconv.gpu_day.bench import Row
from efficientconv.gpu_day.day import Day, Outcome
from efficientconv.results.table import Column, Table


def write_page(day: Day) -> Path:
    """README.md and <stage>.csv from the stages' json files."""
    found = [(stage, outcome) for stage in day.stages if (outcome := day.outcome(stage)) is not None]
    for stage, outcome in found:
        if outcome.rows:
            write_atomically(day.folder / f"{stage.name}.csv", _table(outcome.rows).csv().encode())
    parts = [_heading(day, [outcome for _, outcome in found])]
    parts += [f"## {stage.name}: {stage.about}\n\n{_section(outcome)}" for stage, outcome in found]
    path = day.folder / "README.md"
    write_atomically(path, ("\n\n".join(parts) + "\n").encode())
    return path


def _heading(day: Day, outcomes: Sequence[Outcome]) -> str:
    about = next((outcome.environment for outcome in outcomes if outcome.environment), {})
    device = about.get("gpu") or about.get("cpu", "a device that did not start")
    made = f"`python scripts/gpu_day.py{' --tiny' if day.tiny else ''}`"
    warning = "\n\nMade to try the stages out, with tiny networks: **no time here means anything.**" if day.tiny else ""
    versions = f"torch {about.get('packages', {}).get('torch')}, CUDA {about.get('cuda')}, cuDNN {about.get('cudnn')}"
    return f"# Measured on {device}\n\n{made}, {versions}, commit {about.get('git_commit')}.{warning}"


def _section(outcome: Outcome) -> str:
    state = f"{outcome.state}{f' ({outcome.reason})' if outcome.reason else ''}, {outcome.seconds:g} s."
    return f"{state}\n\n{_table(outcome.rows).markdown()}" if outcome.rows else state


def _table(rows: Sequence[Row]) -> Table:
    return Table(rows, [Column(key, itemgetter(key), _short, name=key) for key in rows[0]])


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
