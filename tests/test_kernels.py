"""Kernels: the measures against kernels made by hand and slow computations, the picture and the table of real runs."""

from __future__ import annotations

import csv
import io
import json
import math
import re
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from matplotlib.colors import to_rgb
from PIL import Image
from safetensors.torch import load_file, save_file
from scipy import stats

from conftest import command
from efficientconv.errors import UserError
from efficientconv.models import create_model, list_models, model_config
from efficientconv.results.kernel_measures import KINDS, joined, measure, of_random
from efficientconv.results.kernel_plot import COLORS, draw_kernels, mosaic, tile
from efficientconv.results.kernels import RunKernels, find_kernels, kernels_of_run, summary_table
from scripts.visualize_kernels import labelled, picture_path

SCRIPT = "scripts/visualize_kernels.py"
SOBEL = np.array([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]])  # gets brighter to the right
BY_HAND = {  # kernel, its kind
    "delta": ([[0, 0, 0], [0, 1, 0], [0, 0, 0]], "identity"),
    "box": (np.ones((3, 3)), "low-pass"),
    "binomial": ([[1, 2, 1], [2, 4, 2], [1, 2, 1]], "low-pass"),
    "Laplacian": ([[0, 1, 0], [1, -4, 1], [0, 1, 0]], "high-pass"),
    "Laplacian with diagonals": ([[-1, -1, -1], [-1, 8, -1], [-1, -1, -1]], "high-pass"),
    "Prewitt": ([[1, 1, 1], [0, 0, 0], [-1, -1, -1]], "edge"),
    "line": ([[-1, 2, -1], [-1, 2, -1], [-1, 2, -1]], "other"),
    "corner": ([[1, 0, 0], [0, 0, 0], [0, 0, 0]], "other"),
}


def measured(*kernels: object):
    return measure(np.array(kernels, dtype=float))


# ---------------------------------------------------------------- measures


@pytest.mark.parametrize(("kernel", "kind"), BY_HAND.values(), ids=BY_HAND)
@pytest.mark.parametrize("factor", [1, -1, 1e-6, 300])
def test_kernels_made_by_hand_are_of_their_kind_at_any_scale_and_sign(kernel, kind, factor):
    found, plain = measured(factor * np.array(kernel)), measured(kernel)
    assert found.kinds.tolist() == [kind]
    assert np.allclose(np.abs(found.cosines), np.abs(plain.cosines))
    assert found.norms[0] == pytest.approx(abs(factor) * plain.norms[0])


def test_cosines_are_those_computed_by_hand():
    binomial = np.outer([1, 2, 1], [1, 2, 1])
    found = measured(BY_HAND["delta"][0], binomial, SOBEL)
    assert found.cosines[:, 0] == pytest.approx([1, 4 / 6, 0])
    assert found.cosines[:, 1] == pytest.approx([4 / 6, 1, 0])
    assert found.cosines[:, 2] == pytest.approx([12 / math.sqrt(164), 28 / (6 * math.sqrt(164)), 0])  # 16 delta - binomial
    assert found.cosines[:, 3] == pytest.approx([0, 0, 1])


@pytest.mark.parametrize("size", [2, 3, 5])
def test_the_best_edge_is_that_of_a_search_over_directions(size):
    """Sampled derivatives of a function of x and y, no templates of the code under test."""
    kernels = np.random.default_rng(1).standard_normal((20, size, size))
    row = [math.comb(size - 1, i) for i in range(size)]
    slope = np.diff([0, *(math.comb(size - 2, i) for i in range(size - 1)), 0])
    right, down = -np.outer(row, slope), -np.outer(slope, row)
    degrees = np.arange(-180, 180, 0.5)
    angles = np.radians(degrees)[:, None, None]
    directed = np.cos(angles) * right - np.sin(angles) * down
    found = measure(kernels)
    for kernel, cosine in zip(kernels, found.cosines[:, 3]):
        tried = [(kernel * one).sum() / np.linalg.norm(kernel) / np.linalg.norm(one) for one in directed]
        assert cosine == pytest.approx(max(tried), abs=1e-4)


def test_even_sizes_have_no_identity_and_other_sizes_the_same_kinds():
    small = measured([[1, 1], [1, 1]], [[-1, 1], [-1, 1]], [[1, -1], [-1, 1]])
    assert np.isnan(small.cosines[:, [0, 2]]).all()
    assert small.kinds.tolist() == ["low-pass", "edge", "other"]
    row, slope = np.array([1, 4, 6, 4, 1]), np.array([-1, -2, 0, 2, 1])
    delta = np.zeros((5, 5))
    delta[2, 2] = 1
    smooth = np.outer(row, row) / 256
    assert measured(delta, smooth, delta - smooth, np.outer(row, slope)).kinds.tolist() == list(KINDS[:4])


def test_the_dead_are_those_far_below_their_own_layers_median():
    kernels = np.array([SOBEL, SOBEL, SOBEL, 0.04 * SOBEL, 0 * SOBEL], dtype=float)
    found = joined([measure(kernels), measure(0.04 * kernels)])
    assert found.kinds.tolist() == ["edge", "edge", "edge", "dead", "dead"] * 2
    assert len(found.identity) == 6 and found.share_of("dead") == 0.4


@pytest.mark.parametrize("size", [2, 3, 5])
def test_random_kernels_measure_what_theory_says(size):
    """cos^2 of a Gaussian vector with a d-dimensional subspace of n dimensions is Beta(d / 2, (n - d) / 2)."""
    found, n = of_random(size), size**2
    assert stats.kstest(found.cosines[:, 1] ** 2, stats.beta(1 / 2, (n - 1) / 2).cdf).pvalue > 1e-3
    assert stats.kstest(found.cosines[:, 3] ** 2, stats.beta(1, (n - 2) / 2).cdf).pvalue > 1e-3
    assert found.share_of("edge") == pytest.approx(0.5 ** ((n - 2) / 2), abs=0.015)


# ---------------------------------------------------------------- finding


def test_kernels_are_found_in_every_model_that_has_them():
    for name in list_models():
        config = model_config(name)
        if config.trunk != "torchvision":
            layers = {block.layer for stage in config.stages.values() for block in stage.blocks}
            found = find_kernels(create_model(name, num_classes=2, width=0.125, layout="cifar"))
            assert bool(found) == layers.isdisjoint({"standard", "topological", "grouped"}), name
            assert bool(found) == (name[0] in "bcdeijklmno"), name
    assert not find_kernels(create_model("resnet18", num_classes=2))


@pytest.mark.parametrize(
    ("model", "layer", "parts", "size"),
    [
        ("c", "stages.stage3.layers.2.conv", ["depthwise"], 3),
        ("b", "stages.stage3.layers.1.conv", ["depthwise"], 3),
        ("d", "stages.stage2.layers.3.conv", ["depthwise"], 5),
        ("k", "stages.stage2.layers.7.conv", ["reduction", "expansion"], 2),
        ("l", "stages.stage4.layers.0.conv", ["reduction.conv.depthwise", "expansion.depthwise"], 3),
    ],
)
def test_kernels_are_the_weights_in_their_order(model, layer, parts, size):
    network = create_model(model, num_classes=2, width=0.125, layout="cifar")
    found = find_kernels(network)
    assert [name for name in found if name.startswith(layer)] == [f"{layer}.{part}" for part in parts]
    for part in parts:
        weight = network.get_parameter(f"{layer}.{part}.weight")
        one = found[f"{layer}.{part}"]
        assert one.size == size
        assert torch.equal(torch.tensor(one.entries), weight.reshape(-1, size, size).double())


# ---------------------------------------------------------------- the script


@pytest.fixture(scope="module")
def runs(finished_run, tmp_path_factory) -> dict[str, Path]:
    """A finished run of model c, with a copy in W&B, and what such runs of other models leave, untrained."""
    root = tmp_path_factory.mktemp("kernels")
    shutil.copytree(finished_run, root / "c")
    (root / "c" / "wandb.json").write_text("{}")
    for name in ("c_noresidual", "a"):
        shutil.copytree(finished_run, root / name)
        change_model(root / name, name)
    return {path.name: path for path in root.iterdir()}


def change_model(run: Path, name: str) -> None:
    for file, change in {
        "config.yaml": {"model": model_config(name).model_dump()},
        "summary.json": {"model_name": name},
    }.items():
        values = yaml.safe_load((run / file).read_text()) | change
        (run / file).write_text(json.dumps(values))  # JSON is YAML too
    model = create_model(name, num_classes=10, layout="cifar")
    save_file(model.state_dict(), run / "model.safetensors")


@pytest.fixture(scope="module")
def printed(runs) -> str:
    before = {path.name for path in runs["c"].iterdir()}
    done = command(SCRIPT, f"run={runs['c']}")
    assert done.returncode == 0, done.stderr
    assert {path.name for path in runs["c"].iterdir()} == before | {"kernels.png", "kernels.csv"}
    return done.stdout


def test_a_run_gets_a_row_for_each_kernel(runs, printed):
    weights = load_file(runs["c"] / "model.safetensors")
    rows = read(runs["c"] / "kernels.csv")
    assert len(rows) == 4 * (16 + 32 + 64)
    for row in rows[:: len(rows) // 20]:
        kernel = weights[f"{row['layer']}.weight"][int(row["kernel"]), 0].double()
        assert row["layer"].startswith(f"stages.{row['stage']}.") and row["size"] == "3"
        assert float(row["cosine_identity"]) == pytest.approx(float(kernel[1, 1] / kernel.norm()), rel=1e-5)


def test_what_is_printed_counts_the_rows(runs, printed):
    rows = read(runs["c"] / "kernels.csv")
    header, *lines = (re.split(" {2,}", line) for line in printed.split("\n\n")[0].splitlines())
    assert header[3:9] == [f"{kind} %" for kind in KINDS]
    for stage, label, number, *figures in lines[:-1]:
        there = [row for row in rows if row["stage"] == stage]
        kinds = Counter(row["kind"] for row in there)
        assert (label, number) == ("c 3x3", str(len(there)))
        assert figures[:6] == [f"{100 * kinds[kind] / len(there):.1f}" for kind in KINDS]
    assert [line[0] for line in lines] == ["stage2", "stage3", "stage4", ""] and lines[-1][1] == "random 3x3"


def test_the_way_to_wandb_is_named_where_the_run_has_a_copy_there(runs, printed):
    assert printed.endswith(f"into its W&B run: python scripts/track.py {runs['c']}\n")


def test_two_runs_stand_side_by_side(runs):
    done = command(SCRIPT, f"run={runs['c']}", f"against={runs['c_noresidual']}")
    assert done.returncode == 0, done.stderr
    picture = runs["c"] / "kernels_c_vs_c_noresidual.png"
    assert f"picture: {picture}" in done.stdout and picture.read_bytes().startswith(b"\x89PNG")
    assert len(read(runs["c"] / "kernels.csv")) == 4 * (16 + 32 + 64)
    assert len(read(runs["c_noresidual"] / "kernels.csv")) == 4 * (128 + 256 + 512)
    assert "track.py" not in done.stdout


def test_a_run_without_such_kernels_or_without_its_end_is_refused(runs, tmp_path):
    shutil.copy(runs["c"] / "config.yaml", tmp_path)
    with pytest.raises(UserError, match="is not finished: it has no summary.json"):
        kernels_of_run(tmp_path)
    with pytest.raises(UserError, match="model a has no intra-channel kernels; models b to e and i to o have them"):
        kernels_of_run(runs["a"])


def test_runs_of_one_model_go_by_the_names_of_their_folders(runs):
    one = kernels_of_run(runs["c"])
    assert list(labelled([one, replace(one, run="again")])) == ["c", "again"]
    assert picture_path(None, Path("folder"), ["c", "again"]) == Path("folder/kernels_c_vs_again.png")
    with pytest.raises(UserError, match="output=kernels.jpg is no name of a PNG file"):
        picture_path("kernels.jpg", Path("folder"), ["c"])


def test_two_folders_of_one_name_are_two_runs(runs, tmp_path):
    one, copy = (Path(shutil.copytree(runs["c"], tmp_path / place / "c")) for place in ("here", "there"))
    (copy / "kernels.csv").unlink(missing_ok=True)
    done = command(SCRIPT, f"run={one}", f"against={copy}")
    assert done.returncode == 0, done.stderr
    assert f"picture: {one}/kernels_c_1_vs_c_2.png" in done.stdout and (copy / "kernels.csv").exists()


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["run={c}", "against=nowhere"], "nowhere is no run folder"),
        (["run={c}", "output={c}/config.yaml/kernels.png"], "cannot write kernels.png into {c}/config.yaml ("),
    ],
)
def test_a_mistake_is_one_line(args, message, runs):
    done = command(SCRIPT, *(arg.format(**runs) for arg in args))
    assert done.returncode == 2, done.stdout + done.stderr
    assert message.format(**runs) in done.stderr
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1


# ---------------------------------------------------------------- the picture


def test_a_tile_is_its_kernel_in_a_frame_of_its_kind():
    image = tile(-7 * SOBEL, "edge")
    assert image.shape == (38, 38, 3)
    assert np.allclose(image[[0, 3, -1, 19, 19], [0, 19, 19, 3, -1]], to_rgb(COLORS["edge"]))
    red, white, blue = image[19, [4, 19, 33]]  # dark at its right: positive left, negative right
    assert red[0] > 2 * red[2] and blue[2] > 2 * blue[0] and white.min() > 0.95


def test_a_mosaic_has_its_kernels_row_by_row():
    kernels = np.random.default_rng(4).standard_normal((5, 2, 2))
    image = mosaic(kernels, np.array(["other"] * 5), columns=3)
    for index, kernel in enumerate(kernels):
        y, x = 44 * (index // 3), 44 * (index % 3)
        assert np.array_equal(image[y : y + 38, x : x + 38], tile(kernel, "other"))
    assert (image[44:, 88:] == 1).all() and image.shape == (82, 126, 3)


def test_runs_of_other_sizes_can_be_drawn_together():
    """Stages that one of them lacks, a layer whose kernels are all zero, more kernels than are drawn."""
    rng, summary = np.random.default_rng(3), {"model_name": "x", "data_name": "y", "layout": "cifar", "width": 1.0}
    summary |= {"epochs": 1, "seed": 0, "top1_percent": 50.0}
    runs = {}
    for label, shapes in {"x": [(300, 3, 3), (5, 2, 2)], "y": [(1, 5, 5), (20, 2, 2)]}.items():
        kernels = [*map(rng.standard_normal, shapes), np.zeros((2, 3, 3))]
        layers = {f"stages.stage2.{index}": measure(one) for index, one in enumerate(kernels)}
        runs[label] = RunKernels(label, None, summary, layers)
    assert Image.open(io.BytesIO(draw_kernels(runs))).format == "PNG"
    assert "nan" not in summary_table(runs).text()


def read(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))
