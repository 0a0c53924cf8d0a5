"""Makes the parts of a training from the configuration of a run: device, data, network, loader, trainer."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field

import torch
from torch import nn

from efficientconv.complexity import NetworkCost, count
from efficientconv.config import RunConfig
from efficientconv.data import (
    DataSet,
    EvalLoader,
    Fingerprint,
    Split,
    TrainLoader,
    find_data,
    fingerprint_of,
    load_data,
    train_loader,
)  # fmt: skip
from efficientconv.engine.device import (
    choose_device,
    device_name,
    keep_freed_memory,
    set_determinism,
    set_tf32,
    warn_of_slow_format,
)
from efficientconv.engine.distributed import World
from efficientconv.engine.metrics import Result, evaluate, evaluation_loader
from efficientconv.engine.preemption import Preemption
from efficientconv.engine.run_folder import TEST, TRAIN
from efficientconv.engine.trainer import Trainer
from efficientconv.errors import UserError
from efficientconv.latency import measure_latency
from efficientconv.layers.backend import compile_kernels, set_backend
from efficientconv.models import create_model, image_size_of, layout_name
from efficientconv.roofline.peaks import of_limit, quick_peaks

# images of one measured pass: enough to use the whole device, and few enough to take a second or two on a CPU
SMALL_IMAGE, SMALL_IMAGES_BATCH, LARGE_IMAGES_BATCH = 64, 64, 16  # SMALL_IMAGE: pixels a side


@dataclass(frozen=True)
class Training:
    """The network and its trainer, and the data that they train on. `facts` is the content of facts.json."""

    config: RunConfig
    world: World
    preemption: Preemption
    device: torch.device
    data: DataSet
    fingerprint: Fingerprint
    image_size: int
    loader: TrainLoader
    trainer: Trainer
    facts: dict
    eval_loaders: dict[int, EvalLoader] = field(default_factory=dict)  # by the split's id

    def evaluate(self, split: Split) -> dict[str, Result]:
        """Results on `split`, by the prefix of their figures: "" for the weights, "ema_" for their moving average."""
        trainer = self.trainer
        trainer.share_buffers()
        models = {"": trainer.model} | ({} if trainer.ema is None else {"ema_": trainer.ema.model})
        loader, precision = self._eval_loader(split), self.config.trainer.precision
        return {name: evaluate(model, loader, precision, self.device, self.world) for name, model in models.items()}

    def _eval_loader(self, split: Split) -> EvalLoader:
        """Made once: its workers are started, and its memory is page-locked for the GPU, once for a run."""
        if id(split) not in self.eval_loaders:
            made = evaluation_loader(split, self.config, self.image_size, self.device, self.world)
            self.eval_loaders[id(split)] = made
        return self.eval_loaders[id(split)]

    def measured_time(self) -> dict[str, float | int | str]:
        """ms per image of a forward pass, its share of the limit and the GPU, if there is one, for the summary.

        Leaves the network in eval mode and channels-last.
        """
        batch_size = SMALL_IMAGES_BATCH if self.image_size <= SMALL_IMAGE else LARGE_IMAGES_BATCH
        models, sizes = {"": self.trainer.model}, {"": self.image_size}
        time = measure_latency(models, sizes, batch_size=batch_size, device=self.device, repeats=3)[""]
        share = of_limit(self.trainer.model, self.image_size, time, quick_peaks(self.device))
        reached = {} if share is None else share._asdict()  # limit_share, binds
        if self.device.type == "cuda":
            reached["gpu"] = device_name(self.device)
        return {"ms_per_image": time.ms_per_image, "ms_per_image_batch": time.batch_size, **reached}

    def share_damage(self) -> None:
        """Adds up the damaged images of all processes. Raises UserError, in all processes, if they are too many."""
        for reasons in self.world.gather(self.data.damage.reasons):
            for path, reason in reasons.items():
                self.data.damage.add(path, reason)


def build_training(
    config: RunConfig, world: World, preemption: Preemption, found: DataSet | None, fingerprint: Fingerprint | None
) -> Training:
    """Makes the training of a run. Raises UserError if configuration, data and machine do not fit together.

    Args:
        found, fingerprint: the data set, if it was found before, and its fingerprint; None: both are made here.
    """
    set_determinism(config.trainer.deterministic)
    set_tf32(config.trainer.tf32)
    device = choose_device(config.trainer.device, world.local_rank)
    if world.is_main:
        warn_of_slow_format(device, config.trainer.precision)
    keep_freed_memory(device)
    found = found or world.main_first(lambda: find_data(config.data))
    fingerprint = fingerprint or fingerprint_of(found, config.data)
    data = load_data(config.data, found)
    if world.is_main and data.val is None and config.data.val_fraction:
        warnings.warn(f"data.val_fraction={config.data.val_fraction} holds out no image: no class has two", stacklevel=2)
    image_size = image_size_of(config.model, data.image_size)
    loader = train_loader(
        data.train, config.data, image_size=image_size, seed=config.seed, device=device, shard=world,
        global_batch_size=config.trainer.global_batch_size, accumulation_steps=config.trainer.accumulation_steps,
        channels_last=config.trainer.channels_last, damage=data.damage, num_classes=data.num_classes,
    )  # fmt: skip
    torch.manual_seed(config.seed)
    model = network(config, data.num_classes, data.image_size, device)
    cost = count(model, (3, image_size, image_size))
    facts = run_facts(config, data, fingerprint, image_size, cost, world.size)
    if config.trainer.sync_batch_norm:
        model = _synchronized(model, device)
    trainer = Trainer(
        model, config.trainer, config.optim, config.schedule, seed=config.seed, device=device, world=world,
        steps_per_epoch=loader.batches_per_epoch // config.trainer.accumulation_steps, preemption=preemption,
    )  # fmt: skip
    return Training(config, world, preemption, device, data, fingerprint, image_size, loader, trainer, facts)


def run_facts(
    config: RunConfig, data: DataSet, fingerprint: Fingerprint, image_size: int, cost: NetworkCost, processes: int
) -> dict:
    """Model, data and cost of a run, for facts.json, summary.json and the loggers."""
    return {
        "model_name": config.model.name,
        "data_name": data.name,
        "data_pixels": fingerprint.pixels,
        TRAIN: fingerprint.train,
        TEST: fingerprint.test,
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


def network(config: RunConfig, num_classes: int, image_size: int | None, device: torch.device) -> nn.Module:
    """The network of the configuration, on the device, in the memory format of the training."""
    model = create_model(config.model, num_classes=num_classes, image_size=image_size)
    set_backend(model, config.layers.backend)
    if device.type == "cpu":
        compile_kernels(model)
    memory_format = torch.channels_last if config.trainer.channels_last else torch.contiguous_format
    return model.to(device).to(memory_format=memory_format)


def _synchronized(model: nn.Module, device: torch.device) -> nn.Module:
    if device.type != "cuda":
        raise UserError("trainer.sync_batch_norm=true needs GPUs: torch's SyncBatchNorm has no CPU form; set it to false")
    return nn.SyncBatchNorm.convert_sync_batchnorm(model)
