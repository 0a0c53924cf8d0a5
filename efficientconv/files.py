"""Small files and folders: written whole, read without trust, locked.

A folder of results may contain a planted link, a FIFO, garbage, or a file that a crash has cut off. So nothing is written
through a link, no read waits, and one line says what is wrong with a file.
"""

from __future__ import annotations

import errno
import json
import os
import secrets
import stat
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, BinaryIO, TypeVar

from efficientconv.errors import UserError

try:
    import fcntl
except ImportError:
    fcntl = None  # type: ignore[assignment]
try:
    import msvcrt  # Windows
except ImportError:
    msvcrt = None  # type: ignore[assignment]

ROOT = Path(__file__).resolve().parents[1]  # the checkout, or the folder in which the package is installed


def shipped(installed: str, in_checkout: str) -> Path:
    """A folder that lies inside the package in a wheel, and beside the package in a checkout."""
    inside = ROOT / "efficientconv" / installed
    return inside if inside.is_dir() else ROOT / in_checkout


CONFIG_DIR = shipped("configs", "configs")

T = TypeVar("T", dict, list)

_HELD = (errno.EACCES, errno.EAGAIN)  # another process has the lock
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)  # the file system, or its server, has no locks
# Windows has none of the first three, and needs the last for bytes to stay what they are
NO_LINK = getattr(os, "O_NOFOLLOW", 0)
_FLAGS = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
_JSON_KINDS = {dict: "object", list: "array"}


class InUse(UserError):
    """Another process holds the lock."""


def named(path: Path) -> Path:
    """`path` from the root on: it and the folders above it then have names, which "." and "x.json" do not say."""
    return Path(os.path.abspath(path))


def write_atomically(path: Path, data: bytes | memoryview) -> None:
    """Writes `data` to `path`. After a crash at any moment `path` has its old content or all of `data`. Raises OSError."""
    with replacing(path) as file:
        file.write(data)


@contextmanager
def replacing(path: Path, mode: str = "b", **options: Any) -> Iterator[IO]:
    """A file, open for writing in `mode` b or t, that replaces `path` at the end. Raises OSError.

    If the writing ends early, `path` stays as it was.
    """
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with open(temporary, f"x{mode}", **options) as file:  # x: no file or link of that name is written to or through
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)  # on a full disk the next try needs the space
        raise
    sync_folder(path.parent)


def remove_leftovers(folder: Path) -> None:
    """Removes files that a kill during a write has left. Only for the process that alone writes to the folder."""
    for path in folder.glob("*.tmp"):
        path.unlink()


def make_folder(path: Path) -> None:
    """Makes `path` and the missing folders above it, and syncs them to the disk. Raises OSError."""
    made = [folder for folder in (path, *path.parents) if not folder.exists()]
    path.mkdir(parents=True, exist_ok=True)
    for folder in made:
        sync_folder(folder.parent)


def sync_folder(folder: Path) -> None:
    """Writes the names in the folder to the disk, so that they survive a power cut. Raises OSError."""
    if not hasattr(os, "O_DIRECTORY"):  # Windows opens no folders
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # some network disks sync files only
            raise
    finally:
        os.close(descriptor)


@contextmanager
def refused_in_one_line(what: str, remedy: str) -> Iterator[None]:
    """An OSError inside the block becomes a UserError: "cannot <what> (<reason>: <file>); <remedy>"."""
    try:
        yield
    except OSError as error:
        name = error.filename2 or error.filename
        where = f": {name}" if name is not None and str(name) not in what else ""
        raise UserError(f"cannot {what} ({error.strerror}{where}); {remedy}") from None


def open_to_append(path: Path) -> BinaryIO:
    """Opens a file to append to, and makes it if it is missing. Raises UserError for a link or a special file; OSError."""
    return os.fdopen(_open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | NO_LINK), "ab")


def read_bytes(path: Path) -> bytes | None:
    """The content of a file; None if there is none. Raises UserError for a folder, a FIFO, or an unreadable file."""
    try:
        with os.fdopen(_open(path, os.O_RDONLY), "rb") as file:
            return file.read()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise UserError(f"cannot read {path} ({error.strerror})") from None


def read_json(path: Path, kind: type[T], remedy: str) -> T | None:
    """The JSON value in a file; None if there is none. Raises UserError, with `remedy`, if it is no JSON of that `kind`."""
    content = read_bytes(path)
    if content is None:
        return None
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):  # garbage, cut off, NUL bytes, no UTF-8, nested a thousand deep
        raise UserError(f"{path} is damaged: {_fault(content)}; {remedy}") from None
    if not isinstance(value, kind):
        raise UserError(f"{path} is damaged: it holds no JSON {_JSON_KINDS[kind]}; {remedy}")
    return value


def lock(path: Path, busy: str) -> int:
    """Locks the file `path`, which is made if it is missing. The lock ends when this process ends or closes the file.

    The lock is a POSIX record lock, which child processes do not inherit. So the lock of a killed run ends although its
    workers live on for a moment; flock's lock (so filelock's) would not. Closing any descriptor of the file drops the lock.

    Raises:
        InUse: another process holds the lock; `busy` is the message.
        UserError: the file cannot be made or opened. If the file system has no locks, there is only a warning.
    """
    with refused_in_one_line(f"take the lock {path}", "make it a file that you may write to"):
        file = _open(path, os.O_RDWR | os.O_CREAT | NO_LINK)
        try:
            _lock(file)
        except OSError as error:
            if error.errno in _NO_LOCKS:
                warnings.warn(f"cannot lock {path} ({error.strerror}): start no second process on it", stacklevel=2)
                return file
            os.close(file)
            if error.errno in _HELD:
                raise InUse(busy) from None
            raise
    return file


def is_at(file: int, path: Path) -> bool:
    """Whether the open file is at `path`: nobody has removed it, or put another in its place."""
    try:
        return os.path.samestat(os.fstat(file), os.stat(path))
    except FileNotFoundError:
        return False
    except OSError:  # nobody can tell now: a disk that does not answer
        return True


def wait_for_lock(file: int) -> None:
    """Waits until no other process locks the open file, and locks it. Does nothing without locks. Raises OSError."""
    try:
        _lock(file, wait=True)
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise


def _lock(file: int, wait: bool = False) -> None:
    """Raises OSError if another process holds the lock, or if there are no locks."""
    if fcntl is not None:
        fcntl.lockf(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    elif msvcrt is not None:
        msvcrt.locking(file, msvcrt.LK_LOCK if wait else msvcrt.LK_NBLCK, 1)
    else:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))


def _open(path: Path, flags: int) -> int:
    """A descriptor of a plain file. Does not wait, as opening a FIFO would."""
    try:
        file = os.open(path, flags | _FLAGS, 0o666)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.EISDIR, errno.ENXIO):
            raise _no_file(path, path.lstat().st_mode) from None
        raise
    mode = os.fstat(file).st_mode
    if not stat.S_ISREG(mode):
        os.close(file)
        raise _no_file(path, mode)
    return file


def _no_file(path: Path, mode: int) -> UserError:
    kinds = {stat.S_IFLNK: "a link", stat.S_IFDIR: "a folder", stat.S_IFIFO: "a FIFO", stat.S_IFSOCK: "a socket"}
    return UserError(f"{path} is {kinds.get(stat.S_IFMT(mode), 'a device')} where a file is expected; remove it")


def _fault(content: bytes) -> str:
    if not content.strip():
        return "it is empty"
    return "it has NUL bytes" if b"\0" in content else "it is no JSON, or cut off"
