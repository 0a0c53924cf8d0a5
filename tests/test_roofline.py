"""scripts/roofline.py: work against other counts, the arithmetic of times by hand, and where measured shares come from."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
import torch

from conftest import command
from efficientconv import count, create_model
from efficientconv.layers import ConvLayer
from efficientconv.models import model_config
from efficientconv.results import roofline_table
from efficientconv.roofline import peaks as peaks_module
from efficientconv.roofline.execution import EXECUTIONS, least
from efficientconv.roofline.expect import expectations, ways_of
from efficientconv.roofline.limit import expected, limit
from efficientconv.roofline.machine import GUESSED, Machine, Share
from efficientconv.roofline.measured import Device, with_measured
from efficientconv.roofline.peaks import Peaks, quick_peaks
from efficientconv.roofline.step import Setting, step_of
from efficientconv.roofline.work import Work
from efficientconv.timing import Quartiles

SHAPE, BATCH = (3, 32, 32), 2
MODELS = "abcfhikm"
SLOW = Machine("slow", {"bf16": 1e9, "fp32": 1e8}, 1e7, 1e6, kernel_s=0.0, launch_s=0.0)


def network(name: str) -> torch.nn.Module:
    return create_model(name, 10, layout="cifar", width=0.125)


@pytest.mark.parametrize("name", MODELS)
def test_flops_are_twice_the_counted_macs(name):
    """count() asks torch's formulas and the layers' own: neither is used here for what eager multiplies."""
    model = network(name)
    for training in (False, True):
        step = step_of(model, SHAPE, BATCH, torch.bfloat16, training)
        forward = {kind: 2 * BATCH * count(model, SHAPE, kind).macs for kind in ("executed", "math")}
        stem = 2 * BATCH * count(model, SHAPE).layers["stem.conv"].macs  # whose images need no gradient
        eager = sum(work.flops for work in EXECUTIONS["eager"](step))
        assert eager == (3 * forward["executed"] - stem if training else forward["executed"])
        if not training:
            assert sum(work.flops for work in EXECUTIONS["fused"](step)) == forward["math"]


@pytest.mark.parametrize("name", MODELS)
def test_the_least_work_computes_every_connection_once_each_way(name):
    """And twice on the way back: for maps and weights, but not for the images."""
    model = network(name)
    macs = count(model, SHAPE, "math")
    forward, stem = 2 * BATCH * macs.macs, 2 * BATCH * macs.layers["stem.conv"].macs
    for training, flops in ((False, forward), (True, 3 * forward - stem)):
        assert least(step_of(model, SHAPE, BATCH, torch.float32, training)).flops == flops
    layer = model.stages["stage2"].layers
    alone = step_of(layer, (16, 4, 4), BATCH, torch.float32, training=True, alone=True)
    assert least(alone).flops == 3 * 2 * BATCH * count(layer, (16, 4, 4), "math").macs
    assert not any(work.kind == "optimizer" for work in alone.operations)


def test_a_share_of_the_limit_is_of_the_peak_that_binds():
    peaks = Peaks({"product": 50.0, "convolution": 100.0}, bytes_per_s=10.0)
    assert peaks.of_limit(Work("convolution", 400, 20), 8.0) == (0.5, "arithmetic")  # 4 s and 2 s
    assert peaks.of_limit(Work("convolution", 100, 20), 8.0) == (0.25, "memory")


@pytest.mark.parametrize(("device", "flops", "moved"), [("cpu", 1.53e9, 0.1e9), ("cuda", 98e9, 0.4e9)])
def test_quick_peaks_take_work_that_lasts_longer_than_its_launch(device, flops, moved, monkeypatch):
    """On a GPU of 1 PFLOP/s and 8 TB/s a tenth and a twentieth of a millisecond; a launch takes some microseconds."""
    for name in ("_convolution", "_triad"):
        made = getattr(peaks_module, name)
        monkeypatch.setattr(peaks_module, name, lambda _, *rest, made=made: made(torch.device("meta"), *rest))
    second = Quartiles(1.0, 1.0, 1.0)
    monkeypatch.setattr(peaks_module, "measure", lambda jobs, *_: dict.fromkeys(jobs, second))  # so that work is speed
    peaks = quick_peaks(torch.device(device))
    assert (peaks.flops_per_s, peaks.bytes_per_s) == (pytest.approx(flops, rel=0.01), pytest.approx(moved, rel=0.01))


def test_the_model_is_left_as_it_was():
    model = network("c").eval()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    step_of(model, SHAPE, BATCH, torch.float32)
    assert not model.training and all(p.grad is None for p in model.parameters())
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules() if isinstance(module, ConvLayer))


def test_bytes_of_a_layer_are_those_of_its_passes():
    """A SIC layer of 8 channels on 4 x 4 maps, bf16: 2 x 8 x 16 numbers of two bytes go in, and as many come out."""
    model = torch.nn.Sequential(ConvLayer(model_layer(), 8, 8))
    step = step_of(model, (8, 4, 4), BATCH, torch.bfloat16)
    maps, weights = 2 * 8 * 16 * 2, (8 * 9 + 8 * 8) * 2
    fused = [work for work in EXECUTIONS["fused"](step) if work.kind != "optimizer"]
    # R x W y; R y R x W out; R R R; R dy R out R y R x W dx: with the weights once forward, and twice back
    assert [work.bytes for work in fused] == [2 * maps + weights, 3 * maps, 3 * maps, 5 * maps + 2 * weights]
    norms = [work.bytes for work in step.operations if work.kind == "batch_norm"]
    assert norms == [3 * maps, 5 * maps]
    inference = step_of(model, (8, 4, 4), BATCH, torch.bfloat16, training=False).operations
    assert [work.bytes for work in inference if work.kind == "batch_norm"] == [2 * maps]
    assert [work.bytes for work in step.operations if work.kind == "optimizer"] == [20 * (8 * 9 + 8 * 8 + 16)]


def model_layer() -> torch.nn.Module:
    from efficientconv.layers import SICConv2d

    return SICConv2d(8, 8, 3)


def test_no_way_moves_more_than_the_one_before():
    for name in MODELS:
        ways = ways_of(model_config(name), Setting(16, "bf16", "imagenet"))
        moved = [sum(work.bytes for work in ways[way]) for way in ("eager", "compiled", "fused")]
        assert moved == sorted(moved, reverse=True) and len(ways["fused"]) < len(ways["eager"]), name


def test_time_is_that_of_what_binds():
    works = [Work("convolution", 2e9, 1e6), Work("depthwise", 1e7, 3e6), Work("elementwise", 0, 5e5)]
    least = limit(works, SLOW, "bf16")
    assert (least.arithmetic, least.memory, least.host) == (2.0, 3.5, 0.0)  # 2e9/1e9; 3e6/1e6 > 1e7/1e7; 5e5/1e6
    assert least.seconds == 5.5 and least.binds == "memory"
    assert limit(works, SLOW, "fp32").binds == "arithmetic"  # 20 s
    half = dict.fromkeys(GUESSED, Share(0.5, 0.5))
    assert expected(works, SLOW, "bf16", half).seconds == 11
    waiting = expected(works, Machine("", {"bf16": 1e9}, 1e7, 1e6, launch_s=10.0), "bf16", half)
    assert (waiting.seconds, waiting.binds) == (30, "host")


def test_measured_shares_take_the_place_of_guessed_ones(tmp_path: Path):
    """From files as scripts/gpu_day.py writes them, of a device with the machine's name in its own; not from tiny ones."""
    setting = Setting(256, "bf16", "imagenet")
    rows = [
        {"kind": "depthwise", "precision": "bf16", "flops": 0, "bytes": 1e6, "ms": 4000.0},
        {"kind": "depthwise", "precision": "bf16", "flops": 0, "bytes": 3e6, "ms": 4000.0},
        {"kind": "depthwise", "precision": "fp32", "flops": 0, "bytes": 1e6, "ms": 1000.0},
        {"kind": "elementwise", "precision": "bf16", "flops": 0, "bytes": 1e6, "ms": 2000.0},
        {"kind": "convolution", "precision": "bf16", "flops": 1e9, "bytes": 0, "ms": 1250.0},
        {"kind": "launch", "precision": "fp32", "flops": 0, "bytes": 0, "ms": 7.0},
    ]
    step = {"model": "c", "layout": "imagenet", "batch": 256, "precision": "bf16", "compiled": "no", "ms_per_step": 500.0}
    steps = [step, step | {"compiled": "reduce-overhead"}, step | {"batch": 8}, step | {"compiled": "default", "model": "a"}]
    for folder in ("nvidia-a100-80gb-tiny", "nvidia-a100-80gb"):
        device = with_measured("a100", SLOW, tmp_path, setting)
        assert (device.shares, device.source, device.seconds) == (GUESSED, "guessed", {})
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "operations.json").write_text(json.dumps({"rows": rows}))
        (tmp_path / folder / "compiled.json").write_text(json.dumps({"rows": steps}))
    device = with_measured("a100", SLOW, tmp_path, setting)
    assert device.shares["depthwise"] == Share(0.5, 0.5) and device.shares["convolution"] == Share(0.8, 0.8)
    assert device.shares["optimizer"] == Share(0.5, 0.5) and device.shares.keys() == GUESSED.keys()
    assert device.machine.launch_s == pytest.approx(7e-3) and device.source == "measured, results/gpu/nvidia-a100-80gb"
    assert device.seconds == {("c", "eager"): 0.5, ("c", "CUDA graphs"): 0.5, ("a", "compiled"): 0.5}
    fp32 = with_measured("a100", SLOW, tmp_path, Setting(256, "fp32", "imagenet"))
    assert fp32.shares["depthwise"] == Share(1, 1) and fp32.seconds == {}


def test_a_measured_step_stands_beside_what_was_guessed_and_what_is_expected(tmp_path: Path):
    device = Device(SLOW, dict.fromkeys(GUESSED, Share(0.5, 0.5)), "measured", {("c", "eager"): 2e6, ("a", "eager"): 1e6})
    setting = Setting(2, "bf16", "cifar")
    rows = {row.execution: row for row in expectations([model_config("c")], {"slow": device}, setting)}
    eager = rows["eager"]
    assert eager.expected.seconds == pytest.approx(2 * eager.limit.seconds) != pytest.approx(eager.guessed.seconds)
    assert eager.measured_over_a == 2 and eager.share == eager.limit.seconds / 2e6
    assert rows["fused"].measured_s is rows["fused"].share is None
    roofline_table.write(roofline_table.Found(list(rows.values()), {"slow": device}, setting), tmp_path, "-")
    page = (tmp_path / "roofline.md").read_text()
    assert "guessed before, and measured" in page and "**Expected, and measured only where it says so.**" in page
    assert all(line.count("|") <= 9 for line in page.splitlines())


def test_a_model_is_printed_and_all_are_written(tmp_path: Path):
    done = command("scripts/roofline.py", "model=c", "device=h100", "batch=8")
    assert done.returncode == 0, done.stderr
    assert "Expected, not measured" in done.stdout and done.stdout.count("h100    c") == 3 and "wrote" not in done.stdout
    assert "GFLOP an image  MB an image" in done.stdout
    done = command("scripts/roofline.py", "batch=8", "images=cifar", f"output_dir={tmp_path}")
    assert done.returncode == 0, done.stderr
    with open(tmp_path / "roofline.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert all(float(row["expected_time_over_a"]) == 1 for row in rows if row["model"] == "a")
    assert all(float(row["limit_ms_per_step"]) < float(row["expected_ms_per_step"]) for row in rows)
    assert {row["binds"] for row in rows if row["execution"] == "eager"} == {"host"}  # images of 32 x 32, 8 of them
    page = (tmp_path / "roofline.md").read_text()
    assert "**Expected, not measured.**" in page and "`python scripts/roofline.py batch=8 images=cifar`" in page


@pytest.mark.parametrize(
    ("order", "words"),
    [("device=h10", "did you mean 'h100'?"), ("model=resnet18", "none of this project's layers"), ("batch=0", "batch")],
)
def test_a_mistake_is_one_line(order, words):
    done = command("scripts/roofline.py", order)
    assert done.returncode == 2 and words in done.stderr and len(done.stderr.splitlines()) == 1
