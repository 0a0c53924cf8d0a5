"""What the paper leaves open (mark D), as settings of a whole model: `model.decisions` applied to its blocks."""

from __future__ import annotations

from torch import nn

from efficientconv.config import BlockConfig, Decisions


def decided(block: BlockConfig, decisions: Decisions) -> BlockConfig:
    """`block` as the decisions have it; itself where they are this project's."""
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
    """The weights of spatial bottlenecks' transposed convolutions, which He's initialisation has drawn already."""
    if decisions.expansion_init == "copy":
        for module in network.modules():
            if isinstance(module, nn.ConvTranspose2d):
                nn.init.ones_(module.weight)
