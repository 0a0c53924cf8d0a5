"""A new layer with its loops, and a new data set: put into a copy of the project, found by all of it, taken out again."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import ROOT
from efficientconv.data import DATA_SETS
from efficientconv.layers import LAYERS

LAYER = '''"""A standard convolution whose kernels are mirrored."""

import torch
from torch import Tensor, nn

from efficientconv.complexity import Cost, conv_cost
from efficientconv.layers.base import LAYERS
from efficientconv.layers.geometry import check_channels, geometry, out_size


@LAYERS.register("mirrored")
class MirroredConv2d(nn.Conv2d):
    """MACs: n m k^2 h' w', as the standard layer's."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size, stride=1, padding="same", dilation=1, bias: bool = False,
        padding_mode: str = "zeros", *, device=None, dtype=None,
    ):
        check_channels(in_channels, out_channels)
        sizes = geometry(kernel_size, stride, padding, dilation, padding_mode)
        super().__init__(in_channels, out_channels, bias=bias, device=device, dtype=dtype, **sizes._asdict())

    def forward(self, x: Tensor) -> Tensor:
        return self._conv_forward(x, self.weight.flip(3), self.bias)

    def cost(self, h: int, w: int) -> Cost:
        h, w = out_size(self, h, w)
        area = self.kernel_size[0] * self.kernel_size[1]
        return conv_cost(self.in_channels, self.out_channels, area, 1, h * w, bias=self.bias is not None)
'''
DATA_SET = '''"""Stripes across or down."""

import torch

from efficientconv.config import DataConfig
from efficientconv.data.dataset import DATA_SETS, DataSet, MemorySplit


@DATA_SETS.register("stripes", image_size=32, flip=True, mean=[0.5, 0.5, 0.5], std=[0.5, 0.5, 0.5], val_fraction=0.25)
def stripes(config: DataConfig) -> DataSet:
    across = (torch.arange(config.image_size) % 4 < 2).expand(config.image_size, -1).mul(255).to(torch.uint8)
    images = torch.stack([across, across.T])[:, None].expand(-1, 3, -1, -1).repeat(64, 1, 1, 1)
    split = MemorySplit(images, torch.arange(len(images)) % 2)
    return DataSet("stripes", ["across", "down"], config.image_size, split, None, split)
'''
LOOPS = """

def mirrored(conv, maps, kernel_size, bias=False, **sizes):
    kernels = [[[row[::-1] for row in kernel] for kernel in inputs] for inputs in numbers(conv.weight)]
    planes = [added([filtered(plane, kernel, **sizes) for plane, kernel in zip(maps, inputs)]) for inputs in kernels]
    return shifted(planes, conv.bias)


ORACLES["mirrored"] = mirrored
"""
LAYER_TABLES = ("test_complexity.py", "test_models.py", "test_export.py", "test_layers.py", "test_conv2d_interface.py")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project's code, tests and configuration."""
    copy = tmp_path_factory.mktemp("project")
    for name in ("efficientconv", "hydra_plugins", "configs", "scripts", "tests", "results", "docs"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__", "runs", "*.png"))
    for name in ("train.py", "eval.py", "pytest.ini", "README.md"):
        shutil.copy(ROOT / name, copy)
    return copy


def python(project: Path, *args: object) -> str:
    """What `python <args>` in the copy prints; it ends well."""
    env, call = os.environ | {"PYTHONPATH": str(project)}, [sys.executable, *map(str, args)]
    done = subprocess.run(call, cwd=project, env=env, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def layers_and_table(project: Path) -> tuple[list[str], str]:
    code = "import sys; sys.path.append('scripts'); from efficientconv.layers import LAYERS; from readme import layers;"
    names, table = python(project, "-c", f"{code} print(*LAYERS.names()); print(layers())").split("\n", 1)
    return names.split(), table


def test_a_layer_is_one_file(project: Path) -> None:
    file = project / "efficientconv" / "layers" / "mirrored.py"
    file.write_text(LAYER)
    names, table = layers_and_table(project)
    assert names == sorted([*LAYERS.names(), "mirrored"])
    assert "| `mirrored` | n m k² h' w' | `layers/mirrored.py` |" in table
    with (project / "tests" / "reference.py").open("a") as loops:
        loops.write(LOOPS)
    tables, chosen = [f"tests/{name}" for name in LAYER_TABLES], "mirrored or has_cases_and_an_oracle"
    told = python(project, "-m", "pytest", "-p", "no:cacheprovider", *tables, "-k", chosen)
    assert " passed" in told and " skipped" not in told
    model = (project / "configs" / "model" / "c.yaml").read_text().replace("layer: sic", "layer: mirrored")
    (project / "configs" / "model" / "mirrored.yaml").write_text(model.replace("name: c", "name: mirrored"))
    assert "mirrored" in python(project, "scripts/complexity.py", "--layers", "mirrored")
    file.unlink()
    assert layers_and_table(project)[0] == LAYERS.names()


def data_names(project: Path) -> list[str]:
    return python(project, "-c", "from efficientconv.data import DATA_SETS; print(*DATA_SETS.names())").split()


def test_a_data_set_is_one_file(project: Path) -> None:
    file = project / "efficientconv" / "data" / "sets" / "stripes.py"
    file.write_text(DATA_SET)
    assert data_names(project) == sorted([*DATA_SETS.names(), "stripes"])
    small = ("model=c", "model.width=0.125", "data=stripes", "trainer.epochs=1", "trainer.global_batch_size=32")
    told = python(project, "train.py", *small, "logger=jsonl", "run_dir=run")
    assert "data stripes" in told and "96 training images" in told
    assert "top-1" in python(project, "eval.py", "run=run")
    told = python(project, "-m", "pytest", "-p", "no:cacheprovider", "tests/test_data_sets.py", "-k", "stripes")
    assert " passed" in told and " skipped" not in told
    assert "no image files to decode" in python(project, "scripts/verify_data.py", "data=stripes")
    file.unlink()
    assert data_names(project) == DATA_SETS.names()
