"""A table of finished runs: accuracy, cost and measured time, as recorded."""

from __future__ import annotations

from collections.abc import Sequence

from efficientconv.results.figures import FIGURES
from efficientconv.results.record import RunRecord
from efficientconv.results.report.times import RunTimes
from efficientconv.results.table import Column, Table

TIMES = (
    "ms per image: in one measurement of all networks of the run's tier where there is one (results/<tier>/latency.csv), "
    "else as the run measured itself at its end. Compare it within one machine."
)


def run_table(records: Sequence[RunRecord], times: RunTimes) -> Table:
    """The table of finished runs, the largest MACs first. Accuracies are of the last epoch's weights on the test images."""
    rows = sorted(records, key=lambda record: (-record.summary["macs"], record.model, record.seed))
    return Table(rows, [
        Column("model", name="model"),
        *(FIGURES[name].column(lambda record, name=name: record.summary[name])
          for name in ("macs", "params", "top1_percent", "top5_percent")),
        FIGURES["ms_per_image"].column(lambda record: (times.of(record) or {}).get("ms")),
        FIGURES["limit_share"].column(lambda record: (times.of(record) or {}).get("limit_share")),
        Column("seed", name="seed"),
        Column("run", name="run"),
        *(Column(None, lambda record, key=key: record.summary.get(key), name=key.removesuffix("_name"))
          for key in ("data_name", "layout", "width", "epochs", "train_seconds", "train_images_per_s", "git_commit")),
    ])  # fmt: skip


def title_of(records: Sequence[RunRecord]) -> str:
    """The data sets, widths and epochs of the runs, for a title."""
    data, widths, epochs = (sorted({r.summary[key] for r in records}) for key in ("data_name", "width", "epochs"))
    width = f"width {widths[0]:.3g}" + (f" to {widths[-1]:.3g}" if len(widths) > 1 else "")
    return f"{', '.join(data)}, {width}, {', '.join(map(str, epochs))} epochs"
