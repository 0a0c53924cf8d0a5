"""What each data set holds, its configuration file, and the images held out of it."""

from __future__ import annotations

import gzip
import pickle
import struct
import urllib.request
from hashlib import md5, sha256
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
import torch
from scipy.io import savemat
from torchvision.datasets import CIFAR10, SVHN
from torchvision.transforms.functional import resize

from efficientconv.cli import compose
from efficientconv.config import DataConfig
from efficientconv.data import DATA_SETS, FileSplit, MemorySplit, load_data
from efficientconv.data.dataset import hold_out
from efficientconv.data.sets import fashion_mnist
from efficientconv.validation import validate
from test_data_helpers import assert_load_refused, assert_refused, config


@pytest.fixture
def offline(monkeypatch):
    def refuse(*_, **__):
        raise URLError("no network")

    monkeypatch.setattr(urllib.request, "urlopen", refuse)


# ------------------------------------------------------------------------------------- configuration and holding out


@pytest.mark.parametrize("name", DATA_SETS.names())
def test_settings_are_valid_and_what_the_command_line_takes_them_for(name):
    assert config(name).name == name
    assert validate(DataConfig, compose("train", ["model=c", f"data={name}"])["data"]) == config(name)


def test_settings_that_a_set_does_not_have_are_refused():
    for key, value in (("root", "data"), ("num_images", 100), ("num_classes", 7)):
        assert_load_refused("digits", f"data=digits has no use for {key}", **{key: value})


def test_unknown_name_gets_the_nearest():
    assert_refused(lambda: load_data(config("digits", name="cifar_10")), "did you mean 'cifar10'")


def test_hold_out_is_stratified_disjoint_and_repeatable():
    labels = torch.tensor([0] * 40 + [1] * 20 + [2] * 3 + [3])
    split = MemorySplit(torch.arange(64, dtype=torch.uint8).view(64, 1, 1, 1), labels)
    train, val = hold_out(split, 0.1, num_classes=4)
    assert val.labels.bincount(minlength=4).tolist() == [4, 2, 1, 0]  # one at least, but never the last
    both = torch.cat([train.images, val.images]).flatten()
    assert both.sort().values.tolist() == list(range(64))
    torch.manual_seed(123)
    assert torch.equal(hold_out(split, 0.1, num_classes=4)[1].images, val.images)
    files = FileSplit([str(i) for i in range(64)], labels)
    assert hold_out(files, 0.1, num_classes=4)[1].paths == [str(int(i)) for i in val.images.flatten()]


def test_nothing_is_held_out_at_fraction_zero():
    data = load_data(config("synthetic", val_fraction=0.0))
    assert data.val is None and len(data.train) == 1024


# --------------------------------------------------------------------------------------------- sets without files


@pytest.mark.parametrize("name, counts", [("digits", (1295, 143, 359)), ("synthetic", (924, 100, 256))])
def test_sets_that_need_no_files(name, counts):
    data = load_data(config(name))
    assert data.num_classes == 10 and data.image_size == 32
    assert tuple(map(len, (data.train, data.val, data.test))) == counts
    for split in (data.train, data.val, data.test):
        assert split.images.shape[1:] == (3, 32, 32) and split.images.dtype == torch.uint8
        assert split.labels.unique().tolist() == list(range(10))


@pytest.mark.parametrize("name", ["digits", "synthetic"])
def test_labels_belong_to_the_images(name):
    data = load_data(config(name))
    x, y = data.train.images.flatten(1).float(), data.train.labels
    means = torch.stack([x[y == label].mean(0) for label in range(10)])
    guesses = torch.cdist(data.test.images.flatten(1).float(), means).argmin(1)
    assert (guesses == data.test.labels).float().mean() > 0.8


def test_image_size_is_obeyed():
    assert load_data(config("digits", image_size=16)).train.images.shape[2:] == (16, 16)
    assert load_data(config("synthetic", image_size=48, num_classes=3)).train.images.shape[2:] == (48, 48)


def test_synthetic_without_a_size():
    assert_load_refused("synthetic", "data.image_size", image_size=None)


# -------------------------------------------------------------------------------------- torchvision's and IDX files


def fake_cifar(root: Path, monkeypatch) -> None:
    """CIFAR-10 with 2 images a batch, and the checksums of these instead of the real ones."""
    folder = root / CIFAR10.base_folder
    folder.mkdir(parents=True)

    def write(name: str, content: dict) -> list[str]:
        (folder / name).write_bytes(pickle.dumps(content))
        return [name, md5((folder / name).read_bytes()).hexdigest()]

    rng = np.random.default_rng(0)
    names = [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"]
    batch = [write(n, {"data": rng.integers(0, 256, (2, 3072), np.uint8), "labels": [3, 5]}) for n in names]
    _, checksum = write("batches.meta", {"label_names": list("abcdefghij")})
    monkeypatch.setattr(CIFAR10, "train_list", batch[:5])
    monkeypatch.setattr(CIFAR10, "test_list", batch[5:])
    monkeypatch.setattr(CIFAR10, "meta", {**CIFAR10.meta, "md5": checksum})


def test_cifar_is_read_from_its_folder(tmp_path, monkeypatch, offline):
    fake_cifar(tmp_path, monkeypatch)
    data = load_data(config("cifar10", root=str(tmp_path), val_fraction=0.0))
    raw = pickle.loads((tmp_path / CIFAR10.base_folder / "data_batch_1").read_bytes())["data"]
    assert np.array_equal(data.train.images[0].flatten(), raw[0])  # stored as 3 x 32 x 32
    assert data.train.labels.tolist() == [3, 5] * 5 and len(data.test) == 2
    assert load_data(config("cifar10", root=str(tmp_path), image_size=48)).image_size == 48


def fake_svhn(root: Path, monkeypatch) -> np.ndarray:
    """SVHN with 3 images a part, 32 x 32 x 3 x N and labels 1 to 10 as its authors store them; returns the images."""
    images, files = np.random.default_rng(0).integers(0, 256, (32, 32, 3, 3), np.uint8), {}
    for part in ("train", "test"):
        name = f"{part}_32x32.mat"
        savemat(root / name, {"X": images, "y": np.array([[1], [10], [9]], np.uint8)})
        files[part] = [f"http://localhost/{name}", name, md5((root / name).read_bytes()).hexdigest()]
    monkeypatch.setattr(SVHN, "split_list", files)
    return images


def test_svhn_is_read_from_its_files(tmp_path, monkeypatch, offline):
    stored = fake_svhn(tmp_path, monkeypatch)
    data = load_data(config("svhn", root=str(tmp_path), val_fraction=0.0))
    assert data.train.labels.tolist() == data.test.labels.tolist() == [1, 0, 9] and data.classes[9] == "9"
    assert np.array_equal(data.train.images.permute(2, 3, 1, 0).numpy(), stored) and data.train.images.is_contiguous()
    assert load_data(config("svhn", root=str(tmp_path), image_size=48)).test.images.shape == (3, 3, 48, 48)


def test_svhn_that_is_damaged_or_absent_is_told(tmp_path, monkeypatch, offline):
    assert_load_refused("svhn", "no intact SVHN", "train_32x32.mat", str(tmp_path), root=str(tmp_path))
    fake_svhn(tmp_path, monkeypatch)
    (tmp_path / "test_32x32.mat").write_bytes(b"cut off")
    assert_load_refused("svhn", "no intact SVHN", root=str(tmp_path))


def test_cifar_with_a_wrong_checksum_is_not_read(tmp_path, monkeypatch, offline):
    fake_cifar(tmp_path, monkeypatch)
    (tmp_path / CIFAR10.base_folder / "data_batch_3").write_bytes(b"something else")
    assert_load_refused("cifar10", "no intact CIFAR10", root=str(tmp_path))


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_cifar_missing_and_offline(name, tmp_path, offline):
    assert_load_refused(name, "looked for", str(tmp_path), "no network", "https://", "data.root", root=str(tmp_path))


def write_idx(path: Path, values: np.ndarray) -> str:
    """Returns the SHA-256 of what is in it."""
    content = struct.pack(f">HBB{values.ndim}I", 0, 8, values.ndim, *values.shape) + values.tobytes()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return sha256(content).hexdigest()


def fake_fashion_mnist(root: Path, suffix: str) -> tuple[np.ndarray, dict[str, str]]:
    """(the images of both parts, the checksums of the four files)."""
    images, checksums = np.random.default_rng(0).integers(0, 256, (20, 28, 28), dtype=np.uint8), {}
    for part in ("train", "t10k"):
        for name, values in ((f"{part}-images-idx3-ubyte", images), (f"{part}-labels-idx1-ubyte", np.arange(20) % 10)):
            checksums[name] = write_idx(root / f"{name}{suffix}", values.astype(np.uint8))
    return images, checksums


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_fashion_mnist_is_read_from_its_four_files(tmp_path, suffix, offline, monkeypatch):
    images, checksums = fake_fashion_mnist(tmp_path, suffix)
    monkeypatch.setattr(fashion_mnist, "CHECKSUMS", checksums)
    data = load_data(config("fashion_mnist", root=str(tmp_path), val_fraction=0.0))
    assert data.train.images.shape == (20, 3, 32, 32) and data.test.labels.tolist() == [*range(10)] * 2
    assert all(np.array_equal(channel[2:30, 2:30], images[7]) for channel in data.train.images[7])
    assert data.train.images[:, :, :2].max() == 0

    path = tmp_path / f"t10k-images-idx3-ubyte{suffix}"
    path.write_bytes(path.read_bytes()[:-5])
    assert_load_refused("fashion_mnist", "damaged", str(path), root=str(tmp_path))
    path.unlink()
    assert_load_refused("fashion_mnist", "no 't10k-images-idx3-ubyte'", root=str(tmp_path))


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_files_of_the_same_names_that_are_another_sets_are_refused(tmp_path, suffix, offline):
    """MNIST's own: it would be trained on, and called Fashion-MNIST."""
    fake_fashion_mnist(tmp_path, suffix)
    assert_load_refused("fashion_mnist", "train-images-idx3-ubyte", "another set's", root=str(tmp_path))


def test_fashion_mnist_missing_and_offline(tmp_path, offline):
    assert_load_refused("fashion_mnist", str(tmp_path), "no network", "apt-get install", root=str(tmp_path))


@pytest.mark.parametrize("size", [7, 20, 32])
def test_images_in_memory_are_resized_as_torchvision_does_it(size: int):
    images = torch.randint(0, 256, (3, 3, 13, 13), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    assert torch.equal(MemorySplit(images, torch.zeros(3)).resized(size).images, resize(images, [size, size]))
