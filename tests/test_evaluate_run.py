"""Evaluation of a trained run on images that it did not bring: where they may lie, what is refused, what a run must know."""

from __future__ import annotations

import itertools
import json
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from PIL import Image
from sklearn.datasets import load_digits

from conftest import SMALL_RUN, command, train_here
from efficientconv.config import EvalConfig
from efficientconv.data import load_test_images
from efficientconv.engine.distributed import World
from efficientconv.engine.evaluate_run import evaluate_run
from efficientconv.engine.metrics import Result
from efficientconv.engine.trained_run import read_run
from efficientconv.errors import UserError
from efficientconv.models import create_model, model_config
from efficientconv.weights import write_weights
from test_data_helpers import config


def write_digits(root: Path, places: dict[str, str], number: int = 40) -> None:
    """The first `number` of scikit-learn's digits as the data set has them: 32 x 32, each in the folder of its class."""
    digits = load_digits()
    images = torch.from_numpy(digits.images).mul(255 / 16).round().to(torch.uint8)[:number, None].expand(-1, 3, -1, -1)
    images = torch.nn.functional.interpolate(images, (32, 32), mode="bilinear", antialias=True)
    for i, (image, label) in enumerate(zip(images, digits.target)):
        for place in places.values():
            folder = root / place.format(label)
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image.permute(1, 2, 0).numpy()).save(folder / f"{i}.png")


def on_folder(run: Path, root: Path, **settings: object) -> Result:
    data = config("folder", root=str(root), **settings)
    return evaluate_run(EvalConfig(run=str(run), checkpoint=None, device="cpu", data=data), World())[""]


def own(run: Path) -> Result:
    return evaluate_run(EvalConfig(run=str(run), checkpoint=None, device="cpu"), World())[""]


@pytest.fixture(scope="module")
def folder_run(tmp_path_factory) -> tuple[Path, Path]:
    """(a finished run, its images): digits of four classes in folders."""
    root = tmp_path_factory.mktemp("images")
    write_digits(root, {"train": "train/{}", "test": "test/{}"}, number=60)
    for part, label in itertools.product(("train", "test"), range(4, 10)):
        shutil.rmtree(root / part / str(label))
    run = root.parent / f"{root.name}_run"
    args = [*SMALL_RUN, "data=folder", f"data.root={root}", "data.val_fraction=0", "trainer.global_batch_size=8"]
    train_here(*args, "trainer.epochs=1", f"run_dir={run}")
    return run, root


@pytest.fixture
def moved(folder_run, tmp_path) -> tuple[Path, Path]:
    """A copy of the same, to be changed."""
    run, root = folder_run
    shutil.copytree(run, tmp_path / "run")
    shutil.copytree(root, tmp_path / "images")
    text = (run / "config.yaml").read_text().replace(f"root: {root}", f"root: {tmp_path / 'images'}")
    (tmp_path / "run" / "config.yaml").write_text(text)
    return tmp_path / "run", tmp_path / "images"


def result_of(run: Path) -> Result:
    return Result.from_record(json.loads((run / "summary.json").read_text()))


# ------------------------------------------------------------------------------------------- where labelled images may lie


PLACES = {
    "classes": {"": "{}"},
    "test": {"": "test/{}"},
    "val": {"": "val/{}"},
    "beside train": {"": "test/{}", "other": "train/{}"},
    "beside train of other classes": {"": "test/{}", "other": "train/not_{}"},
    "nested": {"": "{}/a/b"},
}


@pytest.fixture(scope="module")
def expected(finished_run, tmp_path_factory) -> Result:
    """Of the first 40 digits, without this project's loaders and meters."""
    trained = read_run(finished_run)
    digits = load_digits()
    images = torch.from_numpy(digits.images).mul(255 / 16).round().to(torch.uint8)[:40, None].expand(-1, 3, -1, -1)
    images = torch.nn.functional.interpolate(images, (32, 32), mode="bilinear", antialias=True)
    model = trained.network("", torch.device("cpu")).eval()
    data = trained.config.data
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (data.mean, data.std))
    with torch.no_grad():
        logits = model((images / 255 - mean) / std)
    labels = torch.from_numpy(digits.target[:40])
    hits = logits.topk(5).indices == labels[:, None]
    loss = torch.nn.functional.cross_entropy(logits, labels)
    return Result(40, int(hits[:, 0].sum()), int(hits.sum()), float(loss))


@pytest.mark.parametrize("place", PLACES)
def test_labelled_images_may_lie_in_folders_of_classes_anywhere(finished_run, expected, tmp_path, place):
    write_digits(tmp_path, PLACES[place])
    result = on_folder(finished_run, tmp_path)
    assert (result.images, result.top1, result.top5) == (expected.images, expected.top1, expected.top5)
    assert result.loss == pytest.approx(expected.loss, rel=1e-4)


def test_a_part_of_the_classes_is_enough_and_what_is_no_image_is_counted(finished_run, tmp_path):
    write_digits(tmp_path, {"": "{}"})
    for label in range(2, 10):
        shutil.rmtree(tmp_path / str(label))
    (tmp_path / "0" / "notes.txt").write_text("")
    with pytest.warns(UserWarning, match="1 file passed over: .txt 1"):
        assert on_folder(finished_run, tmp_path).images == 8


def test_labels_are_the_runs_whatever_their_order_in_the_set():
    classes = [str(label) for label in reversed(range(10))] + ["more"]
    digits = config("digits")
    split = load_test_images(digits, classes, 32).split
    assert torch.equal(split.labels, 9 - load_test_images(digits, sorted(classes[:10]), 32).split.labels)


def make_folders(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (32, 32)).save(root / name, "PNG")


def test_of_imagenet_it_is_the_labelled_val_and_not_the_test_that_has_no_labels(tmp_path):
    make_folders(tmp_path, "train/fish/1.png", "val/fish/1.png", "val/hen/1.png", "test/1.png")
    images = load_test_images(config("imagenet", root=str(tmp_path)), ["hen", "fish"], 221)
    assert images.split.labels.tolist() == [0, 1] and all("/val/" in path for path in images.split.paths)


WRONG = {
    "other classes": (["cat/1.png", "0/1.png"], ["not trained on: 'cat'", "it knows '0', '1'"]),
    "other classes in test": (["test/cat/1.png", "train/0/1.png"], ["test' has classes", "'cat'"]),
    "flat": (["1.png", "2.png"], ["have no labels", "scripts/predict.py run=<run> images={root}"]),
    "flat test": (["test/1.png", "train/0/1.png"], ["have no labels", "images={root}/test"]),
    "flat test beside val": (["test/1.png", "val/0/1.png"], ["no class folders in '{root}/test'", "'{root}/val' has some"]),
    "only train": (["train/0/1.png"], ["neither test/ nor val/ in '{root}'"]),
    "an empty class": (["0/1.png", "1/notes.txt"], ["no images in the class folders '1'"]),
    "nothing": ([], ["no folder '{root}'"]),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_be_evaluated_is_one_line(finished_run, tmp_path, case):
    names, parts = WRONG[case]
    root = tmp_path / "images"
    make_folders(root, *names)
    with pytest.raises(UserError) as caught:
        on_folder(finished_run, root)
    for part in parts:
        assert part.format(root=root) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_damaged_image_ends_it_and_is_named(finished_run, tmp_path):
    write_digits(tmp_path, {"": "{}"})
    (tmp_path / "3" / "3.png").write_bytes(b"no image")
    for settings in ({}, {"workers": 0}):
        with pytest.raises(UserError, match="cannot read the image .*/3/3.png"):
            on_folder(finished_run, tmp_path, **settings)


# ----------------------------------------------------------------------------------------------------- what a run must know


def test_its_own_number_needs_no_training_images(moved):
    run, root = moved
    expected = result_of(run)
    shutil.rmtree(root / "train")
    assert own(run) == expected


def test_its_own_number_is_of_its_own_test_images(moved):
    run, root = moved
    first = root / "test" / "0" / "0.png"
    content = first.read_bytes()
    Image.new("RGB", (32, 32)).save(first)  # as many as before
    with pytest.raises(UserError, match="were others"):
        own(run)
    first.write_bytes(content)
    assert own(run) == result_of(run)
    (root / "test" / "0" / "0.png").unlink()
    with pytest.raises(UserError, match="were others .* has now .* add data=folder data.root="):
        own(run)
    assert on_folder(run, root).images == result_of(run).images - 1


def test_with_all_its_data_gone_it_is_evaluated_on_others(moved, tmp_path):
    run, root = moved
    root.rename(tmp_path / "elsewhere")
    with pytest.raises(UserError, match=f"no folder '{root}'"):
        own(run)
    result = on_folder(run, tmp_path / "elsewhere")
    assert result == result_of(run)


def test_classes_come_from_the_run_at_whatever_state_it_is(moved, tmp_path):
    run, root = moved
    expected = result_of(run)
    assert json.loads((run / "classes.json").read_text()) == ["0", "1", "2", "3"]
    (run / "summary.json").unlink()
    (run / "model.safetensors").rename(run / "elsewhere")
    assert own(run) == expected  # an unfinished run
    (run / "classes.json").unlink()
    assert own(run) == expected  # of an earlier version: they are those of its data
    root.rename(tmp_path / "elsewhere")
    with pytest.raises(UserError, match="does not say its classes, and its data .* start the command that trained the run"):
        on_folder(run, tmp_path / "elsewhere")
    (run / "elsewhere").rename(run / "model.safetensors")
    assert on_folder(run, tmp_path / "elsewhere") == expected  # of an earlier version, and finished


def test_where_the_checkpoints_are_gone_or_damaged_the_final_weights_serve(moved):
    run, _ = moved
    for path in (run / "checkpoints").iterdir():
        path.write_bytes(b"damaged")
    with pytest.warns(UserWarning, match="taking .*model.safetensors"):
        assert own(run) == result_of(run)
    shutil.rmtree(run / "checkpoints")
    assert own(run) == result_of(run)
    (run / "model.safetensors").unlink()
    with pytest.raises(UserError, match="has no checkpoint yet"):
        own(run)


@pytest.mark.parametrize("classes", ["[]", "{}", "[1, 2]", '"ab"', "[", '["a"'])
def test_damaged_classes_are_one_line(moved, classes):
    run, _ = moved
    (run / "classes.json").write_text(classes)
    with pytest.raises(UserError, match="start the command that trained"):
        own(run)


def test_weights_make_their_network_where_only_the_images_said_their_size(folder_run):
    run, _ = folder_run
    made, trained = create_model("c", weights=run).state_dict(), read_run(run).weights[""]
    assert all(torch.equal(made[name], tensor) for name, tensor in trained.items())


@pytest.mark.parametrize("file", ["model.safetensors", "a checkpoint"])
def test_weights_of_another_network_of_the_same_shapes_are_refused(file, folder_run, moved, tmp_path):
    """Their numbers would stand under the run's name. c_noresidual has c's parameters."""
    (run, _), (other, _) = folder_run, moved
    config = read_run(run).config.model_dump()
    noted = {"as it is": config, "another": config | {"model": model_config("c_noresidual").model_dump()}}
    classes = json.loads((run / "classes.json").read_text())

    def checkpoint_of(model: str, classes: list[str]) -> Path:
        if file == "model.safetensors":
            write_weights(tmp_path / file, read_run(run).weights[""], noted[model], classes, 32)
            return tmp_path / file
        (other / "config.yaml").write_text(yaml.safe_dump(noted[model]))
        (other / "classes.json").write_text(json.dumps(classes))
        return next((other / "checkpoints").glob("*.pt"))

    assert read_run(run, checkpoint_of("as it is", classes)).classes == classes
    with pytest.raises(UserError, match="holds the weights of another network: model c_noresidual"):
        read_run(run, checkpoint_of("another", classes))
    with pytest.raises(UserError, match="of a network of other classes: '3', '2'"):
        read_run(run, checkpoint_of("as it is", classes[::-1]))


def test_settings_of_images_that_a_network_cannot_take_are_said_to_have_no_effect(finished_run):
    plain = command("eval.py", f"run={finished_run}", "data=digits")
    others = ("data.mean=[0.5,0.5,0.5]", "data.image_size=64", "data.mixup_alpha=0.5")
    done = command("eval.py", f"run={finished_run}", "data=digits", *others)
    assert "data.mixup_alpha=0.5 has no effect: it is a setting of training" in done.stderr
    assert (plain.returncode, done.returncode, done.stdout, plain.stderr) == (0, 0, plain.stdout, "")
    assert "data.mean=[0.5, 0.5, 0.5] has no effect: images are prepared as the run's, mean=[0.3" in done.stderr
    assert "data.image_size=64 has no effect: images are prepared as the run's, image_size=32" in done.stderr
