"""Finished runs side by side: accuracy, cost and measured time, as rows for csv, markdown and the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields

import torch

from efficientconv.engine.environment import environment
from efficientconv.latency import Latency, measure_latency
from efficientconv.models import create_model
from efficientconv.results.comparable import series_names
from efficientconv.results.markdown import Row, csv_text, markdown_table
from efficientconv.results.plot import Point
from efficientconv.results.record import RunRecord
from efficientconv.results.statistics import spread

LATENCY_BATCH = 64


@dataclass(frozen=True)
class RunRow:
    """One finished run. Accuracies are those of the last epoch's weights on the test images."""

    run: str
    model: str
    data: str
    layout: str
    width: float
    epochs: int
    seed: int
    macs: int
    params: int
    top1_percent: float
    top5_percent: float
    ms_per_image: float
    ms_per_image_iqr: float
    train_seconds: float | None
    train_images_per_s: float | None
    git_commit: str | None


def run_rows(records: Sequence[RunRecord], device: torch.device) -> list[RunRow]:
    """Of finished runs, by MACs, largest first; their times are measured now."""
    latencies = _latencies(records, device)
    rows = [_row(record, latencies[_network_key(record.summary)]) for record in records]
    return sorted(rows, key=lambda row: (-row.macs, row.model, row.seed))


def points(records: Sequence[RunRecord]) -> list[Point]:
    """One for each configuration of finished runs: mean and deviation over its seeds."""
    groups: dict[tuple, list[RunRecord]] = {}
    for record in records:
        groups.setdefault(record.group, []).append(record)
    firsts = [group[0] for group in groups.values()]
    names, series = _names(firsts), series_names(firsts)
    return [_point(*of_group) for of_group in zip(names, series, groups.values())]


def conditions(device: torch.device) -> str:
    """What the times were measured on."""
    facts = environment(device)
    place = facts["gpu"] or f"{facts['cpu']}, {facts['threads']} threads"
    passes = f"interleaved forward passes of {LATENCY_BATCH} images"
    return f"ms per image: median of {passes} on {place}, torch {facts['packages']['torch']}"


def title_of(rows: list[RunRow]) -> str:
    """What the runs share, or all that they have."""
    data = ", ".join(sorted({row.data for row in rows}))
    widths = ", ".join(f"{width:g}" for width in sorted({row.width for row in rows}))
    epochs = ", ".join(map(str, sorted({row.epochs for row in rows})))
    return f"{data}, width {widths}, {epochs} epochs"


def csv(rows: list[RunRow]) -> str:
    return csv_text([asdict(row) for row in rows])


def markdown(rows: list[RunRow]) -> str:
    """A table that is readable on a terminal too."""
    return markdown_table([_cells(row) for row in rows], padded=True)


def _cells(row: RunRow) -> Row:
    return {
        "model": row.model, "M MACs": f"{row.macs / 1e6:.2f}", "M parameters": f"{row.params / 1e6:.3f}",
        "top-1 %": f"{row.top1_percent:.2f}", "top-5 %": f"{row.top5_percent:.2f}",
        "ms per image": f"{row.ms_per_image:.3f} (IQR {row.ms_per_image_iqr:.3f})", "seed": row.seed, "run": row.run,
    }  # fmt: skip


def _names(records: Sequence[RunRecord]) -> list[str]:
    """The models', with their width where one is there in several."""
    widths: dict[str, set[float]] = {}
    for record in records:
        widths.setdefault(record.model, set()).add(record.summary["width"])
    several = {model for model, found in widths.items() if len(found) > 1}
    return [f"{r.model} x {r.summary['width']:g}" if r.model in several else r.model for r in records]


def _point(name: str, series: str, group: Sequence[RunRecord]) -> Point:
    top1 = spread([record.summary["top1_percent"] for record in group])
    return Point(name, group[0].summary["macs"] / 1e6, top1.mean, top1.std, series)


def _latencies(records: Sequence[RunRecord], device: torch.device) -> dict[str, Latency]:
    """By network: one measurement for all runs of it, whatever their seed."""
    networks = {_network_key(record.summary): record for record in records}
    sizes = {key: record.summary["image_size"] for key, record in networks.items()}
    models = {
        key: create_model(record.run_config.model, record.summary["num_classes"], image_size=sizes[key])
        for key, record in networks.items()
    }
    return measure_latency(models, sizes, batch_size=LATENCY_BATCH, device=device)


def _network_key(summary: dict) -> str:
    return " ".join(str(summary[key]) for key in ("model_name", "layout", "width", "image_size", "macs", "params"))


def _row(record: RunRecord, latency: Latency) -> RunRow:
    summary = record.summary
    same = {field.name: summary.get(field.name) for field in fields(RunRow)}
    renamed = {"run": record.run, "model": summary["model_name"], "data": summary["data_name"]}
    measured = {"ms_per_image": latency.ms_per_image, "ms_per_image_iqr": latency.iqr_ms}
    return RunRow(**(same | renamed | measured))
