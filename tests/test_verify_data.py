"""scripts/verify_data.py as a user runs it: exactly the damaged files, the manifest, exit codes, interruptions."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from conftest import ROOT, command
from efficientconv.csv_files import csv_rows
from efficientconv.preparation.verify import manifest_at
from efficientconv.text import printable
from test_data_helpers import assert_refused, tree

SCRIPT = "scripts/verify_data.py"


@pytest.fixture
def folders(tmp_path) -> Path:
    root = tmp_path / "set"
    names = [f"{part}/{label}/{i}.jpg" for part in ("train", "test") for label in ("cat", "dog") for i in range(20)]
    tree(root, *names, size=(20, 10))
    os.rename(root / "train/cat/0.jpg", os.fsencode(root / "train/cat") + b"/\xff, no UTF-8.jpg")
    return root


def verify(root: Path, manifest: Path, *args: str) -> subprocess.CompletedProcess:
    return command(SCRIPT, "data=folder", f"data.root={root}", f"manifest={manifest}", *args, cwd=root.parent)


def test_exactly_the_damaged_files_are_found(folders, tmp_path):
    odd_name = os.fsdecode(b"train/cat/\xff, no UTF-8.jpg")
    damaged = {odd_name, "train/dog/7.jpg", "test/cat/3.jpg", "test/dog/19.jpg"}
    for name, content in zip(sorted(damaged), (b"", b"text", (folders / odd_name).read_bytes()[:-100], b"\xff\xd8")):
        (folders / name).write_bytes(content)
    before = sorted(folders.rglob("*"))
    done = verify(folders, tmp_path / "made/manifest.csv", "data.val_fraction=0")
    assert done.returncode == 1, done.stderr
    lines = done.stdout.splitlines()
    assert sum(line.startswith("damaged: ") for line in lines) == len(damaged)
    assert any(f"{folders}/test/cat/3.jpg: an empty file" in line for line in lines)
    assert "train: 40 images, 2 damaged (5 %)" in lines and "test: 40 images, 2 damaged (5 %)" in lines
    assert "training ends at 2 damaged images (data.max_damaged_fraction=0.001)" in lines
    assert "evaluation fails at 2 damaged images" in done.stdout

    rows = csv_rows(tmp_path / "made/manifest.csv")
    assert {row["path"] for row in rows if row["damage"]} == set(map(printable, damaged)) and len(rows) == 80
    row = next(row for row in rows if row["path"] == "test/cat/2.jpg")
    content = (folders / "test/cat/2.jpg").read_bytes()
    assert row == {
        "split": "test", "path": "test/cat/2.jpg", "bytes": str(len(content)), "sha256": sha256(content).hexdigest(),
        "width": "20", "height": "10", "mode": "RGB", "damage": "",
    }  # fmt: skip
    assert sorted(folders.rglob("*")) == before and os.listdir(tmp_path / "made") == ["manifest.csv"]


def test_a_sound_set(folders):
    done = command(SCRIPT, "data=folder", f"data.root={folders}", cwd=folders.parent)
    assert done.returncode == 0 and not done.stderr
    assert "manifest: outputs/folder-manifest.csv" in done.stdout
    assert len(csv_rows(folders.parent / "outputs/folder-manifest.csv")) == 80


def test_a_mistake_is_one_line(folders):
    done = verify(folders, folders / "manifest.csv")
    assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith("error: ") and f"in the data folder '{folders}'" in done.stderr
    assert not (folders / "manifest.csv").exists()


def test_a_place_where_no_manifest_can_be_is_refused_at_the_start(tmp_path):
    root, file = tmp_path / "set", tmp_path / "file"
    (root / "train").mkdir(parents=True)
    file.write_text("")
    (tmp_path / "link").symlink_to(root)
    for place in (root / "m.csv", root / "train/new/m.csv", tmp_path / "link/m.csv"):
        assert_refused(lambda place=place: manifest_at(place, root).__enter__(), str(place), "elsewhere")
    assert_refused(lambda: manifest_at(root.parent, root).__enter__(), "is a folder")
    for place in (file / "m.csv", Path("/proc/m.csv")):
        assert_refused(lambda place=place: manifest_at(place, root).__enter__(), f"cannot write the manifest '{place}'")


def test_a_set_without_image_files(tmp_path):
    done = command(SCRIPT, "data=synthetic", cwd=tmp_path)
    assert done.returncode == 0 and "no image files to decode" in done.stdout
    assert not list(tmp_path.iterdir())


# ------------------------------------------------------------------------------------------------------- interruptions


def started(root: Path) -> subprocess.Popen:
    """A verification of 3000 photos, in the middle of it; it leads a session of its own."""
    photo = np.random.default_rng(0).integers(0, 256, (400, 500, 3), dtype=np.uint8)
    for part in ("train/a", "train/b", "test/a"):
        (root / part).mkdir(parents=True)
        Image.fromarray(photo).save(root / part / "0.png", compress_level=1)
        for i in range(1, 1000):
            (root / part / f"{i}.png").symlink_to("0.png")
    settings = ["data=folder", f"data.root={root}", f"manifest={root.parent}/manifest.csv"]
    call = [sys.executable, str(ROOT / SCRIPT), *settings]
    process = subprocess.Popen(call, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)
    while not any(rows.stat().st_size for rows in root.parent.glob("manifest.csv.*.tmp")):
        assert process.poll() is None
        time.sleep(0.05)
    return process


def living(session: int) -> list[int]:
    """The processes of a session, but for those that have ended and are only unburied."""
    pids = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, _, leader = stat.read_text().rpartition(")")[2].split()[:4]
        except OSError:  # it has ended meanwhile
            continue
        if int(leader) == session and state != "Z":
            pids.append(int(stat.parent.name))
    return pids


def test_ctrl_c_keeps_the_manifest_that_was_there(tmp_path):
    (tmp_path / "manifest.csv").write_text("old")
    process = started(tmp_path / "set")
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate()
    assert (tmp_path / "manifest.csv").read_text() == "old" and not list(tmp_path.glob("*.tmp"))
    assert process.returncode == 75 and errors == "stopped by a signal; no manifest was written\n"
    assert not living(process.pid)


def test_a_killed_verification_leaves_no_process_behind(tmp_path):
    process = started(tmp_path / "set")
    process.kill()
    process.wait()
    deadline = time.monotonic() + 30
    while living(process.pid) and time.monotonic() < deadline:
        time.sleep(0.1)
    left = living(process.pid)
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert not left and not (tmp_path / "manifest.csv").exists()
