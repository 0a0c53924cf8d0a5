"""Measured times of runs: a tier's measurement of all its networks together if there is one, else the run's own."""

from __future__ import annotations

from efficientconv.results.record import RunRecord
from efficientconv.results.report.sources import Sources
from efficientconv.results.times import FILE, read_times

TOGETHER, ALONE = "all networks together, interleaved", "by each run at its end"


class RunTimes:
    """The times by tier and network, from <tier folder>/latency.csv."""

    def __init__(self, sources: Sources):
        self.together = {folder.name: sources.attempt(read_times, folder) or {} for folder in sources.tier_folders}

    def of(self, record: RunRecord) -> dict | None:
        """`ms` per image, in batches of `batch`, and `how` and at which `place` it was measured; None if not measured."""
        network, summary = (record.model, record.config["model"]["width"]), record.summary
        if found := self.together.get(record.tier, {}).get(network):
            place = f"{record.tier}/{FILE}: {found.measured_on}"
            return {"ms": found.ms_per_image, "batch": found.batch_size, "how": TOGETHER, "place": place}
        if "ms_per_image" not in summary:
            return None
        return {"ms": summary["ms_per_image"], "batch": summary["ms_per_image_batch"], "how": ALONE, "place": None}
