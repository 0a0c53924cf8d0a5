"""Memory that the kernels keep, for a server to which pictures of ever-changing sizes come. Bytes are counted, not time."""

from __future__ import annotations

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
MIB = 2**20


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
