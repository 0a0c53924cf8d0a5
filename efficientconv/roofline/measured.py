"""Measurements of a GPU by scripts/gpu_day.py: the shares of the peaks that kernels reach, and the times of steps."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from efficientconv.files import read_json
from efficientconv.roofline.limit import limit
from efficientconv.roofline.machine import GUESSED, Machine, Share, machine_of
from efficientconv.roofline.step import Setting
from efficientconv.roofline.work import Work

REMEDY = "delete it, and scripts/gpu_day.py measures it again"
BY_COMPILE_MODE = {"no": "eager", "default": "compiled", "reduce-overhead": "CUDA graphs"}  # a step's execution
STAGES = ("models", "compiled", "small_images")  # the stages that measure steps of a model


@dataclass(frozen=True)
class Device:
    """A machine, the shares of its peaks that kernels reach, and the source of these shares, in words.

    seconds: of a measured step, by model and execution.
    """

    machine: Machine
    shares: Mapping[str, Share] = field(default_factory=lambda: GUESSED)
    source: str = "guessed"
    seconds: Mapping[tuple[str, str], float] = field(default_factory=dict)


def with_measured(device: str, machine: Machine, folder: Path, setting: Setting) -> Device:
    """The machine with the measurements in `folder` (results/gpu), or with guesses. Raises UserError for a damaged file."""
    folders = (path for path in sorted(folder.glob("*")) if not path.name.endswith("-tiny"))
    found = [path for path in folders if machine_of(path.name) == device]
    rows = _rows(found[0], "operations") if found else []
    if not rows:
        return Device(machine)
    launches = [row["ms"] / 1e3 for row in rows if row["kind"] == "launch"]
    machine = replace(machine, launch_s=launches[0]) if launches else machine
    shares, source = _shares(rows, machine, setting.precision), f"measured, results/gpu/{found[0].name}"
    return Device(machine, shares, source, dict(_steps(found[0], setting)))


def _shares(rows: list[dict], machine: Machine, precision: str) -> dict[str, Share]:
    """By kind: the least time of its operations over their measured time, in this precision (fp16 as bf16).

    A kind without a measurement has the share of the elementwise operations.
    """
    least: defaultdict[str, float] = defaultdict(float)
    taken: defaultdict[str, float] = defaultdict(float)
    for row in rows:
        if row["kind"] != "launch" and row["precision"] == ("fp32" if precision == "fp32" else "bf16"):
            work = Work(row["kind"], row["flops"], row["bytes"])
            least[row["kind"]] += limit([work], machine, row["precision"]).seconds
            taken[row["kind"]] += row["ms"] / 1e3
    shares = {kind: Share(least[kind] / taken[kind], least[kind] / taken[kind]) for kind in taken}
    return {kind: shares.get(kind, shares.get("elementwise", guess)) for kind, guess in GUESSED.items()}


def _steps(folder: Path, setting: Setting) -> Iterator[tuple[tuple[str, str], float]]:
    for row in (row for stage in STAGES for row in _rows(folder, stage)):
        if (row["batch"], row["precision"], row["layout"]) == (setting.batch, setting.precision, setting.layout):
            yield (row["model"], BY_COMPILE_MODE[row["compiled"]]), row["ms_per_step"] / 1e3


def _rows(folder: Path, stage: str) -> list[dict]:
    """The rows of a stage; none if the stage was not tried."""
    return (read_json(folder / f"{stage}.json", dict, REMEDY) or {"rows": []})["rows"]
