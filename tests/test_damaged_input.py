"""Damaged images: training replaces and counts them up to a share, evaluation refuses them."""

from __future__ import annotations

import itertools
import json
import os
from pathlib import Path

import pytest
import torch
from PIL import Image

from conftest import SMALL_RUN, command
from efficientconv.data import DamageLog, FileSplit, Shard, load_data
from efficientconv.data.damage import DamagedImage
from efficientconv.data.decode import read_rgb
from efficientconv.data.fingerprint import digest_of
from efficientconv.data.prepared import Recipe
from efficientconv.data.sampling import candidates
from efficientconv.preparation.archive import write_archive
from efficientconv.preparation.source import Item
from efficientconv.preparation.verify import check_images
from test_data_helpers import (
    NUM_IMAGES,
    assert_load_refused,
    assert_refused,
    config,
    evaluate,
    make_photos,
    train,
    tree,
)

RECIPE = Recipe(32, "both", "jpeg", 95)


def cut(path: Path, kept: float) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])


def make_unreadable(path: Path) -> None:
    """Also for root, who may read everything."""
    path.unlink()
    path.symlink_to("nowhere")


DAMAGES = {
    "truncated": (lambda path: cut(path, 0.5), ""),
    "header only": (lambda path: cut(path, 0.05), ""),
    "end missing": (lambda path: cut(path, 0.98), ""),
    "empty": (lambda path: path.write_bytes(b""), "an empty file"),
    "web page": (lambda path: path.write_text("<html>404 Not Found</html>"), "not an image"),
    "unreadable": (make_unreadable, "No such file or directory"),
    "gigabytes of nothing": (lambda path: os.truncate(path, 2**31), "File too large"),
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.bmp"])
def test_damage_is_seen_and_named(name, damage, tmp_path):
    path = Path(tree(tmp_path, name, size=(40, 30)), name)
    act, reason = DAMAGES[damage]
    read_rgb(str(path))
    act(path)
    with pytest.raises(DamagedImage) as caught:
        read_rgb(str(path))
    assert caught.value.path == str(path) and reason in caught.value.reason and caught.value.reason
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_gigabytes_that_take_no_disk_take_no_memory(tmp_path):
    """A file with holes; whoever reads the whole of it."""
    path = Path(tree(tmp_path, "train/cat/a.jpg", size=(40, 30)), "train/cat/a.jpg")
    os.truncate(path, 2**40)
    split = FileSplit([str(path)], torch.zeros(1, dtype=torch.int64))
    ((finding,),) = check_images(split.paths)
    item = Item("cat/a.jpg", str(path), 0, None)
    (damaged,) = write_archive(tmp_path / "train.zip", [item], RECIPE, lambda: None)
    with pytest.raises(DamagedImage) as caught:
        split.pixels(0)
    assert {finding.damage, damaged.reason, caught.value.reason} == {"File too large"}
    assert digest_of(split, config("folder", root=str(tmp_path)))


# -------------------------------------------------------------------------------------------------- training on files


def substituted(split: FileSplit, damaged: set[int]) -> FileSplit:
    """What training on `split` should amount to: sound images in the places of the damaged ones."""
    place = [next(c for c in candidates(i, len(split)) if c not in damaged) for i in range(len(split))]
    return FileSplit([split.paths[i] for i in place], split.labels[place])


@pytest.fixture
def damaged_files(tmp_path) -> tuple[FileSplit, set[int]]:
    """4 of 23 are damaged; the stand-in of one of them is another of them."""
    files = make_photos(tmp_path)
    _, second = list(candidates(5, NUM_IMAGES))[:2]
    damaged = {5, second, *[i for i in (0, 11, 17) if i != second][:2]}
    for index, (act, _) in zip(damaged, [DAMAGES[kind] for kind in ("truncated", "empty", "web page", "unreadable")]):
        act(Path(files.paths[index]))
    return files, damaged


def assert_same(batches, others):
    batches, others = list(batches), list(others)
    assert len(batches) == len(others) > 0
    assert all(torch.equal(a, b) for pair in zip(batches, others) for a, b in zip(*pair))


@pytest.mark.parametrize("workers", [0, 2])
def test_others_stand_in_for_damaged_images(damaged_files, workers):
    files, damaged = damaged_files
    loader = train(files, workers=workers, max_damaged_fraction=1.0)
    expected = train(substituted(files, damaged))
    for epoch in (0, 1):
        assert_same(loader.epoch(epoch), expected.epoch(epoch))
    restarted = train(files, workers=workers, max_damaged_fraction=1.0)
    assert_same(restarted.epoch(1, start=2), list(expected.epoch(1))[2:])


def test_ranks_replace_alike(damaged_files):
    files, damaged = damaged_files
    expected = list(train(substituted(files, damaged)).epoch(0))
    parts = [list(train(files, Shard(rank, 2), max_damaged_fraction=1.0).epoch(0)) for rank in range(2)]
    assert_same([[torch.cat(tensors) for tensors in zip(*batches)] for batches in zip(*parts)], expected)


@pytest.mark.parametrize("workers", [0, 2])
def test_each_damaged_image_is_counted_and_told_once(damaged_files, workers):
    files, damaged = damaged_files
    told, log = [], DamageLog(NUM_IMAGES, max_fraction=1.0)
    loader = train(files, workers=workers, damage=log)
    list(loader.epoch(0))
    log.listen(lambda path, reason: told.append(path))
    for epoch in range(1, 6):
        list(loader.epoch(epoch))
    assert sorted(told) == sorted(log.reasons) == sorted(files.paths[i] for i in damaged)
    assert "an empty file" in log.reasons.values()


@pytest.mark.parametrize("workers", [0, 2])
def test_training_ends_above_the_share_and_not_at_it(damaged_files, workers):
    files, damaged = damaged_files
    at, above = (len(damaged) - excess for excess in (0, 1))
    for epoch in range(5):
        list(train(files, workers=workers, max_damaged_fraction=at / NUM_IMAGES).epoch(epoch))
    loader = train(files, workers=workers, max_damaged_fraction=above / NUM_IMAGES)
    assert_refused(
        lambda: [list(loader.epoch(epoch)) for epoch in range(5)],
        f"{len(damaged)} of {NUM_IMAGES} training images", "data.max_damaged_fraction=0.13", "verify_data.py",
    )  # fmt: skip


def test_nothing_but_damaged_images_is_an_error_and_no_endless_search(tmp_path):
    files = make_photos(tmp_path)
    for path in files.paths:
        cut(Path(path), 0.5)
    assert_refused(lambda: list(train(files, max_damaged_fraction=1.0).epoch(0)), "each that was tried in its place")


# ----------------------------------------------------------------------------------------- training on images in memory


def class_folders(root: Path, size: tuple[int, int] = (8, 8)) -> tuple[dict, list[Path]]:
    """(data settings, the training files in the data set's order)."""
    train_paths = [f"train/{name}/{i}.png" for name in ("cat", "dog") for i in range(10)]
    tree(root, *train_paths, "test/cat/1.png", "test/dog/1.png", size=size)
    return dict(root=str(root), val_fraction=0.0, max_damaged_fraction=0.2), [root / path for path in train_paths]


def test_others_stand_in_for_damaged_images_in_memory(tmp_path):
    settings, paths = class_folders(tmp_path)
    whole, damaged = load_data(config("folder", **settings)).train, {0, 13, 19}
    for index, kind in zip(damaged, ("truncated", "empty", "header only")):
        DAMAGES[kind][0](paths[index])
    data = load_data(config("folder", **settings))
    place = [next(c for c in candidates(i, len(whole)) if c not in damaged) for i in range(len(whole))]
    assert torch.equal(data.train.images, whole.images[place]) and torch.equal(data.train.labels, whole.labels[place])
    assert set(data.damage.reasons) == {str(paths[i]) for i in damaged}
    assert_load_refused("folder", "3 of 20 training images", str(tmp_path), **settings | {"max_damaged_fraction": 0.14})


def test_what_is_evaluated_is_never_replaced_in_memory(tmp_path):
    settings, paths = class_folders(tmp_path)
    held_out = settings | {"val_fraction": 0.1, "max_damaged_fraction": 1.0}
    cut(paths[3], 0.5)
    assert load_data(config("folder", **settings)).damage.reasons.keys() == {str(paths[3])}
    for path in paths[:10]:  # all cats, of which one is held out
        path.write_bytes(b"")
    assert_load_refused("folder", "cannot read the image", f"{tmp_path}/train/cat", **held_out)
    settings, _ = class_folders(tmp_path)
    cut(tmp_path / "test/dog/1.png", 0.5)
    assert_load_refused("folder", "cannot read the image", str(tmp_path / "test/dog/1.png"), **settings)


@pytest.mark.parametrize("workers", [0, 2])
def test_evaluation_of_files_fails_and_names_the_image(damaged_files, workers):
    files, damaged = damaged_files
    one = FileSplit([*files.paths[1:5], files.paths[5]], torch.arange(5))
    assert {1, 2, 3, 4}.isdisjoint(damaged)
    assert_refused(lambda: list(evaluate(one, workers=workers)), "cannot read the image", files.paths[5], "replace it")


def test_a_damaged_first_image_does_not_hide_the_size_of_the_others(tmp_path):
    settings, paths = class_folders(tmp_path)
    paths[0].write_bytes(b"")
    assert load_data(config("folder", **settings)).image_size == 8


# ---------------------------------------------------------------------------------------------------- the command line

# model C, an eighth of the width
RUN = ("data=folder", "model.width=0.125", "trainer.epochs=1", "trainer.global_batch_size=8", "logger=jsonl")
IN_FILES = ("data.image_size=32", "data.resize_size=32", "data.workers=2")


def train_on(root: Path, *args: str):
    settings = ("data.val_fraction=0", "data.max_damaged_fraction=0.1", f"data.root={root}", f"run_dir={root}/run")
    return command("train.py", *RUN, *settings, *args)


def test_a_run_goes_on_past_damage_to_the_test_image_that_is_damaged(tmp_path):
    _, paths = class_folders(tmp_path, size=(32, 32))
    for path in (paths[2], paths[12], tmp_path / "test/dog/1.png"):
        cut(path, 0.5)
    done = train_on(tmp_path, *IN_FILES)
    assert "epoch 1/1" in done.stdout
    assert done.returncode == 2 and done.stderr.count("error: ") == 1 and "Traceback" not in done.stderr
    assert f"error: cannot read the image '{tmp_path}/test/dog/1.png'" in done.stderr


@pytest.mark.parametrize("where", [(), IN_FILES], ids=["in memory", "in files"])
def test_a_run_ends_above_the_share(where, tmp_path):
    _, paths = class_folders(tmp_path, size=(32, 32))
    for index in (2, 3, 12, 13, 14):
        os.truncate(paths[index], 0)
    done = train_on(tmp_path, *where)
    assert done.returncode == 2 and done.stderr.count("error: ") == 1 and "Traceback" not in done.stderr
    assert "3 of 20 training images are damaged" in done.stderr


def test_a_run_names_the_damaged_images_and_goes_on(tmp_path):
    for part, kind, number in itertools.product(("train", "test"), ("cat", "dog"), range(20)):
        folder = tmp_path / "images" / part / kind
        folder.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (32, 32), (number * 10, 0, 255 * (kind == "dog"))).save(folder / f"{number}.png")
    damaged = tmp_path / "images/train/cat/7.png"
    damaged.write_bytes(b"no image")
    args = ["data=folder", f"data.root={tmp_path / 'images'}", "data.val_fraction=0", "trainer.global_batch_size=8"]
    run = [*SMALL_RUN, *args, "trainer.epochs=1", f"run_dir={tmp_path / 'run'}"]
    refused = command("train.py", *run)
    assert refused.returncode == 2 and "1 of 40 training images are damaged" in refused.stderr
    done = command("train.py", *run, "data.max_damaged_fraction=0.1")
    assert done.returncode == 0, done.stderr
    assert f"warning: the training image '{damaged}' is damaged" in done.stderr
    assert list(json.loads((tmp_path / "run" / "damaged.json").read_text())) == [str(damaged)]

    for path in (tmp_path / "images/train").glob("*/1?.png"):  # half of all
        path.write_bytes(b"no image")
    done = command("eval.py", f"run={tmp_path / 'run'}")
    assert done.returncode == 0, done.stderr  # it reads the test images alone
