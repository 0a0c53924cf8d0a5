"""Measured time of runs: a tier's measurement of all its networks together before what each run measured alone."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

from efficientconv.results.csv_files import csv_rows
from efficientconv.results.record import RunRecord
from efficientconv.results.report.sources import Sources

_FIGURES = ("network", "model", "ms_per_image", "ms_per_image_iqr", "batch_size")  # the other columns: where it was measured
TOGETHER, ALONE = "all networks together, interleaved", "by each run at its end"


class Times:
    """By tier and model, from <tier folder>/latency.csv."""

    def __init__(self, sources: Sources):
        self.together: dict[tuple[str | None, str], dict] = {}
        for folder in sources.tier_folders:
            if (folder / "latency.csv").exists():
                times = sources.attempt(_read, folder / "latency.csv") or {}
                self.together |= {(folder.name, model): time for model, time in times.items()}
        self.macs = defaultdict(set)  # a model that a tier has in several sizes has no one time
        for run in sources.runs:
            self.macs[run.record.tier, run.record.model].add(run.record.summary.get("macs"))

    def of(self, record: RunRecord) -> dict | None:
        """`ms` per image, in batches of `batch`, `how` and at which `place` it was measured; None where it was not."""
        network, summary = (record.tier, record.model), record.summary
        if network in self.together and len(self.macs[network] - {None}) == 1:
            return self.together[network]
        if "ms_per_image" not in summary:
            return None
        return {"ms": summary["ms_per_image"], "batch": summary["ms_per_image_batch"], "how": ALONE, "place": None}


def _read(path: Path) -> dict[str, dict]:
    return {row["model"]: _time(row, f"{path.parent.name}/{path.name}") for row in csv_rows(path)}


def _time(row: dict[str, str], file: str) -> dict:
    place = ", ".join(value for name, value in row.items() if name not in _FIGURES)
    return {"ms": float(row["ms_per_image"]), "batch": int(row["batch_size"]), "how": TOGETHER, "place": f"{file}: {place}"}
