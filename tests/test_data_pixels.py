"""The pixels of batches: augmentation against a slow reference, evaluation against torchvision's transforms."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms

from efficientconv.data import FileSplit, MemorySplit
from efficientconv.data.augment import copy_windows, crop_and_flip, gather_windows
from test_data_helpers import NUM_IMAGES, SIZE, config_for, evaluate, make_memory, make_photos, photos, train

LEVEL = 1.01 / 255  # what the fast resizing may differ by from PIL's, in images of 0..1


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> FileSplit:
    return make_photos(tmp_path_factory.mktemp("photos"))


@pytest.fixture(scope="module")
def memory() -> MemorySplit:
    return make_memory()


@pytest.fixture(scope="module", params=["memory", "files"])
def split(request) -> MemorySplit | FileSplit:
    return request.getfixturevalue(request.param)


def same_image_everywhere(kind: str, folder: Path) -> MemorySplit | FileSplit:
    """Whatever differs between its images was made by the augmentation."""
    pixels = np.random.default_rng(1).integers(1, 256, (SIZE, SIZE, 3), dtype=np.uint8)
    labels = torch.arange(NUM_IMAGES)
    if kind == "memory":
        return MemorySplit(torch.from_numpy(pixels).permute(2, 0, 1).repeat(NUM_IMAGES, 1, 1, 1), labels)
    Image.fromarray(pixels).save(folder / "same.png")
    return FileSplit([str(folder / "same.png")] * NUM_IMAGES, labels)


@pytest.mark.parametrize("kind", ["memory", "files"])
def test_augmentation_differs_between_images_and_between_epochs(kind, tmp_path):
    # 17 x 17 crops, flipped or not: of 22 images and 578 outcomes about one falls together with another.
    loader = train(same_image_everywhere(kind, tmp_path), batch=11, workers=2, resize_size=None, crop_padding=8)
    by_epoch = []
    for epoch in (0, 1):
        batches = list(loader.epoch(epoch))
        by_epoch.append({int(y): x for images, labels in batches for x, y in zip(images, labels)})
        assert len(torch.stack(list(by_epoch[-1].values())).unique(dim=0)) >= 18
    both = by_epoch[0].keys() & by_epoch[1].keys()
    assert sum(not torch.equal(by_epoch[0][i], by_epoch[1][i]) for i in both) >= len(both) - 2


def slow_augment(images, numbers, padding, flip):
    """Pixel by pixel, from the definition."""
    count, channels, size, _ = images.shape
    out = torch.zeros_like(images)
    for i in range(count):
        top, left = (int(number * (2 * padding + 1)) - padding for number in numbers[i, :2].tolist())
        for y in range(size):
            for x in range(size):
                source_y, source_x = y + top, left + (size - 1 - x if flip and numbers[i, 2] < 0.5 else x)
                if 0 <= source_y < size and 0 <= source_x < size:
                    out[i, :, y, x] = images[i, :, source_y, source_x]
    return out


@pytest.mark.parametrize("padding", [0, 1, 4])
@pytest.mark.parametrize("flip", [False, True])
def test_memory_augmentation_equals_a_slow_reference(memory, padding, flip):
    images = memory.images[:12, :, :9, :9].contiguous()
    numbers = torch.rand(12, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    assert torch.equal(crop_and_flip(images, numbers, 9, padding, flip), slow_augment(images, numbers, padding, flip))


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("windows", [copy_windows, gather_windows])  # a CPU's and a GPU's
def test_windows_are_those_that_were_asked_for(memory, windows, memory_format):
    images = memory.images[:9].contiguous(memory_format=memory_format)
    rng = torch.Generator().manual_seed(3)
    rows, columns = torch.randint(0, 5, (2, 9), generator=rng)
    mirrored = torch.tensor([True, False] * 4 + [True])
    result = windows(images, rows, columns, mirrored, SIZE - 4)
    for image, window, top, left, mirror in zip(images, result, rows, columns, mirrored):
        expected = image.numpy()[:, top : top + SIZE - 4, left : left + SIZE - 4]
        assert np.array_equal(window, expected[:, :, ::-1] if mirror else expected)


def test_every_crop_of_the_padded_image_occurs():
    image = torch.arange(1, 10, dtype=torch.uint8).view(1, 1, 3, 3).repeat(2000, 1, 1, 1)
    numbers = torch.rand(2000, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    numbers[0], numbers[1] = 0.0, 1 - 2**-53  # the extremes of what a generator of doubles gives
    # 5 x 5 offsets; each shows other numbers, as even the outermost keeps one pixel of the image.
    assert len(crop_and_flip(image, numbers, 3, 2, flip=False).unique(dim=0)) == 25


def test_nothing_is_done_to_memory_images_without_padding_and_flip(memory):
    config = config_for(memory)
    images, labels = next(train(memory, crop_padding=0, flip=False).epoch(0))
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (config.mean, config.std))
    assert torch.equal(images, (memory.images[labels].float() / 255 - mean) / std)


@pytest.mark.parametrize("channels_last", [False, True])
def test_batches_have_the_promised_form(split, channels_last):
    loaders = train(split, channels_last=channels_last).epoch(0), iter(evaluate(split, channels_last=channels_last))
    for images, labels in map(next, loaders):
        assert images.dtype == torch.float32 and labels.dtype == torch.int64
        assert images.shape[1:] == (3, SIZE, SIZE)
        assert images.is_contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)


def test_flips_and_crops_of_files_are_windows_of_the_resized_image(files):
    images, labels = next(train(files, crop_padding=0, mean=[0.0] * 3, std=[1.0] * 3).epoch(0))
    mirrored = 0
    for image, label in zip(images, labels):
        whole = transforms.ToTensor()(transforms.Resize((30, 30))(Image.open(files.paths[label])))
        windows = whole.unfold(1, SIZE, 1).unfold(2, SIZE, 1).flatten(1, 2).transpose(0, 1)
        straight, flipped = (any(torch.allclose(i, w, rtol=0, atol=LEVEL) for w in windows) for i in (image, image.flip(2)))
        assert straight != flipped
        mirrored += flipped
    assert 0 < mirrored < len(images)


def assert_eval_matches_torchvision(paths: list[str]) -> None:
    mean, std = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    pipeline = transforms.Compose(
        [
            transforms.Resize((256, 256)),
            transforms.CenterCrop(221),
            transforms.ToTensor(),
            transforms.Normalize(mean, std),
        ]
    )
    expected = torch.stack([pipeline(Image.open(path).convert("RGB")) for path in paths])
    split = FileSplit(paths, torch.zeros(len(paths), dtype=torch.int64))
    loader = evaluate(split, batch=len(paths), size=221, resize_size=256, mean=mean, std=std)
    images, _ = next(iter(loader))
    levels = (images - expected).abs() * 255 * torch.tensor(std).view(1, 3, 1, 1)
    assert levels.max() < 1.01 and levels.mean() < 0.1  # PIL's pixels, rounded differently here and there


def test_eval_pixels_of_made_images_equal_torchvisions(files):
    assert_eval_matches_torchvision(files.paths)


def test_eval_pixels_of_photos_equal_torchvisions(tmp_path):
    assert_eval_matches_torchvision([str(path) for path in photos(tmp_path, 50)])


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK", "1"])
def test_other_colour_modes_become_rgb(mode, tmp_path):
    path = tmp_path / ("image.jpg" if mode == "CMYK" else "image.png")
    Image.new(mode, (30, 30), 1 if mode in "LP1" else None).save(path)
    split = FileSplit([str(path)], torch.zeros(1, dtype=torch.int64))
    assert next(iter(evaluate(split)))[0].shape == (1, 3, SIZE, SIZE)
