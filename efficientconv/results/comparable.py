"""The accuracies that are comparable: of one tier, on the same images, of one size and layout, seen equally often."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from efficientconv.results.record import RunRecord

NO_TIER = "no tier"
# of a run's summary; tier and data set stand before them
CONDITIONS = ("layout", "epochs", "image_size", "num_classes", "num_train", "num_test", "data_name", "data_pixels")


def series_names(records: Sequence[RunRecord]) -> list[str]:
    """The name of each record's series: tier and data set, and the settings in which it differs from their other series.

    Runs that are not finished have no accuracy to compare: the names do not depend on them.
    """
    found: defaultdict[str, dict[str, set]] = defaultdict(lambda: defaultdict(set))
    for record in records:
        if record.state == "done":
            for key, value in _conditions(record).items():
                found[_title(record)][key].add(value)
    return [_name(record, [key for key, values in found[_title(record)].items() if len(values) > 1]) for record in records]


def _title(record: RunRecord) -> str:
    return f"{record.tier or NO_TIER}, {record.config['data']['name']}"


def _name(record: RunRecord, differing: list[str]) -> str:
    if record.state != "done":
        return _title(record)
    conditions = _conditions(record)
    return ", ".join([_title(record), *(f"{key.replace('_', ' ')} {conditions[key]}" for key in differing)])


def _conditions(record: RunRecord) -> dict[str, object]:
    return {key: record.summary.get(key) for key in CONDITIONS} | {"images": record.own_images}
