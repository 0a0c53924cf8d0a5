"""The prepared set behind data=imagenet: the same images in the same order as from folders, damage, exact restarts."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from efficientconv.data import DamageLog, PreparedSplit, Shard, load_data, load_test_images
from efficientconv.data.prepared import Recipe
from efficientconv.errors import UserError
from efficientconv.preparation.build import build
from efficientconv.preparation.plan import Plan
from efficientconv.preparation.source import find_source
from test_data_helpers import assert_load_refused, assert_refused, config, evaluate, official, train

PLAIN = dict(crop_padding=0, mean=[0.0] * 3, std=[1.0] * 3, resize_size=256)


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> Path:
    return official(tmp_path_factory.mktemp("official"), num_classes=3, per_class=10)


def prepared(folders: Path, target: Path, encoding: str) -> Path:
    recipe = Recipe(256, "both", encoding, 95 if encoding == "jpeg" else None)
    build(Plan(find_source(folders, None, True), target, recipe, True, images_per_file=7), workers=1)
    return target


@pytest.fixture(scope="module")
def raw(folders, tmp_path_factory) -> Path:
    return prepared(folders, tmp_path_factory.mktemp("raw"), "raw")


@pytest.fixture(scope="module")
def jpeg(folders, tmp_path_factory) -> Path:
    return prepared(folders, tmp_path_factory.mktemp("jpeg"), "jpeg")


def load(root: Path):
    return load_data(config("imagenet", root=str(root), val_fraction=0.2))


@pytest.mark.parametrize("encoding, most, mean", [("raw", 1, 0.25), ("jpeg", 40, 4)])  # levels of 255
@pytest.mark.parametrize("part", ["train", "val", "test"])
def test_batches_are_those_of_the_folders_up_to_a_bound(folders, raw, jpeg, encoding, most, mean, part):
    batches = []
    for root in (folders, raw if encoding == "raw" else jpeg):
        split = getattr(load(root), part)
        loader = train(split, batch=6, **PLAIN).epoch(1) if part == "train" else evaluate(split, batch=4, **PLAIN)
        batches.append(list(loader))
    assert len(batches[0]) == len(batches[1]) > 0
    for (images, labels), (others, other_labels) in zip(*batches):
        assert torch.equal(labels, other_labels)
        levels = (images - others).abs() * 255
        assert levels.max() < most + 0.01 and levels.mean() < mean


def assert_same(batches, others):
    batches, others = list(batches), list(others)
    assert len(batches) == len(others) > 0
    assert all(torch.equal(a, b) for pair in zip(batches, others) for a, b in zip(*pair))


def test_the_stream_is_the_same_for_workers_restarts_and_processes(jpeg):
    split = load(jpeg).train
    expected = list(train(split, workers=0, **PLAIN).epoch(1))
    assert_same(train(split, workers=2, **PLAIN).epoch(1), expected)
    assert_same(train(split, workers=2, **PLAIN).epoch(1, start=1), expected[1:])
    parts = [list(train(split, Shard(rank, 2), **PLAIN).epoch(1)) for rank in range(2)]
    assert_same([[torch.cat(tensors) for tensors in zip(*batches)] for batches in zip(*parts)], expected)


def test_batches_outlive_the_memory_that_they_came_through(jpeg):
    """The ring is written over and over: nothing that was handed out may be a view of it."""
    split = load(jpeg).train
    loader = train(split, workers=1, flip=False, batch=3, **PLAIN)
    assert_same([(i.clone(), y.clone()) for i, y in loader.epoch(0)], list(loader.epoch(0)))


def flipped_bit(split: PreparedSplit, index: int) -> str:
    """Damages image `index` on the disk, far from its beginning, and returns its name."""
    record = split.records[index]
    with open(split.archives.paths[record["file"]], "r+b") as file:
        file.seek(record["offset"] + record["size"] // 2)
        byte = file.read(1)[0]
        file.seek(-1, 1)
        file.write(bytes([byte ^ 1]))
    return split.name(index)


@pytest.mark.parametrize("encoding", ["jpeg", "raw"])
def test_a_single_flipped_bit_is_seen(folders, encoding, tmp_path):
    data = load(prepared(folders, tmp_path / "set", encoding))
    sound = [data.train.pixels(index) for index in range(len(data.train))]
    name = flipped_bit(data.train, 5)
    assert_refused(lambda: data.train.pixels(5), f"cannot read the image '{name}'", "not those that were written")
    assert all(np.array_equal(data.train.pixels(i), pixels) for i, pixels in enumerate(sound) if i != 5)

    log = DamageLog(len(data.train), 1.0)
    _, labels = next(train(data.train, batch=len(data.train), damage=log, **PLAIN).epoch(0))
    assert list(log.reasons) == [name] and len(labels) == len(data.train)  # another took its place
    name = flipped_bit(data.test, 2)
    assert_refused(lambda: list(evaluate(data.test, **PLAIN)), f"cannot read the image '{name}'")


def test_a_set_of_another_size_is_refused(jpeg):
    sizes = ("both sides 256", "both sides 320", "data.resize_size=256")
    assert_load_refused("imagenet", *sizes, root=str(jpeg), resize_size=320)
    assert_load_refused("imagenet", "the shorter side 256", root=str(jpeg), resize_rule="shorter")


def test_it_says_which_pixels_it_has(folders, jpeg, raw):
    pixels = [load(root).pixels for root in (folders, jpeg, raw)]
    assert pixels[0] == "original" and pixels[1].startswith("prepared ") and len(set(pixels)) == 3


def test_to_evaluate_it_needs_no_training_images(raw, tmp_path):
    shutil.copytree(raw, tmp_path / "set")
    for path in (tmp_path / "set").glob("train*"):
        path.unlink()
    settings = config("imagenet", root=str(tmp_path / "set"))
    assert_load_refused("imagenet", "is missing", root=str(tmp_path / "set"))
    whole = load(raw)
    classes = ["more", *reversed(whole.classes)]
    images = load_test_images(settings, classes, 221)
    assert images.pixels == whole.pixels
    assert [classes[i] for i in images.split.labels] == [whole.classes[i] for i in whole.test.labels]
    with pytest.raises(UserError, match=f"not trained on: '{whole.classes[2]}'"):
        load_test_images(settings, whole.classes[:2], 221)
