"""The network around the layers: stem, stages, head, and the initialisation of the weights."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor, nn

from efficientconv.layers.backend import is_called_plainly
from efficientconv.layers.base import ConvLayer
from efficientconv.layers.topological import TopologicalConv2d
from efficientconv.models.entry import max_pool, run_layers, stem_and_pool


class Stage(nn.Module):
    """An optional pool, a 1x1 layer if the number of channels changes, then layers of equal shape."""

    pool: nn.Module

    def __init__(self, pool: nn.Module | None, transition: nn.Module | None, layers: Sequence[nn.Module]):
        super().__init__()
        self.pool = pool or nn.Identity()
        self.transition = transition or nn.Identity()
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.after_pool(max_pool(self.pool, x))

    def after_pool(self, x: Tensor) -> Tensor:
        return run_layers(self.layers, self.transition, x)


class Head(nn.Module):
    """1x1 layer, global average pool, fully connected, ReLU, dropout, classifier: n x h x w -> classes."""

    def __init__(self, conv: nn.Module, channels: int, hidden: int, dropout: float, num_classes: int):
        super().__init__()
        self.conv = conv
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.hidden = nn.Linear(channels, hidden)
        self.relu = nn.ReLU(inplace=True)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(hidden, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(self.conv(x)).flatten(1)
        return self.classifier(self.dropout(self.relu(self.hidden(x))))


class Network(nn.Module):
    """Images B x 3 x H x W -> logits B x classes. `stages` holds each stage under its name in the configuration."""

    stem: ConvLayer

    def __init__(self, stem: ConvLayer, stages: dict[str, Stage], head: Head):
        super().__init__()
        self.stem = stem
        self.stages = nn.ModuleDict(stages)
        self.head = head
        self.apply(init_weights)

    def forward(self, x: Tensor) -> Tensor:
        first, *others = self.stages.values()
        if type(first) is Stage and is_called_plainly(first):  # the stem's kernel also computes the first stage's pool
            x = first.after_pool(stem_and_pool(self.stem, first.pool, x))
        else:
            x = first(self.stem(x))
        for stage in others:
            x = stage(x)
        return self.head(x)


def classifier_of(network: nn.Module) -> str | None:
    """The name of the classifier, the last fully connected layer. None: there is none."""
    return next((name for name, module in reversed([*network.named_modules()]) if isinstance(module, nn.Linear)), None)


def init_weights(module: nn.Module) -> None:
    """He initialisation, fan-out, for convolutions [D]. Fully connected layers keep torch's initialisation."""
    if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
        # torch's fan-out forgets the groups: a depthwise filter has one output, not n
        fan_out = module.out_channels // module.groups * math.prod(module.kernel_size)
        nn.init.normal_(module.weight, std=math.sqrt(2 / fan_out))
    elif isinstance(module, TopologicalConv2d):
        nn.init.kaiming_normal_(module.weight)  # n x c x k x k, with as many outputs an input as inputs an output
