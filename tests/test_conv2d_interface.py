"""Every layer as nn.Conv2d's users know a layer: its arguments, attributes and sizes, and what torch does with modules."""

from __future__ import annotations

import copy
import inspect
import io
import pickle
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from test_distributed import torchrun
from torch import Tensor, nn
from torch.nn.utils import parametrizations, skip_init

from efficientconv.layers import LAYERS, ConvLayer, GroupedConv2d, StandardConv2d, TopologicalConv2d, build_layer
from efficientconv.layers.backend import set_backend
from efficientconv.models import create_model
from reference import CELLS, NEEDS, SIZES, two

EACH_LAYER = pytest.mark.parametrize("name", LAYERS.names())
EACH_SIZE = [
    pytest.param(name, sizes, id=f"{name}-{'-'.join(f'{k}={v}' for k, v in sizes.items())}")
    for name in LAYERS.names()
    for sizes in (CELLS if name == "spatial_bottleneck" else SIZES)
]


def make(name: str, **sizes: object) -> nn.Module:
    n, m, args = NEEDS[name]
    return LAYERS.get(name)(n, m, **{"kernel_size": 3, **args, **sizes}).eval()


def maps(name: str, h: int = 7, w: int = 8, batch: int = 2) -> Tensor:
    return torch.randn(batch, NEEDS[name][0], h, w)


def conv2d(n: int, m: int, groups: int = 1, **sizes: object) -> nn.Conv2d:
    """Torch's, with our defaults; its "same" is for strides of 1 only."""
    reach = [d * (k - 1) // 2 for k, d in zip(two(sizes["kernel_size"]), two(sizes.get("dilation", 1)))]
    padding = {"valid": 0}.get(sizes.get("padding"), sizes.get("padding", tuple(reach)))
    return nn.Conv2d(n, m, groups=groups, **{"bias": False, **sizes, "padding": padding})


# ---------------------------------------------------------------- arguments, attributes, sizes


@pytest.mark.parametrize("name, sizes", [case for case in EACH_SIZE if case.values[0] != "spatial_bottleneck"])
def test_sizes_and_attributes_are_those_of_torchs_convolution(name: str, sizes: dict) -> None:
    layer, torchs, x = make(name, **sizes), conv2d(*NEEDS[name][:2], **sizes), maps(name)
    assert layer(x).shape == torchs(x).shape
    for attribute in ("in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "padding_mode"):
        assert getattr(layer, attribute) == getattr(torchs, attribute), attribute
    assert (layer.bias is None) == (torchs.bias is None)
    assert layer.extra_repr().startswith(torchs.extra_repr()) or name == "grouped"


@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_standard_and_grouped_layers_are_torchs_to_the_bit(sizes: dict) -> None:
    for layer, groups in ((StandardConv2d(4, 6, **sizes), 1), (GroupedConv2d(4, 6, groups=2, **sizes), 2)):
        torchs = conv2d(4, 6, groups, **sizes)
        torchs.load_state_dict(layer.state_dict())
        x = torch.randn(2, 4, 7, 8)
        assert torch.equal(layer(x), torchs(x))


@pytest.mark.parametrize(
    ("name", "sizes", "parts"),
    [
        ("unravelled", {}, ["kernel_size=(3, 3)", "stride=(1, 1)", "padding=(1, 1)", "bias=False", "bases=2"]),
        ("topological", {"bias": True}, ["topology=Topology(dims=(3,), connections=(2,), anchor='center')"]),
        ("spatial_bottleneck", {"kernel_size": (2, 3), "padding": (1, 0)}, ["kernel_size=(2, 3)", "padding=(1, 0)"]),
    ],
)
def test_repr_names_what_makes_the_layer(name: str, sizes: dict, parts: list[str]) -> None:
    shown = repr(make(name, **sizes)).partition("\n  (")[0]
    assert all(part in shown for part in parts), shown
    assert ("bias=False" in shown) != ("bias" in sizes)


def test_repr_of_a_layer_with_its_batch_norm_says_whether_there_is_a_residual() -> None:
    assert "residual=True" in repr(build_layer("sic", 4, 4, kernel_size=3))
    assert "residual=False" in repr(build_layer("sic", 4, 4, kernel_size=3, stride=2)), "the maps differ in size"


@EACH_LAYER
def test_unbatched_maps_work_where_torchs_do(name: str) -> None:
    layer, x = make(name), maps(name)
    if name == "channel_bottleneck":  # it has a batch norm
        with pytest.raises(ValueError, match="expected 4D input"):
            layer(x[0])
    else:
        torch.testing.assert_close(layer(x[0]), layer(x)[0])


@EACH_LAYER
@pytest.mark.parametrize("shape", [(8,), (7, 8)])
def test_maps_of_too_few_dimensions_are_refused_in_torchs_words(name: str, shape: tuple[int, ...]) -> None:
    with pytest.raises(RuntimeError, match="conv2d, but got input of size|Padding length should be less than"):
        make(name)(torch.randn(shape))


REFUSED_BY_TORCH: list[dict] = [
    {"in_channels": 6, "out_channels": 8, "groups": 4}, {"in_channels": 8, "out_channels": 6, "groups": 4},
    {"groups": 0}, {"groups": -1}, {"padding": "full"}, {"padding": ""}, {"padding_mode": "zero"}, {"padding_mode": None},
]  # fmt: skip


@EACH_LAYER
@pytest.mark.parametrize("wrong", REFUSED_BY_TORCH, ids=str)
def test_wrong_arguments_are_refused_in_torchs_words(name: str, wrong: dict) -> None:
    """Its sets have no order: the words in any order, and in ours the values besides."""
    layer, (n, m, args) = LAYERS.get(name), NEEDS[name]
    if not wrong.keys() <= inspect.signature(layer).parameters.keys():
        return
    with pytest.raises(ValueError) as torchs:
        nn.Conv2d(**{"in_channels": n, "out_channels": m, "kernel_size": 3, **wrong})
    with pytest.raises(torchs.type) as ours:
        layer(**{"in_channels": n, "out_channels": m, "kernel_size": 3, **args, **wrong})
    assert set(re.findall(r"\w+", str(torchs.value))) <= set(re.findall(r"\w+", str(ours.value)))


@EACH_LAYER
def test_device_and_dtype_reach_every_weight(name: str) -> None:
    n, m, args = NEEDS[name]
    layer = build_layer(name, n, m, **args, kernel_size=3, bias=True, device="meta", dtype=torch.bfloat16)
    assert {p.dtype for p in layer.parameters()} == {torch.bfloat16}
    assert {t.device.type for t in (*layer.parameters(), *layer.buffers())} == {"meta"}


@EACH_LAYER
def test_reset_parameters_draws_what_the_constructor_draws(name: str) -> None:
    torch.manual_seed(0)
    layer = build_layer(name, *NEEDS[name][:2], **NEEDS[name][2], kernel_size=3, bias=True)
    torch.manual_seed(0)
    again = copy.deepcopy(layer)
    for tensor in (*again.parameters(), *again.buffers()):
        tensor.data.zero_()
    if hasattr(again.conv, "neighbours"):
        again.conv.neighbours.copy_(layer.conv.neighbours)
    again.reset_parameters()
    for ours, theirs in zip(again.state_dict().values(), layer.state_dict().values(), strict=True):
        assert torch.equal(ours, theirs)


# ---------------------------------------------------------------- what torch does with modules


def emptied(layer: nn.Module, remade: Callable[[], nn.Module]) -> nn.Module:
    with torch.device("meta"):
        new = remade()
    new.to_empty(device="cpu")
    new.load_state_dict(layer.state_dict())
    return new


def assigned(layer: nn.Module, remade: Callable[[], nn.Module]) -> nn.Module:
    with torch.device("meta"):
        new = remade()
    new.load_state_dict(layer.state_dict(), assign=True)
    return new


def skipped(layer: nn.Module, _: Callable[[], nn.Module]) -> nn.Module:
    name = next(name for name in LAYERS.names() if LAYERS.get(name) is type(layer))
    n, m, args = NEEDS[name]
    new = skip_init(type(layer), n, m, kernel_size=3, **args)
    new.load_state_dict(layer.state_dict())
    return new


def saved(layer: nn.Module, _: Callable[[], nn.Module]) -> nn.Module:
    file = io.BytesIO()
    torch.save(layer, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


def weight_normed(layer: nn.Module, _: Callable[[], nn.Module]) -> nn.Module:
    new = copy.deepcopy(layer)
    for module in list(new.modules()):
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d, TopologicalConv2d)):
            parametrizations.weight_norm(module)
    return new


def program_of(layer: nn.Module, strict: bool = False) -> torch.export.ExportedProgram:
    """For maps of any size; a side of one cell is a case of its own for torch."""
    h, w = (torch.export.Dim(side, min=4, max=99) for side in "hw")
    x = torch.randn(2, layer.in_channels, 6, 6)
    sizes = ({0: torch.export.Dim("batch"), 2: h, 3: w},)
    return torch.export.export(layer, (x,), dynamic_shapes=sizes, strict=strict)


def exported(layer: nn.Module, _: Callable[[], nn.Module]) -> nn.Module:
    return program_of(layer).module()


def strictly_exported(layer: nn.Module, _: Callable[[], nn.Module]) -> nn.Module:
    program = program_of(layer, strict=True)
    assert "efficientconv" not in str(program.graph), "other programs have no such operators"
    return program.module()


class Session(nn.Module):
    """What ONNX Runtime makes of a file."""

    def __init__(self, file: bytes):
        super().__init__()
        runtime = pytest.importorskip("onnxruntime")
        self.session = runtime.InferenceSession(file, providers=["CPUExecutionProvider"])

    def forward(self, x: Tensor) -> Tensor:
        return torch.from_numpy(self.session.run(None, {self.session.get_inputs()[0].name: x.numpy()})[0])


def in_onnx(layer: nn.Module, _: Callable[[], nn.Module]) -> nn.Module:
    pytest.importorskip("onnxscript")
    file = torch.onnx.export(program_of(layer), dynamo=True, verbose=False).model_proto
    return Session(file.SerializeToString())


def deep_copied(layer: nn.Module, _: Callable[[], nn.Module]) -> nn.Module:
    return copy.deepcopy(layer)


def pickled(layer: nn.Module, _: Callable[[], nn.Module]) -> nn.Module:
    return pickle.loads(pickle.dumps(layer))


def traced(layer: nn.Module, _: Callable[[], nn.Module]) -> nn.Module:
    return torch.fx.symbolic_trace(layer)


HABITS = [
    emptied, assigned, skipped, deep_copied, pickled, saved, weight_normed, traced, exported, strictly_exported, in_onnx
]  # fmt: skip


@EACH_LAYER
@pytest.mark.parametrize("habit", HABITS, ids=lambda habit: habit.__name__)
def test_layer_is_the_same_after(habit: Callable, name: str) -> None:
    layer = make(name)
    new = habit(layer, lambda: make(name))
    if habit not in (exported, strictly_exported):
        new.eval()
    x = maps(name, 11, 6, batch=3)
    for backend in ("auto", "reference"):
        torch.testing.assert_close(set_backend(new, backend)(x), layer(x))


@pytest.mark.parametrize("habit", [exported, in_onnx], ids=lambda habit: habit.__name__)
@pytest.mark.parametrize("kernel, padding", [(2, 0), (2, 1), (3, 1), (3, 2), ((2, 3), (1, 2))], ids=str)
def test_exported_cells_fit_maps_of_any_size(kernel: int | tuple, padding: int | tuple, habit: Callable) -> None:
    """Also where the last cell is not whole, or the grid is shifted."""
    layer = make("spatial_bottleneck", kernel_size=kernel, padding=padding, bias=True)
    program = habit(layer, lambda: layer)
    for h, w in ((8, 8), (11, 6), (6, 11), (9, 9), (5, 4)):
        x = maps("spatial_bottleneck", h, w, batch=3)
        torch.testing.assert_close(program(x), layer(x))


@pytest.mark.parametrize("name", "cfkl")
def test_a_network_can_be_traced_for_its_features(name: str) -> None:
    network = create_model(name, 10, layout="cifar", width=0.25).eval()
    x = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(torch.fx.symbolic_trace(network)(x), network(x), rtol=1e-4, atol=1e-4)


def test_a_convolution_of_others_makes_a_layer() -> None:
    layer = ConvLayer(nn.Conv2d(3, 8, 3, stride=2), 3, 8)
    assert layer(torch.randn(2, 3, 9, 9)).shape == (2, 8, 4, 4) and not layer.residual


FULLY_SHARDED = """
import os
import sys
import torch
import torch.distributed as dist
from torch.distributed.fsdp import fully_shard
sys.path[:0] = sys.argv[1:]
from reference import NEEDS
from efficientconv.layers import build_layer

dist.init_process_group("gloo")
mesh = dist.init_device_mesh("cpu", (dist.get_world_size(),))
for name, (n, m, args) in NEEDS.items():
    torch.manual_seed(0)
    layer = build_layer(name, n, m, kernel_size=3, bias=name != "spatial_bottleneck", **args)
    torch.manual_seed(0)
    sharded = fully_shard(build_layer(name, n, m, kernel_size=3, bias=name != "spatial_bottleneck", **args), mesh=mesh)
    for network in (layer, sharded):
        optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
        torch.manual_seed(1)
        for _ in range(2):
            optimizer.zero_grad()
            network(torch.randn(2, n, 6, 6)).square().mean().backward()
            optimizer.step()
    for ours, theirs in zip(sharded.parameters(), layer.parameters(), strict=True):
        torch.testing.assert_close(ours.full_tensor(), theirs)
    print("same", name, flush=True)
dist.barrier()
dist.destroy_process_group()
os._exit(0)  # at the end of Python, a thread of torch's was once seen to abort the process
"""


def test_fully_sharded_layers_train_as_whole_ones_do(tmp_path: Path) -> None:
    script, tests = tmp_path / "train.py", Path(__file__).parent  # so named it begins warm
    script.write_text(FULLY_SHARDED)
    done = torchrun(2, script, tests, tests.parent)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("same") == 2 * len(NEEDS)
