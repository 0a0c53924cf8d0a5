"""A step of a network: its operations as torch runs them, and the inputs and outputs of its layers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from efficientconv.layers import ChannelBottleneckConv2d, ConvLayer
from efficientconv.roofline.work import Recorder, Work, on_meta, size


@dataclass(frozen=True)
class Setting:
    """The setting of a training step, or of an inference."""

    batch: int
    precision: str
    layout: str
    training: bool = True


@dataclass(frozen=True)
class LayerMaps:
    """One call of a layer: the input of its convolution and its output. A channel-bottleneck pair has its second half."""

    layer: ConvLayer
    conv: nn.Module
    batch: int
    height: int  # of the input
    width: int
    places: int  # of the output, over all images
    bytes_in: int
    bytes_out: int
    bytes_weights: int

    @property
    def flops(self) -> int:
        if hasattr(self.conv, "cost"):
            return 2 * self.conv.cost(self.height, self.width).macs * self.batch
        return 2 * self.conv.weight.numel() * self.places


@dataclass(frozen=True)
class Step:
    """`training`: forward, backward and a step of SGD with momentum; else an inference.

    alone: the step is of single layers, whose inputs have a gradient too, and which no optimizer changes.
    """

    training: bool
    alone: bool
    operations: list[Work]
    layers: list[LayerMaps]


def step_of(
    model: nn.Module, shape: Sequence[int], batch: int, dtype: torch.dtype, training: bool = True, alone: bool = False
) -> Step:
    """A step of `model` on `batch` images or maps of shape (n, h, w). Nothing is computed; the model stays as it was."""
    state = {name: on_meta(t, dtype) for name, t in [*model.named_parameters(), *model.named_buffers()]}
    weights = [state[name].requires_grad_(training) for name, _ in model.named_parameters()]
    x = torch.empty(batch, *shape, device="meta", dtype=dtype).to(memory_format=torch.channels_last)
    x.requires_grad_(training and alone)
    with _mode(model, training), _maps(model) as layers, torch.set_grad_enabled(training), Recorder() as recorder:
        y = torch.func.functional_call(model, state, (x,))
        if training:
            y.backward(torch.empty_like(y))
    if training and not alone:
        recorder.work.append(_sgd(weights))
    return Step(training, alone, recorder.work, layers)


def _sgd(weights: list[Tensor]) -> Work:
    """One kernel for all weights. It reads weights, gradients and momenta, and writes weights and momenta, in float32."""
    return Work("optimizer", 0, sum(w.numel() for w in weights) * 4 * 5)


@contextmanager
def _maps(model: nn.Module) -> Iterator[list[LayerMaps]]:
    layers: list[LayerMaps] = []

    def note(layer: ConvLayer, inputs: tuple[Tensor], y: Tensor) -> None:
        conv, (x,) = layer.conv, inputs
        bytes_in, (height, width) = size(x), x.shape[2:]
        if isinstance(conv, ChannelBottleneckConv2d):
            conv, (height, width) = conv.expansion, y.shape[2:]
            bytes_in = y.element_size() * y.numel() // y.shape[1] * conv.in_channels
        weights = sum(w.numel() for w in conv.parameters()) * y.element_size()
        layers.append(
            LayerMaps(layer, conv, len(x), height, width, y.numel() // y.shape[1], bytes_in, size(y), weights)
        )  # fmt: skip

    handles = [module.register_forward_hook(note) for module in model.modules() if isinstance(module, ConvLayer)]
    try:
        yield layers
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def _mode(model: nn.Module, training: bool) -> Iterator[None]:
    modes = {module: module.training for module in model.modules()}
    model.train(training)
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode
