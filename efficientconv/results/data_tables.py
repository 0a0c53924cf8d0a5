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

    def seconds(name: str) -> float:
        """The seconds that one core needs for an epoch, or to prepare all images."""
        return IMAGES["all" if name == PREPARE else "train"] * one[name]["worker_us"] / 1e6

    def unless_once(name: str, value: float) -> float | None:
        return None if name == PREPARE else value

    def epochs(name: str, cores: int) -> float | None:
        return unless_once(name, EPOCHS * seconds(name) / cores)

    return Table((USUAL, FOLDERS, PREPARED, RAW, PREPARE), [
        Column("", lambda name: f"{PREPARE}, once" if name == PREPARE else name),
        Column("GB on disk", lambda name: unless_once(name, IMAGES["all"] * one[name]["kb"] / 1e6), ".0f"),
        *(column for cores in MACHINES for column in (
            Column(f"{cores} cores: an epoch", lambda name, n=cores: seconds(name) / n, duration),
            Column(f"{cores} cores: {EPOCHS} epochs", lambda name, n=cores: epochs(name, n), duration),
        )),
    ]).markdown()  # fmt: skip


def _of_one_worker(rows: Sequence[Row]) -> dict[str, Row]:
    return {row["pipeline"]: row for row in rows if row["workers"] == 1}
