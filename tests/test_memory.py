"""Memory that a training step has freed serves the next one."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

from conftest import ROOT, warm_python

FAULTS = """
import resource, statistics, sys, torch
from efficientconv.engine.device import keep_freed_memory
from efficientconv.models import create_model
if sys.argv[1] == "keep":
    keep_freed_memory(torch.device('cpu'))
model, images = create_model("c", num_classes=10, layout="imagenet", width=0.25), torch.randn(48, 3, 221, 221)
faults = []
for step in range(7):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    model(images).square().mean().backward()
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
print(int(statistics.median(faults)))
"""
PAGES = """
import ctypes, os, runpy, sys

class Malloc(ctypes.Structure):
    _fields_ = [(name, ctypes.c_int) for name in ("arena", "free_blocks", "fast", "blocks_of_own_pages", *"abcdef")]

script = sys.argv.pop(1)
sys.path.insert(0, os.path.dirname(script))
runpy.run_path(script, run_name="__main__")
libc = ctypes.CDLL(None)
libc.malloc.argtypes, libc.mallinfo.restype = [ctypes.c_size_t], Malloc
before = libc.mallinfo().blocks_of_own_pages
libc.malloc(40 << 20)
print(libc.mallinfo().blocks_of_own_pages - before)
"""


def page_faults(how: str, **environment: str) -> int:
    """Of the median training step of seven, whose largest map has 36 MB.

    Where free blocks lie differs from process to process, so the heap may still grow in one of the later steps.
    """
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_TUNABLES"))}
    command = [sys.executable, "-c", FAULTS, how]
    return int(subprocess.run(command, cwd=ROOT, env=clean | environment, check=True, capture_output=True, text=True).stdout)


@pytest.mark.slow
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's own settings")
def test_a_step_takes_the_pages_of_the_one_before():
    fresh = page_faults("leave")
    assert page_faults("keep") < fresh / 10
    assert page_faults("keep", MALLOC_MMAP_THRESHOLD_="33554432") > fresh / 2  # the user's own choice stands


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's own settings")
def test_a_tiers_times_are_measured_with_the_memory_settings_of_a_run(tmp_path):
    """A block above glibc's own limit, 32 MB, gets no pages of its own, which would go back when it is freed."""
    probe = tmp_path / "probe.py"
    probe.write_text(PAGES)
    call = [*warm_python(), str(probe), str(ROOT / "scripts" / "reproduce.py"), "table=2", "tier=smoke", "--dry-run"]
    done = subprocess.run([*call, "--results", str(tmp_path)], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "0"
