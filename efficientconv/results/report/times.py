"""Measured times of runs: a tier's measurement of all its networks together if there is one, else the run's own."""

from __future__ import annotations

from efficientconv.config import ModelConfig
from efficientconv.models import model_config
from efficientconv.results.record import RunRecord
from efficientconv.results.report.sources import FoundRun, Sources
from efficientconv.results.times import FILE, Times, network_of, read_times

# of a summary, by the names in RunTimes.of
_KEYS = {"ms": "ms_per_image", "batch": "ms_per_image_batch", "limit_share": "limit_share", "binds": "binds"}
TOGETHER, ALONE = "all networks together, interleaved", "by each run at its end"


class RunTimes:
    """The times by tier and network, from <tier folder>/latency.csv."""

    def __init__(self, sources: Sources):
        self.together = {folder.name: sources.attempt(read_times, folder) or {} for folder in sources.tier_folders}

    def of(self, record: RunRecord) -> dict | None:
        """`ms` per image, in batches of `batch`, its `limit_share`, what `binds`, `how` and where (`place`) measured.

        None: not measured. A limit_share of None: measured before shares were, or no layer's limit is known.
        """
        model, summary = record.run_config.model, record.summary
        if (found := self.together.get(record.tier or "", {}).get(network_of(model))) and _is_of(found, model):
            measured = found.ms_per_image, found.batch_size, found.limit_share, found.binds
            return dict(zip(_KEYS, measured), how=TOGETHER, place=f"{record.tier}/{FILE}: {found.measured_on}")
        if "ms_per_image" in summary:
            return {name: summary.get(key) for name, key in _KEYS.items()} | {"how": ALONE, "place": None}
        return None

    def result(self, run: FoundRun) -> dict:
        """The run's result, with the time of `of` in place of the run's own, so that one network has one time."""
        if (time := self.of(run.record)) is None:
            return run.result
        told = {key: value for key, value in run.result.items() if key not in _KEYS.values()}
        return told | {key: time[name] for name, key in _KEYS.items() if time[name] is not None}


def _is_of(times: Times, own: ModelConfig) -> bool:
    """Whether the times are of this network. Times without a digest are of what configs/model/ has by the name."""
    if times.network_digest is not None:
        return times.is_of(own)
    named = model_config(own.name)
    return (own.stages, own.decisions) == (named.stages, named.decisions)
