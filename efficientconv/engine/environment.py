"""What a run ran on: versions, device, threads, the commit. Chosen facts only, no environment variables."""

from __future__ import annotations

import importlib.metadata
import platform
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from efficientconv.system import cores

if TYPE_CHECKING:
    import torch  # which takes seconds, and who asks for the commit alone does without it

_PACKAGES = ("torch", "torchvision", "numpy", "pillow", "simplejpeg", "hydra-core", "omegaconf", "pydantic", "wandb")
_ROOT = Path(__file__).resolve().parents[2]


def environment(device: torch.device) -> dict:
    """For environment.json."""
    import torch

    return {
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in _PACKAGES},
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


def cpu_name() -> str:
    """As the kernel names it, with the vector instructions that torch uses."""
    import torch

    name = platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), name)
    except OSError:
        pass
    return f"{name} ({torch.backends.cpu.get_cpu_capability()})"


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None  # wandb, for one, can be done without


def _git(*args: str) -> str | None:
    if not (_ROOT / ".git").exists():  # installed: a repository around it, if there is one, is another project's
        return None
    try:
        return subprocess.run(["git", *args], cwd=_ROOT, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
