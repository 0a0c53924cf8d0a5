"""results/gpu/<device>/: the measurements of scripts/gpu_day.py as csv and pictures, and a page that explains them."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from operator import itemgetter
from pathlib import Path

from efficientconv.gpu_day.bench import Row
from efficientconv.gpu_day.day import TINY, Day, Outcome
from efficientconv.gpu_day.report import measured_steps, operations
from efficientconv.gpu_day.report.reading import of_c, reading, verdict
from efficientconv.gpu_day.stages import STAGES, Stage
from efficientconv.results.pages import page, write_files
from efficientconv.results.pictures import Picture
from efficientconv.results.table import Column, Table
from efficientconv.roofline.expect import BASELINE
from efficientconv.roofline.machine import MACHINES, Machine, machine_of

# a row's second time, by which time of the row it stands for: its share of the limit stands in the same cell
SECOND_TIMES = {"ms_per_step_deterministic": "ms_per_step", "ms_of_kernels": "ms"}
UNITS = {"ms": "ms", "percent": "%", "macs": "MACs", "mb": "MB", "s": "s"}
ABOUT_STEPS = """\
A step is forward, backward and SGD. Share of the limit: the least time at the data sheet's peaks of memory and arithmetic,
over the measured time. The least time is summed over the operations as they are run (CUDA graphs: as compiled; Triton: a
kernel a layer). A step's tensors: without weights, momentum and images; unknown under CUDA graphs, which allocate once for
all steps. Held in all: the device's memory that torch takes, with torch's pools. `<stage>.csv` has more columns."""

ABOUT_KERNELS = """\
No limit is counted for a kernel alone. The share of the limit of the whole step stands under `models`, that of each kind of
operation under `operations`."""

# By stage: what stands above and below its table, and the share of the limit that a time of a row reaches.
OF_STEPS = ("models", "compiled", "small_images", "triton_models")
OF_MODELS = ("settings", "twice", "inference")
ABOVE = {
    **dict.fromkeys(OF_STEPS, "Layout {layout}, {batch} images a step, {precision}."),
    **dict.fromkeys(OF_MODELS, "Layout {layout}, {precision} where nothing else is said."),
    "triton_layers": "Maps of {maps}, training, bf16.",
}
SAID_ABOVE = ("layout", "precision", "maps")  # are no columns in a table with shares
BELOW = {"models": ABOUT_STEPS, "profiles": ABOUT_KERNELS}
SHARES = {**dict.fromkeys(OF_MODELS, measured_steps.share_of_limit), "triton_layers": measured_steps.share_of_layer}


class Measured:
    """The measurements on one device. `machine`: None: its peaks are not known."""

    def __init__(self, day: Day):
        self.outcomes = [(stage, outcome) for stage in STAGES if (outcome := day.outcome(stage)) is not None]
        self.machine = MACHINES.get(machine_of(day.folder.name) or "")

    @property
    def rows(self) -> dict[str, list[Row]]:
        """The rows by stage."""
        return {stage.name: outcome.rows for stage, outcome in self.outcomes if outcome.rows}

    @cached_property
    def steps(self) -> list[measured_steps.MeasuredStep]:
        """The step of each model and each way of running it, from the last stage that measured it."""
        found = measured_steps.steps_of(self.rows_of_steps, self.rows_of_steps, self.machine)
        return list({(step.layout, step.model, step.run): step for step in found}.values())

    @cached_property
    def rows_of_steps(self) -> list[Row]:
        """The rows of the stages that measure steps, with the commit that was measured."""
        stages = {stage.name: outcome for stage, outcome in self.outcomes if stage.name in OF_STEPS}
        in_order = [stages[name] for name in OF_STEPS if name in stages]
        return [row | {"commit": outcome.environment.get("git_commit")} for outcome in in_order for row in outcome.rows]

    @property
    def environment(self) -> dict:
        """The environment of the first stage that started."""
        return next((outcome.environment for _, outcome in self.outcomes if outcome.environment), {})

    @property
    def device(self) -> str:
        return self.environment.get("gpu") or self.environment.get("cpu", "a device that did not start")

    @property
    def versions(self) -> str:
        about = self.environment
        return f"torch {about.get('packages', {}).get('torch')}, CUDA {about.get('cuda')}, cuDNN {about.get('cudnn')}"

    @property
    def told(self) -> list[str]:
        sentences = "\n".join(f"- {sentence}" for sentence in reading(self.rows, self.steps, self.machine))
        return [sentences, *(table.markdown() for table in measured_steps.over_a_tables(self.steps))]

    @property
    def pictures(self) -> dict[str, Picture]:
        pictures = {}
        if any(step.over_a and step.model != BASELINE for step in self.steps):
            pictures["time_against_macs"] = measured_steps.plot(self.steps)
        if self.machine and "operations" in self.rows:
            pictures["operations"] = operations.plot(self.rows["operations"], self.machine)
        return pictures


def write_page(day: Day) -> Path:
    """Writes README.md, <stage>.csv and the pictures, from the stages' json files."""
    found = Measured(day)
    pictures = {} if day.tiny else found.pictures
    made = f"`python scripts/gpu_day.py{' --tiny' if day.tiny else ''}`, {found.versions}."
    told = ["A trial of the stages, with tiny networks: **no time here means anything.**"] if day.tiny else found.told
    images = [f"![{name.replace('_', ' ')}]({name}.png)" for name in pictures]
    sections = [part for stage, outcome in found.outcomes for part in _section(stage, outcome, found)]
    files: dict[str, str | bytes] = {f"{name}.csv": Table.of(rows).csv() for name, rows in found.rows.items()}
    files |= {name + ending: image for name, picture in pictures.items() for ending, image in picture.items()}
    files["README.md"] = page(f"# Measured on {found.device}", made, *told, *images, *sections)
    write_files(day.folder, files)
    return day.folder / "README.md"


def summary(gpus: Path) -> str:
    """The sentences and tables for other pages, for each device in `gpus`."""
    about = "On **{}** ({}), batch 256, bf16 where nothing else is said:"
    return "\n\n".join(part for it in measured_in(gpus) for part in (about.format(it.device, it.versions), *it.told))


def front_line(gpus: Path) -> str:
    """The front page's answer on GPUs, an item of a list."""
    found = measured_in(gpus)[0]
    answer = "Rarely" if any(step.over_a and step.over_a < 1 for step in found.steps) else "No"
    said, times = f"on one {found.device} {verdict(found.steps)}", of_c(found.steps)
    return f"- **{answer}**, for faster training on a GPU: {said}. {times[0].upper()}{times[1:]} ([GPU](docs/gpu.md))."


def measured_in(gpus: Path) -> list[Measured]:
    folders = (folder for folder in sorted(gpus.iterdir()) if not folder.name.endswith(TINY))
    return [Measured(Day(folder, "cuda", tiny=False)) for folder in folders]


def _section(stage: Stage, outcome: Outcome, found: Measured) -> list[str]:
    reason, commit = f" ({outcome.reason})" if outcome.reason else "", outcome.environment.get("git_commit") or "unknown"
    heading = [f"## {stage.name}: {stage.about}", f"{outcome.state}{reason}, {outcome.seconds:g} s, commit {commit[:12]}."]
    if not outcome.rows:
        return heading
    above = ABOVE.get(stage.name, "").format_map(outcome.rows[0])
    parts = [*heading, above, _table(stage.name, outcome.rows, found).markdown(), BELOW.get(stage.name)]
    return [part for part in parts if part]


def _table(stage: str, rows: list[Row], found: Measured) -> Table:
    if stage in OF_STEPS:
        return Table(measured_steps.steps_of(rows, found.rows_of_steps, found.machine), measured_steps.COLUMNS)
    if stage == "operations":
        return operations.table(rows, found.machine)
    if stage in SHARES:
        return _with_shares(rows, SHARES[stage], found.machine)
    return Table(rows, [_column(key) for key in rows[0]])


def _with_shares(rows: list[Row], share: Callable[[Row, Machine | None], float | None], machine: Machine | None) -> Table:
    def second(key: str) -> Column:
        def cell(row: Row) -> str:
            reached = share(row | {SECOND_TIMES[key]: row[key]}, machine)
            return _short(row[key]) + (f" ({reached:.0%})" if reached else "")

        return Column(f"{_title(key)} (share of the limit)", cell)

    keys = [key for key in rows[0] if key not in SAID_ABOVE]
    columns = [second(key) if key in SECOND_TIMES else _column(key) for key in keys]
    return Table(rows, [*columns, Column("share of the limit", lambda row: share(row, machine), ".0%")])


def _column(key: str) -> Column:
    return Column(_title(key), itemgetter(key), _short)


def _title(key: str) -> str:
    """peak_mb: peak, MB."""
    *words, last = key.split("_")
    return f"{' '.join(words)}, {UNITS[last]}" if words and last in UNITS else UNITS.get(key, key.replace("_", " "))


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
