"""README's tables of what ImageNet costs, from results/data_throughput.csv: measured by the image, then multiplied out."""

from __future__ import annotations

Rows = list[dict[str, str]]

IMAGES = {"train": 1_281_167, "all": 1_331_167}
EPOCHS = 100  # of the paper's recipe
MACHINES = (8, 64)  # cores: beside one GPU, beside eight
WAYS = ("torchvision ImageFolder", "ours, folders", "ours, prepared", "ours, prepared, raw")
PREPARE = "prepare_imagenet.py"


def speed_table(rows: Rows) -> str:
    """Of one worker."""
    one = _of_one_worker(rows)
    lines = ["| | kB an image | worker time, ms an image | images/s a core | times torchvision's |", "|---|---|---|---|---|"]
    for name in one:
        us = float(one[name]["worker_us"])
        gain = float(one[WAYS[0]]["worker_us"]) / us
        lines.append(f"| {name} | {float(one[name]['kb']):.0f} | {us / 1e3:.2f} | {1e6 / us:.0f} | {gain:.1f} |")
    return "\n".join(lines)


def estimate_table(rows: Rows) -> str:
    """Of the whole of ImageNet, if its images are like those that were measured and every core is as fast."""
    one = _of_one_worker(rows)
    titles = " | ".join(f"{cores} cores: {what}" for cores in MACHINES for what in ("an epoch", f"{EPOCHS} epochs"))
    lines = [f"| | GB on disk | {titles} |", "|---|---|---|---|---|---|"]
    for name in WAYS:
        gb = IMAGES["all"] * float(one[name]["kb"]) / 1e6
        lines.append(f"| {name} | {gb:.0f} | {_times(one[name], IMAGES['train'], (1, EPOCHS))} |")
    lines.append(f"| {PREPARE}, once | | {_times(one[PREPARE], IMAGES['all'], (1, None))} |")
    return "\n".join(lines)


def _times(row: dict[str, str], images: int, repeats: tuple[int | None, ...]) -> str:
    seconds = [images * float(row["worker_us"]) / 1e6 / cores for cores in MACHINES]
    return " | ".join("" if times is None else _readable(s * times) for s in seconds for times in repeats)


def _readable(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 3600:.1f} h" if seconds > 5400 else f"{seconds / 60:.0f} min"


def _of_one_worker(rows: Rows) -> dict[str, dict[str, str]]:
    return {row["pipeline"]: row for row in rows if row["workers"] == "1"}
