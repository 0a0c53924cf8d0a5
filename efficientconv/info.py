"""Facts about the machine and the code: versions, device, threads, compiled kernels, the commit.

    python -m efficientconv.info        prints what a bug report needs

The command also works if packages are missing, even torch. It compiles nothing. Of the environment it prints only
OMP_NUM_THREADS.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import efficientconv
from efficientconv.files import ROOT
from efficientconv.system import cores

if TYPE_CHECKING:
    import torch  # whose import takes seconds, and not every caller needs it

PACKAGES = (
    "torch", "torchvision", "numpy", "pydantic", "pyyaml", "hydra-core", "omegaconf", "safetensors", "pillow", "simplejpeg",
    "scipy", "scikit-learn", "wandb", "onnx", "onnxruntime",
)  # fmt: skip
MISSING = "not installed"


def facts() -> dict[str, str]:
    """The facts, in the order in which they are printed."""
    about = {
        "efficientconv": f"{efficientconv.__version__} at {Path(efficientconv.__file__).parent}",
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cores": str(cores()),
    }
    about |= {name: version(name) or MISSING for name in PACKAGES}
    return about | (torch_facts() if about["torch"] != MISSING else {})


def version(package: str) -> str | None:
    """The version of a package; None if it is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def torch_facts() -> dict[str, str]:
    import torch

    gpus = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    return {
        "cpu": cpu_name(),
        "threads": f"{torch.get_num_threads()}, OMP_NUM_THREADS={os.environ.get('OMP_NUM_THREADS', 'unset')}",
        "gpus": ", ".join(gpus) or "none",
        "cuda": str(torch.version.cuda),
        "cudnn": str(torch.backends.cudnn.version()),
        "native kernels": kernels(),
    }


def kernels() -> str:
    """The state of the kernels: compiled for this machine, or not yet, or not possible."""
    from efficientconv.native import build

    if path := build.compiled():
        return f"compiled, {path}"
    try:
        return f"not yet compiled, compiler {build.compiler()}"
    except build.BuildError as error:
        return f"not compiled: {error}"


def environment(device: torch.device) -> dict:
    """The facts that a run keeps in environment.json."""
    import torch

    return {
        "python": platform.python_version(),
        "packages": {name: version(name) for name in PACKAGES},
        "platform": platform.platform(),
        "cpu": cpu_name(),
        "cpu_cores": cores(),
        "threads": torch.get_num_threads(),
        "device": device.type,
        "gpu": torch.cuda.get_device_name(device) if device.type == "cuda" else None,
        "cuda": torch.version.cuda if device.type == "cuda" else None,
        "tf32": torch.backends.cuda.matmul.allow_tf32 if device.type == "cuda" else None,
        "cudnn": torch.backends.cudnn.version() if device.type == "cuda" else None,
        **git_state(),
    }


def git_state() -> dict[str, str | bool | None]:
    """The commit of this project's code and whether files differ from it; null outside a git checkout."""
    commit = _git("rev-parse", "HEAD")
    changes = _git("status", "--porcelain", "--untracked-files=no")
    return {"git_commit": commit, "git_dirty": None if commit is None else bool(changes)}


def short_commit(environment: Mapping[str, Any]) -> str:
    """The shortened commit in an `environment`, or in a `git_state`. A plus means that files differed from the commit."""
    commit = environment.get("git_commit")
    return "unknown" if commit is None else commit[:7] + ("+" if environment.get("git_dirty") else "")


def cpu_name() -> str:
    """The processor's name, and the vector instructions that torch uses."""
    import torch

    name = platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), name)
    except OSError:
        pass
    return f"{name} ({torch.backends.cpu.get_cpu_capability()})"


def _git(*args: str) -> str | None:
    if not (ROOT / ".git").exists():  # installed: a repository around it, if there is one, is another project's
        return None
    try:
        return subprocess.run(["git", *args], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def main() -> None:
    lines = facts()
    width = max(map(len, lines))
    print("\n".join(f"{name:{width}}  {value}" for name, value in lines.items()))


if __name__ == "__main__":
    main()
