"""Compiles the native kernels once for this machine, and loads them.

The library lies in the user's cache under a name made of everything that it depends on (sources, flags, torch, what the
processor has), so that another torch or another machine on the same home directory builds its own. It is put there in
one step: processes that build at the same time, or are killed, leave nothing half done.
"""

from __future__ import annotations

import hashlib
import logging
import os
import platform
import shutil
import subprocess
import tempfile
import warnings
from functools import cache
from pathlib import Path

import torch

SOURCE_DIR = Path(__file__).parent / "csrc"
log = logging.getLogger(__name__)

TIME_LIMIT = 600  # seconds for the compiler; it needs about 30


class BuildError(Exception):
    """Why there are no native kernels, in one line."""


@cache
def available() -> bool:
    """Whether the native kernels are loaded; the first call builds them, or warns, once, and leaves the reference path."""
    error = failure()
    if error:
        warnings.warn(f"native layers not available, the plain PyTorch ones run instead: {error}", stacklevel=2)
    return error is None


@cache
def failure() -> BuildError | None:
    """Why the native kernels are not loaded; None: they are. The first call builds them."""
    try:
        torch.ops.load_library(library())
    except (BuildError, OSError) as error:
        return BuildError(str(error.__cause__ or error))  # torch's own says no more than that it could not
    return None


def library() -> Path:
    """The compiled kernels, built if need be. Raises BuildError."""
    path = library_path()
    if not path.exists():
        log.info("building the native layers, once for this machine: about 30 seconds")
        _compile([str(source) for source in sorted(SOURCE_DIR.glob("*.cpp"))], path)
    return path


def library_path() -> Path:
    """Where the kernels are, once they are compiled."""
    sources = sorted(SOURCE_DIR.iterdir())
    parts = [torch.__version__, platform.machine(), *flags(), *(s.name + s.read_text() for s in sources)]
    name = hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
    return cache_dir() / f"native-{name}.so"


def cache_dir() -> Path:
    """Beside other caches of the user; XDG_CACHE_HOME moves it, as it does theirs."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "efficientconv"


def compiler() -> str:
    """Path of $CXX or of the first C++ compiler found. Raises BuildError."""
    for name in filter(None, (os.environ.get("CXX"), "g++", "c++", "clang++")):
        if found := shutil.which(name):
            return found
    raise BuildError("no C++ compiler found (g++ 10 or later, or clang++); install one or set CXX")


def flags() -> list[str]:
    """What the compiler is told here."""
    chosen = ["-O3", "-std=c++20", "-fPIC", "-fopenmp", "-ffp-contract=fast", "-Wno-psabi", "-fvisibility=hidden"]
    chosen.append(f"-D_GLIBCXX_USE_CXX11_ABI={int(torch._C._GLIBCXX_USE_CXX11_ABI)}")
    if lanes() == 16:
        chosen += ["-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl"]
    if torch.backends.cpu.get_cpu_capability() in ("AVX2", "AVX512"):
        chosen += ["-mavx2", "-mfma"]
    return chosen


def lanes() -> int:
    """Floats in a vector, kLanes in csrc/vec.h. Torch has asked the processor; ATEN_CPU_CAPABILITY=avx2 holds both back."""
    return 16 if torch.backends.cpu.get_cpu_capability() == "AVX512" else 8


def _compile(sources: list[str], path: Path) -> None:
    home = Path(torch.__file__).parent
    includes = [f"-isystem{home / 'include'}", f"-isystem{home / 'include/torch/csrc/api/include'}"]
    libraries = [f"-L{home / 'lib'}", "-lc10", "-ltorch_cpu"]
    command = [compiler(), *flags(), *includes, "-shared", *sources, *libraries]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            built = Path(folder) / path.name
            subprocess.run([*command, "-o", str(built)], check=True, capture_output=True, text=True, timeout=TIME_LIMIT)
            built.replace(path)
    except subprocess.CalledProcessError as error:
        reason = next((line for line in error.stderr.splitlines() if "error" in line), "no message")
        raise BuildError(f"{command[0]} failed: {reason}") from None
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BuildError(f"the build failed: {error}") from None
