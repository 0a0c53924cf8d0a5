"""scripts/prepare_imagenet.py: every form that ImageNet comes in, kills, damage, and what is refused."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat
from torchvision.transforms.functional import resize

from conftest import ROOT, command
from efficientconv.data import load_data
from efficientconv.data.prepared import PreparedManifest, Recipe, read_split
from efficientconv.preparation.build import build
from efficientconv.preparation.plan import Plan, estimated_bytes, is_done, require_space
from efficientconv.preparation.source import Item, find_source
from test_data_helpers import assert_load_refused, assert_refused, config, official, tree

SCRIPT = "scripts/prepare_imagenet.py"
JPEG, RAW = Recipe(256, "both", "jpeg", 95), Recipe(256, "both", "raw", None)


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> Path:
    """32 images of train and 8 of val; one is grey and one CMYK."""
    root = official(tmp_path_factory.mktemp("official"))
    first, second = sorted((root / "train/n00000001").iterdir())[:2]
    for path, mode in ((first, "L"), (second, "CMYK")):
        Image.open(path).convert("RGB").convert(mode).save(path, quality=90)
    return root


def plan(source: Path, folder: Path, recipe: Recipe = JPEG, images_per_file: int = 10) -> Plan:
    return Plan(find_source(source, None, subset=True), folder, recipe, True, images_per_file)


# -------------------------------------------------------------------------------------------------------------- sources


def add(archive: tarfile.TarFile, paths: list[Path]) -> None:
    for path in paths:
        archive.add(path, path.name)


def as_archives(folders: Path, root: Path) -> Path:
    """What image-net.org hands out: an archive of archives, one without folders, and the development kit."""
    classes = sorted(path.name for path in (folders / "train").iterdir())
    root.mkdir()
    with tarfile.open(root / "ILSVRC2012_img_train.tar", "w") as outer:
        for name in classes:
            with tarfile.open(root / f"{name}.tar", "w") as inner:
                add(inner, sorted((folders / "train" / name).iterdir(), reverse=True))  # in no order
            add(outer, [root / f"{name}.tar"])
            (root / f"{name}.tar").unlink()
    images = sorted((folders / "val").rglob("*.JPEG"), key=lambda path: path.name)
    with tarfile.open(root / "ILSVRC2012_img_val.tar", "w") as archive:
        add(archive, images)
    data = root / "ILSVRC2012_devkit_t12/data"
    data.mkdir(parents=True)
    ids = {name: len(classes) - number for number, name in enumerate(classes)}  # not in the order of the names
    # as in the real kit: also synsets that are no classes, with greater numbers
    rows = [(ids.get(name, 1001), name, 0 if name in ids else 3) for name in ("n99999999", *classes)]
    synsets = np.array(rows, dtype=[("ILSVRC2012_ID", "f8"), ("WNID", "O"), ("num_children", "f8")])
    savemat(data / "meta.mat", {"synsets": synsets})
    lines = "".join(f"{ids[path.parent.name]}\n" for path in images)
    (data / "ILSVRC2012_validation_ground_truth.txt").write_text(lines)
    with tarfile.open(root / "ILSVRC2012_devkit_t12.tar.gz", "w:gz") as archive:
        archive.add(root / "ILSVRC2012_devkit_t12", "ILSVRC2012_devkit_t12")
    shutil.rmtree(root / "ILSVRC2012_devkit_t12")
    return root


@pytest.fixture(scope="module")
def archives(folders, tmp_path_factory) -> Path:
    return as_archives(folders, tmp_path_factory.mktemp("handed_out") / "archives")


def contents(items: list[Item]) -> list[tuple[str, bytes]]:
    return [(item.name, item.read()) for item in items]


def test_archives_and_folders_are_the_same_images(folders, archives):
    unpacked, packed = (find_source(root, None, subset=True) for root in (folders, archives))
    assert unpacked.classes == packed.classes
    for part, count in (("train", 32), ("val", 8)):
        assert len(unpacked.parts[part]) == count
        assert contents(unpacked.parts[part]) == contents(packed.parts[part])


@pytest.mark.parametrize("labels", ["development kit", "synsets"])
def test_a_flat_val_is_sorted_by_its_ground_truth(folders, archives, labels, tmp_path):
    shutil.copytree(folders / "train", tmp_path / "train")
    (tmp_path / "val").mkdir()
    images = sorted((folders / "val").rglob("*.JPEG"), key=lambda path: path.name)
    for path in images:
        shutil.copy(path, tmp_path / "val")
    if labels == "synsets":
        truth = tmp_path / "labels.txt"
        truth.write_text("\n".join(path.parent.name for path in images))
    else:
        truth = archives / "ILSVRC2012_devkit_t12.tar.gz"
    sorted_val = find_source(folders, None, subset=True).parts["val"]
    assert contents(find_source(tmp_path, truth, subset=True).parts["val"]) == contents(sorted_val)
    assert_refused(lambda: find_source(tmp_path, None, True), "devkit_t12.tar.gz' is not there", "--val-labels")
    (tmp_path / "val/other.JPEG").write_bytes(b"")
    assert_refused(lambda: find_source(tmp_path, truth, True), "'other.JPEG' is none of the 8 images")
    os.mkfifo(tmp_path / "pipe")
    signal.alarm(60)  # a FIFO is waited for
    assert_refused(lambda: find_source(tmp_path, tmp_path / "pipe", True), "pipe is a FIFO")
    signal.alarm(0)


def test_what_is_incomplete_is_refused_unless_a_part_is_meant(folders, tmp_path):
    assert_refused(lambda: find_source(folders, None, subset=False), "4 classes, ImageNet has 1000", "--subset")
    assert_refused(lambda: find_source(tmp_path, None, subset=True), "ILSVRC2012_img_train.tar", "image-net.org")
    shutil.copytree(folders, tmp_path / "set")
    (tmp_path / "set/train/n00000002").rename(tmp_path / "elsewhere")
    assert_refused(lambda: find_source(tmp_path / "set", None, True), "train lacks classes of val: 'n00000002'")


def test_a_cut_archive_is_refused(archives, tmp_path):
    shutil.copytree(archives, tmp_path / "cut")
    path = tmp_path / "cut/ILSVRC2012_img_train.tar"
    path.write_bytes(path.read_bytes()[:-200_000])
    assert_refused(lambda: find_source(tmp_path / "cut", None, True), str(path), "damaged")


# --------------------------------------------------------------------------------------------------------------- pixels


def reference(path: Path, rule: str) -> np.ndarray:
    """As torchvision's usual pipeline: its own loader of images, its own resize."""
    with Image.open(path) as image:
        return np.asarray(resize(image.convert("RGB"), [256, 256] if rule == "both" else 256))


@pytest.mark.parametrize("rule", ["both", "shorter"])
@pytest.mark.parametrize("encoding", ["jpeg", "raw"])
def test_pixels_are_the_reference_or_near_it(folders, rule, encoding, tmp_path):
    build(plan(folders, tmp_path / "set", Recipe(256, rule, encoding, 95 if encoding == "jpeg" else None)), workers=2)
    data = load_data(config("imagenet", root=str(tmp_path / "set"), resize_rule=rule, val_fraction=0.0))
    paths = load_data(config("imagenet", root=str(folders), val_fraction=0.0)).train.paths
    differences = []
    for index, path in enumerate(paths):
        assert data.train.name(index).endswith(f"{Path(path).parent.name}/{Path(path).name}")
        expected = reference(Path(path), rule)
        assert data.train.pixels(index).shape == expected.shape
        differences.append(np.abs(data.train.pixels(index).astype(int) - expected))
    if encoding == "raw":
        assert max(difference.max() for difference in differences) == 0
    else:  # what JPEG of quality 95 loses
        assert max(d.max() for d in differences) <= 40 and max(d.mean() for d in differences) < 4


# ----------------------------------------------------------------------------------------------- kills, damage, refusals


def arguments(source: Path, destination: Path) -> list[str]:
    return [str(source), str(destination), "--subset", "--images-per-file", "4", "--workers", "1"]


def started(folders: Path, destination: Path) -> subprocess.Popen:
    """A preparation that has done two of its files."""
    call = [sys.executable, str(ROOT / SCRIPT), *arguments(folders, destination)]
    process = subprocess.Popen(call, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    while not (destination / "train-00001.zip").exists():
        assert process.poll() is None
        time.sleep(0.01)
    return process


def test_ctrl_c_ends_it_in_one_line(folders, tmp_path):
    process = started(folders, tmp_path / "set")
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate()
    assert process.returncode == 75 and errors == "stopped by a signal; the same command continues\n"
    build(plan(folders, tmp_path / "set", images_per_file=4), workers=1)
    assert {path.suffix for path in (tmp_path / "set").iterdir()} == {".zip", ".npy", ".json"}


def test_a_killed_preparation_goes_on_and_ends_as_if_it_had_not_been(folders, archives, tmp_path):
    destination = tmp_path / "set"
    process = started(folders, destination)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (destination / "prepared.json").exists()
    assert_load_refused("imagenet", "half prepared", "prepare_imagenet.py", root=str(destination))
    assert_refused(lambda: build(plan(folders, destination, RAW), 1), "half of another set")

    first = (destination / "train-00000.zip").stat()
    done = command(SCRIPT, *arguments(folders, destination))
    assert done.returncode == 0, done.stderr
    assert "32 images of train" in done.stdout and "GB in all" in done.stdout
    assert (destination / "train-00000.zip").stat() == first  # taken over
    names = [f"train-0000{i}.zip" for i in range(8)] + ["val-00000.zip", "val-00001.zip"]
    assert {path.name for path in destination.iterdir()} == {"prepared.json", "train.npy", "val.npy", *names}

    build(plan(archives, tmp_path / "unbroken", images_per_file=4), workers=2)
    assert (tmp_path / "unbroken/prepared.json").read_bytes() == (destination / "prepared.json").read_bytes()
    assert is_done(plan(folders, destination, images_per_file=4))


@pytest.mark.parametrize("change", ["another size", "other bytes", "one in an archive"])
def test_other_images_of_the_same_names_are_another_set(change, folders, archives, tmp_path):
    """Not taken for prepared already, nor mixed with those that half of the set was made of."""
    destination = tmp_path / "set"
    build(plan(folders, destination), workers=1)
    unfinished = tmp_path / "unfinished"
    shutil.copytree(destination, unfinished)
    (unfinished / "prepared.json").unlink()
    (unfinished / "preparing.json").write_text(json.dumps(plan(folders, unfinished).identity()))
    other = as_archives(folders, tmp_path / "other") if "archive" in change else tmp_path / "other"
    assert is_done(plan(archives, destination))  # wherever the same images lie
    if "archive" in change:
        path = other / "ILSVRC2012_img_val.tar"
        content = path.read_bytes()
        path.write_bytes(content[:5000] + bytes([content[5000] ^ 1]) + content[5001:])
    else:
        shutil.copytree(folders, other)
        path = sorted((other / "train/n00000002").iterdir())[3]
        content = path.read_bytes()
        path.write_bytes(content + b"x" if change == "another size" else content[:-9] + bytes(9))
    assert_refused(lambda: is_done(plan(other, destination)), "holds another prepared set", "other images of the same names")
    assert_refused(lambda: build(plan(other, unfinished), 1), "was made of other images of the same names", "new folder")


def test_a_set_of_an_earlier_version_goes_by_its_names(folders, tmp_path):
    build(plan(folders, tmp_path / "set"), workers=1)
    path = tmp_path / "set" / "prepared.json"
    values = json.loads(path.read_text())
    del values["contents"]
    path.write_text(json.dumps(values))
    assert is_done(plan(folders, tmp_path / "set"))
    assert len(load_data(config("imagenet", root=str(tmp_path / "set"))).test) == 8


def test_damaged_images_are_all_named_and_the_rest_is_kept(folders, tmp_path, capsys):
    source, destination = tmp_path / "source", tmp_path / "set"
    shutil.copytree(folders, source)
    damaged = sorted((source / "train").rglob("*.JPEG"))[5]
    content = damaged.read_bytes()
    damaged.write_bytes(content[: len(content) // 2])
    half_damaged = plan(source, destination, images_per_file=4)
    assert_refused(lambda: build(half_damaged, workers=1), f"1 of 40 images are damaged, '{damaged}' first", "again")
    assert f"damaged: {damaged}: " in capsys.readouterr().out
    assert (destination / "train-00002.zip").exists() and not (destination / "train-00001.zip").exists()
    damaged.write_bytes(content)
    build(plan(source, destination, images_per_file=4), workers=1)
    assert PreparedManifest.read(destination)[0].counts == {"train": 32, "val": 8}


def test_nothing_is_overwritten(folders, tmp_path):
    (tmp_path / "mine").write_text("")
    assert_refused(lambda: is_done(plan(folders, tmp_path)), "not an empty folder")
    assert_refused(lambda: is_done(plan(folders, tmp_path / "mine")), "not an empty folder")
    build(plan(folders, tmp_path / "set", RAW), workers=1)
    assert is_done(plan(folders, tmp_path / "set", RAW))
    assert_refused(lambda: is_done(plan(folders, tmp_path / "set")), "another prepared set (both sides 256, raw pixels)")


def test_a_full_disk_is_seen_before_the_start(folders, tmp_path, monkeypatch):
    needed = estimated_bytes(plan(folders, tmp_path / "set", RAW))
    assert 40 * 256 * 256 * 3 < needed < 1.1 * 40 * 256 * 256 * 3
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**9, 10**9 - 10**6, 10**6))
    assert_refused(lambda: require_space(tmp_path / "set", needed), "needs about 0.00788 GB and has 0.001 GB", "--quality")


def test_what_a_kill_left_is_removed_and_so_counts_as_free(folders, tmp_path, monkeypatch):
    wanted = plan(folders, tmp_path / "set")
    needed = estimated_bytes(wanted)
    wanted.folder.mkdir()
    (wanted.folder / "preparing.json").touch()
    left = wanted.folder / "train-00000.zip.0123abcd.tmp"
    left.write_bytes(bytes(needed))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(needed, needed, 0))
    assert require_space(wanted.folder, needed) == 0
    build(wanted, workers=1)
    assert not left.exists()


@pytest.mark.parametrize("fault", ["missing", "short", "manifest", "a FIFO"])
def test_a_set_that_is_not_whole_is_refused(folders, fault, tmp_path):
    build(plan(folders, tmp_path / "set"), workers=1)
    path = tmp_path / "set" / ("prepared.json" if fault in ("manifest", "a FIFO") else "train-00002.zip")
    content = path.read_bytes()
    path.unlink()
    if fault == "a FIFO":
        os.mkfifo(path)
    elif fault != "missing":
        path.write_bytes(content[:-1000])
    reason = {"missing": "is missing", "short": "bytes, not the", "manifest": "is damaged", "a FIFO": "is a FIFO"}[fault]
    signal.alarm(60)  # a FIFO is waited for
    assert_load_refused("imagenet", str(path), reason, root=str(tmp_path / "set"))
    signal.alarm(0)


def test_the_archives_are_plain_zip_and_the_records_say_where(folders, tmp_path):
    build(plan(folders, tmp_path / "set"), workers=1)
    manifest, _ = PreparedManifest.read(tmp_path / "set")
    split = read_split(tmp_path / "set", manifest, "val")
    shutil.unpack_archive(tmp_path / "set/val-00000.zip", tmp_path / "unpacked")
    for record in split.records:
        stored = split.archives.read(record["file"], int(record["offset"]), int(record["size"])).tobytes()
        assert stored == (tmp_path / "unpacked" / record["name"].decode()).read_bytes()
    assert json.loads((tmp_path / "set/prepared.json").read_text())["recipe"]["quality"] == 95


# ---------------------------------------------------------------------------------------------------- damage after the end


def change_records(path: Path, field: str, value: int) -> None:
    """Of one image, at the same size of the file."""
    records = np.load(path)
    records[field][3] = value
    np.save(path, records)


def change_manifest(path: Path, **values: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


RECORDS, INDEX = "train.npy", "prepared.json"
DAMAGES = {
    "bytes beyond the file": (RECORDS, lambda path: change_records(path, "offset", 2**62)),
    "bytes before the file": (RECORDS, lambda path: change_records(path, "offset", -1)),
    "an image of 4 exabytes": (RECORDS, lambda path: change_records(path, "size", 2**62)),
    "a file that is not there": (RECORDS, lambda path: change_records(path, "file", 1000)),
    "a class that is not there": (RECORDS, lambda path: change_records(path, "label", 4)),
    "another shape": (RECORDS, lambda path: change_records(path, "height", 2)),
    "no records": (RECORDS, lambda path: path.write_bytes(bytes(path.stat().st_size))),
    "other records": (RECORDS, lambda path: path.write_bytes(path.read_bytes().replace(b"'label'", b"'lebel'"))),
    "a list": (INDEX, lambda path: path.write_text("[1]")),
    "a number": (INDEX, lambda path: path.write_text("1")),
    "no files": (INDEX, lambda path: change_manifest(path, files=[1])),
    "files without sizes": (INDEX, lambda path: change_manifest(path, files={"train.npy": {}})),
    "no classes": (INDEX, lambda path: change_manifest(path, classes=4)),
    "an unknown key": (INDEX, lambda path: change_manifest(path, other=1)),
}


@pytest.mark.parametrize("what", DAMAGES)
def test_a_damaged_index_is_one_line(folders, what, tmp_path):
    name, damage = DAMAGES[what]
    build(plan(folders, tmp_path / "set", Recipe(32, "both", "raw", None)), workers=1)
    damage(tmp_path / "set" / name)
    settings = dict(root=str(tmp_path / "set"), resize_size=32, image_size=32)
    assert_load_refused("imagenet", f"{tmp_path}/set/{name}' is damaged", "prepare the set again", **settings)


@pytest.mark.parametrize("name", [b"\xff", b"a\nb", b"a\\b", "\u00e9".encode()], ids=ascii)
def test_any_name_of_a_file_and_of_a_class_can_be_prepared(name, tmp_path):
    odd = os.fsdecode(name)
    root = tree(tmp_path / "set", *(f"{part}/{label}/1.png" for part in ("train", "val") for label in ("n01", odd)))
    shutil.copy(f"{root}/train/n01/1.png", f"{root}/train/n01/{odd}.png")
    build(plan(Path(root), tmp_path / "prepared", Recipe(32, "both", "jpeg", 95)), workers=1)
    settings = dict(resize_size=32, image_size=32, val_fraction=0.0)
    prepared = load_data(config("imagenet", root=str(tmp_path / "prepared"), **settings))
    listed = load_data(config("imagenet", root=root, **settings))
    assert prepared.classes == listed.classes and prepared.train.labels.tolist() == listed.train.labels.tolist()
    assert [prepared.train.pixels(index).shape for index in range(3)] == [(32, 32, 3)] * 3
    assert is_done(plan(Path(root), tmp_path / "prepared", Recipe(32, "both", "jpeg", 95)))
