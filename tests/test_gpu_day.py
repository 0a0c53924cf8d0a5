"""scripts/gpu_day.py in its tiny form, on this machine's CPU: every stage runs, is kept, and is not repeated. No speeds."""

from __future__ import annotations

import csv
import json
import re
import shutil
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch

from conftest import ROOT, command
from efficientconv.gpu_day.bench import Bench
from efficientconv.gpu_day.correctness import ROUNDINGS, logits
from efficientconv.gpu_day.day import Day, Outcome
from efficientconv.gpu_day.operations import operations
from efficientconv.gpu_day.report.measured_steps import share_of_layer, steps_of
from efficientconv.gpu_day.report.page import write_page
from efficientconv.gpu_day.report.reading import reading, verdict
from efficientconv.gpu_day.stages import BY_NAME, STAGES, Stage
from efficientconv.roofline.machine import MACHINES

BENCH = Bench(torch.device("cpu"), tiny=True)
BY_COMMAND = ["whole_run", "models"]  # the others in this process: to start one takes longer than its stage


@pytest.fixture(scope="module")
def day(tmp_path_factory) -> Path:
    """The folder of some stages, as a user has them measured."""
    output = tmp_path_factory.mktemp("gpu")
    done = command("scripts/gpu_day.py", "--tiny", "--only", ",".join(BY_COMMAND), "--output-dir", output)
    assert done.returncode == 0, done.stderr + done.stdout
    (folder,) = output.iterdir()
    return folder


@pytest.fixture(scope="module")
def rows() -> dict[str, list[dict]]:
    """By stage."""
    with torch.compiler.set_stance("force_eager"):  # to compile for the CPU takes minutes
        return {stage.name: list(stage.measure(BENCH)) for stage in STAGES if stage.name not in BY_COMMAND}


def test_a_stage_leaves_json_csv_and_its_part_of_the_page(day):
    page = (day / "README.md").read_text()
    assert "no time here means anything" in page
    for name in BY_COMMAND:
        outcome = json.loads((day / f"{name}.json").read_text())
        assert outcome["state"] == "done" and outcome["environment"]["packages"]["torch"]
        with open(day / f"{name}.csv", newline="") as file:
            assert len(list(csv.DictReader(file))) == len(outcome["rows"]) > 0
        assert f"## {name}: {BY_NAME[name].about}" in page
    rows = json.loads((day / "whole_run.json").read_text())["rows"]
    assert [row["exit_code"] for row in rows] == [0, 0, 0] and "of the limit (" in rows[1]["last_line"]
    assert not list(day.glob("*.log")) and not list(day.glob("*.jsonl"))


def test_every_stage_gives_a_table(rows):
    """Rows of the same keys, which json keeps as they are."""
    for name, measured in rows.items():
        assert measured and {tuple(row) for row in measured} == {tuple(measured[0])}, name
        assert json.loads(json.dumps(measured)) == measured, name


def test_a_page_has_every_stage_and_a_share_of_the_limit_beside_every_time_of_a_model(rows, tmp_path):
    folder = tmp_path / "nvidia-h200"  # whose peaks are known: the shares mean nothing here
    folder.mkdir()
    for name, measured in rows.items():
        outcome = Outcome(name, "done", "", 1.0, {"gpu": "NVIDIA H200"}, measured)
        (folder / f"{name}.json").write_text(json.dumps(asdict(outcome)))
    page = write_page(Day(folder, "cuda", tiny=False)).read_text()
    assert all(f"## {name}: " in page for name in rows) and all(line.count("|") <= 9 for line in page.splitlines())
    for name in ("small_images", "compiled", "triton_layers", "triton_models", "settings", "twice", "inference"):
        section = page.partition(f"## {name}: ")[2].partition("\n## ")[0]
        titles, _, *lines = ([cell.strip() for cell in line.split("|")] for line in section.splitlines() if "|" in line)
        shares = [line[titles.index("share of the limit")] for line in lines]
        assert len(shares) == len(rows[name]) and all(shares), name
        seconds = [line[titles.index(title)] for title in titles if "(share" in title for line in lines]
        assert all(cell.endswith("%)") for cell in seconds) and bool(seconds) == (name in ("triton_layers", "twice")), name


def test_what_can_be_known_on_a_cpu_is_right(rows):
    assert all(row["right"] and row["largest_difference"] == 0 for row in rows["against_cpu"])
    assert all(row["equal_bits"] for row in rows["twice"])


def test_what_is_more_than_rounding_is_not_right():
    """In the model that rounding moves most: bf16 where fp32 was asked for."""
    exact, fp32, bf16 = (logits(torch.device("cpu"), "m", precision) for precision in ("float64", "fp32", "bf16"))
    assert (bf16 - fp32).abs().max() > 10 * ROUNDINGS * (fp32 - exact).abs().max() > 0


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device: the tests run")
def test_skipped_tests_are_not_passed(rows):
    assert {row["outcome"] for row in rows["gpu_tests"]} == {"skipped"}


def test_operations_have_the_work_of_their_shapes(rows):
    rows = {(row["operation"], row["precision"]): row for row in rows["operations"]}
    places, channels = 4 * 36 * 36, 128
    assert rows["projection", "bf16"]["flops"] == 2 * places * channels**2
    depthwise = rows["depthwise 3x3, gradient of weights", "fp32"]
    assert depthwise["flops"] == 2 * places * channels * 9 and depthwise["kind"] == "depthwise_weights"
    assert rows["batch norm", "bf16"]["bytes"] == pytest.approx(3 * 2 * places * channels, rel=0.01)
    maps = 4 * places * channels
    assert rows["copy", "fp32"]["bytes"] == 2 * 4 * 2**20  # from here, to there
    assert rows["residual connection and ReLU", "fp32"]["bytes"] == 4 * maps  # x + x reads x once


def test_a_stage_that_is_done_is_not_repeated(day):
    before = (day / "models.json").read_bytes()
    done = command("scripts/gpu_day.py", "--tiny", "--only", "models", "--output-dir", day.parent)
    assert done.returncode == 0 and (day / "models.json").read_bytes() == before


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--only", "model"], "did you mean 'models'?"),
        ([], "torch finds no GPU here"),
        (["--tiny"], "models.json is damaged"),
    ],  # fmt: skip
)
def test_a_mistake_is_one_line(options, words, tmp_path, day):
    (tmp_path / day.name).mkdir()
    (tmp_path / day.name / "models.json").write_text("{")
    done = command("scripts/gpu_day.py", *options, "--output-dir", tmp_path)
    assert done.returncode == 2 and words in done.stderr and len(done.stderr.splitlines()) == 1


def measured_in(tmp_path: Path, job: str, seconds: int, again: bool = False) -> dict:
    """What becomes of a stage whose process is `job`, a line of Python."""
    stage = Stage("models", seconds, operations, "")
    day = Day(tmp_path, "cpu", False, [stage], again)
    day.call = lambda _: ["python", "-u", "-c", f"print('{{}}'); print('{{\"ms\": 1}}'); {job}"]
    day.run(lambda _: None)
    assert not list(tmp_path.glob("*.jsonl"))
    return json.loads((tmp_path / "models.json").read_text())


@pytest.mark.parametrize(
    ("job", "state", "reason"),
    [
        ("import time; time.sleep(60)", "cut off", "after its 1 s"),
        ("print('{\"ms', end=''); raise ValueError('no kernel')", "failed", "ValueError: no kernel"),
        ("import os; os.abort()", "failed", "exit code -6"),
    ],
)
def test_a_stage_that_ends_early_keeps_its_rows(job, state, reason, tmp_path):
    started = time.monotonic()
    outcome = measured_in(tmp_path, job, seconds=1 if state == "cut off" else 30)
    assert (outcome["state"], outcome["rows"]) == (state, [{"ms": 1}]) and reason in outcome["reason"]
    assert time.monotonic() - started < 30 and (tmp_path / "models.log").exists()


def test_the_plan_has_every_stage_and_measures_nothing(tmp_path):
    done = command("scripts/gpu_day.py", "--plan", "--only", "twice,models", "--output-dir", tmp_path)
    assert done.returncode == 0 and not list(tmp_path.iterdir())
    planned = [line.split()[:5:2] for line in done.stdout.splitlines() if "to do" in line]
    models, twice = (BY_NAME[name].seconds for name in ("models", "twice"))
    assert planned == [["models", "do", f"{models}"], ["twice", "do", f"{models + twice}"]]


def test_a_second_try_that_comes_less_far_keeps_the_rows_of_the_first(tmp_path):
    for job in ("print('{\"ms\": 2}'); exit(1)", "exit(1)"):
        outcome = measured_in(tmp_path, job, seconds=30)
    assert (outcome["state"], outcome["rows"]) == ("failed", [{"ms": 1}, {"ms": 2}])
    assert measured_in(tmp_path, "pass", seconds=30)["rows"] == [{"ms": 1}]  # done


def test_a_stage_that_is_done_is_measured_again_on_request(tmp_path):
    measured_in(tmp_path, "pass", seconds=30)
    job = "print('{\"ms\": 2}')"
    assert measured_in(tmp_path, job, seconds=30)["rows"] == [{"ms": 1}]
    assert measured_in(tmp_path, job, seconds=30, again=True)["rows"] == [{"ms": 1}, {"ms": 2}]
    failed = measured_in(tmp_path, "exit(1)", seconds=30, again=True)
    assert (failed["state"], len(failed["rows"])) == ("done", 2)  # the earlier rows, which are more


@pytest.mark.parametrize(("options", "ended"), [([], ""), (["--again"], f"{BY_NAME['models'].seconds}")])
def test_the_plan_says_whether_a_stage_that_is_done_is_measured_again(options, ended, day):
    done = command("scripts/gpu_day.py", "--tiny", "--plan", "--only", "models", *options, "--output-dir", day.parent)
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("models")]
    assert line.split()[:4] == ["models", "done", f"{BY_NAME['models'].seconds}", ended or "eager"]


def test_memory_under_cuda_graphs_is_not_told_by_allocations():
    with torch.compiler.set_stance("force_eager"):
        eager, captured = (BENCH.step_row("a", compile=c, compile_mode="reduce-overhead") for c in (False, True))
    assert eager["peak_mb"] > 0 and captured["peak_mb"] is eager["held_mb"] is None  # on a CPU nobody counts what is held


def test_layers_in_triton_stand_beside_the_same_a():
    row = {"layout": "imagenet", "batch": 256, "precision": "bf16", "compiled": "no", "peak_mb": None, "macs": 4}
    like = {"ms_low": 1.0, "ms_high": 9.0}
    a, plain, triton = (
        row | like | changed for changed in (
            {"model": "a", "ms_per_step": 4.0}, {"model": "c", "ms_per_step": 5.0, "macs": 1},
            {"model": "c", "ms_per_step": 2.0, "macs": 1, "backend": "triton"},
        )
    )  # fmt: skip
    steps = steps_of([plain, triton], [a, plain, triton], None)
    assert [(step.run, step.over_a) for step in steps] == [("eager", 1.25), ("eager, Triton", 0.5)]
    sentences = reading({}, steps, None)
    assert any("speed of `eager, Triton` over that of `eager`: C 2.50; C then takes 0.50 of A's" in s for s in sentences)
    other = [replace(step, commit="other") if step.run == "eager" else step for step in steps]
    assert not any("the speed of" in line for line in reading({}, other, None))
    assert verdict(steps) == "of the measured models (C) only these train faster than A: C (eager, Triton)"
    slower = [replace(step, model=name) for step in steps[:1] for name in "mc"]
    assert verdict(slower) == "none of the measured models (C, M) trains faster than A"


def test_the_reference_is_named_where_auto_computes_another_way():
    row = {"layout": "imagenet", "batch": 256, "precision": "bf16", "compiled": "reduce-overhead", "peak_mb": None}
    rows = [
        row | {"macs": 4, "ms_low": 1.0, "ms_high": 9.0, "model": model, "backend": backend, "ms_per_step": ms}
        for model, backend, ms in (("c", "reference", 3.0), ("k", "reference", 6.0), ("k", "triton", 1.5))
    ]  # fmt: skip
    steps = steps_of(rows, rows, None)
    assert [step.run for step in steps] == ["CUDA graphs", "CUDA graphs, reference", "CUDA graphs, Triton"]
    said = "Layout imagenet: the speed of `CUDA graphs, Triton` over that of `CUDA graphs`: K 4.00."
    assert said in reading({}, steps, None)


def test_settings_inference_and_determinism_are_told():
    settings = [
        {"setting": "as it comes", "model": "c", "ms_per_step": 4.0}, {"setting": "fp16", "model": "c", "ms_per_step": 3.0},
        {"setting": "mixing, alone", "model": None, "ms_per_step": 1.0},
    ]  # fmt: skip
    (sentence,) = reading({"settings": settings}, [], None)
    assert sentence == "The time of a step of C with a setting, over the time without the setting: fp16 0.75."
    inference = [{"model": model, "batch": 64, "ms_per_image": ms} for model, ms in (("a", 2.0), ("c", 3.0))]
    (sentence,) = reading({"inference": inference}, [], None)
    assert sentence == "Inference in fp32, 64 images at a time, time over A's time: C 1.50."
    twice = [{"model": "c", "equal_bits": True, "ms_per_step_deterministic": 3.0, "ms_per_step": 2.0}]
    (sentence,) = reading({"twice": twice}, [], None)
    assert sentence == "Two deterministic runs have equal bits. A deterministic step's time over another step's: C 1.50."
    assert "**differ in their bits**" in reading({"twice": [twice[0] | {"equal_bits": False}]}, [], None)[0]


def test_a_layer_in_triton_is_told_beside_plain_pytorch():
    passes = [("triton", 2.0, 0.25), ("triton", 3.0, 0.5), ("reference", 1.0, 1.0), ("reference", 1.5, 2.0)]
    rows = [{"model": "k", "backend": name, "ms": ms, "ms_of_kernels": kernels} for name, ms, kernels in passes]
    (sentence,) = reading({"triton_layers": rows}, [], None)
    assert "kernels alone: K 0.75 against 3.00. Eager, with the launches from Python: K 5.00 against 2.50." in sentence
    assert not reading({"triton_layers": rows[2:]}, [], None)


def test_a_layer_is_held_against_the_bytes_that_it_must_move():
    row = {"model": "c", "maps": "256x128x36x36", "pass": "forward", "ms": 1.0}
    maps_s = 256 * 128 * 36 * 36 * 2 / 3.35e12  # bf16, once through the memory
    # read x, write y; read y and the residual connection, write the result. Backward: twice the gradient, y and the result
    # (for the sums, then for the gradients), x, and the gradient of x
    assert share_of_layer(row, MACHINES["h100"]) == pytest.approx(1e3 * 5 * maps_s, rel=0.01)
    assert share_of_layer(row | {"pass": "backward"}, MACHINES["h100"]) == pytest.approx(1e3 * 8 * maps_s, rel=0.01)
    assert share_of_layer(row, None) is None


def test_sizes_of_the_day_are_not_those_of_the_trial():
    full, tiny = (Bench(torch.device("cpu"), tiny=tiny) for tiny in (False, True))
    assert (full.layout, full.batch, full.width) == ("imagenet", 256, 1.0) and tiny.batch < full.batch


def test_what_the_bundle_leaves_out_is_not_missed():
    """scripts/gpu_bundle.sh packs for a machine that has torch and torchvision; it was tried on one such by hand."""
    script = (ROOT / "scripts" / "gpu_bundle.sh").read_text()
    pinned = set(re.findall(r"^([\w-]+)==", (ROOT / "requirements.txt").read_text(), flags=re.MULTILINE))
    packed = set(re.search(r"packages=\((.*?)\)", script, flags=re.DOTALL)[1].split())
    assert packed < pinned
    left_out = sorted(pinned - packed - {"torch", "torchvision"})
    names = [{"scikit-learn": "sklearn", "adjusttext": "adjustText"}.get(name, name.replace("-", "_")) for name in left_out]
    imports = "efficientconv.gpu_day.job, efficientconv.gpu_day.report.page, efficientconv.cli, efficientconv.engine.run"
    blocked = f"import sys; sys.modules.update(dict.fromkeys({names + ['joblib']})); import {imports}"
    done = subprocess.run([sys.executable, "-c", blocked], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_page_of_a_gpu_is_what_its_rows_say(tmp_path):
    """Of rows as an H100 gave them: ratios by hand from its csv files, and nothing that was not measured."""
    folder = tmp_path / "nvidia-h100-80gb-hbm3"
    shutil.copytree(ROOT / "results" / "gpu" / folder.name, folder)
    page = write_page(Day(folder, "cuda", tiny=False)).read_text()
    rows = {row["model"]: row for row in json.loads((folder / "models.json").read_text())["rows"]}
    c, a = rows["c"], rows["a"]
    lines = page.partition("## models")[2].splitlines()
    line = next(line for line in lines if line.startswith("| c | eager | 375.95 |"))
    assert f"| {c['ms_per_step'] / a['ms_per_step']:.2f} |" in line
    assert all(line.replace("\\|", "").count("|") <= 9 for line in page.splitlines())
    for picture in ("time_against_macs", "operations"):
        assert f"{picture}.png" in page and (folder / f"{picture}.svg").stat().st_size > 0
    assert "No limit is counted for a kernel alone" in page.partition("## profiles")[2].partition("\n## ")[0]
    assert page == (ROOT / "results" / "gpu" / folder.name / "README.md").read_text()  # committed as made
