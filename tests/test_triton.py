"""Layers in Triton: right in its interpreter, compiled for two GPUs without spilling, refused where they cannot run."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from triton_cases import CASES

from conftest import ROOT, command
from efficientconv.errors import UserError
from efficientconv.layers.backend import set_backend
from efficientconv.models import create_model

needs_triton = pytest.mark.skipif(find_spec("triton") is None, reason="triton is not installed")
KERNELS = [
    "_filter", "_filter_gradients", "_reduce", "_reduce_gradients", "_chunk_statistics", "_merge", "_norm_relu",
    "_chunk_sums", "_norm_backward",
]  # fmt: skip


@pytest.fixture(scope="module")
def interpreted() -> dict:
    done = command("tests/triton_cases.py", env=os.environ | {"TRITON_INTERPRET": "1", "PYTHONPATH": str(ROOT)})
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@needs_triton
@pytest.mark.parametrize("name", CASES)
def test_layers_in_triton_compute_what_the_reference_does(name: str, interpreted: dict) -> None:
    bound = 0.03 if CASES[name].autocast else 1e-5
    assert all(error < bound for error in interpreted["errors"][name]), interpreted["errors"][name]


@needs_triton
@pytest.mark.parametrize(
    "name",
    ["equal_bits", "compiled", "is_taken", "left_to_hooks", "left_to_reference", "not_taken_by_auto",
     "double_left_to_reference", "nan_stays", "counted_together", "mean_over_batches",
     "neighbours_are_kept"],
)  # fmt: skip
def test_layers_in_triton_keep(name: str, interpreted: dict) -> None:
    assert interpreted["properties"][name]


@pytest.fixture(scope="module")
def launches() -> dict[str, list[tuple]]:
    """Of the widest maps of models C, D and K: kernel, its arguments' types, constants and multiples of 16."""
    from efficientconv.fused import filters, layer, norm, reduction

    seen: dict[str, list[tuple]] = {name: [] for name in KERNELS}

    def note(kernel, grid, *args, **sizes) -> None:
        given = dict(zip(kernel.arg_names, args)) | sizes
        constants = {p.name: given[p.name] for p in kernel.params if p.is_constexpr}
        types = {name: "constexpr" if name in constants else _type(given[name]) for name in kernel.arg_names}
        even = [type_[0] == "*" or type_ == "i32" and given[name] % 16 == 0 for name, type_ in types.items()]
        divisible = {(i,): [["tt.divisibility", 16]] for i, is_even in enumerate(even) if is_even}
        if (launch := (kernel, types, constants, divisible)) not in seen[kernel.fn.__name__]:
            seen[kernel.fn.__name__].append(launch)

    def made(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        return torch.empty(shape, dtype=dtype, device="meta")

    with pytest.MonkeyPatch.context() as patch:
        for module in (filters, norm, reduction):
            patch.setattr(module, "launch", note)
        for dtype, (side, padding) in itertools.product((torch.bfloat16, torch.float32), ((3, 1), (5, 2), (2, 1))):
            x = made(256, 128, 36, 36, dtype=dtype).contiguous(memory_format=torch.channels_last)
            taps, c = made(128, 1, side, side), made(128)
            expansion = taps if side == 2 else None
            weights = x, taps, made(128, 128, 1, 1, dtype=dtype), expansion, None, c, c
            y, *between = layer._forward(*weights, None, None, True, True, 1e-5, padding)
            layer._backward(y, *weights, *between, True, True, padding)
    return seen


def _type(value: object) -> str:
    if isinstance(value, torch.Tensor):
        return {torch.bfloat16: "*bf16", torch.float32: "*fp32"}[value.dtype]
    return "fp32" if isinstance(value, float) else "i32"


@needs_triton
@pytest.mark.parametrize("capability", [80, 90])
@pytest.mark.parametrize("name", KERNELS)
def test_kernels_are_compiled_without_spilling(name: str, capability: int, launches: dict, tmp_path: Path) -> None:
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    reader = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
    assert launches[name]
    for kernel, types, constants, even in launches[name]:
        source = ASTSource(fn=kernel, signature=types, constexprs=constants, attrs=even)
        compiled = triton.compile(source, target=GPUTarget("cuda", capability, 32), options={"num_warps": 4})
        (tmp_path / "kernel.cubin").write_bytes(compiled.asm["cubin"])
        usage = subprocess.check_output([reader, "-res-usage", tmp_path / "kernel.cubin"], text=True)
        assert "STACK:0" in usage, usage


@pytest.mark.parametrize("missing, message", [("triton", "triton is not installed"), ("cuda", "torch finds no CUDA device")])
def test_triton_is_refused_where_it_cannot_run(missing: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: missing != "cuda")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if missing == "triton" else name)
    with pytest.raises(UserError, match=f"^layers.backend=triton: {message}.*choose auto or reference$"):
        set_backend(create_model("c", num_classes=10, layout="cifar", width=0.125), "triton")
