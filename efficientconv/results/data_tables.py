"""The tables of ImageNet's data pipelines, from results/data_throughput.csv: time of an image, and estimates for all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from efficientconv.results.table import Column, Row, Table
from efficientconv.text import duration

IMAGES = {"train": 1_281_167, "all": 1_331_167}
EPOCHS = 100  # as in the paper's recipe
MACHINES = (8, 64)  # cores of a machine with one GPU, and with eight
USUAL, FOLDERS, PREPARED, RAW = "torchvision ImageFolder", "ours, folders", "ours, prepared", "ours, prepared, raw"
PREPARE = "prepare_imagenet.py"
# the limit of a pipeline: to decode its files and do nothing else. Nobody decodes raw pixels; the others read the folders
DECODE_FOLDERS, DECODE_PREPARED = "decode alone, folders", "decode alone, prepared"
LIMITS = {PREPARED: DECODE_PREPARED, RAW: None, DECODE_PREPARED: DECODE_PREPARED}


def speed_table(rows: Sequence[Row]) -> str:
    """The measured speed of one worker."""
    one = _of_one_worker(rows)
    speeds = {name: 1e6 / row["worker_us"] for name, row in one.items()}
    return Table(list(one.values()), [
        Column("", "pipeline"),
        Column("kB an image", "kb", ".0f"),
        Column("worker time, ms an image", lambda row: row["worker_us"] / 1e3, ".2f"),
        Column("images/s a core", lambda row: speeds[row["pipeline"]], ".0f"),
        Column("times torchvision's", lambda row: speeds[row["pipeline"]] / speeds[USUAL], ".1f"),
        Column("of decode alone", lambda row: share_of_limit(row["pipeline"], speeds), ".2f"),
    ]).markdown()  # fmt: skip


def share_of_limit(pipeline: str, speeds: Mapping[str, float]) -> float | None:
    """The speed of a pipeline over that of its limit; None: no limit is known. `speeds` are by pipeline."""
    limit = LIMITS.get(pipeline, DECODE_FOLDERS)
    return None if limit is None else speeds[pipeline] / speeds[limit]


def estimate_table(rows: Sequence[Row]) -> str:
    """Estimates for all of ImageNet, if its images are like the measured ones and every core is as fast."""
    one = _of_one_worker(rows)
    lines = [_estimates(one[name]) for name in (USUAL, FOLDERS, PREPARED, RAW)]
    seconds = IMAGES["all"] * one[PREPARE]["worker_us"] / 1e6
    once = {f"{cores} cores: an epoch": duration(seconds / cores) for cores in MACHINES}
    return Table.of([*lines, {"": f"{PREPARE}, once"} | once]).markdown()


def _estimates(row: Row) -> Row:
    line = {"": row["pipeline"], "GB on disk": f"{IMAGES['all'] * row['kb'] / 1e6:.0f}"}
    for cores in MACHINES:
        epoch_s = IMAGES["train"] * row["worker_us"] / 1e6 / cores
        line[f"{cores} cores: an epoch"] = duration(epoch_s)
        line[f"{cores} cores: {EPOCHS} epochs"] = duration(EPOCHS * epoch_s)
    return line


def _of_one_worker(rows: Sequence[Row]) -> dict[str, Row]:
    return {row["pipeline"]: row for row in rows if row["workers"] == 1}
