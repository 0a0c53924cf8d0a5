"""Weights that are kept: of a configuration's runs the one nearest to their mean, as a run folder that is small enough for
git, with a card. What reads run folders reads it: eval.py, predict.py, create_model(weights=...)."""

from __future__ import annotations

import hashlib
import json
import shutil
import statistics
from collections.abc import Sequence
from pathlib import Path

import yaml

from efficientconv.engine.run_folder import RunFolder
from efficientconv.errors import UserError
from efficientconv.files import make_folder, write_atomically
from efficientconv.results.record import RunRecord, record_of
from efficientconv.weights import read_weights, write_weights

FACTS = ("width", "image_size", "macs", "params", "top1_percent", "num_test", "num_classes")


def publish(runs: Sequence[Path], folder: Path) -> dict:
    """Writes model.safetensors, config.yaml, facts.json and card.json, with nothing of this machine's paths; the card.

    Raises UserError for runs that are not finished, or differ in more than their seed.
    """
    records = {run: record_of(RunFolder(run)) for run in runs}
    _check(records)
    mean = statistics.mean(record.summary["top1_percent"] for record in records.values())
    chosen = min(runs, key=lambda run: (abs(records[run].summary["top1_percent"] - mean), records[run].seed))
    record, source, target = records[chosen], RunFolder(chosen), RunFolder(folder)
    found, config = read_weights(source.weights_file), record.run_config.model_dump()
    make_folder(folder)
    write_weights(target.weights_file, found.tensors, config, found.classes)
    write_atomically(target.config_file, yaml.safe_dump(config, sort_keys=False).encode())
    shutil.copy(source.path / "facts.json", folder)
    card = _card(folder, record, mean, len(runs), hashlib.sha256(target.weights_file.read_bytes()).hexdigest())
    write_atomically(folder / "card.json", (json.dumps(card, indent=1) + "\n").encode())
    return card


def _check(records: dict[Path, RunRecord]) -> None:
    for run, record in records.items():
        if record.state != "done":
            raise UserError(f"{run} is {record.state}, not done: finish it, or leave it out")
    if len({record.group for record in records.values()}) > 1:
        raise UserError("the runs differ in more than their seed: give those of one configuration")


def _card(folder: Path, record: RunRecord, mean: float, runs: int, sha256: str) -> dict:
    data = record.config["data"]["name"]
    root = "" if data == "digits" else " data.root=<folder>"
    return {
        "name": folder.name, "model": record.model, "tier": record.tier, "run": record.run, "data": data,
        **{key: record.summary[key] for key in FACTS}, "mean_top1_percent": round(mean, 4), "runs": runs, "sha256": sha256,
        "check": f"python eval.py run=results/weights/{folder.name} data={data}{root}",
    }  # fmt: skip
