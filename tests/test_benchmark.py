"""scripts/benchmark.py in small: what it measures, against counts of the tests' own, and what its files say. No speeds."""

from __future__ import annotations

import csv
import shutil
import statistics
import subprocess
from pathlib import Path

import pytest
import torch
from tqdm import tqdm

from conftest import ROOT, command
from efficientconv import count, create_model
from efficientconv.benchmark import ablation, ablation_report
from efficientconv.benchmark.report import written_again
from efficientconv.benchmark.subjects import layer_subjects
from efficientconv.layers import backend
from efficientconv.native import build
from efficientconv.results.pages import made_by
from efficientconv.roofline.peaks import Peaks

needs_kernels = pytest.mark.skipif(not build.available(), reason="no C++ compiler")


def measured(tmp_path: Path, *arguments: object) -> tuple[list[dict[str, str]], str]:
    done = command("scripts/benchmark.py", *arguments, "--repeats", "1", "--output-dir", tmp_path)
    assert done.returncode == 0, done.stderr
    assert "profiler" not in done.stderr  # torch's own lines
    path = tmp_path / f"benchmark_{arguments[0]}.csv"
    assert path.with_suffix(".png").stat().st_size > 10_000
    with open(path, newline="") as file:
        return list(csv.DictReader(file)), path.with_suffix(".md").read_text()


def test_layers_are_measured_against_the_standard_one(tmp_path: Path):
    rows, text = measured(tmp_path, "layers", "--layout", "cifar", "--batch", "1")
    macs = {(row["place"], row["name"]): float(row["macs"]) for row in rows}
    assert macs["128 x 16 x 16", "standard 3x3"] == pytest.approx(128 * 128 * 9 * 256, rel=1e-5)
    assert macs["128 x 16 x 16", "SIC 3x3"] == pytest.approx((128 * 9 + 128 * 128) * 256, rel=1e-5)
    assert macs["256 x 8 x 8", "2-D topology 3x3"] == pytest.approx(256 * 64 * 9 * 64, rel=1e-5)
    assert len(rows) == len(macs) * 2 and {row["kind"] for row in rows} == {"forward", "training"}
    for row in rows:
        standard = next(r for r in rows if r["name"] == "standard 3x3" and all(r[k] == row[k] for k in ("place", "kind")))
        assert float(row["gain"]) == pytest.approx(float(standard["ms"]) / float(row["ms"]), rel=1e-4)
        assert float(row["share"]) == pytest.approx(float(row["gain"]) / float(row["ideal_gain"]), rel=1e-4)
        assert f" {float(row['limit_share']):.2f} {row['binds']} |" in text and row["binds"] in ("arithmetic", "memory")
    sic = [row for row in rows if row["name"] == "SIC 3x3" and row["kind"] == "forward"]
    ideal, gain = (statistics.geometric_mean(float(row[key]) for row in sic) for key in ("ideal_gain", "gain"))
    assert f"| cifar | 1 | forward | SIC 3x3 | {ideal:.2f} | {gain:.2f} | {gain / ideal:.2f} |" in text
    commit = subprocess.check_output(["git", "rev-parse", "HEAD"], cwd=ROOT, text=True)[:7]
    call = f"python scripts/benchmark.py layers --layout cifar --batch 1 --repeats 1 --output-dir {tmp_path}"
    assert text.endswith((f"`{call}` at commit {commit}\n", f"`{call}` at commit {commit}+\n"))


def test_models_are_measured_against_a(tmp_path: Path):
    places = ("--layout", "cifar", "--batch", "2", "--width", "0.25")
    rows, text = measured(tmp_path, "models", *places, "--models", "ck", "--precision", "bf16")
    assert "bfloat16 by autocast" in text and text.startswith("# Models against model A, width 0.25\n")
    transitions = 16 * 32 * 256 + 32 * 64 * 64 + 64 * 128 * 16 + 128 * 256 * 16
    layers = 2 * 9 * (32**2 * 256 + 64**2 * 64 + 128**2 * 16)
    assert float(rows[0]["macs"]) == 3 * 16 * 9 * 1024 + transitions + layers + 256 * 512 + 512 * 10
    assert [row["name"] for row in rows] == ["a", "c", "k"] * 2
    assert all(float(row["gain"]) == 1 for row in rows if row["name"] == "a")
    assert all(float(row["ms"]) > 0 and float(row["peak_mb"]) > 0 for row in rows)


def test_a_place_that_is_named_twice_is_measured_once(tmp_path: Path):
    twice = ("--layout", "cifar", "--batch", "1", "--passes", "forward") * 2
    rows, text = measured(tmp_path, "models", *twice, "--width", "0.125", "--models", "cc")
    assert [row["name"] for row in rows] == ["a", "c"] and "means" not in text


def test_a_page_that_cannot_be_written_leaves_the_old_csv(tmp_path: Path):
    """As on a full disk, or where the page is somebody else's."""
    (tmp_path / "benchmark_models.csv").write_text("old")
    (tmp_path / "benchmark_models.md" / "a").mkdir(parents=True)
    small = "--layout cifar --batch 1 --passes forward --width 0.125 --models c --repeats 1".split()
    done = command("scripts/benchmark.py", "models", *small, "--output-dir", tmp_path)
    assert done.returncode == 2 and "cannot write benchmark_models.csv, benchmark_models.md" in done.stderr
    assert (tmp_path / "benchmark_models.csv").read_text() == "old" and not list(tmp_path.glob("*.tmp"))


@needs_kernels
@pytest.mark.parametrize("fast", [True, False])
def test_maps_have_the_memory_format_of_the_code_that_runs_under_autocast(fast: bool, monkeypatch):
    """A dense SIC layer trains by PyTorch where bfloat16 is fast: channels-last. Its kernel takes contiguous maps."""
    monkeypatch.setattr(backend, "multiplies_bfloat16", lambda: fast)
    subjects = layer_subjects("cifar", "stage2", 1, "auto", torch.device("cpu"), "bf16")
    sic = next(subject for subject in subjects if subject.name == "SIC 3x3")
    seen = []
    sic.network.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].is_contiguous()))
    sic.job("training", torch.device("cpu"))()
    assert set(seen) == {not fast}


@pytest.mark.slow
def test_peers_are_measured_on_the_same_models(tmp_path: Path, monkeypatch):
    """Without torch's compiler, which takes long. A program that computes other logits ends the command."""
    monkeypatch.setenv("TORCH_COMPILE_DISABLE", "1")
    order = ("--layout", "cifar", "--batch", "1", "--models", "c", "--repeats", "1", "--output-dir", tmp_path)
    done = command("scripts/benchmark.py", "peers", *order)
    assert done.returncode == 0, done.stderr
    with open(tmp_path / "benchmark_peers.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["model"] for row in rows] == ["a", "c"]
    programs = [key for key in rows[0] if key.endswith("_ms_median")]
    assert programs[:4] == ["ours_ms_median", "torch_ms_median", "compiled_ms_median", "onnx_runtime_ms_median"]
    times = [{name: float(row[name]) for name in programs} for row in rows]
    assert all(time > 0 for row in times for time in row.values())
    text = (tmp_path / "benchmark_peers.md").read_text()
    fastest_a = min(times[0].values())
    against_a, milliseconds = [line.split("|")[2:-1] for line in text.splitlines() if line.startswith("| c |")]
    # The figures of the file are rounded, so that a quotient of them can round to the next hundredth.
    expected = [245_059_584 / 70_963_200, fastest_a / times[1]["ours_ms_median"]]
    assert [float(cell) for cell in against_a[:2]] == pytest.approx(expected, abs=0.011)
    limit_ms = float(rows[1]["limit_share"]) * times[1]["ours_ms_median"]
    shown = [float(figure.strip("()")) for cell in milliseconds[: len(programs)] for figure in cell.split()]
    assert shown == pytest.approx([f for name in programs for f in (times[1][name], limit_ms / times[1][name])], abs=0.011)


def test_committed_pages_are_made_again_from_their_figures_alone(tmp_path: Path):
    names = ("benchmark_models.csv", "benchmark_models.md", "benchmark_peers.csv", "benchmark_peers.md",
             "avx2/benchmark_layers.csv", "avx2/benchmark_layers.md")  # fmt: skip
    (tmp_path / "avx2").mkdir()
    for name in names:
        shutil.copy(ROOT / "results" / name, tmp_path / name)
    written_again(tmp_path)
    assert [name for name in names if (tmp_path / name).read_text() != (ROOT / "results" / name).read_text()] == []
    pictures = {str(path.relative_to(tmp_path)) for path in tmp_path.glob("**/*.svg")}
    assert pictures == {"benchmark_models.svg", "avx2/benchmark_layers.svg"}


def test_kernels_without_an_optimization_are_the_same_c_plus_plus_but_for_a_line():
    for optimization in ablation.OPTIMIZATIONS.values():
        text = (build.SOURCE_DIR / optimization.file).read_text()
        assert text.count(optimization.line) == 1 and optimization.line != optimization.without


@pytest.mark.parametrize(
    ("order", "words"),
    [("peers --precision bf16", "--precision has no effect on peers"), ("layers --width 0.25", "--width has no effect"),
     ("models --models", "give letters of models"), ("kernels --models cz", "unknown model 'z'")],
)  # fmt: skip
def test_what_cannot_be_measured_is_refused_at_once(order: str, words: str, tmp_path: Path):
    arguments = [*order.split(), ""] if order.endswith("--models") else order.split()
    done = command("scripts/benchmark.py", *arguments, "--output-dir", tmp_path)
    assert done.returncode == 2 and words in done.stderr and "compiling" not in done.stderr
    assert not list(tmp_path.iterdir())


def test_a_page_that_cannot_be_written_is_one_line(tmp_path: Path):
    (tmp_path / "complexity.csv").mkdir()
    done = command("scripts/complexity.py", "--layout", "cifar", "--output-dir", tmp_path)
    assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith(f"error: cannot write complexity.csv, claims.csv into {tmp_path} (Is a directory: ")


@pytest.mark.skipif(build.failure() is not None, reason="no native kernels")
def test_variants_of_the_kernels_are_measured_on_whole_models(tmp_path: Path, monkeypatch):
    """With a variant that leaves nothing out, so that nothing needs to be compiled."""
    same = ablation.Optimization("nothing", "vec.h", "#pragma once", "#pragma once")
    monkeypatch.setattr(ablation, "OPTIMIZATIONS", {"nothing": same})
    monkeypatch.setattr(ablation_report, "OPTIMIZATIONS", {"nothing": same})
    cases = [ablation.Case("cifar", 2, kind, "k") for kind in ("forward", "training")]
    peaks = Peaks({"convolution": 1e9}, bytes_per_s=1e12)  # arithmetic that is slow for the memory
    with ablation.variants(["nothing"], 1) as processes, tqdm(disable=True) as bar:
        rows = [row for case in cases for row in ablation.rows_of(case, processes, 2, peaks, bar)]
    assert [(row["without"], row["kind"]) for row in rows] == [("nothing", "forward"), ("nothing", "training")]
    assert all(row["seconds_with_all"] > 0 and 0 < row["ratio_low"] <= row["ratio"] <= row["ratio_high"] for row in rows)
    forward = rows[0]
    least_s = 2 * 2 * count(create_model("k", 10, layout="cifar"), (3, 32, 32), "math").macs / 1e9
    seconds, share = forward["seconds_with_all"], forward["limit_share"]
    assert (share, forward["binds"]) == (pytest.approx(least_s / seconds), "arithmetic")
    text = ablation_report.write(rows, tmp_path, peaks, 2, made_by("some command"))
    assert f"| (ms with all, of limit) | {1e3 * seconds:.1f}, {share:.2f} arithmetic |" in text and peaks.about in text
    assert f"| nothing | {forward['ratio']:.2f} (" in text and "## cifar, batch 2, training" in text
    with open(tmp_path / "benchmark_kernels.csv", newline="") as file:
        written = [float(row["ratio"]) for row in csv.DictReader(file)]
    assert written == pytest.approx([row["ratio"] for row in rows], rel=1e-4)
