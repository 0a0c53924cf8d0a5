"""Packs thousands of runs into a few megabytes: each value of a setting once, curves as columns of five digits."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Callable
from dataclasses import asdict

from efficientconv.results.comparable import series_names
from efficientconv.results.configurations import by_configuration, varying
from efficientconv.results.figures import FIGURES
from efficientconv.results.report.sources import FoundRun
from efficientconv.results.report.times import RunTimes
from efficientconv.validation import flat

DIGITS = 5
_SHOWN_ELSEWHERE = re.compile(r"data\.name$|model\.(name|trunk|stages\b.*)$")
_NO_CURVES = ("epoch", "step", "_top1", "_top5", "_images")  # record n is epoch n; percentages replace counts


def pack(runs: list[FoundRun], times: RunTimes) -> dict:
    """DATA.runs, .keys, .values, .figures and .settings of the page. `settings`: those that tell configurations apart."""
    series = series_names([run.record for run in runs])
    packed = [_run(run, name, times) for run, name in zip(runs, series)]
    positions: dict[str, int] = {}  # of every distinct value, as JSON
    keys = {}
    for part, read in _parts(times).items():
        of_runs = [flat(read(run)) for run in runs]
        keys[part] = list(dict.fromkeys(key for values in of_runs for key in values))
        for run, of_run in zip(packed, of_runs):
            run[part] = [_position(of_run[key], positions) if key in of_run else -1 for key in keys[part]]
    values = [finite(json.loads(value)) for value in positions]
    differing = varying(by_configuration([run.record for run in runs])).values()
    settings = [key for key in differing if not _SHOWN_ELSEWHERE.match(key)]
    figures = {name: asdict(figure) for name, figure in FIGURES.items()}
    return {"runs": packed, "keys": keys, "values": values, "figures": figures, "settings": settings}


def _parts(times: RunTimes) -> dict[str, Callable[[FoundRun], dict]]:
    """The parts of a run that the page shows value by value."""
    settings, environment = (lambda run: run.record.settings), (lambda run: run.record.environment)
    return {"config": settings, "summary": times.result, "environment": environment}


def _position(value: object, positions: dict[str, int]) -> int:
    return positions.setdefault(json.dumps(value), len(positions))


def _run(run: FoundRun, series: str, times: RunTimes) -> dict:
    record, time = run.record, times.of(run.record)
    result = times.result(run)
    figures = {name: finite(result[name]) for name in FIGURES if name in result}
    return {
        "name": record.run, "tier": record.tier, "state": record.state, "reason": record.reason, "own": run.own,
        "ended": run.ended, "group": _short_hash(record.group), "series": series, "model": record.model,
        "data": record.config["data"]["name"], "seed": record.seed, "epochs": len(record.metrics), "time": time,
        "figures": figures, "curves": curves(record.metrics),
    }  # fmt: skip


def _short_hash(group: tuple) -> str:
    """The short name of a group in a page's address. It is the same in every report."""
    return hashlib.sha256(repr(group).encode()).hexdigest()[:8]


def curves(metrics: list[dict]) -> dict[str, list]:
    """A column for each metric; null for an epoch without the metric."""
    names = dict.fromkeys(name for record in metrics for name in record if not name.endswith(_NO_CURVES))
    return {name: [_short(record.get(name)) for record in metrics] for name in names}


def finite(value: object) -> object:
    """`value` without NaN and infinity, which JSON does not have."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _short(value: object) -> object:
    value = finite(value)
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value
