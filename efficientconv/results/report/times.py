"""Measured times of runs: a tier's measurement of all its networks together if there is one, else the run's own."""

from __future__ import annotations

from efficientconv.config import ModelConfig
from efficientconv.models import model_config
from efficientconv.results.record import RunRecord
from efficientconv.results.report.sources import FoundRun, Sources
from efficientconv.results.times import FILE, Times, network_of, read_times

_KEYS = ("ms_per_image", "ms_per_image_batch", "limit_share", "binds")  # of a summary
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
        if (found := self.together.get(record.tier, {}).get(network_of(model))) and _is_of(found, model):
            measured = found.ms_per_image, found.batch_size, found.limit_share, found.binds
            how, place = TOGETHER, f"{record.tier}/{FILE}: {found.measured_on}"
        elif "ms_per_image" in summary:
            measured = [summary.get(key) for key in _KEYS]
            how, place = ALONE, None
        else:
            return None
        return dict(zip(("ms", "batch", "limit_share", "binds"), measured), how=how, place=place)

    def result(self, run: FoundRun) -> dict:
        """The run's result, with the time of `of` in place of the run's own, so that one network has one time."""
        if (time := self.of(run.record)) is None:
            return run.result
        told = {key: value for key, value in run.result.items() if key not in _KEYS}
        measured = zip(_KEYS, (time["ms"], time["batch"], time["limit_share"], time["binds"]))
        return told | {key: value for key, value in measured if value is not None}


def _is_of(times: Times, own: ModelConfig) -> bool:
    """Whether the times are of this network. Times without a digest are of what configs/model/ has by the name."""
    if times.network_digest is not None:
        return times.is_of(own)
    named = model_config(own.name)
    return (own.stages, own.decisions) == (named.stages, named.decisions)
