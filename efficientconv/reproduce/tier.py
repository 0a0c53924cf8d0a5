"""A tier: its settings, networks, records, and its conditions for titles."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from efficientconv.config import ModelConfig, RunConfig
from efficientconv.engine.identity import identity
from efficientconv.errors import UserError, did_you_mean
from efficientconv.files import CONFIG_DIR
from efficientconv.models.budget import at_width, width_for
from efficientconv.reproduce.estimate import DataFacts, data_facts
from efficientconv.reproduce.plan import ComposeRun, tier_config
from efficientconv.results.record import RunRecord, read_records_in
from efficientconv.results.table_config import budget_of, model_of, trained_models
from efficientconv.results.times import NetworkKey, network_of

DATA_TITLES = {
    "cifar10": "CIFAR-10", "cifar10_jpeg": "CIFAR-10 (JPEG), a lossy copy", "digits": "scikit-learn's digits",
    "fashion_mnist": "Fashion-MNIST", "imagenet": "ImageNet",
}  # fmt: skip


@dataclass(frozen=True)
class Tier:
    """A tier. `base`: its settings, with any model."""

    name: str
    about: str  # its cost, and what it can show
    base: RunConfig
    folder: Path  # the folder of its results
    compose: ComposeRun
    _models: dict[str, ModelConfig] = field(default_factory=dict, repr=False)

    def models(self, rows: Collection[str]) -> dict[str, ModelConfig]:
        """The model of each row, in the tier's layout, at the tier's width or at the width of the row's budget.

        Raises UserError for a budget that no width meets.
        """
        for row in rows:
            if row not in self._models:
                self._models[row] = self._model(row)
        return {row: self._models[row] for row in rows}

    def _model(self, row: str) -> ModelConfig:
        model, budget = self.compose([f"tier={self.name}", f"model={model_of(row)}"]).model, budget_of(row)
        if budget is None:
            return model
        image_size, num_classes = self.images
        return at_width(model, width_for(model, budget, num_classes, image_size).width)

    @property
    def conditions(self) -> str:
        base = self.base
        title = DATA_TITLES.get(base.data.name, base.data.name)
        return f"{title}, width {base.model.width:g}, {base.trainer.epochs} epochs"

    @cached_property
    def data_facts(self) -> DataFacts:
        """The facts of the data set. Raises UserError if only a part of the set is there."""
        return data_facts(self.base.data)

    @property
    def images(self) -> tuple[int | None, int]:
        """(pixels a side, number of classes) of the images. None pixels: the layout's size."""
        return self.base.data.image_size, self.data_facts.num_classes

    @cached_property
    def networks(self) -> dict[NetworkKey, ModelConfig]:
        """Of every table the models at the tier's width, and whatever was trained."""
        models = [*self.models(trained_models()).values(), *(record.run_config.model for record in self.records)]
        return {network_of(model): model for model in models}

    @cached_property
    def records(self) -> list[RunRecord]:
        """The records of the finished runs. Records of an earlier recipe or of other layers are left out, with a warning."""
        found = read_records_in(self.folder / "runs")
        current = [record for record in found if self._trains(record.run_config)]
        if len(current) < len(found):
            warnings.warn(
                f"{len(found) - len(current)} of {len(found)} records in {self.folder / 'runs'} are of another recipe than "
                f"configs/tier/{self.name}.yaml, or of another network than configs/model/ has by the name, and left out",
                stacklevel=2,
            )
        return current

    def _trains(self, run: RunConfig) -> bool:
        """Whether the tier, as it is now, trains this run, at whatever width and with whatever seed."""
        model = at_width(self.models([run.model.name])[run.model.name], run.model.width)
        return identity(run) == identity(self.base.model_copy(update={"model": model, "seed": run.seed}))


def load_tier(name: str, overrides: Sequence[str], results: Path, compose: ComposeRun) -> Tier:
    """The tier of this name. Raises UserError for an unknown name, and for overrides that would change its numbers."""
    known = sorted(path.stem for path in (CONFIG_DIR / "tier").glob("*.yaml"))
    if name not in known:
        raise UserError(f"unknown tier '{name}': {did_you_mean(name, known)}")
    base = tier_config(name, overrides, compose)
    return Tier(name, _about(CONFIG_DIR / "tier" / f"{name}.yaml"), base, results / name, compose)


def _about(path: Path) -> str:
    """The comment at the head of a tier's file, without the line with the command."""
    head = itertools.takewhile(lambda line: line.startswith("#"), path.read_text().splitlines())
    return " ".join(line.removeprefix("#").strip() for line in list(head)[2:])
