"""The optimizer step: accumulation, the moving average, weight decay, precision, and state that brings all of it back."""

from __future__ import annotations

import copy
import warnings
from collections import Counter
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from efficientconv.config import OptimConfig, ScheduleConfig, TrainerConfig
from efficientconv.engine import device as device_module
from efficientconv.engine.checkpoint import load_newest, save_checkpoint
from efficientconv.engine.device import set_determinism, warn_of_slow_format
from efficientconv.engine.distributed import World
from efficientconv.engine.metrics import Meter
from efficientconv.engine.optim import build_optimizer
from efficientconv.engine.preemption import Preemption
from efficientconv.engine.trainer import Trainer, batch_norms, batches_counted
from efficientconv.layers.backend import set_backend
from efficientconv.models import create_model

CPU = torch.device("cpu")
OPTIM = OptimConfig(name="sgd", lr=0.1, momentum=0.9, nesterov=False, weight_decay=1e-3)
SCHEDULE = ScheduleConfig(name="cosine")
STEPS = 4


class Batches:
    """A train loader of fixed random batches: `steps` of `accumulation` micro-batches an epoch."""

    def __init__(self, batch: int, count: int, size: int = 32):
        self.batch, self.count, self.size = batch, count, size

    def epoch(self, epoch: int, start: int = 0):
        for number in range(start, self.count):
            generator = torch.Generator().manual_seed(1000 * epoch + number)
            images = torch.randn(self.batch, 3, self.size, self.size, generator=generator)
            yield images, torch.randint(0, 10, (self.batch,), generator=generator)


def trainer_config(**changes: object) -> TrainerConfig:
    values = dict(
        epochs=2, global_batch_size=8, accumulation_steps=1, label_smoothing=0.0, ema_decay=None, device="cpu",
        precision="fp32", channels_last=False, compile=False, deterministic=False, sync_batch_norm=False,
        on_divergence="stop", checkpoint_minutes=10.0,
    )  # fmt: skip
    return TrainerConfig(**values | changes)


def make_trainer(model: nn.Module, **changes: object) -> Trainer:
    return Trainer(model, trainer_config(**changes), OPTIM, SCHEDULE, seed=3, steps_per_epoch=STEPS, device=CPU)


def training_of(trainer: Trainer, loader: object = None) -> SimpleNamespace:
    """What Run and RunStore need of a Training, around a trainer without data files."""
    return SimpleNamespace(
        trainer=trainer, loader=loader, world=World(), preemption=Preemption(), data=SimpleNamespace(val=None),
        config=SimpleNamespace(trainer=trainer.config), share_damage=lambda: None,
    )  # fmt: skip


def small_model(name: str = "c") -> nn.Module:
    torch.manual_seed(0)
    return create_model(name, num_classes=10, layout="cifar", width=0.0625 if name != "f" else 0.125)


def equal_states(a: dict, b: dict) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


@pytest.mark.parametrize("name", ["a", "c", "f", "k"])
@pytest.mark.parametrize("changes", [{}, {"accumulation_steps": 2}, {"ema_decay": 0.9, "label_smoothing": 0.1}])
def test_cut_anywhere_and_continued_ends_bit_for_bit_the_same(name, changes, tmp_path):
    loader = Batches(4, STEPS * changes.get("accumulation_steps", 1))
    whole = make_trainer(small_model(name), **changes)
    for epoch in range(2):
        for _ in whole.train_epoch(loader, epoch):
            pass

    cut = make_trainer(small_model(name), **changes)
    while cut.step < 2 * STEPS:
        for _ in cut.train_epoch(loader, cut.step // STEPS):
            save_checkpoint(tmp_path, cut.state_dict())
            break  # killed after every single step
        torch.manual_seed(99)  # a new process has another global generator
        cut = make_trainer(small_model(name), **changes)
        cut.load_state_dict(load_newest(tmp_path)[1])

    assert equal_states(whole.model.state_dict(), cut.model.state_dict())
    assert whole.meter.result() == cut.meter.result()
    if whole.ema:
        assert equal_states(whole.ema.model.state_dict(), cut.ema.model.state_dict())


def test_momenta_of_another_memory_format_continue_alike():
    """A fused optimizer would take them as they lie."""
    loader = Batches(4, STEPS)
    first = make_trainer(small_model("a").to(memory_format=torch.channels_last))
    for _ in first.train_epoch(loader, 0):
        pass
    state, ends = first.state_dict(), []
    for memory_format in (torch.channels_last, torch.contiguous_format):
        told = copy.deepcopy(state)
        for buffers in told["optimizer"]["state"].values():
            if buffers["momentum_buffer"].dim() == 4:
                buffers["momentum_buffer"] = buffers["momentum_buffer"].contiguous(memory_format=memory_format)
        trainer = make_trainer(small_model("a").to(memory_format=torch.channels_last))
        trainer.load_state_dict(told)
        for _ in trainer.train_epoch(loader, 1):
            pass
        ends.append(trainer.model.state_dict())
    assert equal_states(*ends)


def test_accumulated_gradients_are_those_of_the_whole_batch():
    # without batch norm, whose statistics are of a micro-batch, and without dropout
    def model() -> nn.Module:
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 10))

    class Halved(Batches):
        def epoch(self, epoch: int, start: int = 0):
            for images, labels in super().epoch(epoch, start // 2):
                yield from zip(images.chunk(2), labels.chunk(2))

    whole, halved = make_trainer(model()), make_trainer(model(), accumulation_steps=2)
    for _ in zip(whole.train_epoch(Batches(8, STEPS), 0), halved.train_epoch(Halved(8, STEPS), 0)):
        pass
    for a, b in zip(whole.model.parameters(), halved.model.parameters()):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


def test_a_step_is_sgd_with_momentum_and_decay_written_out():
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 4 * 4, 10))
    trainer = make_trainer(model)
    weight, bias = (p.detach().clone() for p in model.parameters())
    momentum_w, momentum_b = torch.zeros_like(weight), torch.zeros_like(bias)
    batches = list(Batches(8, STEPS, size=4).epoch(0))
    for _ in trainer.train_epoch(Batches(8, STEPS, size=4), 0):
        pass
    for step, (images, labels) in enumerate(batches):
        w, b = weight.clone().requires_grad_(), bias.clone().requires_grad_()
        F.cross_entropy(F.linear(images.flatten(1), w, b), labels).backward()
        lr = trainer.lr_at(step)
        momentum_w = 0.9 * momentum_w + w.grad + 1e-3 * weight
        momentum_b = 0.9 * momentum_b + b.grad  # a bias does not decay
        weight, bias = weight - lr * momentum_w, bias - lr * momentum_b
    torch.testing.assert_close(model[1].weight, weight)
    torch.testing.assert_close(model[1].bias, bias)


def test_batch_norm_and_biases_do_not_decay():
    model = small_model()
    decays = {id(p): group["weight_decay"] for group in build_optimizer(model, OPTIM).param_groups for p in group["params"]}
    for name, module in model.named_modules():
        for key, parameter in module.named_parameters(recurse=False):
            skipped = isinstance(module, nn.BatchNorm2d) or key == "bias"
            assert decays[id(parameter)] == (0 if skipped else OPTIM.weight_decay), f"{name}.{key}"


def test_moving_average_written_out():
    model = small_model()
    trainer = make_trainer(model, ema_decay=0.5)
    expected = copy.deepcopy(model.head.classifier.weight.detach())
    for step, _ in enumerate(trainer.train_epoch(Batches(4, STEPS), 0)):
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * model.head.classifier.weight.detach()
    torch.testing.assert_close(trainer.ema.model.head.classifier.weight, expected)
    assert not torch.equal(expected, model.head.classifier.weight)


def test_meter_counts_what_the_logits_say():
    trainer = make_trainer(nn.Sequential(nn.Flatten(), nn.Linear(48, 10)), label_smoothing=0.0)
    frozen = copy.deepcopy(trainer.model)
    batches = Batches(8, STEPS, size=4)
    next(iter(trainer.train_epoch(batches, 0)))
    images, labels = next(iter(batches.epoch(0)))
    ranked = frozen(images).argsort(dim=1, descending=True)
    result = trainer.meter.result()
    assert result.images == 8
    assert result.top1 == sum(int(r[0] == label) for r, label in zip(ranked, labels))
    assert result.top5 == sum(int(label in r[:5]) for r, label in zip(ranked, labels))
    assert result.loss == pytest.approx(F.cross_entropy(frozen(images), labels).item(), rel=1e-5)


def test_a_meter_ranks_many_batches_at_once_and_loses_none():
    torch.manual_seed(0)
    meter, logits = Meter(CPU), torch.empty(8, 10)
    top1 = top5 = 0
    with OpsCounted() as counted:
        for batch in range(40):
            logits.copy_(values := torch.randn(8, 10))  # to one place, as a CUDA graph does
            labels = torch.randint(0, 10, (8,))
            meter.add(torch.tensor(1.0), logits, labels)
            places = [sorted(row, reverse=True).index(row[label]) for row, label in zip(values.tolist(), labels.tolist())]
            top1, top5 = top1 + places.count(0), top5 + sum(place < 5 for place in places)
            if batch == 20:
                assert meter.state_dict()["correct"].tolist() == [top1, top5]
    result = meter.result()
    assert (result.top1, result.top5, result.images, result.loss) == (top1, top5, 320, 1.0)
    assert counted.ops["aten.topk.default"] == 3 and counted.ops["aten.add_.Tensor"] == 40 + 3


class OpsCounted(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.ops: Counter[str] = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.ops[str(func)] += 1
        return func(*args, **(kwargs or {}))


def test_slow_formats_are_warned_of_on_a_cpu_alone(monkeypatch):
    monkeypatch.setattr(device_module, "multiplies_bfloat16", lambda: False)
    with pytest.warns(UserWarning, match="fp16 on a CPU was measured to be 13 times slower than fp32"):
        warn_of_slow_format(torch.device("cpu"), "fp16")
    with pytest.warns(UserWarning, match="no instructions for bfloat16"):
        warn_of_slow_format(torch.device("cpu"), "bf16")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_slow_format(torch.device("cuda"), "fp16")
        warn_of_slow_format(torch.device("cuda"), "bf16")
        monkeypatch.setattr(device_module, "multiplies_bfloat16", lambda: True)
        warn_of_slow_format(torch.device("cpu"), "bf16")


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_mixed_precision_trains_with_float32_weights(precision):
    trainer = make_trainer(small_model(), precision=precision)
    before = copy.deepcopy(trainer.model.state_dict())
    for _ in trainer.train_epoch(Batches(8, STEPS), 0):
        pass
    assert torch.isfinite(torch.tensor(trainer.meter.result().loss))
    assert all(p.dtype == torch.float32 for p in trainer.model.parameters())
    assert not equal_states(before, trainer.model.state_dict())


@pytest.fixture
def deterministic():
    set_determinism(True)
    yield
    set_determinism(False)


@pytest.mark.parametrize("backend", ["reference", "auto"])
@pytest.mark.parametrize("name", ["a", "c", "f", "k"])
def test_deterministic_runs_are_bitwise_equal(name, backend, deterministic):
    def weights() -> dict:
        trainer = make_trainer(set_backend(small_model(name), backend), ema_decay=0.9)
        for _ in trainer.train_epoch(Batches(8, STEPS), 0):
            pass
        return trainer.state_dict()["ema"]

    assert torch.are_deterministic_algorithms_enabled()
    assert equal_states(weights(), weights())


def test_a_compiled_run_keeps_the_names_and_resumes_as_an_eager_one():
    def model() -> nn.Module:  # compiled in seconds
        return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 10))

    compiled = make_trainer(model(), compile=True)
    next(iter(compiled.train_epoch(Batches(8, STEPS), 0)))
    eager = make_trainer(model())
    eager.load_state_dict(compiled.state_dict())  # strict: the same names, without _orig_mod.
    assert eager.step == 1 and equal_states(eager.model.state_dict(), compiled.model.state_dict())


def test_seeds_give_other_dropout_and_steps_too():
    def logits(seed: int, step: int) -> torch.Tensor:
        trainer = make_trainer(nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(48, 10)))
        trainer.seed, trainer.step = seed, step
        torch.manual_seed(1)
        next(iter(trainer.train_epoch(Batches(8, STEPS, size=4), step // STEPS)))
        return trainer.meter.loss_sum

    torch.manual_seed(0)
    assert logits(3, 0) != logits(4, 0)


@pytest.mark.parametrize("passes", [1, 2])
def test_batches_counted_together_are_those_counted_one_by_one(passes):
    def state(together: bool) -> dict:
        trainer = make_trainer(set_backend(small_model(), "reference"), accumulation_steps=passes)
        trainer._counted_together = batch_norms(trainer.model) if together else []  # as on a GPU
        for _ in trainer.train_epoch(Batches(4, STEPS * passes), 0):
            pass
        return trainer.state_dict()["model"]

    together = state(True)
    assert equal_states(together, state(False)) and together["stem.bn.num_batches_tracked"] == STEPS * passes


def test_batch_norm_over_processes_counts_by_itself():
    assert not batch_norms(nn.SyncBatchNorm.convert_sync_batchnorm(small_model()))
    norm = nn.SyncBatchNorm(2)
    with batches_counted([norm]), pytest.raises(AssertionError):
        norm(torch.zeros(1, 2, 1, 1))


def test_a_pass_that_fails_leaves_the_counts():
    norms = batch_norms(small_model())
    with pytest.raises(ZeroDivisionError), batches_counted(norms):
        raise ZeroDivisionError
    assert len(norms) == 17 and all(norm.num_batches_tracked == 0 for norm in norms)
