"""Memory that the kernels keep, for a server to which pictures of ever-changing sizes come. Bytes are counted, not time.

And memory that the kernels did not write: they must not compute with it.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

from conftest import ROOT
from efficientconv.native import build

SERVER = """
import random, sys, torch
import efficientconv as ec
from efficientconv.native.memory import kept_bytes
layer = ec.layers.SICConv2d(32, 32, 3) if sys.argv[1] == "sic" else torch.nn.Conv2d(32, 32, 3, padding=1)
sizes, most = random.Random(0), [0, 0]
with torch.inference_mode():
    for turn in range(160):
        layer(torch.randn(1, 32, sizes.randint(200, 400), sizes.randint(200, 400)))
        resident = int(open("/proc/self/statm").read().split()[1]) * 4096
        most[turn // 80] = max(most[turn // 80], resident)
before = kept_bytes()
ec.empty_cache()
print(*most, before, kept_bytes())
"""
PLANS = """
import torch
import efficientconv as ec
from efficientconv.native.memory import kept_bytes
most, x = 0, torch.randn(1, 1024, 3, 3)
with torch.inference_mode():
    for seen in range(16, 32):
        layer = ec.layers.TopologicalConv2d(1024, 1024, 3, topology=ec.layers.Topology((32, 32), (24, seen)))
        y = layer(x)
        most = max(most, kept_bytes())
    ec.empty_cache()
    print(most, kept_bytes(), torch.equal(layer(x), y), kept_bytes() > 0)
"""
MASKS = """
import torch
import efficientconv as ec
def resident():
    ec.empty_cache()
    return int(open("/proc/self/statm").read().split()[1]) * 4096
layer = ec.layers.SICConv2d(1, 1, 7)
with torch.inference_mode():
    layer(torch.randn(1, 1, 9, 9))
    before = resident()
    layer(torch.randn(1, 1, 1024, 1024))
print(resident() - before)
"""
# glibc fills new memory with the number 3.4e38. The product of this number and a large weight overflows, and the processor
# notes that.
UNWRITTEN = """
import ctypes, ctypes.util, torch
from test_native import LAYERS, channels_of, make_layer
from efficientconv.layers.backend import set_backend
from efficientconv.layers import ConvLayer
from efficientconv.models.entry import stem_and_pool, takes_stem_kernel

OVERFLOW = 8
math = ctypes.CDLL(ctypes.util.find_library("m"))
torch.set_num_threads(1)

def overflows(network, x, run=None):
    with torch.no_grad():
        for p in network.parameters():
            p.mul_(100)
    math.feclearexcept(OVERFLOW)
    with torch.set_grad_enabled(network.training):
        y = (run or network)(x)
    if network.training:
        y.backward(torch.ones_like(y))
    return bool(math.fetestexcept(OVERFLOW))

filled = bool((torch.empty(1 << 16) > 3e38).all())
layer = set_backend(make_layer("sic").eval(), "native")
print(filled and overflows(layer, torch.full((2, channels_of("sic"), 6, 6), 3e38)))
for training in (False, True):
    for height, width in ((6, 6), (5, 9), (1, 3), (13, 12)):
        for name in LAYERS:
            layer = set_backend(make_layer(name).train(training), "native")
            if overflows(layer, torch.randn(2, channels_of(name), height, width).requires_grad_(training)):
                print(name, height, width, training)
stem = ConvLayer(torch.nn.Conv2d(3, 20, 3, 2, 1, bias=False), 3, 20, residual=False).eval()
for side in (33, 37, 46):
    with torch.no_grad():
        assert takes_stem_kernel(stem, torch.randn(3, 3, side, side))
    if overflows(stem, torch.randn(3, 3, side, side), lambda x: stem_and_pool(stem, torch.nn.MaxPool2d(3, 2, 1), x)):
        print("stem", side)
"""


def serve(layer: str) -> list[int]:
    """The most memory in the first and in the second 80 pictures, what is kept at the end, and what after it is emptied."""
    call = [sys.executable, "-c", SERVER, layer]
    return [int(n) for n in subprocess.run(call, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split()]


@pytest.mark.slow
@pytest.mark.skipif(not build.available(), reason="no C++ compiler")
def test_a_server_of_ever_changing_sizes_levels_off_beside_a_plain_convolution():
    first, second, kept, emptied = serve("sic")
    _, plain, *_ = serve("conv")
    largest = 32 * 400 * 400 * 4  # a map
    assert second <= first + 3 * largest  # a kept map for each new size would be twenty times that
    assert kept <= 4 * largest and second <= plain + 6 * largest
    assert kept > 0 and emptied == 0


@pytest.mark.skipif(not build.available(), reason="no C++ compiler")
def test_the_plans_of_many_topologies_have_a_cap():
    done = subprocess.run([sys.executable, "-c", PLANS], cwd=ROOT, check=True, capture_output=True, text=True)
    most, emptied, same, kept = done.stdout.split()
    assert 256 << 20 < int(most) <= 512 << 20 and emptied == "0" and (same, kept) == ("True", "True")


@pytest.mark.skipif(not build.available(), reason="no C++ compiler")
def test_nothing_of_a_large_picture_stays_in_an_emptied_cache():
    done = subprocess.run([sys.executable, "-c", MASKS], cwd=ROOT, check=True, capture_output=True, text=True)
    assert int(done.stdout) < 32 << 20  # the masks of its 49 taps take 196 MiB


@pytest.mark.skipif(not build.available() or platform.libc_ver()[0] != "glibc", reason="no C++ compiler, or no glibc")
def test_kernels_compute_with_nothing_that_they_did_not_write():
    """What memory held before may be denormal numbers. They change no result, but make a layer many times slower."""
    env = os.environ | {"MALLOC_PERTURB_": "128", "PYTHONPATH": f"{ROOT / 'tests'}"}
    done = subprocess.run([sys.executable, "-c", UNWRITTEN], cwd=ROOT, env=env, check=True, capture_output=True, text=True)
    noticed, *found = done.stdout.splitlines()
    assert noticed == "True" and not found, done.stdout
