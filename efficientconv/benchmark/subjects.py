"""The subjects of the measurements: one layer of each model at the shapes of its stages, and whole models."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from efficientconv.benchmark import SHAPES
from efficientconv.complexity import count
from efficientconv.engine.device import autocast
from efficientconv.layers import ConvLayer, Topology, build_layer
from efficientconv.layers.backend import runs_operator, set_backend
from efficientconv.models import LAYOUTS, create_model, image_size_of, model_config
from efficientconv.models.entry import takes_stem_kernel
from efficientconv.models.network import Network
from efficientconv.roofline.execution import least
from efficientconv.roofline.expect import DTYPES
from efficientconv.roofline.step import step_of
from efficientconv.roofline.work import Work
from efficientconv.timing import Job

# the model that a layer is taken from, and the layer's name in the tables; the others are compared with the first
LAYER_MODELS = {
    "a": "standard 3x3", "b": "unravelled 3x3, b = 4", "c": "SIC 3x3", "d": "SIC 5x5", "f": "2-D topology 3x3",
    "g": "3-D topology 3x3", "h": "4 groups 3x3", "i": "SIC 3x3, 2-D topology", "k": "bottleneck 2x2",
    "l": "channel-bottleneck pair",
}  # fmt: skip


@dataclass
class Subject:
    """A network and the shape of its input. MACs are of one layer or model and one image."""

    name: str
    network: nn.Module
    shape: tuple[int, ...]
    macs: float
    layers: int = 1  # in `network`; times are divided by it
    precision: str = "fp32"  # of the forward pass, as trainer.precision has it

    def job(self, kind: str, device: torch.device) -> Job:
        """forward: inference without gradients. training: forward and backward, for a model also the loss and SGD's step."""
        x = torch.randn(self.shape, device=device).relu_()
        self._set_training(kind == "training")
        with torch.set_grad_enabled(kind == "training"), autocast(device, self.precision):
            x = self._in_its_format(x)
        if kind == "forward":
            return self._forward(x)
        return self._model_step(x) if x.shape[1] == 3 else self._layer_step(x)

    def least_work(self, kind: str) -> Work:
        """The least work of the job, with any number of kernels."""
        batch, *shape = self.shape
        alone = not isinstance(self.network, Network)
        return least(step_of(self.network, shape, batch, DTYPES[self.precision], kind == "training", alone))

    def _in_its_format(self, x: Tensor) -> Tensor:
        """Puts x and the network into their fastest memory format, and returns x.

        The format is channels-last for PyTorch's convolutions, and contiguous for native kernels. The stem has native
        kernels in inference only.
        """
        layer, maps = _first_layer(self.network, x)
        stem = self.network.stem if isinstance(self.network, Network) else layer
        layer_is_native = runs_operator(layer, maps, layer.conv)
        stem_is_native = layer_is_native if stem is layer else takes_stem_kernel(stem, x)
        all_native = layer_is_native and stem_is_native
        self.network.to(memory_format=torch.contiguous_format if all_native else torch.channels_last)
        return x if stem_is_native else x.to(memory_format=torch.channels_last)

    def _set_training(self, training: bool) -> None:
        if self.network.training != training:  # else the way through all modules would be part of the measured time
            self.network.train(training)

    def _logits(self, x: Tensor) -> Tensor:
        with autocast(x.device, self.precision):
            return self.network(x)

    def _forward(self, x: Tensor) -> Job:
        @torch.inference_mode()
        def run() -> Tensor:
            self._set_training(False)
            return self._logits(x)

        return run

    def _layer_step(self, x: Tensor) -> Job:
        """The gradient of the output is given: a loss would be a third of a fast layer's time."""
        with torch.no_grad():
            grad = torch.randn_like(self._logits(x))  # in the memory format of the outputs

        def run() -> None:
            self._set_training(True)
            self.network.zero_grad()
            self._logits(x.detach().requires_grad_()).backward(grad)

        return run

    def _model_step(self, x: Tensor) -> Job:
        optimizer = torch.optim.SGD(self.network.parameters(), lr=1e-4, momentum=0.9, fused=True)  # as train.py
        labels = torch.zeros(len(x), dtype=torch.long, device=x.device)

        def run() -> None:
            self._set_training(True)
            self.network.zero_grad()
            F.cross_entropy(self._logits(x).float(), labels).backward()
            optimizer.step()

        return run


def layer_subjects(
    layout: str, stage: str, batch: int, backend: str, device: torch.device, precision: str = "fp32"
) -> list[Subject]:
    """One subject for each layer at a stage's shape. The different blocks of a model make one subject together."""
    _, channels, side = next(shape for shape in SHAPES[layout] if shape[0] == stage)
    subjects = []
    for model, name in LAYER_MODELS.items():
        blocks = model_config(model).stages[stage].blocks
        network = nn.Sequential(*(_layer(block.layer, channels, block.args) for block in blocks)).to(device)
        macs = count(network, (channels, side, side)).macs / len(blocks)
        shape = batch, channels, side, side
        subjects.append(Subject(name, set_backend(network, backend), shape, macs, len(blocks), precision))
    return subjects


def model_subject(
    model: str, layout: str, batch: int, backend: str, device: torch.device, precision: str = "fp32", width: float = 1.0
) -> Subject:
    classes, pixels = LAYOUTS[layout]
    size = image_size_of(model_config(model), pixels)
    network = create_model(model, classes, layout=layout, width=width, image_size=size)
    macs = count(network, (3, size, size)).macs
    network = set_backend(network.to(device), backend)
    return Subject(model, network, (batch, 3, size, size), macs, precision=precision)


def _layer(layer: str, channels: int, args: dict) -> nn.Module:
    args = dict(args)
    if "topology" in args:
        args["topology"] = Topology(**args["topology"]).resized(channels)
    return build_layer(layer, channels, channels, **args)


def _first_layer(network: Any, x: Tensor) -> tuple[ConvLayer, Tensor]:
    """The first layer behind the stem, and its input. Of a network of layers, its first layer."""
    if not isinstance(network, Network):
        return network[0], x
    stage: Any = next(iter(network.stages.values()))
    layer, seen = stage.layers[0], []
    handle = layer.register_forward_pre_hook(lambda _, inputs: seen.extend(inputs))
    with torch.no_grad():
        network(x)
    handle.remove()
    return layer, seen[0]
