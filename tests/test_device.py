"""Which device a run takes, what it says of one that it cannot use, and what it says when a step does not fit."""

from __future__ import annotations

import json
import warnings
from types import SimpleNamespace

import predict
import pytest
import torch
from test_damaged_input import IN_FILES, class_folders
from test_damaged_input import RUN as FOLDER_RUN

from conftest import SMALL_RUN, train_here
from efficientconv.data.workers import Ring
from efficientconv.engine.checkpoint import load_newest
from efficientconv.engine.device import batch_that_fits_named, choose_device, device_name, device_of_training, set_tf32
from efficientconv.engine.metrics import Meter
from efficientconv.engine.run_folder import RunFolder
from efficientconv.engine.training import Training
from efficientconv.errors import UserError
from efficientconv.latency import Latency
from efficientconv.roofline.peaks import Peaks
from test_trainer import CPU, STEPS, make_trainer, small_model, trainer_config, training_of

H100, OLD = (9, 0), (3, 5)


@pytest.fixture
def machine(monkeypatch):
    """torch.cuda as a machine with some GPUs answers: no test machine has one."""

    def pretend(gpus: int = 0, capability: tuple[int, int] = H100, driver: str | None = None, has_cuda: bool = True) -> None:
        def available() -> bool:
            if driver:
                warnings.warn(driver, stacklevel=1)
            return gpus > 0

        answers = {
            "is_available": available, "device_count": lambda: gpus, "get_device_capability": lambda _: capability,
            "get_arch_list": lambda: ["sm_75", "sm_90", "compute_120"], "set_device": lambda _: None,
            "get_device_name": lambda _: "NVIDIA H100",
        }  # fmt: skip
        for name, answer in answers.items():
            monkeypatch.setattr(torch.cuda, name, answer)
        monkeypatch.setattr(torch.version, "cuda", "13.0" if has_cuda else None)
        for name in ("CUDA_VISIBLE_DEVICES", "LOCAL_RANK"):
            monkeypatch.delenv(name, raising=False)

    return pretend


DRIVER = "CUDA initialization: The NVIDIA driver on your system is too old (found version 11040)\nsecond line"
UNUSABLE = [
    (dict(gpus=1, capability=OLD), "too old for this torch (compute capability 3.5, it needs 7.5)"),
    (dict(driver=DRIVER), "The NVIDIA driver on your system is too old (found version 11040)"),
]
WITHOUT_CUDA = dict(has_cuda=False), "this torch was built without CUDA"


@pytest.mark.parametrize(("gpus", "words"), [*UNUSABLE, (dict(gpus=0), "torch finds no CUDA device"), WITHOUT_CUDA])
def test_a_gpu_that_cannot_be_had_is_refused_in_one_line(machine, gpus, words):
    machine(**gpus)
    with pytest.raises(UserError) as refused:
        choose_device("cuda")
    assert words in str(refused.value) and "\n" not in str(refused.value)


def test_another_name_is_refused():
    with pytest.raises(UserError, match="device='gpu' must be one of auto, cpu, cuda"):
        choose_device("gpu")


@pytest.mark.parametrize(("gpus", "words"), UNUSABLE)
def test_auto_says_why_it_leaves_a_gpu_alone(machine, gpus, words):
    machine(**gpus)
    with pytest.warns(UserWarning) as told:
        assert choose_device("auto") == CPU
    assert [words in str(warning.message) for warning in told] == [True]


def test_auto_is_silent_where_there_is_nothing_to_say(machine, recwarn):
    machine(gpus=0)
    assert choose_device("auto") == CPU and device_name(CPU) == device_of_training(CPU) == "cpu"
    machine(has_cuda=False)
    assert choose_device("auto") == CPU
    machine(gpus=1)
    device = choose_device("auto")
    assert device == torch.device("cuda", 0) and device_name(device) == device_of_training(device) == "NVIDIA H100"
    assert not recwarn.list


def test_gpus_hidden_on_purpose_are_named(machine, monkeypatch):
    machine(gpus=0)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(UserError, match="CUDA_VISIBLE_DEVICES is empty"):
        choose_device("cuda")
    with pytest.warns(UserWarning, match="^this runs on the CPU: CUDA_VISIBLE_DEVICES is empty and hides every GPU$"):
        assert choose_device("auto") == CPU


def test_one_process_on_several_gpus_says_how_to_take_all(machine, monkeypatch):
    machine(gpus=8)
    said = device_of_training(choose_device("auto"))
    assert said == "NVIDIA H100 (1 of 8: torchrun --nproc_per_node=8 takes all)"
    assert device_name(choose_device("auto")) == "NVIDIA H100"  # for commands of one process
    monkeypatch.setenv("LOCAL_RANK", "3")
    device = choose_device("auto", 3)
    assert device == torch.device("cuda", 3) and device_of_training(device) == "NVIDIA H100"
    with pytest.raises(UserError, match="process 8 has no GPU"):
        choose_device("auto", 8)


def test_a_runs_summary_and_predictions_name_the_gpu(machine, monkeypatch):
    machine(gpus=8)
    gpu, of_run = torch.device("cuda", 0), training_of(make_trainer(small_model()))
    monkeypatch.setattr("efficientconv.engine.training.measure_latency", lambda *_, **__: {"": Latency(1.0, 0.1, 64)})
    monkeypatch.setattr("efficientconv.engine.training.quick_peaks", lambda _: Peaks({"convolution": 1.0}, 1.0))
    for device, found in ((gpu, "NVIDIA H100"), (CPU, None)):
        training = SimpleNamespace(**vars(of_run) | {"device": device, "image_size": 32})
        assert Training.measured_time(training).get("gpu") == found
    run = SimpleNamespace(config=SimpleNamespace(model=SimpleNamespace(name="c")), classes=["cat"], origin="best")
    assert predict.headline(SimpleNamespace(run=run, averaged=False, device=gpu), 2).endswith("best, NVIDIA H100")


def test_memory_that_cannot_be_page_locked_is_one_line(monkeypatch):
    def refused(_: int) -> None:
        raise RuntimeError("CUDA error: out of memory\nsecond line")

    monkeypatch.setattr(torch.cuda, "cudart", lambda: SimpleNamespace(cudaHostRegister=lambda *_: 2))
    monkeypatch.setattr(torch.cuda, "check_error", refused)
    with pytest.raises(UserError) as told:
        Ring(4, 100, 50, torch.device("cuda"))
    assert str(told.value) == (
        "CUDA cannot page-lock 3 MB of memory for images (CUDA error: out of memory); set data.workers or "
        "trainer.global_batch_size lower"
    )


def test_a_run_makes_the_memory_for_images_once_for_each_split(tmp_path, monkeypatch):
    """On a GPU this memory is page-locked, and the workers that fill it are started with it."""
    class_folders(tmp_path, size=(32, 32))
    made: list[int] = []
    init = Ring.__init__
    monkeypatch.setattr(Ring, "__init__", lambda self, *args: (made.append(args[1]), init(self, *args))[1])
    averaged = ("trainer.epochs=3", "trainer.ema_decay=0.9", "data.val_fraction=0.3")
    summary = train_here(*FOLDER_RUN, *IN_FILES, *averaged, f"data.root={tmp_path}", f"run_dir={tmp_path}/run")
    assert "ema_top1_percent" in summary and len(made) == 3  # training, held-out and test images


def test_tf32_is_set_for_convolutions_and_products():
    for allowed in (False, True):
        set_tf32(allowed)
        assert torch.backends.cudnn.allow_tf32 is torch.backends.cuda.matmul.allow_tf32 is allowed


def no_memory(*_: object) -> None:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")


@pytest.mark.parametrize(
    ("batch", "passes", "processes", "words"),
    [
        (8, 1, 1, "hold 8 images at a time: try 4, in a run of its own with trainer.accumulation_steps=2;"),
        (9, 1, 1, "hold 9 images at a time: try 3, in a run of its own with trainer.accumulation_steps=3;"),
        (24, 2, 2, "hold 6 images at a time: try 4, in a run of its own with trainer.accumulation_steps=3;"),
        (4, 2, 2, "hold 1 images at a time: no smaller batch exists;"),
    ],
)
def test_a_run_without_memory_says_which_batch_to_try(batch, passes, processes, words):
    config = trainer_config(global_batch_size=batch, accumulation_steps=passes)
    with pytest.raises(UserError, match=words), batch_that_fits_named(config, processes):
        no_memory()


@pytest.mark.parametrize("backend", ["auto", "reference"])
def test_batch_norm_over_one_value_is_one_line(backend, tmp_path):
    """One image a pass, and maps of one pixel in the last stage: images of 8 pixels a side."""
    of_one = ("data=synthetic", "data.image_size=8", "data.num_images=8", "data.num_classes=2", f"layers.backend={backend}")
    size = ("trainer.global_batch_size=4", "trainer.accumulation_steps=4")
    with pytest.raises(UserError, match="batch norm needs two values a channel: 4 x 1 passes of a step leave one image"):
        train_here(*SMALL_RUN, *of_one, *size, "model=c", "trainer.epochs=1", f"run_dir={tmp_path}")


def test_a_run_without_memory_is_kept_and_continued(tmp_path, monkeypatch):
    """Here the memory is short in the evaluation after the last step: nothing is trained again."""
    order = (*SMALL_RUN, "model=c", "trainer.epochs=1", f"run_dir={tmp_path}")
    with monkeypatch.context() as patch:
        patch.setattr("efficientconv.engine.training.evaluate", no_memory)
        with pytest.raises(UserError, match="last checkpoint is kept"):
            train_here(*order)
    folder = RunFolder(tmp_path)
    _, state = load_newest(folder.checkpoints)
    assert "does not hold 64 images" in json.loads((tmp_path / "status.json").read_text())["reason"]
    assert train_here(*order)["top1_percent"] > 0 and load_newest(folder.checkpoints)[1]["step"] == state["step"]


def test_checkpoints_have_a_meter_as_they_always_had():
    meter = Meter(CPU)
    logits = torch.eye(7)
    meter.add(torch.tensor(0.5), logits, torch.tensor([0, 1, 2, 0, 6, 6, 6]))
    state = meter.state_dict()
    assert state["correct"].tolist()[0] == 4 and state.keys() == {"loss_sum", "correct", "images", "seconds", "wait_seconds"}
    again = Meter(CPU)
    again.load_state_dict(state)
    assert again.result() == meter.result() and again.state_dict()["correct"].tolist() == state["correct"].tolist()


@pytest.mark.parametrize("passes", [1, 2])
def test_the_first_bad_step_is_named(passes):
    """Two passes a step have two losses: the second one of the third step is the bad one."""
    trainer = make_trainer(small_model(), accumulation_steps=passes)
    trainer.watch.every = STEPS  # as on a GPU: several steps between two looks
    trainer.watch.losses = torch.zeros(STEPS * passes)
    for step in range(1, STEPS + 1):
        for number in range(passes):
            trainer.watch.add(torch.tensor(torch.inf if (step, number) == (3, passes - 1) else 1.0), step)
        assert trainer.watch.found(step) == (step == STEPS)
    assert trainer.watch.first_bad_step() == 3
