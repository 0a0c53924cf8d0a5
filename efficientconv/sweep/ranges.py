"""Ranges to search, in Hydra's grammar. The other overrides of the command are the same in every trial.

    optim.lr=interval(0.05,1.0)   optim.lr=tag(log,interval(0.05,1.0))   trainer.global_batch_size=int(interval(64,256))
    optim.weight_decay=1e-4,5e-4  schedule=choice(cosine,onecycle)       trainer.epochs=range(2,10,2)
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence

from hydra.core.override_parser.types import Glob, Override, RangeSweep
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import Trial

from efficientconv.errors import UserError
from efficientconv.overrides import parsed


def split_ranges(overrides: Sequence[str]) -> tuple[list[str], dict[str, BaseDistribution]]:
    """The overrides that name one value, and the ranges by their keys. Raises UserError."""
    given = parsed(overrides)
    fixed = [override.input_line for override in given if not override.is_sweep_override()]
    ranges = {o.get_key_element(): _distribution(o) for o in given if o.is_sweep_override()}
    if not ranges:
        raise UserError("nothing to search: give a range, such as 'optim.lr=tag(log,interval(0.05,1.0))'")
    return fixed, ranges


def suggest(trial: Trial, key: str, distribution: BaseDistribution) -> str:
    """The trial's override for that key: a new value, or the one that it had when it was cut off."""
    if isinstance(distribution, CategoricalDistribution):
        return f"{key}={trial.suggest_categorical(key, distribution.choices)}"
    ask = trial.suggest_int if isinstance(distribution, IntDistribution) else trial.suggest_float
    return f"{key}={ask(key, distribution.low, distribution.high, step=distribution.step, log=distribution.log)}"


def combinations(ranges: dict[str, BaseDistribution]) -> Iterator[list[str]]:
    """The overrides of all combinations of choices, with one value of each other range."""
    choices = [_choices(distribution) for distribution in ranges.values()]
    return ([f"{key}={value}" for key, value in zip(ranges, values)] for values in itertools.product(*choices))


def _choices(distribution: BaseDistribution) -> Sequence:
    return distribution.choices if isinstance(distribution, CategoricalDistribution) else [distribution.high]


def short(value: object) -> str:
    """A value for people: a number has 4 significant digits."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _distribution(override: Override) -> BaseDistribution:
    range_ = override.value()
    try:
        if isinstance(range_, Glob):
            raise ValueError("give the names, with commas")
        if override.is_choice_sweep():
            return CategoricalDistribution(list(override.sweep_string_iterator()))
        if override.is_interval_sweep():
            if not (math.isfinite(range_.start) and math.isfinite(range_.end)):
                raise ValueError("its ends must be finite")
            kind = IntDistribution if isinstance(range_.start, int) else FloatDistribution
            return kind(range_.start, range_.end, log="log" in range_.tags)
        return _steps(range_)
    except ValueError as error:
        raise UserError(f"{override.input_line} is no range to search: {error}") from None


def _steps(range_: RangeSweep) -> BaseDistribution:
    """Raises ValueError."""
    if "log" in range_.tags:
        raise ValueError("steps are not uniform in the logarithm; give an interval")
    values = sorted(range_.range())
    if not values:
        raise ValueError("it has no value")
    kind = IntDistribution if isinstance(values[0], int) else FloatDistribution
    return kind(values[0], values[-1], step=abs(range_.step))
