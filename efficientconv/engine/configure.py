"""From composed settings to the configuration of a run."""

from __future__ import annotations

import os

from efficientconv.config import RunConfig
from efficientconv.tracking.tracker import require_loggers
from efficientconv.validation import validate


def run_config(values: dict) -> RunConfig:
    """`values` validated. model.macs, a budget for one image, becomes the width that meets it: what a run is, and how it
    is named, knows nothing of the budget.

    Raises UserError for settings out of range or that a logger would refuse, and for a budget that no width meets.
    """
    config = validate(RunConfig, values)
    require_loggers(config.logger)
    budget = config.model.macs
    if budget is None:
        return config
    from efficientconv.data import find_data  # here: torch takes seconds, and most configurations ask for no budget
    from efficientconv.models.budget import at_width, width_for

    data = find_data(config.data)
    fit = width_for(config.model, budget, data.num_classes, data.image_size)
    if os.environ.get("RANK", "0") == "0":
        print(f"model.macs={budget:g}: model {config.model.name} has {fit}", flush=True)
    return config.model_copy(update={"model": at_width(config.model, fit.width)})
