"""What a trained network takes images for: in Python, and by scripts/predict.py as a user runs it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import predict
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from conftest import SMALL_RUN, command, train_here
from efficientconv.config import EvalConfig
from efficientconv.csv_files import csv_rows
from efficientconv.engine.distributed import World
from efficientconv.engine.evaluate_run import evaluate_run
from efficientconv.engine.run_folder import RunFolder
from efficientconv.engine.trained_run import load_run
from efficientconv.errors import UserError
from efficientconv.models import create_model
from test_data_helpers import config

FLIPPED = Image.Transpose.FLIP_LEFT_RIGHT


def write_images(folder: Path, number: int, size: tuple[int, int] = (48, 40)) -> list[Path]:
    """Blots of colour, so that a network is of several opinions."""
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(number):
        coarse = Image.fromarray(rng.integers(0, 256, (4, 4, 3), dtype=np.uint8))
        coarse.resize(size, Image.Resampling.BICUBIC).save(folder / f"{i:02}.png")
    return [folder / f"{i:02}.png" for i in range(number)]


@pytest.fixture(scope="module")
def averaged_run(tmp_path_factory) -> Path:
    """Of photographs in files: resized to 40, cropped to 32, with a moving average of the weights."""
    root = tmp_path_factory.mktemp("photos")
    for part in ("train", "test"):
        for label, name in enumerate(("cat", "dog", "eel")):
            write_images(root / part / name, 8, size=(50 + label, 60))
    args = [*SMALL_RUN, "data=folder", f"data.root={root}", "data.image_size=32", "data.resize_size=40"]
    more = ["trainer.ema_decay=0.9", "trainer.global_batch_size=8", "trainer.epochs=1", "data.val_fraction=0"]
    train_here(*args, *more, f"run_dir={root}_run")
    shutil.rmtree(root)  # nothing of it is needed
    return Path(f"{root}_run")


def reference(run: Path, weights: dict[str, torch.Tensor], paths: list[Path], resize: int) -> np.ndarray:
    """Probabilities by PIL, plain PyTorch and the run's figures: no loader, no kernel of this project."""
    settings = RunFolder(run).config()
    images = []
    for path in paths:
        image = Image.open(path).convert("RGB").resize((resize, resize), Image.Resampling.BILINEAR)
        edge = (resize - 32) // 2
        images.append(np.asarray(image.crop((edge, edge, edge + 32, edge + 32))))
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (settings.data.mean, settings.data.std))
    model = create_model(settings.model, RunFolder(run).summary()["num_classes"], image_size=32).eval()
    model.load_state_dict(weights)
    with torch.no_grad():
        return model((torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2) / 255 - mean) / std).softmax(1).numpy()


def assert_as(predictions, probabilities: np.ndarray, classes: list[str], tolerance: float) -> None:
    for prediction, expected in zip(predictions, probabilities, strict=True):
        found = dict(zip(prediction.classes, prediction.probabilities))
        assert [found[name] for name in classes] == pytest.approx(expected.tolist(), abs=tolerance)
        assert list(prediction.probabilities) == sorted(prediction.probabilities, reverse=True)


def test_probabilities_are_those_of_the_network(finished_run, tmp_path):
    images = write_images(tmp_path, 20)
    expected = reference(finished_run, load_file(finished_run / "model.safetensors"), images, 32)
    predictions = load_run(finished_run).predict(tmp_path, topk=10)
    assert [prediction.path for prediction in predictions] == list(map(str, images))
    assert_as(predictions, expected, [str(label) for label in range(10)], 1e-5)
    best = load_run(finished_run).predict(images[3], topk=1)
    assert best == [type(best[0])(str(images[3]), predictions[3].classes[:1], best[0].probabilities)]


def test_images_are_resized_and_cropped_as_the_run_does_and_the_moving_average_is_used(averaged_run, tmp_path):
    images = write_images(tmp_path, 20)
    classifier = load_run(averaged_run)
    assert classifier.averaged and classifier.run.classes == ["cat", "dog", "eel"]
    expected = reference(averaged_run, classifier.run.weights["ema_"], images, 40)
    assert_as(classifier.predict(tmp_path), expected, ["cat", "dog", "eel"], 0.01)  # pixels are a level from PIL's
    plain = load_run(averaged_run, averaged_run / "model.safetensors")
    expected = reference(averaged_run, load_file(averaged_run / "model.safetensors"), images, 40)
    assert not plain.averaged
    assert_as(plain.predict(tmp_path), expected, ["cat", "dog", "eel"], 0.01)
    without = shutil.copytree(averaged_run, tmp_path / "run", ignore=shutil.ignore_patterns("checkpoints"))
    with pytest.warns(UserWarning, match="has lost the moving average"):
        assert not load_run(without).averaged


@pytest.mark.parametrize("run", ["finished_run", "averaged_run"])
def test_images_in_memory_are_prepared_as_those_in_files(run, tmp_path, request):
    paths = [*write_images(tmp_path, 3), tmp_path / "z.jpg", tmp_path / "zz.png"]
    Image.open(paths[0]).resize((70, 65)).save(paths[3])
    Image.open(paths[1]).convert("LA").save(paths[4])
    classifier = load_run(request.getfixturevalue(run), device="cpu")
    pictures = [Image.open(path) for path in paths]
    batch = classifier.preprocess(pictures)
    with torch.no_grad():
        found = classifier.model(batch).softmax(1).sort(1, descending=True)
    for prediction, classes, values in zip(classifier.predict(tmp_path), found.indices, found.values, strict=True):
        assert prediction.probabilities == tuple(values[:5].tolist())
        assert prediction.classes == tuple(classifier.run.classes[label] for label in classes[:5])
    arrays = [np.array(picture.convert("RGB")) for picture in pictures]
    assert torch.equal(classifier.preprocess(arrays), batch)
    assert torch.equal(classifier.preprocess(arrays[0][:, ::-1]), classifier.preprocess(pictures[0].transpose(FLIPPED)))
    tensors = [torch.from_numpy(array).permute(2, 0, 1) for array in arrays]
    assert torch.equal(classifier.preprocess(torch.stack(tensors[:3])), batch[:3])
    assert torch.equal(classifier.preprocess(tensors[4]), classifier.preprocess(pictures[4]))


def test_what_is_no_image_is_refused(finished_run, tmp_path):
    prepare = load_run(finished_run, device="cpu").preprocess
    of_any_kind = "an image is a PIL image, a uint8 array H x W x 3 or a uint8 tensor 3 x H x W, not "
    for wrong, said in {
        str(tmp_path): "str",
        torch.zeros(3, 8, 8): "Tensor torch.float32",
        torch.zeros(8, 8, 3, dtype=torch.uint8): r"Tensor torch.uint8 \[8, 8, 3\]",
        torch.tensor(0): "Tensor torch.int64",
    }.items():
        with pytest.raises(UserError, match=of_any_kind + said):
            prepare(wrong)
    with pytest.raises(UserError, match="no image to prepare"):
        prepare([])
    with pytest.raises(UserError, match="32-bit greys"):
        prepare(Image.new("F", (8, 8)))


@pytest.mark.parametrize("run", ["finished_run", "averaged_run"])
def test_predictions_are_right_as_often_as_an_evaluation_says(run, tmp_path, request):
    run = request.getfixturevalue(run)
    classifier = load_run(run)
    for name in classifier.run.classes:
        write_images(tmp_path / name, 7)
    right = [Path(p.path).parent.name == p.classes[0] for p in classifier.predict(tmp_path)]
    images = config("folder", root=str(tmp_path))
    results = evaluate_run(EvalConfig(run=str(run), checkpoint=None, device="cpu", data=images), World())
    assert sum(right) == results["ema_" if classifier.averaged else ""].top1 > 0 and len(right) == results[""].images


def test_damaged_images_are_in_their_places_whoever_decodes(finished_run, tmp_path):
    images = write_images(tmp_path, 20)
    for place in (0, 7, 19):
        images[place].write_bytes(b"")
    classifier = load_run(finished_run)
    for names in (images, images[:8]):  # by workers, and by this process
        found = [one for batch in classifier.batches(list(map(str, names))) for one in batch]
        damaged = [Path(one.path) for one in found if one.damage == "an empty file"]
        assert damaged == [path for path in names if path.stat().st_size == 0]
        assert all(bool(one.damage) != bool(one.classes) for one in found) and len(found) == len(names)


# ---------------------------------------------------------------------------------------------------------- the command line

EVIL = ["=cmd|' !A0.png", "\x1b[31mred.png", "two\nlines.png", "a b(1)=c,d.PNG", "naïve.png"]


def test_a_folder_on_the_terminal_and_as_csv(averaged_run, tmp_path):
    images = tmp_path / "images"
    (first, *_) = write_images(images, 3)
    write_images(images / "deep" / "er", 2)
    for name in EVIL:
        shutil.copy(first, images / name)
    (images / "notes.txt").write_text("")
    (images / ".hidden.png").write_text("")
    arguments = ["scripts/predict.py", f"run={averaged_run}", f"images={images}", "topk=2"]
    done = command(*arguments, f"output={tmp_path / 'new' / 'x.csv'}")
    assert done.returncode == 0, done.stderr
    lines, rows = done.stdout.splitlines(), csv_rows(tmp_path / "new" / "x.csv")
    assert len(lines) == len(rows) == 10 and done.stdout.replace("\n", "").isprintable()
    assert "10 images, model c, 3 classes, the moving average of the weights in" in done.stderr
    assert "2 files passed over: .txt 1, hidden 1" in done.stderr
    assert {os.path.basename(row["image"]) for row in rows} >= {*EVIL[3:], EVIL[0], r"\x1b[31mred.png", r"two\nlines.png"}
    row = rows[0]
    percent = [f"{100 * float(row[f'probability_{i}']):.1f} %" for i in (1, 2)]
    assert lines[0] == f"{row['image']}: {row['class_1']} {percent[0]}, {row['class_2']} {percent[1]}"

    (images / "01.png").write_bytes(b"no image")
    done = command(*arguments, f"output={tmp_path / 'x.csv'}")
    assert done.returncode == 2 and len(done.stdout.splitlines()) == 9
    assert f"damaged: {images}/01.png: not an image" in done.stderr
    assert "error: 1 of 10 images could not be read" in done.stderr and "Traceback" not in done.stderr
    damaged = [row for row in csv_rows(tmp_path / "x.csv") if row["damage"]]
    assert [(row["image"], row["class_1"], row["damage"]) for row in damaged] == [(f"{images}/01.png", "", "not an image")]


MISTAKES = {
    "no images": (["run={run}"], "images: field required"),
    "no run": (["images={here}"], "run: field required"),
    "no such run": (["run={here}", "images={here}"], "is no run folder"),
    "no such image": (["run={run}", "images={here}/none.png"], "none.png is no file or folder of images"),
    "a pipe": (["run={run}", "images={here}/pipe"], "pipe is no file or folder of images"),
    "nothing in it": (["run={run}", "images={here}/empty"], "has no images in it (1 file passed over: .txt 1)"),
    "no class": (["run={run}", "images={here}/1.png", "topk=0"], "topk: input should be greater than 0, got 0"),
    "a word for a number": (["run={run}", "images={here}/1.png", "topk=all"], "topk: input should be a valid integer"),
    "a misspelt key": (["run={run}", "image={here}/1.png"], "unknown key 'image': did you mean 'images'?"),
    "an empty value": (["run={run}", "images="], "images: string should have at least 1 character"),
    "no key": (["run={run}", "{here}/1.png"], "is no key=value; write for example run="),
    "no csv": (["run={run}", "images={here}/1.png", "output={here}/1.png"], "is no name of a csv file"),
    "no checkpoint": (["run={run}", "images={here}/1.png", "checkpoint=x.pt"], "x.pt"),
    "a device": (["run={run}", "images={here}/1.png", "device=tpu"], "device: input should be 'auto', 'cpu' or 'cuda'"),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_a_mistake_is_one_line_and_nothing_is_written(finished_run, tmp_path, monkeypatch, case):
    write_images(tmp_path, 1)[0].rename(tmp_path / "1.png")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "x.txt").write_text("")
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    settings, part = MISTAKES[case]
    given = [setting.format(run=finished_run, here=tmp_path) for setting in settings]
    monkeypatch.setattr("sys.argv", ["predict.py", *given])
    with pytest.raises(UserError) as caught:
        predict.main()
    assert part in str(caught.value) and "\n" not in str(caught.value)
    assert before == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}


def test_what_was_written_stays_when_it_cannot_be_finished(finished_run, tmp_path, monkeypatch):
    write_images(tmp_path, 2)
    output = tmp_path / "x.csv"
    output.write_text("earlier")
    monkeypatch.setattr("sys.argv", ["predict.py", f"run={finished_run}", f"images={tmp_path}", f"output={output}"])
    monkeypatch.setattr(predict, "tell", lambda batch: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        predict.main()
    assert output.read_text() == "earlier" and not list(tmp_path.glob("*.tmp"))
