"""README's tables of what ImageNet costs, from results/data_throughput.csv: measured by the image, then multiplied out."""

from __future__ import annotations

from efficientconv.results.table import Column, Table
from efficientconv.text import duration

Rows = list[dict[str, str]]

IMAGES = {"train": 1_281_167, "all": 1_331_167}
EPOCHS = 100  # of the paper's recipe
MACHINES = (8, 64)  # cores: beside one GPU, beside eight
WAYS = ("torchvision ImageFolder", "ours, folders", "ours, prepared", "ours, prepared, raw")
PREPARE = "prepare_imagenet.py"


def speed_table(rows: Rows) -> str:
    """Of one worker."""
    one = _of_one_worker(rows)
    return Table(list(one.values()), [
        Column("", lambda row: row["pipeline"]),
        Column("kB an image", lambda row: float(row["kb"]), ".0f"),
        Column("worker time, ms an image", lambda row: _us(row) / 1e3, ".2f"),
        Column("images/s a core", lambda row: 1e6 / _us(row), ".0f"),
        Column("times torchvision's", lambda row: _us(one[WAYS[0]]) / _us(row), ".1f"),
    ]).markdown()  # fmt: skip


def estimate_table(rows: Rows) -> str:
    """Of the whole of ImageNet, if its images are like those that were measured and every core is as fast."""
    one = _of_one_worker(rows)
    columns = [
        Column("", lambda row: row["pipeline"] if row["pipeline"] in WAYS else f"{PREPARE}, once"),
        Column("GB on disk", lambda row: IMAGES["all"] * float(row["kb"]) / 1e6 if row["pipeline"] in WAYS else None, ".0f"),
    ]
    for cores in MACHINES:
        columns += [
            Column(f"{cores} cores: an epoch", lambda row, cores=cores: _seconds(row) / cores, duration),
            Column(f"{cores} cores: {EPOCHS} epochs", lambda row, cores=cores: _all_epochs(row, cores), duration),
        ]
    return Table([one[name] for name in (*WAYS, PREPARE)], columns).markdown()


def _us(row: dict[str, str]) -> float:
    return float(row["worker_us"])


def _seconds(row: dict[str, str]) -> float:
    """Of a core: an epoch, or all images prepared."""
    return IMAGES["train" if row["pipeline"] in WAYS else "all"] * _us(row) / 1e6


def _all_epochs(row: dict[str, str], cores: int) -> float | None:
    return EPOCHS * _seconds(row) / cores if row["pipeline"] in WAYS else None


def _of_one_worker(rows: Rows) -> dict[str, dict[str, str]]:
    return {row["pipeline"]: row for row in rows if row["workers"] == "1"}
