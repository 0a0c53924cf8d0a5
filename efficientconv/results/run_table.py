"""Finished runs side by side: accuracy, cost and measured time, as rows for csv, markdown and the terminal."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from pathlib import Path

import torch

from efficientconv.engine.environment import environment
from efficientconv.engine.run_folder import RunFolder
from efficientconv.latency import Latency, measure_latency
from efficientconv.models import build_model
from efficientconv.results.markdown import csv_text

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
    train_seconds: float
    train_images_per_s: float
    git_commit: str | None


def run_rows(folders: list[Path], device: torch.device) -> list[RunRow]:
    """The runs by MACs, largest first. Raises UserError for a folder that holds no finished run."""
    summaries = {folder: _summary(RunFolder(folder)) for folder in folders}
    latencies = _latencies(summaries, device)
    rows = [_row(folder.name, summary, latencies[folder]) for folder, summary in summaries.items()]
    return sorted(rows, key=lambda row: (-row.macs, row.model, row.seed))


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


def write_csv(path: Path, rows: list[RunRow]) -> None:
    path.write_text(csv_text([asdict(row) for row in rows]))


def markdown(rows: list[RunRow]) -> str:
    """A table that is readable on a terminal too: the columns are padded."""
    header = ["model", "M MACs", "M parameters", "top-1 %", "top-5 %", "ms per image", "seed", "run"]
    cells = [header, *(_cells(row) for row in rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(header))]
    lines = ["| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths)) + " |" for line in cells]
    return "\n".join([lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:]])


def _cells(row: RunRow) -> list[str]:
    return [
        row.model, f"{row.macs / 1e6:.2f}", f"{row.params / 1e6:.3f}", f"{row.top1_percent:.2f}", f"{row.top5_percent:.2f}",
        f"{row.ms_per_image:.3f} (IQR {row.ms_per_image_iqr:.3f})", str(row.seed), row.run,
    ]  # fmt: skip


def _summary(folder: RunFolder) -> dict:
    folder.config()  # refuses what is no run folder at all
    return folder.finished_summary()


def _latencies(summaries: dict[Path, dict], device: torch.device) -> dict[Path, Latency]:
    """One measurement for runs of one network, whatever their seed."""
    networks = {folder: _network_key(summary) for folder, summary in summaries.items()}
    models, sizes = {}, {}
    for folder, key in networks.items():
        if key not in models:
            config = RunFolder(folder).config()
            sizes[key] = summaries[folder]["image_size"]
            models[key] = build_model(config.model, num_classes=summaries[folder]["num_classes"], image_size=sizes[key])
    measured = measure_latency(models, sizes, batch_size=LATENCY_BATCH, device=device)
    return {folder: measured[key] for folder, key in networks.items()}


def _network_key(summary: dict) -> str:
    return " ".join(str(summary[key]) for key in ("model_name", "layout", "width", "image_size", "macs", "params"))


def _row(name: str, summary: dict, latency: Latency) -> RunRow:
    same = {field.name: summary[field.name] for field in fields(RunRow) if field.name in summary}
    renamed = {"run": name, "model": summary["model_name"], "data": summary["data_name"]}
    measured = {"ms_per_image": latency.ms_per_image, "ms_per_image_iqr": latency.iqr_ms}
    return RunRow(**(same | renamed | measured))
