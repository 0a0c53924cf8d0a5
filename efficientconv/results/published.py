"""Publishes weights: of a configuration's runs the one nearest to their mean, as a folder small enough for git, with a card.

eval.py, predict.py and create_model(weights=...) read the folder as they read a run's folder.
"""

from __future__ import annotations

import hashlib
import statistics
from collections.abc import Sequence
from pathlib import Path

import torch
import yaml

from efficientconv.engine.run_folder import RunFolder
from efficientconv.engine.trained_run import TrainedRun, read_run
from efficientconv.errors import UserError
from efficientconv.files import make_folder, refused_in_one_line, write_atomically
from efficientconv.results.record import RunRecord, read_record, record_of
from efficientconv.weights import write_weights

CARD = "card.json"
FACTS = ("width", "image_size", "macs", "params", "top1_percent", "num_test", "num_classes")
PREPARED = "RGB in 0..1, less mean, divided by std"  # as data/augment.py does it


def publish(runs: Sequence[Path], folder: Path) -> dict:
    """Writes model.safetensors, config.yaml, facts.json and card.json, without paths of this machine. Returns the card.

    Args:
        runs: folders of runs, and records (.json) of runs whose folders are elsewhere: these count for the mean alone.

    Raises:
        UserError: runs that are not finished, or that differ in more than their seed; no folder.
    """
    folders = [run for run in runs if run.suffix != ".json"]
    if not folders:
        raise UserError("a record has no weights: give a run's folder, too")
    read = {run: read_record(run) for run in runs if run not in folders} | {
        run: record_of(RunFolder(run)) for run in folders
    }
    _check(read)
    of_seed = {record.seed: record for record in read.values()}  # a folder wins over the record of the same seed
    mean = statistics.mean(record.summary["top1_percent"] for record in of_seed.values())
    chosen = min(folders, key=lambda run: (abs(read[run].summary["top1_percent"] - mean), read[run].seed))
    record, trained = read[chosen], read_run(chosen)  # from the checkpoint if there is one: it has a checksum
    trained.network("", torch.device("cpu"))  # raises if the weights are of another network
    with refused_in_one_line(f"write {folder}", "choose another --folder"):
        return _write(RunFolder(folder), trained, record, _card(folder, record, mean, len(of_seed)))


def _write(target: RunFolder, trained: TrainedRun, record: RunRecord, card: dict) -> dict:
    """Writes the card last, when all other files exist. Raises UserError if other files lie there, and OSError."""
    if target.path.exists() and any(target.path.iterdir()) and not (target.path / CARD).is_file():
        raise UserError(f"{target.path} holds other files than weights with a card; choose another name")
    config = record.run_config.model_dump()
    make_folder(target.path)
    write_weights(target.weights_file, trained.weights[""], config, trained.classes, trained.image_size)
    write_atomically(target.config_file, yaml.safe_dump(config, sort_keys=False).encode())
    target.write_json("facts.json", trained.facts)
    card = card | {"sha256": hashlib.sha256(target.weights_file.read_bytes()).hexdigest()}
    target.write_json(CARD, card)
    return card


def _check(records: dict[Path, RunRecord]) -> None:
    for run, record in records.items():
        if record.state != "done":
            raise UserError(f"{run} is {record.state}, not done: finish it, or leave it out")
    if len({record.group for record in records.values()}) > 1:
        raise UserError("the runs differ in more than their seed: give runs of one configuration")


def _card(folder: Path, record: RunRecord, mean: float, runs: int) -> dict:
    data = record.config["data"]["name"]
    root = "" if data in ("digits", "synthetic") else " data.root=<folder>"
    return {
        "name": folder.name, "model": record.model, "tier": record.tier, "run": record.run, "data": data,
        **{key: record.summary.get(key) for key in FACTS}, **preparation(record.config),
        "mean_top1_percent": round(mean, 4), "runs": runs,
        "check": f"python eval.py run={folder.name} data={data}{root}",
    }  # fmt: skip


def preparation(config: dict) -> dict:
    """What the network's images must be, from its run's configuration."""
    return {"images": PREPARED, "mean": config["data"]["mean"], "std": config["data"]["std"]}
