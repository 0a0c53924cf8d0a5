"""results/gpu/<device>/: what scripts/gpu_day.py measured, as csv, pictures and a page that says what they show."""

from __future__ import annotations

from collections.abc import Sequence
from operator import itemgetter
from pathlib import Path

from efficientconv.gpu_day.bench import Row
from efficientconv.gpu_day.day import Day, Outcome
from efficientconv.gpu_day.stages import STAGES, Stage
from efficientconv.results import gpu_operations, gpu_steps
from efficientconv.results.gpu_reading import Rows, reading
from efficientconv.results.pages import page, write_files
from efficientconv.results.pictures import Picture
from efficientconv.results.table import Column, Table
from efficientconv.roofline.expect import BASELINE
from efficientconv.roofline.machine import MACHINES, Machine, machine_of

OF_STEPS = ("models", "compiled", "small_images")
UNITS = {"ms": "ms", "percent": "%", "macs": "MACs", "mb": "MB", "s": "s"}
ABOUT_STEPS = """\
A step is forward, backward and SGD. Share of the limit: what memory and arithmetic need at the data sheet's peaks, operation
by operation as it is run (CUDA graphs: as compiled), over the measured time. A step's tensors: without weights, momentum and
images; not known under CUDA graphs, which allocate once for all steps. Held in all: what torch takes of the device, with its
pools. `<stage>.csv` has more columns."""


def write_page(day: Day) -> Path:
    """README.md, <stage>.csv and the pictures, from the stages' json files."""
    found = [(stage, outcome) for stage in STAGES if (outcome := day.outcome(stage)) is not None]
    rows = {stage.name: outcome.rows for stage, outcome in found if outcome.rows}
    machine = MACHINES.get(machine_of(day.folder.name) or "")
    steps = gpu_steps.steps_of([row for name in OF_STEPS for row in rows.get(name, ())], machine)
    files: dict[str, str | bytes] = {f"{name}.csv": Table.of(measured).csv() for name, measured in rows.items()}
    pictures = {} if day.tiny else _pictures(rows, steps, machine)
    parts = [_heading(day, [outcome for _, outcome in found])]
    if not day.tiny:
        parts += ["\n".join(f"- {sentence}" for sentence in reading(rows, steps, machine))]
        parts += [gpu_steps.over_a_table(steps).markdown()] if any(step.over_a for step in steps) else []
        parts += [f"![{name.replace('_', ' ')}]({name}.png)" for name in pictures]
    parts += [part for stage, outcome in found for part in _section(stage, outcome, machine)]
    files |= {name + ending: image for name, picture in pictures.items() for ending, image in picture.items()}
    write_files(day.folder, files | {"README.md": page(*parts)})
    return day.folder / "README.md"


def _pictures(rows: Rows, steps: Sequence[gpu_steps.Step], machine: Machine | None) -> dict[str, Picture]:
    pictures = {}
    if any(step.over_a and step.model != BASELINE for step in steps):
        pictures["time_against_macs"] = gpu_steps.plot(steps)
    if machine and "operations" in rows:
        pictures["operations"] = gpu_operations.plot(rows["operations"], machine)
    return pictures


def _heading(day: Day, outcomes: Sequence[Outcome]) -> str:
    about = next((outcome.environment for outcome in outcomes if outcome.environment), {})
    device = about.get("gpu") or about.get("cpu", "a device that did not start")
    made = f"`python scripts/gpu_day.py{' --tiny' if day.tiny else ''}`"
    warning = "\n\nMade to try the stages out, with tiny networks: **no time here means anything.**" if day.tiny else ""
    versions = f"torch {about.get('packages', {}).get('torch')}, CUDA {about.get('cuda')}, cuDNN {about.get('cudnn')}"
    return f"# Measured on {device}\n\n{made}, {versions}.{warning}"


def _section(stage: Stage, outcome: Outcome, machine: Machine | None) -> list[str]:
    reason, commit = f" ({outcome.reason})" if outcome.reason else "", outcome.environment.get("git_commit") or "unknown"
    heading = [f"## {stage.name}: {stage.about}", f"{outcome.state}{reason}, {outcome.seconds:g} s, commit {commit[:12]}."]
    if not outcome.rows:
        return heading
    if stage.name in OF_STEPS:
        first = outcome.rows[0]
        setting = f"Layout {first['layout']}, {first['batch']} images a step, {first['precision']}."
        steps = Table(gpu_steps.steps_of(outcome.rows, machine), gpu_steps.COLUMNS)
        return [*heading, setting, steps.markdown(), *([ABOUT_STEPS] if stage.name == OF_STEPS[0] else [])]
    if stage.name == "operations":
        return [*heading, gpu_operations.table(outcome.rows, machine).markdown()]
    return [*heading, _table(outcome.rows).markdown()]


def _table(rows: Sequence[Row]) -> Table:
    return Table(rows, [Column(_title(key), itemgetter(key), _short) for key in rows[0]])


def _title(key: str) -> str:
    """peak_mb: peak, MB."""
    *words, last = key.split("_")
    return f"{' '.join(words)}, {UNITS[last]}" if words and last in UNITS else UNITS.get(key, key.replace("_", " "))


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
