"""Tables 1 and 3: configurations and topologies. Nothing is trained: the figures are counted from the built models."""

from __future__ import annotations

from collections.abc import Mapping

from efficientconv.complexity import NetworkCost
from efficientconv.config import ModelConfig
from efficientconv.layers import TopologicalConv2d
from efficientconv.models import create_model
from efficientconv.results import paper
from efficientconv.results.complexity_table import network_cost, stage_macs
from efficientconv.results.figures import FIGURES
from efficientconv.results.table import Row

MACS, PARAMS = FIGURES["macs"], FIGURES["params"]


def configuration_rows(models: Mapping[str, ModelConfig], image_size: int | None, num_classes: int) -> list[Row]:
    """Table 1: the layers of each stage and their cost, beside the paper's words and fractions."""
    costs = {name: network_cost(config, image_size, num_classes) for name, config in models.items()}
    return [_configuration(models[name], cost, costs["a"], models["a"]) for name, cost in costs.items()]


def topology_rows(models: Mapping[str, ModelConfig], image_size: int | None, num_classes: int) -> list[Row]:
    """Table 3: the topology of each stage of each model, and the share of the connections that the topology keeps."""
    return [
        _topology(name, stage, conv)
        for name, config in models.items()
        for stage, conv in _topological_layers(config, image_size, num_classes).items()
    ]


def _configuration(config: ModelConfig, cost: NetworkCost, cost_of_a: NetworkCost, a: ModelConfig) -> Row:
    in_stages, comparable = stage_macs(config, cost), config.trunk == a.trunk
    return {
        "model": config.name,
        "paper: each stage (M)": paper.value(config.name, "each_stage"),
        "ours": config.description,
        MACS.title: f"{cost.macs / MACS.scale:.2f}",
        PARAMS.title: f"{cost.params / PARAMS.scale:.3f}",
        f"stages' {MACS.title}": f"{in_stages / MACS.scale:.2f}",
        "of A's stages": f"{in_stages / stage_macs(a, cost_of_a):.3f}" if comparable else "",
        "paper: projections only (M)": paper.value(config.name, "stage_macs_vs_a"),
    }


def _topological_layers(config: ModelConfig, image_size: int | None, num_classes: int) -> dict[str, TopologicalConv2d]:
    """The first topological layer of each stage that has one: all those of a stage are alike."""
    network = create_model(config, num_classes, image_size=image_size)
    layers = {
        name: [module for module in stage.modules() if isinstance(module, TopologicalConv2d)]
        for name, stage in network.stages.items()
    }
    return {name: found[0] for name, found in layers.items() if found}


def _topology(model: str, stage: str, conv: TopologicalConv2d) -> Row:
    topology = conv.topology
    full = {"stage2": 128, "stage3": 256, "stage4": 512}[stage]
    return {
        "model": model,
        "stage": stage,
        "paper: channels": full,
        "paper: d (M)": paper.value(model, f"dims_{full}"),
        "paper: c (M)": paper.value(model, f"connections_{full}"),
        "ours: channels": topology.channels,
        "ours: d": " x ".join(map(str, topology.dims)),
        "ours: c": " x ".join(map(str, topology.connections)),
        "connections kept": f"{topology.fan / topology.channels:.4f}",
    }
