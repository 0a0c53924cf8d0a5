"""The device and the sizes that the stages measure, and a trainer to measure: its images already lie on the device."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from operator import attrgetter
from typing import Any, NamedTuple

import torch
import yaml
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from efficientconv.complexity import count
from efficientconv.config import OptimConfig, ScheduleConfig, TrainerConfig
from efficientconv.engine.trainer import Trainer
from efficientconv.files import CONFIG_DIR
from efficientconv.layers.backend import set_backend
from efficientconv.models import LAYOUTS, create_model, image_size_of, model_config
from efficientconv.timing import Job, Quartiles, held_bytes, measure, peak_bytes
from efficientconv.validation import validate

Row = dict[str, object]  # one measurement; units are in the names
WARM_RUNS = 3  # runs before kernels are counted
ENDLESS = 1_000_000  # steps of an epoch: so many that no epoch ends during a measurement


class Kernel(NamedTuple):
    name: str
    ms: float
    calls: int


class Bench:
    """`tiny` tests the stages on a CPU: narrow networks, small images, few steps. The times then mean nothing."""

    def __init__(self, device: torch.device, tiny: bool):
        self.device, self.tiny = device, tiny
        sizes = ("cifar", 4, 0.125, 2) if tiny else ("imagenet", 256, 1.0, 20)
        self.layout, self.batch, self.width, self.repeats = sizes

    def models(self, names: str) -> str:
        """The models to measure: `names`, or only the first one if `tiny`."""
        return names[:1] if self.tiny else names

    def spread(self, job: Job) -> Quartiles:
        """The seconds of `job`, until the device is done."""
        return measure({"": job}, self.repeats, self.device)[""]

    def kernels(self, job: Job, runs: int = 1) -> list[Kernel]:
        """The kernels of a run of `job`, the longest first: means of `runs` after warm-up. On a CPU, torch's operators."""
        for _ in range(WARM_RUNS):
            job()
        on_gpu = self.device.type == "cuda"
        with profile(activities=[ProfilerActivity.CUDA if on_gpu else ProfilerActivity.CPU]) as seen:
            for _ in range(runs):
                job()
            self._wait()
        time_us = attrgetter("self_device_time_total" if on_gpu else "self_cpu_time_total")
        found = [Kernel(event.key, time_us(event) / runs / 1e3, event.count // runs) for event in seen.key_averages()]
        return sorted(found, key=lambda kernel: -kernel.ms)

    def step_row(self, name: str, **settings: Any) -> Row:
        """The time of a training step of a model at `layout`, `batch` and bf16, or with other settings of `trainer`.

        peak_mb: memory of the step's tensors beside weights, momentum and images; unknown for a CUDA graph, whose
        replay allocates nothing. held_mb: all memory of the device that torch holds for this model and its step.
        """
        layout = settings.pop("layout", self.layout)
        before = held_bytes(lambda: None, self.device)
        trainer = self.trainer(name, layout, **settings)
        job = steps(trainer, name, layout)
        started = time.perf_counter()
        job()
        self._wait()
        first_s = time.perf_counter() - started
        time_s, config = self.spread(job), trainer.config
        captured = config.compile and config.compile_mode != "default"
        peak = None if captured else peak_bytes(job, self.device) / 2**20
        held = None if before is None else (held_bytes(job, self.device) - before) / 2**20
        return {
            "model": name, "layout": layout, "batch": config.global_batch_size, "precision": config.precision,
            "compiled": config.compile_mode if config.compile else "no", "macs": self._macs(name, layout),
            "ms_per_step": 1e3 * time_s.median, "ms_low": 1e3 * time_s.low, "ms_high": 1e3 * time_s.high,
            "images_per_s": config.global_batch_size / time_s.median, "peak_mb": peak, "held_mb": held,
            "first_step_s": first_s,
        }  # fmt: skip

    def trainer(self, name: str, layout: str, **settings: Any) -> Trainer:
        """A trainer with seed 0, configs/trainer/default.yaml, bf16 and the given settings; `backend` is for the layers."""
        backend = settings.pop("backend", "auto")
        defaults = yaml.safe_load((CONFIG_DIR / "trainer" / "default.yaml").read_text())
        changed = {"global_batch_size": self.batch, "precision": "bf16"} | settings
        config = validate(TrainerConfig, defaults | changed, where="trainer")
        torch.manual_seed(0)
        memory_format = torch.channels_last if config.channels_last else torch.contiguous_format
        model = set_backend(self.network(name, layout), backend).to(self.device).to(memory_format=memory_format)
        optim = OptimConfig(name="sgd", lr=1e-3, momentum=0.9, nesterov=False, weight_decay=1e-4)
        schedule = ScheduleConfig(name="cosine")
        return Trainer(model, config, optim, schedule, seed=0, steps_per_epoch=ENDLESS, device=self.device)

    def network(self, name: str, layout: str) -> nn.Module:
        classes, size = LAYOUTS[layout]
        return create_model(name, classes, layout=layout, width=self.width, image_size=size)

    def _macs(self, name: str, layout: str) -> int:
        size = pixels(name, layout)
        return count(self.network(name, layout), (3, size, size)).macs

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def pixels(name: str, layout: str) -> int:
    """The side of the images of the model `name`."""
    return image_size_of(model_config(name), LAYOUTS[layout][1])


class OneBatch:
    """A loader that repeats the same random images on the device, so that only the step is measured."""

    def __init__(self, trainer: Trainer, name: str, layout: str):
        batch = trainer.config.global_batch_size // trainer.config.accumulation_steps
        classes, size = LAYOUTS[layout][0], pixels(name, layout)
        memory_format = torch.channels_last if trainer.config.channels_last else torch.contiguous_format
        noise = torch.Generator().manual_seed(0)
        images = torch.randn(batch, 3, size, size, generator=noise)
        dtype = next(trainer.model.parameters()).dtype
        self.images = images.to(trainer.device, dtype, memory_format=memory_format)
        self.labels = torch.randint(0, classes, (batch,), generator=noise).to(trainer.device)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        while True:
            yield self.images, self.labels


def steps(trainer: Trainer, name: str, layout: str) -> Callable[[], None]:
    """A function that makes one training step of the model `name` at each call."""
    epoch = trainer.train_epoch(OneBatch(trainer, name, layout), 0)  # type: ignore[arg-type]  # it reads the batches alone
    return lambda: next(epoch)
