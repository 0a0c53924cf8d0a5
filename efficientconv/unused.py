"""Settings that have no effect beside others, such as a step schedule's decay in a cosine schedule.

They give a warning, not an error: W&B's agents and loops of the shell combine settings without looking, and runs that were
begun with such a setting must continue by the same command.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from efficientconv.config import RunConfig
from efficientconv.validation import flat

Condition = tuple[str, Callable[[RunConfig], bool]]
_RESNETS = ("resnet", "resnext", "wide_resnet")  # torchvision's, whose first layers the layout changes


def _has_layer(name: str) -> Callable[[RunConfig], bool]:
    return lambda run: any(block.layer == name for stage in run.model.stages.values() for block in stage.blocks)


_STEP: Condition = ("schedule=step", lambda run: run.schedule.name == "step")
_BOTTLENECK: Condition = ("a model with spatial bottlenecks", _has_layer("spatial_bottleneck"))
_PAIR: Condition = ("a model with channel-bottleneck pairs", _has_layer("channel_bottleneck"))
_OURS: Condition = ("a model of this project's layers", lambda run: run.model.trunk != "torchvision")

# what each setting needs, in words, and whether a run has it; settings that are not named always have an effect
NEEDS: dict[str, Condition] = {
    "schedule.decay_every_epochs": _STEP,
    "schedule.decay_factor": _STEP,
    "optim.decay_norms": ("optim.weight_decay above 0", lambda run: run.optim.weight_decay > 0),
    "trainer.compile_mode": ("trainer.compile=true", lambda run: run.trainer.compile),
    "trainer.tf32": ("a GPU", lambda run: run.trainer.device != "cpu"),
    "data.crop_padding": ("crops of one size, data.min_crop_area=null", lambda run: run.data.min_crop_area is None),
    "data.randaugment_magnitude": ("data.randaugment_ops above 0", lambda run: run.data.randaugment_ops > 0),
    "layers.backend": _OURS,
    "model.layout": (
        "a ResNet or a model of this project's layers",
        lambda run: run.model.trunk != "torchvision" or run.model.name.startswith(_RESNETS),
    ),
    "model.decisions.anchor": (
        "a model with topologies",
        lambda run: any("topology" in block.args for stage in run.model.stages.values() for block in stage.blocks),
    ),
    "model.decisions.batch_norm": _OURS,
    "model.decisions.bottleneck_residual": _BOTTLENECK,
    "model.decisions.bottleneck_grids": _BOTTLENECK,
    "model.decisions.expansion_init": _BOTTLENECK,
    "model.decisions.pair_residual": _PAIR,
}


def unused_settings(given: Iterable[str], runs: Iterable[RunConfig]) -> list[str]:
    """A line for each `given` key that changes none of the `runs`. A value that equals the schema's default is not told."""
    open_keys = [key for key in given if key in NEEDS]
    lines: dict[str, str] = {}
    for run in runs if open_keys else ():  # a search composes its runs on the way: only as many as are looked at
        values = flat(run.model_dump(exclude_defaults=True))
        for key in [key for key in open_keys if key in values]:
            needs, is_there = NEEDS[key]
            if is_there(run):
                open_keys.remove(key)
                lines.pop(key, None)
            else:
                lines[key] = f"{key}={values[key]} has no effect: it needs {needs}"
        if not open_keys:
            break
    return list(lines.values())
