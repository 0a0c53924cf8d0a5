"""Ranges to search, in Hydra's grammar.

    optim.lr=interval(0.05,1.0)   optim.lr=tag(log,interval(0.05,1.0))   trainer.global_batch_size=int(interval(64,256))
    optim.weight_decay=1e-4,5e-4  schedule=choice(cosine,onecycle)       trainer.epochs=range(2,10,2)

The other overrides of the command are the same in every trial.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence

from hydra.core.override_parser.types import ChoiceSweep, Glob, IntervalSweep, Override, RangeSweep
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import Trial

from efficientconv.errors import UserError
from efficientconv.overrides import parsed

Distribution = CategoricalDistribution | IntDistribution | FloatDistribution


def split_ranges(overrides: Sequence[str]) -> tuple[list[str], dict[str, Distribution]]:
    """The overrides that name one value, and the ranges by their keys. Raises UserError."""
    given = parsed(overrides)
    fixed = [text for text, override in zip(overrides, given) if not override.is_sweep_override()]
    ranges = {o.get_key_element(): _distribution(o) for o in given if o.is_sweep_override()}
    if not ranges:
        raise UserError("nothing to search: give a range, such as 'optim.lr=tag(log,interval(0.05,1.0))'")
    return fixed, ranges


def suggest(trial: Trial, key: str, asked: Distribution) -> str:
    """The trial's override for that key: a new value, or the one that it had when it was cut off."""
    if isinstance(asked, CategoricalDistribution):
        return f"{key}={trial.suggest_categorical(key, asked.choices)}"
    if isinstance(asked, IntDistribution):
        return f"{key}={trial.suggest_int(key, asked.low, asked.high, step=asked.step, log=asked.log)}"
    return f"{key}={trial.suggest_float(key, asked.low, asked.high, step=asked.step, log=asked.log)}"


def combinations(ranges: dict[str, Distribution]) -> Iterator[list[str]]:
    """The overrides of all combinations of choices, with one value of each other range."""
    choices = [_choices(distribution) for distribution in ranges.values()]
    return ([f"{key}={value}" for key, value in zip(ranges, values)] for values in itertools.product(*choices))


def _choices(distribution: Distribution) -> Sequence:
    return distribution.choices if isinstance(distribution, CategoricalDistribution) else [distribution.high]


def short(value: object) -> str:
    """A value for people: a number has 4 significant digits."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _distribution(override: Override) -> Distribution:
    asked = override.value()
    try:
        if isinstance(asked, IntervalSweep):
            return _interval(asked)
        if isinstance(asked, RangeSweep):
            return _steps(asked)
        if isinstance(asked, Glob):
            raise ValueError("give the names, with commas")
        if isinstance(asked, ChoiceSweep):
            asked.shuffle = False  # a search that goes on must find the choices in the same order
        return CategoricalDistribution(list(override.sweep_string_iterator()))
    except ValueError as error:
        raise UserError(f"{override.input_line} is no range to search: {error}") from None


def _interval(asked: IntervalSweep) -> Distribution:
    """Raises ValueError."""
    low, high, log = asked.start, asked.end, "log" in asked.tags
    if low is None or high is None or not (math.isfinite(low) and math.isfinite(high)):
        raise ValueError("its ends must be finite")
    if isinstance(low, int) and isinstance(high, int):
        return IntDistribution(low, high, log=log)
    return FloatDistribution(low, high, log=log)


def _steps(asked: RangeSweep) -> Distribution:
    """Raises ValueError."""
    if "log" in asked.tags:
        raise ValueError("steps are not uniform in the logarithm; give an interval")
    values, step = sorted(asked.range()), abs(asked.step)
    if not values:
        raise ValueError("it has no value")
    if isinstance(values[0], int) and isinstance(step, int):
        return IntDistribution(values[0], values[-1], step=step)
    return FloatDistribution(values[0], values[-1], step=step)
