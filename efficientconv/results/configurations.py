"""Finished runs by configuration: the settings that differ, and the figures of each configuration over its seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from efficientconv.engine.identity import identity
from efficientconv.results.figures import FIGURES
from efficientconv.results.record import RunRecord
from efficientconv.results.statistics import spread
from efficientconv.results.table import Column, Table, grouped
from efficientconv.validation import flat

Runs = Sequence[RunRecord]  # runs of one configuration: only their seeds differ


def configuration_table(records: Runs) -> Table:
    """A row for each configuration, the most accurate first and marked. The settings that differ are columns."""
    groups, top1 = by_configuration(records), FIGURES["top1_percent"]
    columns = [Column(title, lambda runs, key=key: _setting(runs, key)) for title, key in varying(groups).items()]
    return Table(sorted(groups, key=lambda runs: _mean(runs, "top1_percent") or 0.0, reverse=True), [
        *(columns or [Column("model", lambda runs: runs[0].model)]),
        top1.column(lambda runs: spread([run.summary[top1.name] for run in runs]), f"{top1.title} (seeds)"),
        *(replace(FIGURES[name].column(lambda runs, name=name: _mean(runs, name)), better=None)
          for name in ("macs", "train_seconds")),
    ], best=True)  # fmt: skip


def by_configuration(records: Runs) -> list[Runs]:
    return list(grouped(records, lambda record: record.group).values())


def varying(groups: Sequence[Runs]) -> dict[str, str]:
    """Title and key of each setting in which configurations differ, except settings that the name of another implies."""
    settings = [flat(identity(runs[0].run_config)) for runs in groups]
    keys = {key: None for of_group in settings for key in of_group if key != "seed"}
    varying = [key for key in keys if len({str(of_group.get(key)) for of_group in settings}) > 1]
    chosen = [key for key in varying if key.endswith(".name")]
    implied = {key for key in varying for name in chosen if key != name and _implies(groups, name, key)}
    return {key.removesuffix(".name"): key for key in varying if key not in implied}


def _implies(groups: Sequence[Runs], name: str, key: str) -> bool:
    if key.partition(".")[0] != name.partition(".")[0]:
        return False
    pairs = {(str(_setting(runs, name)), str(_setting(runs, key))) for runs in groups}
    return len({pair[0] for pair in pairs}) == len(pairs)


def _setting(runs: Runs, key: str) -> object:
    value = runs[0].settings.get(key)
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) else str(value)


def _mean(runs: Runs, name: str) -> float | None:
    values = [run.summary[name] for run in runs if run.summary.get(name) is not None]
    return sum(values) / len(values) if values else None
