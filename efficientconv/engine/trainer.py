"""The optimizer's step, and the steps of an epoch. `Trainer.state_dict` holds everything that the weights depend on."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from efficientconv.config import OptimConfig, ScheduleConfig, TrainerConfig
from efficientconv.data import TrainLoader
from efficientconv.engine.checkpoint import difference, optimizer_difference
from efficientconv.engine.device import autocast, grad_scaler
from efficientconv.engine.distributed import World
from efficientconv.engine.divergence import Diverged, FiniteWatch, is_finite
from efficientconv.engine.metrics import Meter
from efficientconv.engine.optim import EMA, build_optimizer, load_optimizer, lr_factor, set_lr
from efficientconv.engine.preemption import Preemption

Batches = Iterator[tuple[Tensor, Tensor]]


class Trainer:
    """Trains `model`, which lies on `device`, for `config.epochs` epochs of `steps_per_epoch` optimizer steps.

    `step` counts the optimizer steps done. Every random number of a step is drawn from a generator seeded by
    (seed, step, micro-batch, rank), and the learning rate is a function of the step: neither needs to be saved.
    """

    def __init__(
        self, model: nn.Module, config: TrainerConfig, optim: OptimConfig, schedule: ScheduleConfig,
        *, seed: int, steps_per_epoch: int, device: torch.device, world: World = World(),  # noqa: B008  it is immutable
        preemption: Preemption | None = None,
    ):  # fmt: skip
        self.model = model
        self.config, self.schedule, self.lr = config, schedule, optim.lr
        self.seed, self.steps_per_epoch, self.device, self.world = seed, steps_per_epoch, device, world
        self.preemption = preemption or Preemption()
        self.optimizer = build_optimizer(model, optim)
        self.scaler = grad_scaler(device, config.precision)
        self.ema = None if config.ema_decay is None else EMA(model, config.ema_decay)
        self.meter = Meter(device)  # of the current epoch and this process's images
        self.watch = FiniteWatch(device, config.accumulation_steps)
        self.step = 0
        self.lr_scale = 1.0  # lowered by a rollback
        # only on a GPU: on a CPU, counting costs no launch
        self._counted_together = batch_norms(model) if device.type == "cuda" else []
        # kept beside self.model, whose parameters keep their names
        self._parallel = world.averaging_gradients(model, device, config.accumulation_steps)
        self._forward = torch.compile(self._parallel, mode=config.compile_mode) if config.compile else self._parallel

    @property
    def epoch(self) -> int:
        """The current epoch, from 0. An epoch stays the current one until the first step of the next one."""
        return max(0, -(-self.step // self.steps_per_epoch) - 1)

    def lr_at(self, step: int) -> float:
        factor = lr_factor(self.schedule, step, self.steps_per_epoch, self.config.epochs)
        return self.lr * self.lr_scale * factor

    @property
    def last_lr(self) -> float:
        """The learning rate of the last step, which may have been made before a rollback lowered `lr_scale`."""
        return self.optimizer.param_groups[0]["lr"]

    def train_epoch(self, loader: TrainLoader, epoch: int) -> Iterator[None]:
        """Makes the steps that are left of `epoch`, and yields after each of them."""
        done = self.step - epoch * self.steps_per_epoch
        if done == 0:
            self.meter.reset()
        self.model.train()
        batches = loader.epoch(epoch, start=done * self.config.accumulation_steps)
        for remaining in reversed(range(self.steps_per_epoch - done)):
            with self.preemption.shield():
                self._timed_step(batches, synchronize=remaining == 0)
            yield

    def _timed_step(self, batches: Batches, synchronize: bool) -> None:
        start = time.perf_counter()
        self._train_step(batches)
        if synchronize and self.device.type == "cuda":
            torch.cuda.synchronize()  # the time of an epoch includes the GPU's work, not only its launches
        self.meter.seconds += time.perf_counter() - start

    def _train_step(self, batches: Batches) -> None:
        set_lr(self.optimizer, self.lr_at(self.step))
        for micro in range(self.config.accumulation_steps):
            images, labels = self._next(batches)
            torch.manual_seed(_mix(self.seed, self.step, micro, self.world.rank))
            with self._gradients_exchanged(micro == self.config.accumulation_steps - 1):
                self._accumulate(images, labels)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad()
        if self.ema is not None:
            self.ema.update(self.model, self.step)
        self.step += 1

    def _accumulate(self, images: Tensor, labels: Tensor) -> None:
        with autocast(self.device, self.config.precision):
            with batches_counted(self._counted_together):
                logits = self._forward(images)
            loss = F.cross_entropy(logits.float(), labels, label_smoothing=self.config.label_smoothing)
        self.scaler.scale(loss / self.config.accumulation_steps).backward()
        self.meter.add(loss, logits, labels)
        self.watch.add(loss, self.step + 1)

    def _gradients_exchanged(self, exchange: bool) -> AbstractContextManager:
        """The processes exchange gradients only with the last micro-batch of a step."""
        return nullcontext() if exchange or self.world.size == 1 else self._parallel.no_sync()

    def _next(self, batches: Batches) -> tuple[Tensor, Tensor]:
        start = time.perf_counter()
        batch = next(batches)
        self.meter.wait_seconds += time.perf_counter() - start
        return batch

    def require_finite(self) -> None:
        """Raises Diverged, in all processes, if the loss or the weights are not finite.

        A bad gradient shows in the weights a step before it shows in the loss.
        """
        bad_step = self.watch.first_bad_step()
        (diverged,) = self.world.any(bad_step is not None or not is_finite(self.model))
        if diverged:
            where = f"the loss of step {bad_step}" if bad_step is not None else f"a weight after step {self.step}"
            raise Diverged(
                f"training has diverged: {where} is not finite; the last good checkpoint is kept; try a lower optim.lr, a "
                "schedule.warmup_epochs, or trainer.on_divergence=rollback"
            )

    def state_dict(self) -> dict:
        """Tensors and plain values only, so that torch loads it with weights_only=True. All processes call it together."""
        self.share_buffers()
        return {
            "step": self.step,
            "lr_scale": self.lr_scale,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "ema": None if self.ema is None else self.ema.model.state_dict(),
            "meter": self.meter.reduce(self.world.add).state_dict(),
        }

    def fault_in(self, state: dict) -> str | None:
        """Why the checkpoint's `state` cannot be loaded; None if it can."""
        last = self.steps_per_epoch * self.config.epochs
        if state["step"] > last:
            return f"its step {state['step']} is after the run's last, {last}"
        own = {
            "lr_scale": self.lr_scale, "model": self.model.state_dict(), "scaler": self.scaler.state_dict(),
            "ema": None if self.ema is None else self.ema.model.state_dict(), "meter": self.meter.state_dict(),
        }  # fmt: skip
        faults = (difference(state.get(key), like, key) for key, like in own.items())
        return next(filter(None, faults), None) or optimizer_difference(state.get("optimizer"), self.optimizer)

    def load_state_dict(self, state: dict) -> None:
        self.step, self.lr_scale = state["step"], state["lr_scale"]
        self.model.load_state_dict(state["model"])
        load_optimizer(self.optimizer, state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        if self.ema is not None:
            self.ema.model.load_state_dict(state["ema"])
        self.meter.reset()
        if self.world.is_main:  # it has the sums of all processes
            self.meter.load_state_dict(state["meter"])
        self.watch = FiniteWatch(self.device, self.config.accumulation_steps)

    def share_buffers(self) -> None:
        """Copies the main process's batch norm statistics to all processes. Called before saving and evaluating."""
        self.world.share_buffers(self.model)
        if self.ema is not None:
            self.world.share_buffers(self.ema.model)


def _mix(*numbers: int) -> int:
    """One seed made of several numbers. Neighbouring steps get unrelated random numbers."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> 1)


def batch_norms(model: nn.Module) -> list[nn.BatchNorm2d]:
    """The batch norms with a momentum: they count their batches only for the checkpoint; nothing else reads the count.

    Without SyncBatchNorm, which refuses to train where it sees no counter.
    """
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    return [norm for norm in norms if norm.num_batches_tracked is not None and norm.momentum is not None]


@contextmanager
def batches_counted(norms: Sequence[nn.BatchNorm2d]) -> Iterator[None]:
    """Around a pass in training: one launch counts the batch for all of `norms`, instead of one launch for each.

    The norms do not see their counters meanwhile.
    """
    training = [norm for norm in norms if norm.training]
    counts = [count for norm in training if (count := norm.num_batches_tracked) is not None]
    for norm in training:
        norm._buffers["num_batches_tracked"] = None
    try:
        yield
    finally:
        for norm, number in zip(training, counts):
            norm._buffers["num_batches_tracked"] = number
    if counts:
        torch._foreach_add_(counts, 1)
