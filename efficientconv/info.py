"""What a bug report needs: python -m efficientconv.info

Versions, which backends there are, what is compiled, threads. Runs where packages are missing, torch included, and builds
nothing.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
from pathlib import Path

import efficientconv
from efficientconv.system import cores

PACKAGES = (
    "torch", "torchvision", "numpy", "pydantic", "pyyaml", "hydra-core", "omegaconf", "safetensors", "pillow", "simplejpeg",
    "scipy", "scikit-learn", "wandb", "onnx", "onnxruntime",
)  # fmt: skip
MISSING = "not installed"


def facts() -> dict[str, str]:
    """In the order in which they are printed."""
    about = {
        "efficientconv": f"{efficientconv.__version__} at {Path(efficientconv.__file__).parent}",
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cores": str(cores()),
    }
    about |= {name: version(name) for name in PACKAGES}
    return about | (torch_facts() if about["torch"] != MISSING else {})


def version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return MISSING


def torch_facts() -> dict[str, str]:
    import torch

    from efficientconv.engine.environment import cpu_name

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
    """Whether they are compiled for this machine, or could be."""
    from efficientconv.native import build

    if path := build.compiled():
        return f"compiled, {path}"
    try:
        return f"not yet compiled, compiler {build.compiler()}"
    except build.BuildError as error:
        return f"not compiled: {error}"


def main() -> None:
    lines = facts()
    width = max(map(len, lines))
    print("\n".join(f"{name:{width}}  {value}" for name, value in lines.items()))


if __name__ == "__main__":
    main()
