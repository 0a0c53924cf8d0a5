"""Trees with a folder for each class, and the one line that says what is wrong with one."""

from __future__ import annotations

import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from conftest import SMALL_RUN, train_here
from efficientconv.data import FileSplit, load_data
from test_data_helpers import SHARED_DATA, assert_load_refused, config, tree

CIFAR_JPEG = SHARED_DATA / "cifar10-jpeg.tar.xz"


def small_tree(root: Path) -> str:
    folders = ("train/cat", "train/dog", "test/cat", "test/dog")
    return tree(root, *(f"{folder}/{i}.png" for folder in folders for i in "123"))


def test_small_folder_is_held_in_memory(tmp_path):
    data = load_data(config("folder", root=small_tree(tmp_path), val_fraction=0.0))
    assert data.classes == ["cat", "dog"] and data.image_size == 8
    assert data.train.labels.tolist() == [0, 0, 0, 1, 1, 1]
    expected = np.asarray(Image.open(tmp_path / "train/dog/2.png"))
    assert np.array_equal(data.train.images[4].permute(1, 2, 0), expected)


@pytest.mark.parametrize("rank", ["0", "1"])
def test_of_torchruns_processes_only_the_first_shows_that_it_decodes(rank, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("RANK", rank)
    monkeypatch.setattr("efficientconv.progress.LINE_S", 0.0)
    load_data(config("folder", root=small_tree(tmp_path), val_fraction=0.0))
    assert ("decoding: 6/6 images" in capsys.readouterr().out) == (rank == "0")


def test_nested_upper_case_and_hidden_files(tmp_path):
    root = tree(tmp_path, "train/a/deep/er/1.JPG", "train/a/2.Png", "train/b/1.png", "val/b/1.png")
    (tmp_path / "train/a/notes.txt").write_text("not an image")
    (tmp_path / "train/a/._2.Png").write_text("left by macOS")
    (tmp_path / "train/.ipynb_checkpoints").mkdir()
    data = load_data(config("folder", root=root, val_fraction=0.0))
    assert data.classes == ["a", "b"] and data.train.labels.tolist() == [0, 0, 1]
    assert data.test.labels.tolist() == [1]  # val/ stands in for test/, and may lack a class


def test_large_folder_stays_in_files(tmp_path):
    root = tree(tmp_path, "train/a/1.png", "train/b/1.png", "test/a/1.png", size=(80, 80))
    data = load_data(config("folder", root=root))
    assert isinstance(data.train, FileSplit) and data.image_size == 80 and data.val is None


def test_a_run_that_holds_out_nothing_says_so(tmp_path):
    root = tree(tmp_path, "train/a/1.png", "train/b/1.png", "test/a/1.png")
    settings = (f"data.root={root}", "data.val_fraction=0.25", "trainer.global_batch_size=2", f"run_dir={tmp_path / 'run'}")
    with pytest.warns(UserWarning, match="data.val_fraction=0.25 holds out no image: no class has two"):
        train_here(*SMALL_RUN, "model=c", "data=folder", *settings, "trainer.epochs=1")


def test_image_size_resizes_images_of_several_shapes(tmp_path):
    tree(tmp_path, "train/a/1.png", size=(90, 70))
    root = tree(tmp_path, "train/b/1.png", "test/a/1.png", size=(9, 12))
    assert_load_refused("folder", "data.image_size", "1.png", root=root)
    data = load_data(config("folder", root=root, image_size=32))
    assert data.train.images.shape == (2, 3, 32, 32)


def test_large_images_of_several_shapes_need_resize_size(tmp_path):
    tree(tmp_path, "train/a/1.png", size=(90, 70))
    root = tree(tmp_path, "train/b/1.png", "test/a/1.png", size=(80, 80))
    assert_load_refused("folder", "data.resize_size=72", root=root, image_size=72)
    assert isinstance(load_data(config("folder", root=root, image_size=72, resize_size=80)).train, FileSplit)


def test_odd_size_that_shows_only_on_decoding(tmp_path):
    small_tree(tmp_path)
    root = tree(tmp_path, "train/cat/9.png", size=(9, 8))
    assert_load_refused("folder", "9.png", "9 x 8", "data.image_size", root=root)


def test_folder_errors(tmp_path):
    assert_load_refused("folder", "data.root=<folder>")
    assert_load_refused("folder", "no folder", str(tmp_path / "none"), "data.root", root=str(tmp_path / "none"))
    assert_load_refused("folder", "no folder", str(tmp_path / "train"), root=str(tmp_path))
    (tmp_path / "train").mkdir()
    assert_load_refused("folder", "no class folders", root=str(tmp_path))
    tree(tmp_path, "train/1.png")
    assert_load_refused("folder", "no class folders", "but images", root=str(tmp_path))
    tree(tmp_path, "train/cat/1.png")
    assert_load_refused("folder", "only one class", "'cat'", root=str(tmp_path))
    tree(tmp_path, "train/dog/1.png")
    assert_load_refused("folder", "neither test/ nor val/", root=str(tmp_path))
    tree(tmp_path, "test/cat/1.png", "test/ape/1.png", "test/owl/1.png")
    assert_load_refused("folder", "train/ lacks: 'ape', 'owl'", root=str(tmp_path))


def test_a_flat_test_beside_a_labelled_val_is_a_question_and_no_choice(tmp_path):
    root = tree(tmp_path, "train/cat/1.png", "train/dog/1.png", "test/1.png", "val/cat/1.png", "val/dog/1.png")
    assert_load_refused("folder", "no class folders in", f"{root}/test", f"'{root}/val' has some", "move test/", root=root)
    (tmp_path / "test").rename(tmp_path / "unlabelled")
    assert len(load_data(config("folder", root=root, val_fraction=0.0)).test) == 2


def test_class_folder_without_images(tmp_path):
    root = small_tree(tmp_path)
    (tmp_path / "train/eel").mkdir()
    assert_load_refused("folder", "no images", "'eel'", root=root)


def test_unreadable_image_is_named(tmp_path):
    root = small_tree(tmp_path)
    (tmp_path / "train/cat/2.png").write_bytes(b"\x89PNG but no more")
    assert_load_refused("folder", "cannot read", str(tmp_path / "train/cat/2.png"), root=root)


def test_folder_of_real_images(tmp_path):
    if not CIFAR_JPEG.exists():
        pytest.skip(f"needs {CIFAR_JPEG}")
    with tarfile.open(CIFAR_JPEG) as archive:
        for member in archive:
            if member.isfile() and Path(member.name).stem <= "0030":
                path = tmp_path / member.name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(archive.extractfile(member).read())
    data = load_data(config("folder", root=str(tmp_path), val_fraction=0.1))
    assert data.classes[:2] == ["airplane", "automobile"] and data.num_classes == 10 and data.image_size == 32
    per_class = len(list((tmp_path / "train/cat").iterdir()))
    held = round(0.1 * per_class)
    assert data.val.labels.bincount().tolist() == [held] * 10
    assert data.train.labels.bincount().tolist() == [per_class - held] * 10


def test_imagenet_reads_its_folders(tmp_path):
    training = ("train/n01/a.JPEG", "train/n01/b.JPEG", "train/n02/a.JPEG")
    root = tree(tmp_path, *training, "val/n01/v.JPEG", "val/n02/v.JPEG")
    data = load_data(config("imagenet", root=root))
    assert data.classes == ["n01", "n02"] and data.image_size is None  # the network's own
    assert [Path(path).name for path in data.test.paths] == ["v.JPEG", "v.JPEG"]
    assert data.test.labels.tolist() == [0, 1] and len(data.val) == 1 and data.train.labels.tolist() == [0, 1]


def test_imagenet_errors(tmp_path):
    assert_load_refused("imagenet", str(tmp_path / "train"), "https://image-net.org", "data.root", root=str(tmp_path))
    tree(tmp_path, "train/n01/a.png", "train/n02/a.png")
    assert_load_refused("imagenet", str(tmp_path / "val"), "https://image-net.org", root=str(tmp_path))
    tree(tmp_path, "val/ILSVRC2012_val_00000001.png")
    assert_load_refused("imagenet", "flat val", "valprep.sh", root=str(tmp_path))
    tree(tmp_path, "val/n01/a.png", "val/n03/a.png")
    assert_load_refused("imagenet", "train/ lacks: 'n03'", root=str(tmp_path))
    (tmp_path / "val/n03").rename(tmp_path / "elsewhere")
    tree(tmp_path, "train/n00/a.png", "val/n02/a.png")
    assert_load_refused("imagenet", "lacks classes of train/", "'n00'", root=str(tmp_path))
