"""Made-up images and short ways to load them, shared by the tests of the data."""

from __future__ import annotations

import tarfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from efficientconv.config import DataConfig
from efficientconv.data import FileSplit, MemorySplit, Shard, eval_loader, load_data, train_loader
from efficientconv.data_settings import data_settings
from efficientconv.errors import UserError
from efficientconv.validation import validate

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"  # real images, on the developers' machines only
IMAGENET_SAMPLE = SHARED_DATA / "imagenet-sample.tar"
CPU = torch.device("cpu")
SIZE = 24
NUM_IMAGES = 23  # a prime: no batch size and no number of processes divides it


def make_photos(folder: Path) -> FileSplit:
    """Photos of several shapes; the label is the index, so that a batch says which images it has."""
    rng = np.random.default_rng(0)
    paths = [str(folder / f"{i}.png") for i in range(NUM_IMAGES)]
    for i, path in enumerate(paths):
        Image.fromarray(rng.integers(0, 256, (25 + i, 48 - i, 3), dtype=np.uint8)).save(path)
    return FileSplit(paths, torch.arange(NUM_IMAGES))


def make_memory() -> MemorySplit:
    images = torch.randint(0, 256, (NUM_IMAGES, 3, SIZE, SIZE), generator=torch.Generator().manual_seed(0))
    return MemorySplit(images.to(torch.uint8), torch.arange(NUM_IMAGES))


def config_for(split, **changes) -> DataConfig:
    values = dict(name="test", mean=[0.5, 0.4, 0.3], std=[0.2, 0.3, 0.4], crop_padding=2, workers=0)
    values |= {"resize_size": 30} if isinstance(split, FileSplit) else {}
    return DataConfig(**values | changes)


def train(split, shard=Shard(), batch=6, seed=0, channels_last=False, damage=None, num_classes=None, **changes):
    return train_loader(
        split,
        config_for(split, **changes),
        image_size=SIZE,
        global_batch_size=batch,
        accumulation_steps=1,
        seed=seed,
        device=CPU,
        channels_last=channels_last,
        shard=shard,
        damage=damage,
        num_classes=num_classes,
    )


def evaluate(split, shard=Shard(), batch=5, size=SIZE, channels_last=False, **changes):
    return eval_loader(
        split,
        config_for(split, **changes),
        image_size=size,
        batch_size=batch,
        device=CPU,
        channels_last=channels_last,
        shard=shard,
    )


def config(name: str, /, **changes) -> DataConfig:
    """data=<name> with changes, as the command line makes it."""
    return validate(DataConfig, {**data_settings()[name], **changes}, "data")


def tree(root: Path, *paths: str, size: tuple[int, int] = (8, 8)) -> str:
    """Images of random pixels at root/<path>; returns the root."""
    rng = np.random.default_rng(0)
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)).save(root / path)
    return str(root)


def assert_refused(action, *parts: str) -> None:
    """`action` raises a UserError of one line with all `parts` in it."""
    try:
        action()
    except UserError as error:  # not pytest.raises: the error that it keeps would keep the worker processes
        message = str(error)
    assert "\n" not in message and all(part in message for part in parts), message


def assert_load_refused(name: str, *parts: str, **changes) -> None:
    assert_refused(lambda: load_data(config(name, **changes)), *parts)


def photos(folder: Path, count: int) -> list[Path]:
    """`count` real photographs where the developers' are at hand, else made-up ones: JPEGs of several shapes."""
    folder.mkdir(parents=True, exist_ok=True)
    if not IMAGENET_SAMPLE.exists():
        return [made_photo(folder / f"{i}.JPEG", 300 + 7 * i, 400 - 5 * i, i) for i in range(count)]
    with tarfile.open(IMAGENET_SAMPLE) as archive:
        members = [member for member in archive.getmembers() if member.isfile()]
        for number, member in enumerate(members[:: len(members) // count][:count]):
            (folder / f"{number}.JPEG").write_bytes(archive.extractfile(member).read())
    return sorted(folder.iterdir())


def made_photo(path: Path, width: int, height: int, seed: int) -> Path:
    """Smooth, as photographs are: a few random colours, enlarged."""
    colours = np.random.default_rng(seed).integers(0, 256, (7, 9, 3), dtype=np.uint8)
    Image.fromarray(colours).resize((width, height), Image.Resampling.BICUBIC).save(path, quality=90)
    return path


def official(root: Path, num_classes: int = 4, per_class: int = 10) -> Path:
    """ImageNet's folders and names in small: of each class, the first fifth is val, the rest train."""
    for number, photo in enumerate(photos(root / "photos", num_classes * per_class)):
        synset, place = f"n{number % num_classes:08d}", number // num_classes
        name = f"ILSVRC2012_val_{number + 1:08d}" if place < per_class // 5 else f"{synset}_{number}"
        target = root / ("val" if place < per_class // 5 else "train") / synset / f"{name}.JPEG"
        target.parent.mkdir(parents=True, exist_ok=True)
        photo.rename(target)
    (root / "photos").rmdir()
    return root
