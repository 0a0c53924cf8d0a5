"""The native kernels, built by themselves, under the address and undefined-behaviour sanitizers."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest

from efficientconv.layers import Topology
from efficientconv.native import build, plan
from efficientconv.native.plan import Plans, dense_plans, topological_plans

SANITIZE = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer", "-O1", "-g"]
MAPS = [(1, 1, 1), (2, 1, 5), (2, 7, 1), (3, 6, 6), (1, 9, 7), (2, 13, 17), (1, 30, 61)]  # images, height, width


def cases() -> list[tuple[int, int, int, int, Plans]]:
    """(channels, kernel, multiplier, weights, plans)"""
    small, three = Topology((3, 5), (2, 4)), Topology((2, 2, 3), (2, 1, 3), "corner")
    return [
        (15, 3, 0, 15 * 8 * 9, topological_plans(small, 3)),
        (12, 5, 0, 12 * 6 * 25, topological_plans(three, 5)),
        (12, 3, 1, 12 * 6, topological_plans(three, 1)),
        (7, 3, 1, 7 * 6, dense_plans(7, 6)),
        (3, 5, 4, 12 * 5, dense_plans(12, 5)),
        (6, 5, 2, 12 * 6, dense_plans(12, 6)),
        (1, 1, 0, 1, topological_plans(Topology((1,), (1,)), 1)),
        (3, 3, 1, 3 * 32, dense_plans(3, 32)),
    ]


def write_cases(path: Path) -> None:
    with path.open("wb") as file:
        for channels, kernel, multiplier, weights, plans in cases():
            for images, height, width in MAPS:
                for cell, padding in ((1, 0), (2, 0), (2, 1), (3, 2)):
                    head = [images, channels, height, width, kernel, multiplier, plans.outputs, weights, cell, padding]
                    for array in (head, *plans.forward, *plans.backward):
                        values = np.asarray(array, dtype=np.int32).ravel()
                        file.write(np.int32(values.size).tobytes() + values.tobytes())


@pytest.mark.parametrize("lanes", [8, 16])
def test_kernels_touch_only_their_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lanes: int):
    """Portable code has vectors of eight; with AVX-512 they have sixteen."""
    try:
        compiler = build.compiler()
    except build.BuildError:
        pytest.skip("no C++ compiler")
    if lanes > build.lanes():
        pytest.skip("no AVX-512 here")
    extra = [flag for flag in build.flags() if flag.startswith("-mavx512")] if lanes == 16 else []
    monkeypatch.setattr(plan, "BLOCK", 3 * lanes)
    plan.topological_plans.cache_clear(), plan.dense_plans.cache_clear()  # others are for this machine's own width
    program = tmp_path / "driver"
    sources = [str(Path(__file__).with_name("native_driver.cpp")), str(build.SOURCE_DIR / "kernels.cpp")]
    flags = ["-std=c++20", "-Wno-psabi", "-pthread", f"-I{build.SOURCE_DIR}", *extra, *SANITIZE]
    built = subprocess.run([compiler, *flags, *sources, "-o", str(program)], capture_output=True, text=True)
    if "cannot find" in built.stderr:
        pytest.skip("the compiler has no sanitizers")
    assert built.returncode == 0, built.stderr
    write_cases(tmp_path / "cases.bin")
    done = subprocess.run([str(program), str(tmp_path / "cases.bin")], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-4000:]
    assert done.stdout.startswith("checksum") and "nan" not in done.stdout
