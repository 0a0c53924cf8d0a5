"""The native kernels, built by themselves, under the address and undefined-behaviour sanitizers."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest

from efficientconv.layers import Topology
from efficientconv.layers.topology import as_arguments
from efficientconv.native import build

SANITIZE = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer", "-g1"]
# images, height, width
MAPS = [
    (1, 1, 1), (2, 1, 5), (2, 7, 1), (3, 6, 6), (1, 9, 7), (2, 13, 17), (1, 30, 61), (3, 40, 61),
    (3, 4, 4), (2, 5, 8), (2, 12, 16),  # of whole rows in a vector
]  # fmt: skip


def cases() -> list[tuple[int, int, int, int, int, Topology | None]]:
    """(channels, kernel, multiplier, outputs, weights, topology)"""
    small, three, one = Topology((3, 5), (2, 4)), Topology((2, 2, 3), (2, 1, 3), "corner"), Topology((1,), (1,))
    grid = Topology((4, 8), (2, 4))  # tiles of two fours that are not neighbours
    return [
        (15, 3, 0, 15, 15 * 8 * 9, small),
        (12, 5, 0, 12, 12 * 6 * 25, three),
        (15, 7, 0, 15, 15 * 8 * 49, small),
        (32, 3, 0, 32, 32 * 8 * 9, grid),
        (32, 3, 1, 32, 32 * 8, grid),
        (12, 3, 1, 12, 12 * 6, three),
        (7, 3, 1, 6, 7 * 6, None),
        (3, 5, 4, 5, 12 * 5, None),
        (6, 5, 2, 6, 12 * 6, None),
        (1, 1, 0, 1, 1, one),
        (3, 3, 1, 32, 3 * 32, None),
    ]


def write_cases(path: Path) -> None:
    with path.open("wb") as file:
        for channels, kernel, multiplier, outputs, weights, topology in cases():
            dims, connections, anchor = as_arguments(topology)
            for images, height, width in MAPS:
                head = [images, channels, height, width, kernel, multiplier, outputs, weights]
                for array in (head, dims, connections, [anchor == "corner"]):
                    values = np.asarray(array, dtype=np.int32).ravel()
                    file.write(np.int32(values.size).tobytes() + values.tobytes())


@pytest.mark.slow
@pytest.mark.parametrize("lanes", [8, 16])
def test_kernels_touch_only_their_memory(tmp_path: Path, lanes: int):
    """Portable code has vectors of eight; with AVX-512 they have sixteen."""
    try:
        compiler = build.compiler()
    except build.BuildError:
        pytest.skip("no C++ compiler")
    if lanes > build.lanes():
        pytest.skip("no AVX-512 here")
    extra = [flag for flag in build.flags() if flag.startswith("-mavx512")] if lanes == 16 else []
    program = tmp_path / "driver"
    sources = [str(Path(__file__).with_name("native_driver.cpp")), str(build.SOURCE_DIR / "kernels.cpp")]
    flags = ["-std=c++20", "-Wno-psabi", "-pthread", f"-I{build.SOURCE_DIR}", *extra, *SANITIZE]
    built = subprocess.run([compiler, *flags, *sources, "-o", str(program)], capture_output=True, text=True)
    if "cannot find" in built.stderr:
        pytest.skip("the compiler has no sanitizers")
    assert built.returncode == 0 and "warning" not in built.stderr, built.stderr
    write_cases(tmp_path / "cases.bin")
    done = subprocess.run([str(program), str(tmp_path / "cases.bin")], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-4000:]
    assert done.stdout.startswith("checksum") and "nan" not in done.stdout
