"""Small files as crashes and other users leave them: nothing is followed, waited for, lost or taken for what it is not."""

from __future__ import annotations

import errno
import fcntl
import json
import multiprocessing
import os
import signal
import time
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from efficientconv.errors import UserError
from efficientconv.files import InUse, lock, make_folder, open_to_append, read_json, replacing, write_atomically
from efficientconv.results.pages import write_files


def test_what_is_written_takes_the_place_of_a_planted_link_and_leaves_its_target(tmp_path):
    target, path = tmp_path / "target", tmp_path / "summary.json"
    target.write_text("precious")
    for name in ("summary.json.tmp", "summary.json"):
        (tmp_path / name).symlink_to(target)
    write_atomically(path, b"new")
    assert target.read_text() == "precious"
    assert path.read_bytes() == b"new" and not path.is_symlink()


def test_a_write_that_is_ended_early_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "file"
    write_atomically(path, b"old")
    with pytest.raises(KeyboardInterrupt), replacing(path) as file:
        file.write(b"half")
        raise KeyboardInterrupt
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("names", [("table.md", "table.csv"), ("table.csv", "table.md")])
def test_where_a_page_cannot_be_replaced_its_csv_stays_the_old_one(names, tmp_path):
    (tmp_path / "table.md" / "in the way").mkdir(parents=True)
    (tmp_path / "table.csv").write_text("old")
    with pytest.raises(UserError, match="cannot write"):
        write_files(tmp_path, dict.fromkeys(names, "new"))
    assert (tmp_path / "table.csv").read_text() == "old" and len(list(tmp_path.iterdir())) == 2


def test_two_writers_at_once_never_mix(tmp_path):
    path = tmp_path / "file"
    with replacing(path) as first:
        first.write(b"a")
        with replacing(path) as second:
            second.write(b"second")
        first.write(b"b")
    assert path.read_bytes() == b"ab"


def test_new_folders_are_synced_up_to_the_first_that_was_there(tmp_path, monkeypatch):
    synced = []
    real = os.fsync
    monkeypatch.setattr(os, "fsync", lambda file: (synced.append(os.readlink(f"/proc/self/fd/{file}")), real(file)))
    make_folder(tmp_path / "outputs" / "tier" / "run")
    assert set(synced) == {str(tmp_path), str(tmp_path / "outputs"), str(tmp_path / "outputs" / "tier")}


# ----------------------------------------------------------------------------------------------------------- reading

MAKE = {
    "empty": lambda path: path.write_bytes(b""),
    "cut off": lambda path: path.write_bytes(b'{"a": 1, "b'),
    "NUL bytes": lambda path: path.write_bytes(b'{"a": 1}' + bytes(64)),
    "garbage": lambda path: path.write_bytes(b"\xff\xfe\x00garbage"),
    "a web page": lambda path: path.write_bytes(b"<html>404</html>"),
    "nested": lambda path: path.write_bytes(b"[" * 100_000),
    "another type": lambda path: path.write_bytes(b"[1]"),
    "a number": lambda path: path.write_bytes(b"1"),
    "a folder": lambda path: path.mkdir(),
    "a FIFO": os.mkfifo,
    "a link to itself": lambda path: path.symlink_to(path.name),
}


@pytest.mark.parametrize("kind", MAKE)
def test_what_is_no_json_object_is_one_line_with_file_fault_and_remedy(kind, tmp_path):
    path = tmp_path / "summary.json"
    MAKE[kind](path)
    signal.alarm(10)  # a FIFO is waited for
    with pytest.raises(UserError) as caught:
        read_json(path, dict, "delete it, and the same command writes it again")
    signal.alarm(0)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)
    assert "delete it, and the same" in str(caught.value) or "remove it" in str(caught.value)


def test_what_is_sound_is_read_and_what_is_missing_is_none(tmp_path):
    path = tmp_path / "a.json"
    assert read_json(path, dict, "") is None and read_json(path / "below a file", dict, "") is None
    path.write_text(json.dumps({"a": [1]}))
    assert read_json(path, dict, "") == {"a": [1]}
    (tmp_path / "link.json").symlink_to(path)
    assert read_json(tmp_path / "link.json", dict, "") == {"a": [1]}


@pytest.mark.parametrize("kind", ["a link to a file", "a dangling link", "a folder", "a FIFO"])
def test_nothing_is_appended_to_or_locked_but_a_file_of_its_own(kind, tmp_path):
    path, target = tmp_path / "log.txt", tmp_path / "target"
    if kind == "a link to a file":
        target.write_text("precious")
    make = {"a folder": path.mkdir, "a FIFO": lambda: os.mkfifo(path)}.get(kind, lambda: path.symlink_to(target))
    make()
    for take in (open_to_append, lambda path: lock(path, "busy")):
        with pytest.raises(UserError, match=f"{path} is a .* where a file is expected; remove it"):
            take(path)
    assert not target.exists() or target.read_text() == "precious"


# ------------------------------------------------------------------------------------------------------------- locks


def hold_with_a_child(path: Path, report: Connection) -> None:
    held = lock(path, "busy")
    report.send((held, os.fork()))
    time.sleep(60)


def test_a_lock_goes_with_its_process_and_is_not_inherited(tmp_path):
    path = tmp_path / "run.lock"
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("fork").Process(target=hold_with_a_child, args=(path, theirs))
    process.start()
    children = {ours.recv()[1], ours.recv()[1]} - {0}  # of the process, and of its child, whose fork gave it 0
    try:
        with pytest.raises(InUse, match="busy"):
            lock(path, "busy")
        process.kill()
        process.join()
        os.close(lock(path, "busy"))  # though the child lives
    finally:
        os.kill(children.pop(), signal.SIGKILL)


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_not_taken_for_another_process(code, tmp_path, monkeypatch):
    def lockf(file: int, how: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "lockf", lockf)
    with pytest.warns(UserWarning, match=f"cannot lock .*{os.strerror(code)}.*start no second process"):
        os.close(lock(tmp_path / "run.lock", "busy"))


def test_another_reason_is_told_as_it_is(tmp_path, monkeypatch):
    monkeypatch.setattr(fcntl, "lockf", lambda *_: (_ for _ in ()).throw(OSError(errno.EIO, os.strerror(errno.EIO))))
    with pytest.raises(UserError, match="cannot take the lock .*run.lock .Input/output error.; ") as caught:
        lock(tmp_path / "run.lock", "busy")
    assert not isinstance(caught.value, InUse)
