"""The paper's convolutional layers. Importing this package registers every layer that a file in it defines.

    from efficientconv.layers import SICConv2d, build_layer
    layer = build_layer("sic", 64, 64, kernel_size=3)       # with batch norm, residual connection and ReLU
    conv = SICConv2d(64, 128, 3, stride=2, bias=True)       # the bare convolution, for networks of your own

All layers take nn.Conv2d's arguments, but by default `padding` is "same" and `bias` is False. Marks such as [A] say how
sure a fact of the paper is: docs/paper.md.
"""

from importlib import import_module
from pkgutil import iter_modules

from efficientconv.layers.base import LAYERS, ConvLayer, build_layer
from efficientconv.layers.channel_bottleneck import ChannelBottleneckConv2d
from efficientconv.layers.grouped import GroupedConv2d
from efficientconv.layers.sic import SICConv2d
from efficientconv.layers.spatial_bottleneck import SpatialBottleneckConv2d
from efficientconv.layers.standard import StandardConv2d
from efficientconv.layers.topological import TopologicalConv2d
from efficientconv.layers.topology import Topology
from efficientconv.layers.unravelled import UnravelledConv2d

__all__ = [
    "LAYERS", "ChannelBottleneckConv2d", "ConvLayer", "GroupedConv2d", "SICConv2d", "SpatialBottleneckConv2d",
    "StandardConv2d", "TopologicalConv2d", "Topology", "UnravelledConv2d", "build_layer",
]  # fmt: skip

for _file in iter_modules(__path__):  # a new layer is a new file here; there is no list of layers
    import_module(f"{__name__}.{_file.name}")
