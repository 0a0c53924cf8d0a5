"""Compiles the native kernels once for this machine, and loads them.

The library lies in the user's cache (cache.py). The file's name is a digest of sources, flags, torch and the processor's
instructions, so another torch, or another machine with the same home directory, builds another library. One process builds
at a time, and the others wait. A killed build leaves no unfinished library and no running compiler. torch's own
cpp_extension does not do this: it needs ninja, trusts whatever lies in its cache, and a killed build blocks the next one.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import torch

from efficientconv.errors import UserError
from efficientconv.files import InUse, lock
from efficientconv.native.cache import BuildError, folder_to_build_in, hold, remove_old, remove_remains, store, stored

SOURCE_DIR = Path(__file__).parent / "csrc"
TIME_LIMIT = 600  # seconds for the compiler; it needs about 30
HAVE_OWNERS = hasattr(os, "getuid")  # not on Windows
# Runs a command beside a watcher. This process holds stdin open; when stdin ends, the watcher kills the command's group.
WATCHER = 'exec 3<&0 </dev/null; (read _ <&3; kill -KILL 0) >/dev/null 2>&1 & exec "$@" 3<&-'

_one_thread = threading.Lock()


@cache
def available() -> bool:
    """Whether the native kernels are loaded. The first call builds them; if that fails, it warns once."""
    error = failure()
    if error:
        warnings.warn(f"native layers not available, the plain PyTorch ones run instead: {error}", stacklevel=2)
    return error is None


@cache
def failure() -> BuildError | None:
    """Why the native kernels are not loaded; None: they are loaded. The first call builds them."""
    try:
        path = library()
        torch.ops.load_library(path)
        hold(path)
    except (BuildError, OSError) as error:
        return BuildError(str(error.__cause__ or error))  # torch's own message gives no reason
    return None


def library() -> Path:
    """The path of the compiled kernels. Builds them if they are missing. Raises BuildError."""
    with _one_thread:
        return compiled() or _build()


def compiled() -> Path | None:
    """The path of the kernels; None: they are not compiled for this machine."""
    return stored(_name()) if HAVE_OWNERS else None


def _name() -> str:
    sources = sorted(SOURCE_DIR.iterdir())
    parts = [torch.__version__, platform.machine(), *flags(), *(s.name + s.read_text() for s in sources)]
    return f"native-{hashlib.sha256(chr(10).join(parts).encode()).hexdigest()[:16]}"


def compiler() -> str:
    """Path of $CXX or of the first C++ compiler found. Raises BuildError."""
    if not HAVE_OWNERS:
        raise BuildError("Windows is not supported: files have no owner there that could be checked before they are run")
    for name in filter(None, (os.environ.get("CXX"), "g++", "c++", "clang++")):
        if found := shutil.which(name):
            return found
    raise BuildError("no C++ compiler found (g++ 10 or later, or clang++); install one or set CXX")


def flags() -> list[str]:
    """The compiler's flags on this machine."""
    chosen = ["-O3", "-std=c++20", "-fPIC", "-fopenmp", "-ffp-contract=fast", "-Wno-psabi", "-fvisibility=hidden"]
    chosen.append(f"-D_GLIBCXX_USE_CXX11_ABI={int(torch.compiled_with_cxx11_abi())}")
    if lanes() == 16:
        chosen += ["-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl"]
    if torch.backends.cpu.get_cpu_capability() in ("AVX2", "AVX512"):
        chosen += ["-mavx2", "-mfma"]
    return chosen


def lanes() -> int:
    """Floats in a vector, kLanes in csrc/vec.h. Torch has asked the processor; ATEN_CPU_CAPABILITY=avx2 limits both."""
    return 16 if torch.backends.cpu.get_cpu_capability() == "AVX512" else 8


def _build() -> Path:
    program, folder, name = compiler(), folder_to_build_in(), _name()
    note = folder / f"{name}.{_identity(program)}.failed"
    try:
        with _alone(folder):  # another process may have built meanwhile
            return compiled() or _compile(program, folder, name, note)
    except (OSError, UserError) as error:
        raise BuildError(f"the build failed: {error}") from None


def _identity(program: str) -> str:
    found = os.stat(program)
    return hashlib.sha256(f"{program} {found.st_size} {found.st_mtime_ns}".encode()).hexdigest()[:8]


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Holds the folder's lock. Waits while another process builds there."""
    while True:
        try:
            held = lock(folder / "build.lock", "in use")
            break
        except InUse:
            time.sleep(0.2)
    try:
        remove_remains(folder)
        yield
        remove_old(folder)
    finally:
        os.close(held)


def _compile(program: str, folder: Path, name: str, note: Path) -> Path:
    if note.exists():  # this compiler failed on these sources a short time ago: a new try would be slow
        raise BuildError(f"{note.read_text()}; not tried again for a day, or until {note} is deleted")
    print("compiling the native kernels, once for this machine, about 30 s ... ", end="", file=sys.stderr, flush=True)
    began, outcome = time.monotonic(), "failed"
    try:
        with tempfile.TemporaryDirectory(prefix="build-", dir=folder) as temporary:
            path = store(folder, name, _linked(program, Path(temporary)))
        outcome = "done"
    except BuildError as error:
        note.write_text(str(error))
        raise
    finally:
        print(f"{outcome} after {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    return path


def _linked(program: str, folder: Path) -> Path:
    """Compiles the sources in parallel, and links the library in `folder`. Raises BuildError."""
    home, built = Path(torch.__file__).parent, folder / "native.so"
    includes = [f"-isystem{home / 'include'}", f"-isystem{home / 'include/torch/csrc/api/include'}"]
    sources = {folder / f"{source.stem}.o": source for source in sorted(SOURCE_DIR.glob("*.cpp"))}
    _run([[program, *flags(), *includes, "-c", source, "-o", compiled] for compiled, source in sources.items()], folder)
    _run([[program, *flags(), "-shared", *sources, f"-L{home / 'lib'}", "-lc10", "-ltorch_cpu", "-o", built]], folder)
    return built


def _run(commands: Sequence[Sequence[str | Path]], folder: Path) -> None:
    """Runs the commands in parallel. Raises BuildError when one fails or takes too long.

    All commands and their child processes are killed then, and also when this process ends, whatever ends it.
    """
    environment, end = os.environ | {"TMPDIR": str(folder)}, time.monotonic() + TIME_LIMIT
    watched, held = os.pipe()
    pipes: dict[str, Any] = {"stdin": watched, "stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    running: list[subprocess.Popen[str]] = []
    try:
        for command in commands:
            call = ["/bin/sh", "-c", WATCHER, "sh", *command]
            running.append(subprocess.Popen(call, env=environment, start_new_session=True, **pipes))
        for process in running:
            errors = process.communicate(timeout=end - time.monotonic())[1]
            if process.returncode:
                reason = next((line for line in errors.splitlines() if "error" in line), "no message")
                raise BuildError(f"{commands[0][0]} failed: {reason}")
    except subprocess.TimeoutExpired:
        raise BuildError(f"{commands[0][0]} did not finish in {TIME_LIMIT} s") from None
    finally:
        for process in running:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        os.close(watched)
        os.close(held)
