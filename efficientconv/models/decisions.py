"""The decisions that the paper leaves open (mark D), as settings of a whole model: applies `model.decisions`."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from efficientconv.config import BlockConfig, Decisions, ModelConfig
from efficientconv.errors import UserError


def decided(block: BlockConfig, decisions: Decisions) -> BlockConfig:
    """`block` with the decisions applied. With the default decisions the block does not change."""
    args, residual = dict(block.args), block.residual
    if decisions.anchor is not None and "topology" in args:
        args["topology"] = args["topology"] | {"anchor": decisions.anchor}
    if block.layer == "spatial_bottleneck":
        if decisions.bottleneck_grids == "aligned":
            args["padding"] = 0
        if not decisions.bottleneck_residual:
            residual = False
    if block.layer == "channel_bottleneck" and not decisions.pair_residual:
        residual = False
    return block.model_copy(update={"args": args, "residual": residual})


def start_expansions(network: nn.Module, decisions: Decisions) -> None:
    """Sets the first weights of the transposed convolutions of spatial bottlenecks. He's initialisation came before."""
    if decisions.expansion_init == "copy":
        for module in network.modules():
            if isinstance(module, nn.ConvTranspose2d):
                nn.init.ones_(module.weight)


def refuse_of_another(origin: Path, trained: ModelConfig, model: ModelConfig) -> None:
    """Raises UserError if the weights in `origin` are another network's. Their names and shapes may be those of `model`."""
    if _computation(trained) != _computation(model):
        raise UserError(f"{origin} holds the weights of another network: model {trained.name}, other layers or decisions")


def _computation(model: ModelConfig) -> tuple:
    """What a network computes with weights of given names and shapes. `expansion_init` is of its first weights only."""
    return model.trunk, model.stages, model.decisions.model_copy(update={"expansion_init": None})
