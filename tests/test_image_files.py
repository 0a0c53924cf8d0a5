"""Which files are images: trees as users, file browsers, NAS devices and archive tools leave them."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torchvision.datasets import ImageFolder

from conftest import command
from efficientconv.data import load_data
from efficientconv.data.decode import read_rgb, rgb_pixels
from efficientconv.data.image_files import EXTENSIONS, FORMATS, PassedOver, images_in
from efficientconv.preparation.source import find_source
from test_data_helpers import assert_load_refused, assert_refused, config, tree

CLASSES = ("cat", "dog")
NOBODY = 65534


def clean_tree(root: Path) -> Path:
    """3 images of each class in train/ and in val/."""
    tree(root, *(f"{part}/{label}/{i}.png" for part in ("train", "val") for label in CLASSES for i in "123"))
    return root


def write(path: Path, content: bytes = b"") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def copy_image(root: Path, *names: str) -> None:
    for name in names:
        write(root / name, (root / "train/cat/1.png").read_bytes())


def link(root: Path, name: str, target: str) -> None:
    (root / name).symlink_to(target)


def many_links_to_one_another(root: Path) -> None:
    """2 ** 30 ways lead through 30 folders."""
    for number in range(30):
        (root / f"train/cat/{number}").mkdir()
        for way in "ab":
            link(root, f"train/cat/{number}/{way}", f"../../cat/{number + 1}")


# What is added to the clean tree, and what is said of it: no image of it may be taken for one.
ADDED: dict[str, tuple[Callable[[Path], object], dict[str, int]]] = {
    "hidden folder in a class": (
        lambda root: copy_image(root, "train/cat/.ipynb_checkpoints/1.png", "val/dog/.thumbnails/small/1.png"), {"hidden": 2}
    ),
    "hidden folder beside classes": (lambda root: copy_image(root, "train/.thumbnails/1.png"), {"hidden": 1}),
    "hidden file": (lambda root: copy_image(root, "train/cat/._1.png", "train/.DS_Store"), {"hidden": 2}),
    "empty hidden folder": (lambda root: (root / "train/cat/.git").mkdir(), {}),
    "hidden link to everything": (lambda root: link(root, "train/cat/.all", "/"), {"hidden": 1}),
    "NAS folder in a class": (
        lambda root: copy_image(root, "train/cat/@eaDir/1.png/SYNOPHOTO_THUMB_XL.jpg"), {"in @eaDir": 1}
    ),
    "NAS folders beside classes": (
        lambda root: copy_image(root, "train/@eaDir/1.png", "train/#recycle/cat/1.png", "val/__MACOSX/cat/1.png"),
        {"in @eaDir": 1, "in #recycle": 1, "in __MACOSX": 1},
    ),
    "other files": (
        lambda root: [write(root / name) for name in ("train/cat/a.txt", "train/cat/b.TXT", "val/all.csv", "train/README")],
        {".txt": 2, ".csv": 1, "no extension": 1},
    ),
    "an extension that is none": (lambda root: write(root / "train/cat/1.\x1b[31m\n"), {"odd extension": 1}),
    "images that the decoder does not read": (
        lambda root: copy_image(root, "train/cat/1.heic", "train/cat/2.HEIC", "train/dog/1.svg"), {".heic": 2, ".svg": 1}
    ),
    "image in no class": (lambda root: copy_image(root, "train/1.png", "val/2.png"), {"in no class": 2}),
    "file named like a class": (lambda root: write(root / "train/eel"), {"no extension": 1}),
    "link to itself": (lambda root: link(root, "train/cat/loop", "loop"), {"broken link": 1}),
    "class that leads nowhere": (lambda root: link(root, "train/eel", "nowhere"), {"broken link": 1}),
    "link to its own folder": (lambda root: link(root, "train/cat/loop", "."), {"folder linked twice": 1}),
    "link to all classes": (
        lambda root: [link(root, f"train/{label}/all", "..") for label in CLASSES], {"folder linked twice": 2}
    ),
    "link to all of the data": (lambda root: link(root, "train/cat/all", "../.."), {"folder linked twice": 1}),
    "links to each other": (
        lambda root: [(root / f"train/cat/{name}").mkdir() or link(root, f"train/cat/{name}/to", f"../{other}")
                      for name, other in ("ab", "ba")],
        {"folder linked twice": 2},
    ),
    "many links to one another": (many_links_to_one_another, {"broken link": 2, "folder linked twice": 29 * 2}),
    "pipe": (lambda root: os.mkfifo(root / "train/cat/pipe.png"), {"pipe, socket or device": 1}),
    "link to a device": (lambda root: link(root, "train/cat/zero.png", "/dev/zero"), {"pipe, socket or device": 1}),
}  # fmt: skip


@pytest.mark.parametrize("what", ADDED)
def test_what_is_no_image_is_passed_over_and_counted_by_all(what, tmp_path):
    root, (add, counts) = clean_tree(tmp_path), ADDED[what]
    names = sorted(str(path.relative_to(root)) for path in root.rglob("*.png"))
    add(root)
    for name in ("folder", "imagenet"):
        data = load_data(config(name, root=str(root), val_fraction=0.0))
        assert data.classes == list(CLASSES) and len(data.train) == len(data.test) == 6
        assert dict(data.passed_over) == counts
    assert sorted(os.path.relpath(path, root) for path in data.train.paths + data.test.paths) == names
    source = find_source(root, None, subset=True)
    items = [(part, item) for part in source.parts for item in source.parts[part]]
    assert sorted(f"{part}/{item.name}" for part, item in items) == names and dict(source.passed_over) == counts


def test_ordinary_trees_are_listed_as_torchvision_lists_them(tmp_path):
    """Labels, order and so the held-out part of earlier runs stay what they were."""
    odd = os.fsdecode(b"train/b/\xff.png")
    names = ["train/a/10.png", "train/a/9.png", "train/a/B.PNG", "train/a/x/1.png", "train/a/x-y/1.png", "train/a/x/y/1.png"]
    root = tree(tmp_path, *names, "train/a.b/1.webp", "train/B/ä.bmp", "train/b/1.jpg", "pool/1.png")
    tree(tmp_path, *(f"val/{name}/1.png" for name in ("a", "a.b", "B", "b", "c")))
    (tmp_path / odd).write_bytes((tmp_path / "train/a/9.png").read_bytes())
    link(tmp_path, "train/a/linked.png", "../../pool/1.png")
    link(tmp_path, "train/b/linked", "../../pool")
    link(tmp_path, "train/c", "../pool")
    expected, data = ImageFolder(str(tmp_path / "train")), load_data(config("imagenet", root=root, val_fraction=0.0))
    assert data.classes == expected.classes and not data.passed_over
    assert list(zip(data.train.paths, data.train.labels.tolist())) == expected.samples


# ------------------------------------------------------------------------------------------------------------ extensions


@pytest.mark.parametrize("extension", sorted(EXTENSIONS))
def test_each_extension_is_listed_and_read(extension, tmp_path):
    """Each by its own format, with PIL's own reading as the reference."""
    path, pil_format = tmp_path / f"1{extension.upper()}", next(f for f in FORMATS if extension in FORMATS[f])
    colours = np.random.default_rng(0).integers(0, 256, (24, 24, 3), dtype=np.uint8)
    Image.fromarray(colours).save(path, pil_format)
    assert images_in(tmp_path, PassedOver()) == [str(path)]
    with Image.open(path) as image:
        expected = np.asarray(image.convert("RGB"))
    assert np.array_equal(rgb_pixels(path.read_bytes(), str(path)), expected)
    assert expected.std() > 20 and pil_format in (image.format, "TGA")


@pytest.mark.parametrize("name", ["frames.gif", "frames.apng", "frames.webp", "frames.avif", "frames.tif", "frames.mpo"])
def test_of_several_frames_the_first_is_read(name, tmp_path):
    red, blue = (Image.new("RGB", (24, 24), colour) for colour in ("red", "blue"))
    red.save(tmp_path / name, save_all=True, append_images=[blue])  # an MPO is a JPEG with further ones behind it
    red, green, blue = read_rgb(str(tmp_path / name)).getpixel((5, 5))
    assert red > 240 and green < 15 and blue < 15


def test_no_format_is_read_that_runs_a_program(tmp_path):
    Image.new("RGB", (24, 24)).save(tmp_path / "a.eps")
    (tmp_path / "a.eps").rename(tmp_path / "a.jpg")
    assert_refused(lambda: read_rgb(str(tmp_path / "a.jpg")), "not an image")


# ------------------------------------------------------------------------------------------------------ unreadable folders


@contextmanager
def unprivileged(folder: Path) -> Iterator[None]:
    """As a user who may not read everything, also where the tests run as root."""
    if os.geteuid():
        yield
        return
    shutil.chown(folder, NOBODY)
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def open_tree() -> Iterator[Path]:
    """A clean tree in a place that everybody can reach; tests may take away the right to read parts of it."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield clean_tree(folder / "set")
    for place in folder.rglob("*"):
        place.is_dir() and place.chmod(0o755)
    shutil.rmtree(folder)


def without_rights(path: Path) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    path.chmod(0)
    return path


def test_an_unreadable_folder_in_a_class_is_counted(open_tree):
    without_rights(open_tree / "train/cat/more")
    with unprivileged(open_tree):
        data = load_data(config("folder", root=str(open_tree), val_fraction=0.0))
    assert len(data.train) == 6 and str(data.passed_over) == "1 file passed over: unreadable 1"


@pytest.mark.parametrize("name", ["train", "val", "train/cat", "val/dog", "."])
def test_an_unreadable_folder_of_images_is_one_line(name, open_tree):
    folder = without_rights(open_tree / name)
    with unprivileged(open_tree):
        for data in ("folder", "imagenet"):
            assert_load_refused(data, str(folder), "Permission denied", root=str(open_tree))
        assert_refused(lambda: find_source(open_tree, None, True), str(folder), "Permission denied")


def test_a_path_that_is_too_long_is_counted(tmp_path):
    root, here = clean_tree(tmp_path), os.open(tmp_path / "train/cat", os.O_RDONLY)
    for _ in range(30):  # 30 x 200 letters, where a path may have 4,096
        os.mkdir("d" * 200, dir_fd=here)
        here, above = os.open("d" * 200, os.O_RDONLY, dir_fd=here), here
        os.close(above)
    os.close(here)
    data = load_data(config("folder", root=str(root), val_fraction=0.0))
    assert len(data.train) == 6 and dict(data.passed_over) == {"unreadable": 1}


# -------------------------------------------------------------------------------------------------------------- class names

COMPOSED, DECOMPOSED = "caf\u00e9", "cafe\u0301"


@pytest.mark.parametrize("train_name, val_name", [(COMPOSED, DECOMPOSED), (DECOMPOSED, COMPOSED)])
def test_composed_and_decomposed_accents_are_one_class(train_name, val_name, tmp_path):
    root = tree(tmp_path, f"train/{train_name}/1.png", "train/bar/1.png", f"val/{val_name}/1.png", "val/bar/1.png")
    for name in ("folder", "imagenet"):
        data = load_data(config(name, root=root, val_fraction=0.0))
        assert data.classes == ["bar", train_name] and data.test.labels.tolist() == [0, 1]
    parts = find_source(Path(root), None, subset=True).parts
    assert [item.label for item in parts["train"]] == [item.label for item in parts["val"]] == ["bar", train_name]


def test_one_class_in_two_spellings_is_refused(tmp_path):
    root = tree(tmp_path, f"train/{COMPOSED}/1.png", f"train/{DECOMPOSED}/1.png", "val/bar/1.png")
    for name in ("folder", "imagenet"):
        assert_load_refused(name, "several Unicode spellings", r"'caf\xe9'", r"'cafe\u0301'", root=root)


def test_names_that_differ_in_case_are_two_classes(tmp_path):
    root = tree(tmp_path, "train/cat/1.png", "train/Cat/1.png", "val/cat/1.png", "val/Cat/1.png")
    assert load_data(config("folder", root=root)).classes == ["Cat", "cat"]


# ------------------------------------------------------------------------------------------------------------- said at once


def test_a_run_and_a_verification_say_it_in_one_line(tmp_path):
    root = clean_tree(tmp_path / "set")
    copy_image(root, *(f"train/cat/{i}.heic" for i in range(6)), "train/@eaDir/1.png", "val/dog/.thumbnails/1.png")
    line = "8 files passed over: .heic 6, hidden 1, in @eaDir 1"
    done = command("scripts/verify_data.py", "data=folder", f"data.root={root}", cwd=tmp_path)
    assert done.returncode == 0 and line in done.stdout.splitlines() and "train: 6 images, 0 damaged" in done.stdout
    args = ["data=folder", f"data.root={root}", "model.width=0.125", "trainer.epochs=1", "trainer.global_batch_size=2"]
    done = command("train.py", *args, "data.image_size=16", "logger=jsonl", f"run_dir={tmp_path / 'run'}")
    assert done.returncode == 0 and f"images: {line}" in done.stdout.splitlines(), done.stderr
    done = command("scripts/prepare_imagenet.py", root, tmp_path / "prepared", "--subset")
    assert done.returncode == 0 and line in done.stdout.splitlines(), done.stderr


def test_of_many_reasons_the_most_frequent_are_said():
    passed_over = PassedOver({f".x{i}": 20 - i for i in range(20)})
    assert str(passed_over) == (
        "210 files passed over: .x0 20, .x1 19, .x2 18, .x3 17, .x4 16, .x5 15, .x6 14, .x7 13, other reasons 78"
    )


def test_a_class_of_which_nothing_is_read_says_why(tmp_path):
    root = clean_tree(tmp_path)
    for name in "123":
        (root / f"train/cat/{name}.png").rename(root / f"train/cat/{name}.heic")
    assert_load_refused("folder", "no images in the class folders 'cat'", "3 files passed over: .heic 3", root=str(root))
