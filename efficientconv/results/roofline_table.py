"""results/roofline.md and .csv: the expected times of steps on GPUs, and the measured times beside them."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from efficientconv.results.pages import page, write_files
from efficientconv.results.table import Column, Table
from efficientconv.roofline.expect import BASELINE, Expectation
from efficientconv.roofline.measured import Device
from efficientconv.roofline.step import Setting
from efficientconv.text import interval

NOTE = """\
{status} A training step's bytes and FLOPs (2 a MAC) are counted operation by operation.

- limit: with every operation at the data sheet's peaks; no machine of that name is faster.
  share of the limit: the limit over the measured time.
- expected: with the shares of the peaks that kernels reach, and a time that the host takes over a launch: {shares}.
- eager: as torch runs the layers, those of j and k as grouped convolutions, as on a CPU (on CUDA they are sums and products
  over cells, not counted here).
- compiled: batch norm, residual connection and ReLU in one pass.
- fused: one kernel a layer and direction, computing connections only. `layers.backend=triton` has more kernels than that.
- over a: the time against model A's, run the same way on the same device.
- binds: what most of the expected time waits for: memory, arithmetic, or the host's launches."""

MODEL = (Column("model", name="model"), Column("run", name="execution"))
WORK = (
    Column("GFLOP an image", show=".2f", name="gflop_per_image"),
    Column("MB an image", show=".1f", name="mb_per_image"),
    Column("operations", name="operations"),
)
LIMIT = Column("limit, ms a step", lambda row: 1e3 * row.limit.seconds, ".2f", "limit_ms_per_step")
GUESS = Column("guessed, ms a step", lambda row: 1e3 * row.guessed.seconds, ".2f", "guessed_ms_per_step")
EXPECTED = Column("expected, ms a step", lambda row: 1e3 * row.expected.seconds, ".2f", "expected_ms_per_step")
OVER_A = Column("over a, expected", "over_a", ".2f", "expected_time_over_a")
BINDS = Column("binds", "expected.binds", name="binds")
MEASURED = (
    Column("measured, ms a step", lambda row: row.measured_s and 1e3 * row.measured_s, ".2f", "measured_ms_per_step"),
    Column("share of the limit", "share", ".0%", "measured_share_of_limit"),
)
GUESSED_OVER_A = Column("over a, guessed", "guessed_over_a", ".2f", "guessed_time_over_a")
MEASURED_OVER_A = Column("over a, measured", "measured_over_a", ".2f", "measured_time_over_a")
IMAGES = Column("expected, images/s", "images_per_s", ",.0f", "expected_images_per_s")
DEVICE = Column("device", name="device")


@dataclass(frozen=True)
class Found:
    rows: Sequence[Expectation]
    devices: Mapping[str, Device]
    setting: Setting

    def of(self, device: str, measured: bool = False) -> list[Expectation]:
        return [row for row in self.rows if row.device == device and (row.measured_s is not None or not measured)]


def text(found: Found) -> str:
    """The table for a terminal."""
    columns = [DEVICE, *MODEL, *WORK, LIMIT, EXPECTED, *MEASURED, OVER_A, MEASURED_OVER_A, BINDS]
    return f"{_about(found.setting)}\n\n{Table(found.rows, columns).text()}\n\n{_note(found)}"


def write(found: Found, folder: Path, command: str) -> list[Path]:
    """Writes roofline.md and roofline.csv."""
    first = next(iter(found.devices))
    parts = [f"# Rooflines of a training step\n\n`{command}`", _about(found.setting), _note(found)]
    for name in found.devices:
        parts += _compared(name, found.of(name, measured=True))
    parts += ["## Counted, on any device", Table(found.of(first), [*MODEL, *WORK]).markdown()]
    for name in found.devices:
        table = Table(found.of(name), [*MODEL, LIMIT, EXPECTED, *MEASURED, OVER_A, BINDS])
        parts += [f"## {name}: expected, {found.devices[name].source}", table.markdown()]
    times = [LIMIT, GUESS, EXPECTED, IMAGES, *MEASURED, GUESSED_OVER_A, OVER_A, MEASURED_OVER_A, BINDS]
    csv = Table(found.rows, [DEVICE, *MODEL, *WORK, *times]).csv()
    return write_files(folder, {"roofline.md": page(*parts), "roofline.csv": csv})


def _compared(device: str, rows: Sequence[Expectation]) -> list[str]:
    """Compares the expected times with the measured times."""
    if not rows:
        return []
    over_a = [row for row in rows if row.measured_over_a and row.model != BASELINE]
    times = Table(rows, [*MODEL, LIMIT, GUESS, EXPECTED, *MEASURED]).markdown()
    return [
        f"## {device}: guessed before, and measured",
        "Guessed: before a GPU was at hand. Expected: with the shares that its kernels were measured to reach, one by one.",
        f"- Measured times over guessed ones: {_range([row.measured_s / row.guessed.seconds for row in rows])}.\n"
        f"- Measured times over expected ones: {_range([row.measured_s / row.expected.seconds for row in rows])}.",
        times,
        *([Table(over_a, [*MODEL, GUESSED_OVER_A, OVER_A, MEASURED_OVER_A]).markdown()] if over_a else []),
    ]


def _range(values: Sequence[float]) -> str:
    return f"{interval(min(values), max(values), '.2f')}, median {statistics.median(values):.2f}"


def _about(setting: Setting) -> str:
    return f"Layout {setting.layout}, {setting.batch} images a step, {setting.precision}."


def _note(found: Found) -> str:
    some = any(row.measured_s for row in found.rows)
    status = "**Expected, and measured only where it says so.**" if some else "**Expected, not measured.**"
    return NOTE.format(status=status, shares="; ".join(f"{name} {device.source}" for name, device in found.devices.items()))
