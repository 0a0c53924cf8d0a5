"""The stream of batches: the same for every number of workers and processes and from every restart; what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from efficientconv.data import FileSplit, MemorySplit, Shard
from test_data_helpers import NUM_IMAGES, SIZE, assert_refused, evaluate, make_memory, make_photos, train


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> FileSplit:
    return make_photos(tmp_path_factory.mktemp("photos"))


@pytest.fixture(scope="module")
def memory() -> MemorySplit:
    return make_memory()


@pytest.fixture(scope="module", params=["memory", "files"])
def split(request) -> MemorySplit | FileSplit:
    return request.getfixturevalue(request.param)


def assert_same(batches, others):
    batches, others = list(batches), list(others)
    assert len(batches) == len(others) > 0
    for (images, labels), (other_images, other_labels) in zip(batches, others):
        assert torch.equal(images, other_images) and torch.equal(labels, other_labels)


@pytest.mark.filterwarnings("ignore:This DataLoader will create")  # 3 workers on 2 cores are meant
def test_stream_is_the_same_for_every_number_of_workers(files):
    for epoch in (0, 1):
        expected = list(train(files, workers=0).epoch(epoch))
        for workers in (1, 3):
            assert_same(train(files, workers=workers).epoch(epoch), expected)


def test_persistent_workers_go_on_to_other_epochs_even_after_an_abandoned_one(files):
    loader, expected = train(files, workers=2), train(files, workers=0)
    assert_same([next(loader.epoch(0))], [next(expected.epoch(0))])
    assert_same(loader.epoch(1), expected.epoch(1))
    assert_same(loader.epoch(2, start=2), expected.epoch(2, start=2))


@pytest.mark.parametrize("workers", [0, 2])
def test_starting_in_the_middle_is_the_tail_of_the_epoch(split, workers):
    loader = train(split, workers=workers)
    whole = list(loader.epoch(3))
    assert len(whole) == loader.batches_per_epoch == NUM_IMAGES // 6
    assert_same(train(split, workers=workers).epoch(3, start=2), whole[2:])


def test_skipped_batches_are_not_decoded(files):
    order = torch.cat([labels for _, labels in train(files).epoch(0)]).tolist()
    paths = ["nowhere.png" if i in order[:12] else path for i, path in enumerate(files.paths)]
    assert len(list(train(FileSplit(paths, files.labels)).epoch(0, start=2))) == 1


@pytest.mark.parametrize("world_size", [2, 3])
def test_processes_together_train_on_what_one_would(split, world_size):
    whole = list(train(split).epoch(1))
    parts = [list(train(split, Shard(rank, world_size)).epoch(1)) for rank in range(world_size)]
    joined = [[torch.cat(tensors) for tensors in zip(*batches)] for batches in zip(*parts)]
    assert_same(joined, whole)


@pytest.mark.parametrize("world_size", [1, 2, 3, NUM_IMAGES + 2])  # the last two of 25 have no image
def test_processes_together_evaluate_each_image_once_and_alike(split, world_size):
    alone = {int(label): image for images, labels in evaluate(split) for image, label in zip(images, labels)}
    seen = []
    for rank in range(world_size):
        loader = evaluate(split, Shard(rank, world_size), batch=4)
        for images, labels in loader:
            seen += labels.tolist()
            assert all(torch.equal(image, alone[int(label)]) for image, label in zip(images, labels))
    assert sorted(seen) == list(range(NUM_IMAGES))


def test_evaluation_is_the_same_every_time(split):
    loader = evaluate(split, workers=2)
    assert_same(loader, loader)


@pytest.mark.parametrize("workers", [0, 2])
def test_global_random_state_is_not_advanced(split, workers):
    state = torch.get_rng_state()
    list(train(split, workers=workers).epoch(0)) + list(evaluate(split, workers=workers))
    assert torch.equal(state, torch.get_rng_state())


# ------------------------------------------------------------------------------------------------------------ errors


@pytest.mark.parametrize("workers", [0, 2])
def test_unreadable_file_is_named_in_one_line(files, tmp_path, workers):
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"not an image")
    loader = evaluate(FileSplit([*files.paths[:-1], str(broken)], files.labels), workers=workers)
    assert_refused(lambda: list(loader), f"cannot read the image '{broken}' (not an image)")


def test_truncated_file_is_refused(files, tmp_path):
    cut = tmp_path / "cut.png"
    content = Path(files.paths[0]).read_bytes()
    cut.write_bytes(content[: len(content) // 2])
    split = FileSplit([str(cut)], torch.zeros(1, dtype=torch.int64))
    assert_refused(lambda: list(evaluate(split)), "cannot read", str(cut))


def test_too_small_image_is_named_with_its_size_and_the_cure(files):
    loader = evaluate(files, size=28, resize_size=None)
    assert_refused(lambda: list(loader), files.paths[0], "48 x 25", "data.resize_size=28")


def test_batches_that_cannot_be_cut(split):
    assert_refused(lambda: train(split, batch=24), "trainer.global_batch_size=24", "23 training images")
    assert_refused(lambda: train(split, Shard(0, 4), batch=6), "trainer.global_batch_size=6", "4 processes", "multiple of 4")


def test_sizes_that_do_not_fit(files, memory):
    assert_refused(lambda: train(files, resize_size=20), "data.resize_size=20", str(SIZE))
    assert_refused(lambda: evaluate(memory, size=32), "data=test", str(SIZE), "data.image_size=32")
    # refused rather than ignored
    assert_refused(lambda: train(memory, resize_size=30), "data=test", "data.resize_size", "data.image_size")
