"""What a run says of itself: the facts beside its numbers, and its lines for people."""

from __future__ import annotations

from efficientconv.complexity import NetworkCost
from efficientconv.config import RunConfig
from efficientconv.data import DataSet, Images
from efficientconv.engine.metrics import Result
from efficientconv.engine.run_folder import TEST, TRAIN
from efficientconv.models import layout_name


def run_facts(
    config: RunConfig, data: DataSet, images: Images, image_size: int, cost: NetworkCost, processes: int
) -> dict:
    """What was trained on what, and its cost: for summary.json and the tracker."""
    return {
        "model_name": config.model.name,
        "data_name": data.name,
        "data_pixels": images.pixels,
        TRAIN: images.train,
        TEST: images.test,
        "layout": layout_name(config.model, data.image_size),
        "width": config.model.width,
        "image_size": image_size,
        "seed": config.seed,
        "epochs": config.trainer.epochs,
        "processes": processes,
        "macs": cost.macs,
        "params": cost.params,
        "activations": cost.activations,
        "num_train": len(data.train),
        "num_val": 0 if data.val is None else len(data.val),
        "num_test": len(data.test),
        "num_classes": data.num_classes,
    }


def training_totals(records: list[dict]) -> dict:
    """Over the epochs' records: the best held-out accuracy (an extra: nothing is chosen by it), time, throughput."""
    watched = [record for record in records if "val_top1_percent" in record]
    best = max(watched, key=lambda record: record["val_top1_percent"], default={})
    seconds = sum(record["train_seconds"] for record in records)
    images = sum(record["train_images"] for record in records)
    return {
        "best_val_top1_percent": best.get("val_top1_percent"),
        "best_val_epoch": best.get("epoch"),
        "train_seconds": seconds,
        "train_images_per_s": images / seconds if seconds else None,
    }


def headline(path: object, facts: dict, batch_size: int, device: str) -> str:
    return (
        f"{path}: model {facts['model_name']} ({facts['layout']}, width {facts['width']:g}) on {facts['data_name']}, "
        f"{facts['macs'] / 1e6:.2f} M MACs, {facts['params'] / 1e6:.3f} M parameters, {facts['num_train']} training images "
        f"in batches of {batch_size}, {device}"
    )


def epoch_line(record: dict, epochs: int) -> str:
    val = f"val top-1 {record['val_top1_percent']:.2f} %, " if "val_top1_percent" in record else ""
    return (
        f"epoch {record['epoch']}/{epochs}: loss {record['train_loss']:.3f}, top-1 {record['train_top1_percent']:.2f} %, "
        f"{val}lr {record['lr']:.4g}, {record['train_seconds']:.0f} s, {record['images_per_s']:.0f} images/s, "
        f"{record['data_wait_percent']:.0f} % waiting for data"
    )


def result_lines(results: dict[str, Result]) -> list[str]:
    """By the name of the weights: "" for the weights themselves, "ema_" for their moving average."""
    titles = {"": "test", "ema_": "test, moving average of the weights"}
    return [
        f"{titles[name]}: top-1 {result.top1_percent:.2f} % ({result.top1} of {result.images}), "
        f"top-5 {result.top5_percent:.2f} %, loss {result.loss:.4f}"
        for name, result in results.items()
    ]
