"""What only a GPU can show: steps as on the CPU, resume, determinism, compiled and captured steps, images and processes.

Skipped where torch finds no CUDA device. `python scripts/gpu_day.py --only gpu_tests` runs them on a GPU, and its page says
which passed there; until it has, none did. On a stand-in for CUDA they start and end, and compute nothing that counts.
"""

from __future__ import annotations

import copy

import pytest
import torch
from test_distributed import torchrun
from torch import nn
from triton_cases import CASES, errors

from conftest import ROOT, SMALL_RUN
from efficientconv.data import train_loader
from efficientconv.engine.device import batch_that_fits_named, set_determinism, set_tf32
from efficientconv.engine.trainer import Trainer
from efficientconv.errors import UserError
from efficientconv.gpu_day.correctness import PRECISIONS, ROUNDINGS, compared, logits
from efficientconv.latency import measure_latency
from efficientconv.layers import SpatialBottleneckConv2d
from efficientconv.layers.backend import set_backend
from efficientconv.models import create_model
from test_data_helpers import NUM_IMAGES, SIZE, config_for, make_photos
from test_trainer import CPU, OPTIM, SCHEDULE, STEPS, Batches, trainer_config

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no CUDA device"),
]
GPU = torch.device("cuda", 0)
MODELS = ["a", "c", "f", "i", "k", "m"]
ALL_MODELS = [*"abcdefghijklmno"]


class OnGPU(Batches):
    def epoch(self, epoch: int, start: int = 0):
        for images, labels in super().epoch(epoch, start):
            yield images.to(GPU), labels.to(GPU)


def trainer_on(device: torch.device, name: str, **changes: object) -> Trainer:
    torch.manual_seed(0)
    model = set_backend(create_model(name, num_classes=10, layout="cifar", width=0.125), "reference")
    model.head.dropout.p = 0.0  # the devices draw other numbers
    model.to(device, memory_format=torch.channels_last)
    config = trainer_config(**changes)
    return Trainer(model, config, OPTIM, SCHEDULE, seed=3, steps_per_epoch=STEPS, device=device)


def trained(trainer: Trainer, steps: int) -> Trainer:
    batches = (OnGPU if trainer.device.type == "cuda" else Batches)(8, STEPS)
    epoch = trainer.train_epoch(batches, 0)
    for _ in range(steps):
        next(epoch)
    return trainer


@pytest.fixture
def full_float32():
    set_tf32(False)
    yield
    set_tf32(True)


@pytest.mark.parametrize("name", ALL_MODELS)
def test_a_step_is_the_cpus(name):
    rows = list(compared(GPU, name))
    assert len(rows) == len(PRECISIONS) and all(row["right"] for row in rows), rows


@pytest.mark.parametrize("name", MODELS)
def test_deterministic_runs_are_bitwise_equal(name):
    set_determinism(True)
    try:
        first, second = (trained(trainer_on(GPU, name, ema_decay=0.9), STEPS) for _ in range(2))
    finally:
        set_determinism(False)
    states = first.state_dict()["ema"], second.state_dict()["ema"]
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_cut_run_ends_as_an_unbroken_one(precision):
    set_determinism(True)
    try:
        whole = trained(trainer_on(GPU, "c", precision=precision), STEPS)
        cut = trained(trainer_on(GPU, "c", precision=precision), 2)
        resumed = trainer_on(GPU, "c", precision=precision)
        resumed.load_state_dict(copy.deepcopy(cut.state_dict()))
        for _ in resumed.train_epoch(OnGPU(8, STEPS), 0):
            pass
    finally:
        set_determinism(False)
    assert all(torch.equal(a, b) for a, b in zip(whole.model.state_dict().values(), resumed.model.state_dict().values()))
    assert whole.meter.result() == resumed.meter.result()


@pytest.mark.parametrize("name, mode, precision", [
    ("c", "default", "fp32"), ("c", "max-autotune", "fp32"),
    *(("c", "reduce-overhead", precision) for precision in PRECISIONS), ("i", "reduce-overhead", "fp32"),
    ("k", "reduce-overhead", "fp32"),
])  # fmt: skip
def test_a_compiled_step_is_the_eager_one(name, mode, precision, full_float32):
    compiled, eager = (logits(GPU, name, precision, STEPS, compile=compile, compile_mode=mode) for compile in (True, False))
    rounding = (eager - logits(CPU, name, "float64", STEPS)).abs().max()
    assert (compiled - eager).abs().max() <= ROUNDINGS * rounding


@pytest.mark.parametrize("strict", [True, False])
def test_a_spatial_bottleneck_is_exported_with_any_height_and_width(strict):
    made = {"device": GPU, "dtype": torch.float64}
    layer, x = SpatialBottleneckConv2d(4, 4, 2, padding=1, **made), torch.randn(2, 4, 8, 8, **made)
    h, w = (torch.export.Dim(side, min=4) for side in "hw")
    program = torch.export.export(layer, (x,), dynamic_shapes=({2: h, 3: w},), strict=strict).module()
    for sides in ((8, 8), (11, 6), (5, 9)):
        x = torch.randn(2, 4, *sides, **made)
        torch.testing.assert_close(program(x), layer(x))


@pytest.mark.parametrize("name", CASES)
def test_layers_in_triton_compute_what_the_reference_does(name, full_float32):
    pytest.importorskip("triton")
    with GPU:
        found = errors(CASES[name])
    assert max(found) < (0.03 if CASES[name].autocast else 1e-5), found


def test_captured_dropout_is_a_function_of_seed_and_step():
    """A graph that is replayed draws from the generator that each step seeds anew."""

    def weights() -> list[torch.Tensor]:
        trainer = trainer_on(GPU, "c", compile=True, compile_mode="reduce-overhead")
        trainer.model.head.dropout.p = 0.5
        return [p.clone() for p in trained(trainer, STEPS).model.parameters()]

    set_determinism(True)
    try:
        assert all(torch.equal(a, b) for a, b in zip(weights(), weights()))
    finally:
        set_determinism(False)


@pytest.mark.parametrize("workers", [0, 2])
def test_images_from_files_are_the_cpus(workers, tmp_path):
    """Through the page-locked ring, which worker processes fill, and the stream of its own, epoch after epoch."""
    split = make_photos(tmp_path)
    config = config_for(split, mixup_alpha=0.4, cutmix_alpha=1.0, workers=workers)
    batches = {}
    for device in (GPU, CPU):
        loader = train_loader(
            split, config, image_size=SIZE, seed=0, device=device, global_batch_size=4, accumulation_steps=1,
            channels_last=True, num_classes=NUM_IMAGES,
        )  # fmt: skip
        batches[device] = [(i.cpu(), t.cpu()) for epoch in range(2) for i, t in loader.epoch(epoch)]
    for (images, targets), (expected, shares) in zip(batches[GPU], batches[CPU], strict=True):
        torch.testing.assert_close(images, expected, rtol=0, atol=1e-5)
        torch.testing.assert_close(targets, shares, rtol=0, atol=1e-6)


def test_a_step_that_does_not_fit_says_which_batch_to_try():
    trainer = trainer_on(GPU, "c")
    trainer.model.head.conv.register_forward_hook(lambda *_: torch.empty(1 << 50, dtype=torch.uint8, device=GPU))
    with pytest.raises(UserError, match="accumulation_steps=2"), batch_that_fits_named(trainer.config, processes=1):
        trained(trainer, 1)


def test_latency_is_measured_on_the_device():
    model = create_model("c", num_classes=10, layout="cifar", width=0.125)
    time = measure_latency({"c": model}, {"c": 32}, batch_size=64, device=GPU, repeats=3)["c"]
    assert time.ms_per_image > 0 and next(model.parameters()).is_cuda


@pytest.mark.parametrize("processes", [1, 2])
def test_torchrun_trains_on_as_many_gpus(processes, tmp_path):
    """One process starts no group: only two and more exchange something, over NCCL."""
    if torch.cuda.device_count() < processes:
        pytest.skip(f"needs {processes} GPUs")
    settings = "trainer.device=cuda", "trainer.sync_batch_norm=true", f"run_dir={tmp_path / 'run'}"
    done = torchrun(processes, "train.py", *SMALL_RUN, *settings)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "summary.json").exists()


@pytest.mark.parametrize(("backend", "processes"), [("cpu:gloo,cuda:nccl", 1), ("gloo", 2)])
def test_processes_on_one_gpu_train_as_one(backend, processes, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    done = torchrun(processes, "tests/gpu_processes.py", backend)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 1e-3  # 0.07 where batch norm takes the statistics of half a batch


def test_sync_batch_norm_takes_the_place_of_every_batch_norm():
    model = nn.SyncBatchNorm.convert_sync_batchnorm(create_model("c", num_classes=10, layout="cifar", width=0.125))
    kinds = {type(module) for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)}
    assert kinds == {nn.SyncBatchNorm}
