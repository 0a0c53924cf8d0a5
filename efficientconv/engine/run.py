"""A training run from its configuration to its summary."""

from __future__ import annotations

import json
import time

import torch
from safetensors.torch import save

from efficientconv.complexity import count
from efficientconv.config import RunConfig
from efficientconv.data import load_data, train_loader
from efficientconv.engine.checkpoint import load_newest, save_checkpoint, write_atomically
from efficientconv.engine.environment import environment, git_state
from efficientconv.engine.metrics import Result
from efficientconv.engine.parts import evaluate_split, network
from efficientconv.engine.precision import choose_device
from efficientconv.engine.progress import EpochProgress, images_per_s, wait_percent
from efficientconv.engine.report import epoch_line, headline, result_lines, run_facts, training_totals
from efficientconv.engine.run_folder import RunFolder, run_folder
from efficientconv.engine.tracker import start_tracker
from efficientconv.engine.trainer import Trainer
from efficientconv.models import image_size_of


def train(config: RunConfig) -> dict:
    """Trains as `config` says and returns the summary; continues a run that was cut off, only reports a finished one.

    Raises:
        UserError: a configuration, data set or run folder that cannot be used as asked.
    """
    folder = run_folder(config)
    folder.check(config)
    summary = folder.summary()
    if summary is None:
        summary = Run(config, folder).fit()
    else:
        print(f"already trained; delete {folder.path} to train it again")
    names = [name for name in ("", "ema_") if f"{name}top1" in summary]
    print("\n".join(result_lines({name: Result.from_record(summary, name) for name in names})))
    print(f"run folder: {folder.path}")
    return summary


class Run:
    """One training run: its parts, made from the configuration, and its folder."""

    def __init__(self, config: RunConfig, folder: RunFolder):
        self.config, self.folder = config, folder
        self.device = choose_device(config.trainer.device)
        self.data = load_data(config.data)
        self.image_size = image_size_of(config.model, self.data.image_size)
        torch.manual_seed(config.seed)
        self.model = network(config, self.data, self.device)
        cost = count(self.model, (3, self.image_size, self.image_size))
        self.facts = run_facts(config, self.data, self.image_size, cost)
        self.loader = train_loader(
            self.data.train, config.data, image_size=self.image_size, seed=config.seed, device=self.device,
            global_batch_size=config.trainer.global_batch_size, channels_last=config.trainer.channels_last,
            accumulation_steps=config.trainer.accumulation_steps,
        )  # fmt: skip
        self.trainer = Trainer(
            self.model, config.trainer, config.optim, config.schedule, seed=config.seed, device=self.device,
            steps_per_epoch=self.loader.batches_per_epoch // config.trainer.accumulation_steps,
        )  # fmt: skip
        self.saved_at = time.monotonic()

    def fit(self) -> dict:
        """Trains the epochs that are left, evaluates the last one's weights on the test images, returns the summary."""
        self.folder.claim(self.config)
        self._resume()
        self.folder.write_json("environment.json", environment(self.device))
        tracker = start_tracker(self.config.logger, self.folder.path, self.config.model_dump() | self.facts)
        batch_size = self.config.trainer.global_batch_size
        print(headline(self.folder.path, self.facts, batch_size, self.device.type), flush=True)
        for epoch in range(self.trainer.epoch, self.config.trainer.epochs):
            self._train_epoch(epoch)
            record = self._finish_epoch(epoch)
            print(epoch_line(record, self.config.trainer.epochs), flush=True)
            tracker.log(record)
        summary = self._finish()
        tracker.finish(summary)
        return summary

    def _resume(self) -> None:
        found = load_newest(self.folder.checkpoints)
        if found is not None:
            path, state = found
            self.trainer.load_state_dict(state)
            print(f"continuing after step {self.trainer.step} ({path.name})")
        # the epoch under way writes its record again, even if the record was written before the run was cut off
        self.folder.rewind_metrics(self.trainer.epoch)

    def _train_epoch(self, epoch: int) -> None:
        steps = self.trainer.steps_per_epoch
        title = f"epoch {epoch + 1}/{self.config.trainer.epochs}"
        with EpochProgress(title, steps, self.trainer.step - epoch * steps) as progress:
            for _ in self.trainer.train_epoch(self.loader, epoch):
                progress.update(self.trainer.meter)
                if time.monotonic() - self.saved_at > 60 * self.config.trainer.checkpoint_minutes:
                    self._save()
        # before the evaluation, which is cheap to repeat: the epoch is not
        self._save()

    def _save(self) -> None:
        save_checkpoint(self.folder.checkpoints, self.trainer.state_dict())
        self.saved_at = time.monotonic()

    def _finish_epoch(self, epoch: int) -> dict:
        """Evaluates on the held-out images, and writes the epoch's record."""
        meter = self.trainer.meter
        record = {"epoch": epoch + 1, "step": self.trainer.step, "lr": self.trainer.lr_at(self.trainer.step - 1)}
        record |= meter.result().record("train_")
        if self.data.val is not None:
            for name, result in self._evaluate(self.data.val).items():
                record |= result.record(f"{name}val_")
        record |= {
            "train_seconds": meter.seconds,
            "images_per_s": images_per_s(meter),
            "data_wait_percent": wait_percent(meter),
        }
        self.folder.append_metrics(record)
        return record

    def _finish(self) -> dict:
        """The one look at the test images, the final weights, the summary."""
        summary = dict(self.facts)
        for name, result in self._evaluate(self.data.test).items():
            summary |= result.record(name)
        summary |= training_totals(self.folder.metrics()) | git_state()
        write_atomically(self.folder.weights_file, self._weights())
        self.folder.write_json("summary.json", summary)
        return summary

    def _evaluate(self, split) -> dict[str, Result]:
        """By the prefix of their figures: "" for the weights, "ema_" for their moving average."""
        models = {"": self.model} | ({} if self.trainer.ema is None else {"ema_": self.trainer.ema.model})
        return {
            name: evaluate_split(model, split, self.config, self.image_size, self.device)
            for name, model in models.items()
        }

    def _weights(self) -> bytes:
        """model.safetensors: the weights, with the configuration and the class names inside."""
        tensors = {name: tensor.contiguous() for name, tensor in self.model.state_dict().items()}
        metadata = {"config": json.dumps(self.config.model_dump()), "classes": json.dumps(self.data.classes)}
        return save(tensors, metadata)
