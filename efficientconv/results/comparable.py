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
    described = [(f"{record.tier or NO_TIER}, {record.config['data']['name']}", _conditions(record)) for record in records]
    found: defaultdict[tuple[str, str], set] = defaultdict(set)  # values, by title and condition
    for title, conditions in described:
        for key, value in conditions.items():
            found[title, key].add(value)
    return [
        ", ".join([title, *(f"{key.replace('_', ' ')} {value}" for key, value in own.items() if len(found[title, key]) > 1)])
        for title, own in described
    ]


def _conditions(record: RunRecord) -> dict[str, object]:
    """Empty for a run that is not finished."""
    if record.state != "done":
        return {}
    return {key: record.summary.get(key) for key in CONDITIONS} | {"images": record.own_images}
