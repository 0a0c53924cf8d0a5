"""Random resized crops, RandAugment, mixup and cutmix: against slow references, and functions of (seed, epoch, image)."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F
from torchvision.transforms import InterpolationMode, RandomResizedCrop
from torchvision.transforms.v2 import RandAugment

from efficientconv.data import FileSplit, Shard
from efficientconv.data.augment import Mixing
from efficientconv.data.sampling import image_generator
from efficientconv.data.transforms import random_box
from efficientconv.engine.metrics import Meter
from test_data_helpers import CPU, NUM_IMAGES, SIZE, assert_refused, evaluate, make_memory, make_photos, train

PLAIN = dict(mean=[0.0] * 3, std=[1.0] * 3, flip=False, crop_padding=0)
KINDS = {
    "resized crops": dict(min_crop_area=0.2),
    "RandAugment": dict(randaugment_ops=2),
    "shorter side": dict(resize_rule="shorter"),
    "mixup": dict(mixup_alpha=0.4),
    "cutmix": dict(cutmix_alpha=1.0),
    "all": dict(min_crop_area=0.2, randaugment_ops=2, mixup_alpha=0.4, cutmix_alpha=1.0),
}


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> FileSplit:
    return make_photos(tmp_path_factory.mktemp("photos"))


def loader(split, *args, **changes):
    return train(split, *args, **PLAIN | dict(num_classes=NUM_IMAGES) | changes)


def assert_same(batches, others):
    batches, others = list(batches), list(others)
    assert len(batches) == len(others) > 0
    assert all(torch.equal(a, b) for pair in zip(batches, others) for a, b in zip(*pair))


@pytest.mark.parametrize("kind", KINDS)
def test_the_stream_is_the_same_for_workers_restarts_and_processes(files, kind):
    settings, state = KINDS[kind], torch.get_rng_state()
    expected = list(loader(files, batch=8, **settings).epoch(1))
    assert_same(loader(files, batch=8, workers=2, **settings).epoch(1), expected)
    assert_same(loader(files, batch=8, **settings).epoch(1, start=1), expected[1:])
    parts = [list(loader(files, Shard(rank, 2), batch=8, **settings).epoch(1)) for rank in range(2)]
    assert_same([[torch.cat(tensors) for tensors in zip(*batches)] for batches in zip(*parts)], expected)
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize("kind", KINDS)
def test_epochs_and_seeds_differ_and_evaluation_does_not_care(files, kind):
    settings = KINDS[kind]
    first, second, other = (
        next(loader(files, seed=seed, batch=22, **settings).epoch(epoch))[0] for seed, epoch in ((0, 0), (0, 1), (1, 0))
    )
    assert not torch.equal(first, second) and not torch.equal(first, other)
    if kind != "shorter side":
        assert_same(evaluate(files, **PLAIN | settings), evaluate(files, **PLAIN))


# --------------------------------------------------------------------------------------------------------- random resized


def test_resized_crops_are_those_of_pil(files):
    images, labels = next(loader(files, batch=22, min_crop_area=0.2, resize_size=None).epoch(3))
    for image, label in zip(images, labels.tolist()):
        whole = Image.open(files.paths[label])  # of the image as it is stored, not of the resized one
        top, left, height, width = random_box(whole.height, whole.width, 0.2, image_generator(0, 3, label))
        box = whole.crop((left, top, left + width, top + height)).resize((SIZE, SIZE), Image.Resampling.BILINEAR)
        assert np.abs(image.permute(1, 2, 0).numpy() * 255 - np.asarray(box)).max() < 1.01


@pytest.mark.parametrize("height, width", [(300, 400), (100, 1000)])  # in the second, hardly any box fits
def test_boxes_are_distributed_as_torchvisions(height, width):
    ours = np.array([random_box(height, width, 0.08, image_generator(0, 0, i)) for i in range(4000)], dtype=float)
    torch.manual_seed(0)
    image = torch.empty(3, height, width)
    scale, ratio = [0.08, 1.0], [3 / 4, 4 / 3]
    theirs = np.array([RandomResizedCrop.get_params(image, scale, ratio) for _ in range(4000)], dtype=float)
    assert (ours[:, 0] + ours[:, 2]).max() <= height and (ours[:, 1] + ours[:, 3]).max() <= width
    assert np.abs(ours.mean(0) - theirs.mean(0)).max() < 0.02 * max(height, width)
    assert np.abs(ours.std(0) - theirs.std(0)).max() < 0.02 * max(height, width)


def test_the_whole_image_is_the_only_box_of_all_its_area():
    assert random_box(64, 64, 1.0, np.random.default_rng(1))[2:] == (64, 64)


# -------------------------------------------------------------------------------------------------------------- RandAugment


def test_randaugment_is_torchvisions(files):
    plain, labels = next(loader(files, batch=22).epoch(2))
    augmented, _ = next(loader(files, batch=22, randaugment_ops=2, randaugment_magnitude=12).epoch(2))
    theirs = RandAugment(2, 12, interpolation=InterpolationMode.BILINEAR)
    for before, after, label in zip(plain, augmented, labels.tolist()):
        torch.manual_seed(int(image_generator(0, 2, label).integers(2**63)))
        crop = Image.fromarray((before * 255).round().to(torch.uint8).permute(1, 2, 0).numpy())
        assert np.array_equal((after * 255).round().to(torch.uint8).permute(1, 2, 0), np.array(theirs(crop)))


# ------------------------------------------------------------------------------------------------------------------- mixing


def slow_mix(images, labels, draws, indices):
    """Pixel by pixel, from the definitions."""
    count, _, size, _ = images.shape
    out, targets = images.clone(), torch.zeros(count, NUM_IMAGES)
    for i, index in enumerate(indices):
        partner, share = i + 1 if i % 2 == 0 else i - 1, float(draws.share[index])
        half = size * (1 - share) ** 0.5 / 2
        row, column = size * draws.centre[index]
        kept = 0
        for y, x in itertools.product(range(size), range(size)):
            weight = share
            if draws.box[index]:
                weight = 0.0 if abs(y + 0.5 - row) < half and abs(x + 0.5 - column) < half else 1.0
            out[i, :, y, x] = weight * images[i, :, y, x] + (1 - weight) * images[partner, :, y, x]
            kept += weight / size**2
        targets[i, labels[i]] += kept
        targets[i, labels[partner]] += 1 - kept
    return out, targets


@pytest.mark.parametrize("alphas", [(0.4, 0.0), (0.0, 1.0), (0.4, 1.0)])
def test_mixing_equals_a_slow_reference(alphas):
    rng = torch.Generator().manual_seed(0)
    images, labels = torch.rand(8, 3, 9, 9, generator=rng), torch.randint(0, NUM_IMAGES, (8,), generator=rng)
    mixing, indices = Mixing(*alphas, NUM_IMAGES), np.array([3, 1, 4, 15, 9, 2, 6, 5])
    draws = mixing.draws(seed=0, epoch=0, num_images=16)
    for ours, slow in zip(mixing(images, labels, draws, indices), slow_mix(images, labels, draws, indices)):
        torch.testing.assert_close(ours, slow, rtol=0, atol=1e-5)


def test_shares_follow_their_beta_distributions():
    draws = Mixing(0.4, 1.0, 2).draws(seed=0, epoch=0, num_images=20000)
    assert abs(draws.box.mean() - 0.5) < 0.02
    for alpha, shares in ((0.4, draws.share[~draws.box]), (1.0, draws.share[draws.box])):
        assert abs(shares.mean() - 0.5) < 0.02 and abs(shares.var() - 1 / (4 * (2 * alpha + 1))) < 0.01


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("kind", ["memory", "files"])
def test_mixed_batches_have_the_promised_form(files, kind, channels_last):
    split, settings = (make_memory(), {}) if kind == "memory" else (files, dict(resize_size=30))
    settings |= dict(mixup_alpha=0.4, cutmix_alpha=1.0)
    images, targets = next(loader(split, batch=8, channels_last=channels_last, **settings).epoch(0))
    assert images.is_contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)
    assert images.dtype == targets.dtype == torch.float32 and targets.shape == (8, NUM_IMAGES)
    torch.testing.assert_close(targets.sum(1), torch.ones(8))
    assert ((targets > 0).sum(1) <= 2).all()


def test_mixing_takes_pairs_and_the_loss_takes_shares(files):
    assert_refused(lambda: loader(files, batch=7, mixup_alpha=0.2), "mix pairs", "7 images", "even number")
    logits, shares = torch.randn(4, 5), torch.rand(4, 5).softmax(1)
    loss = F.cross_entropy(logits, shares)
    torch.testing.assert_close(loss, -(shares * logits.log_softmax(1)).sum(1).mean())
    meter, hard = Meter(CPU), Meter(CPU)
    meter.add(loss, logits, shares)
    hard.add(loss, logits, shares.argmax(1))
    assert meter.result() == hard.result()


def test_sets_in_memory_have_no_resized_crops():
    for setting in (dict(min_crop_area=0.5), dict(randaugment_ops=1)):
        assert_refused(lambda setting=setting: loader(make_memory(), **setting), "held in memory", "data.min_crop_area")
