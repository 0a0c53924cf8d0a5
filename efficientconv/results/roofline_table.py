"""results/roofline.md and .csv: what steps are expected to take on GPUs; no measurement, and every page says so."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from efficientconv.files import write_atomically
from efficientconv.results.table import Column, Table
from efficientconv.roofline.expect import Expectation, Setting

NOTE = """\
**Expected, not measured.** A training step's bytes and FLOPs (2 a MAC) are counted operation by operation.

- limit: with every operation at the data sheet's peaks; no machine of that name is faster.
- expected: with the shares of the peaks that kernels reach, and a time that the host takes over a launch: {shares}.
- eager: as torch runs the layers; compiled: batch norm, residual connection and ReLU in one pass; fused: one kernel a layer
  and direction, computing connections only, which is not written.
- over a: the expected time against model A's, run the same way on the same device.
- binds: what most of the expected time waits for: memory, arithmetic, or the host's launches."""

WORK = (
    Column("GFLOP an image", lambda row: row.gflop_per_image, ".2f", "gflop_per_image"),
    Column("MB an image", lambda row: row.mb_per_image, ".1f", "mb_per_image"),
    Column("operations", lambda row: row.operations, name="operations"),
)
COLUMNS = (
    Column("device", lambda row: row.device, name="device"),
    Column("model", lambda row: row.model, name="model"),
    Column("run", lambda row: row.execution, name="execution"),
    *WORK,
    Column("limit, ms a step", lambda row: 1e3 * row.limit.seconds, ".2f", "limit_ms_per_step"),
    Column("expected, ms a step", lambda row: 1e3 * row.expected.seconds, ".2f", "expected_ms_per_step"),
    Column("expected, images/s", lambda row: row.images_per_s, ",.0f", "expected_images_per_s"),
    Column("over a", lambda row: row.over_a, ".2f", "expected_time_over_a"),
    Column("binds", lambda row: row.expected.binds, name="binds"),
)


def text(rows: Sequence[Expectation], setting: Setting, shares: Mapping[str, str]) -> str:
    """For a terminal. `shares`: by device, where its shares come from."""
    return f"{_about(setting)}\n\n{Table(rows, COLUMNS).text()}\n\n{_note(shares)}"


def write(
    rows: Sequence[Expectation], setting: Setting, shares: Mapping[str, str], folder: Path, command: str
) -> list[Path]:
    """roofline.md and roofline.csv."""
    counted = Table([row for row in rows if row.device == rows[0].device], [*COLUMNS[1:3], *WORK]).markdown()
    times = Table(rows, [column for column in COLUMNS if column not in WORK]).markdown()
    tables = f"## Counted, on any device\n\n{counted}\n\n## Expected times\n\n{times}"
    page = f"# Rooflines of a training step\n\n`{command}`\n\n{_about(setting)}\n\n{_note(shares)}\n\n{tables}\n"
    contents = {folder / "roofline.md": page, folder / "roofline.csv": Table(rows, COLUMNS).csv()}
    for path, content in contents.items():
        write_atomically(path, content.encode())
    return list(contents)


def _about(setting: Setting) -> str:
    return f"Layout {setting.layout}, {setting.batch} images a step, {setting.precision}."


def _note(shares: Mapping[str, str]) -> str:
    return NOTE.format(shares="; ".join(f"{device} {source}" for device, source in shares.items()))
