"""A tier as its runs have it: conditions for titles, networks, and the records that are kept of it."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from efficientconv.config import CONFIG_DIR, ModelConfig, RunConfig
from efficientconv.errors import UserError, did_you_mean
from efficientconv.reproduce.estimate import DataFacts, data_facts
from efficientconv.reproduce.plan import ComposeRun, recipe
from efficientconv.results.record import RunRecord, read_records_in
from efficientconv.results.tables import needed_models, table_config, table_names

DATA_TITLES = {
    "cifar10": "CIFAR-10", "cifar10_jpeg": "CIFAR-10 (JPEG), a lossy copy", "digits": "scikit-learn's digits",
    "imagenet": "ImageNet",
}  # fmt: skip


@dataclass(frozen=True)
class Tier:
    """`base`: its settings, with any model."""

    name: str
    about: str  # what it costs and what it can prove
    base: RunConfig
    folder: Path  # of its results

    @property
    def conditions(self) -> str:
        base = self.base
        title = DATA_TITLES.get(base.data.name, base.data.name)
        return f"{title}, width {base.model.width:g}, {base.trainer.epochs} epochs"

    @cached_property
    def data_facts(self) -> DataFacts:
        """Raises UserError when only a part of the data set is there."""
        return data_facts(self.base.data)

    @cached_property
    def records(self) -> list[RunRecord]:
        """Of its finished runs; those of a recipe that it had before are left out, with a warning."""
        found = read_records_in(self.folder / "runs")
        current = [record for record in found if recipe(record.run_config) == recipe(self.base)]
        if len(current) < len(found):
            warnings.warn(
                f"{len(found) - len(current)} of {len(found)} records in {self.folder / 'runs'} are of another recipe than "
                f"configs/tier/{self.name}.yaml and left out",
                stacklevel=2,
            )
        return current


def load_tier(name: str, overrides: Sequence[str], results: Path, compose: ComposeRun) -> Tier:
    """Raises UserError with the nearest name."""
    known = sorted(path.stem for path in (CONFIG_DIR / "tier").glob("*.yaml"))
    if name not in known:
        raise UserError(f"unknown tier '{name}': {did_you_mean(name, known)}")
    return Tier(name, _about(CONFIG_DIR / "tier" / f"{name}.yaml"), compose([f"tier={name}", *overrides]), results / name)


def _about(path: Path) -> str:
    """The comment at the head of its file, after the line with the command."""
    head = itertools.takewhile(lambda line: line.startswith("#"), path.read_text().splitlines())
    return " ".join(line.removeprefix("#").strip() for line in list(head)[2:])


def tier_models(tier: str, names: Iterable[str], compose: ComposeRun) -> dict[str, ModelConfig]:
    """Each as the tier has it: its width and layout."""
    return {name: compose([f"tier={tier}", f"model={name}"]).model for name in names}


def trained_models() -> list[str]:
    """All that any table trains."""
    tables = [table for table in map(table_config, table_names()) if table.trained]
    return list(dict.fromkeys(name for table in tables for name in needed_models(table)))
