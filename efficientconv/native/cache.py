"""Where compiled kernels lie: a folder of this user, to which nobody else may write.

The libraries in it are run. So a folder or library that another user owns, or that others may write to, is never used.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from efficientconv.files import read_bytes, remove_leftovers, replacing

KEPT = 4  # libraries of 1 MB: one for each version and torch in use side by side
REMEMBER_SECONDS = 24 * 3600  # how long a compiler's failure is remembered


class BuildError(Exception):
    """Why there are no native kernels, in one line."""


def stored(name: str) -> Path | None:
    """The path of the library `name`, undamaged and owned by this user; None: there is none. Removes a damaged one."""
    for folder in _places():
        with suppress(OSError):  # no folder, or one that cannot be read
            _require_private(folder)
            for path in folder.glob(f"{name}.*.so"):
                if _is_private(path.lstat(), stat.S_ISREG) and path.name == _file_name(name, read_bytes(path) or b""):
                    with suppress(OSError):  # a read-only cache
                        os.utime(path)
                    return path
                path.unlink()
    return None


def store(folder: Path, name: str, built: Path) -> Path:
    """Copies the file `built` into `folder` in one step, synced. The new name has the checksum. Raises OSError."""
    content = built.read_bytes()
    path = folder / _file_name(name, content)
    with replacing(path) as file:
        os.fchmod(file.fileno(), 0o600)
        file.write(content)
    return path


def hold(path: Path) -> None:
    """Marks a library as in use until this process and its children end."""
    import fcntl  # not on Windows, which has no kernels either

    with suppress(OSError):  # the file system has no locks
        fcntl.flock(os.open(path, os.O_RDONLY | os.O_CLOEXEC), fcntl.LOCK_SH)


def remove_old(folder: Path) -> None:
    """Removes old libraries. Those in use, and the KEPT last used ones, stay. Only for the process that holds the lock."""
    import fcntl

    libraries = sorted(folder.glob("native-*.so"), key=lambda path: path.lstat().st_mtime)
    for path in libraries[:-KEPT]:
        with suppress(OSError), open(path, "rb") as file:  # in use, or no locks: it stays
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()


def folder_to_build_in() -> Path:
    """The first place to which only this user can write; made if it is missing. Raises BuildError."""
    reasons = []
    for folder in _places():
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            _require_private(folder)
            if os.access(folder, os.W_OK | os.X_OK):
                return folder
            reasons.append(f"{folder}: it cannot be written to")
        except OSError as error:
            reasons.append(f"{folder}: {error.strerror}")
    raise BuildError(f"no folder for compiled kernels ({'; '.join(reasons)}); set XDG_CACHE_HOME to one that is yours")


def remove_remains(folder: Path) -> None:
    """Removes the temporary files of killed builds, and forgotten failures. Only for the process that holds the lock."""
    for left in folder.glob("build-*"):
        shutil.rmtree(left, ignore_errors=True)
    for note in folder.glob("*.failed"):
        if time.time() - note.lstat().st_mtime > REMEMBER_SECONDS:
            note.unlink()
    remove_leftovers(folder)


def _places() -> Iterator[Path]:
    """Folders for the kernels: among the user's caches, then among the system's temporary files.

    An absolute XDG_CACHE_HOME moves the caches, as the XDG specification says. Users with no home folder, or a read-only
    one, need the temporary files.
    """
    for folder in (os.environ.get("XDG_CACHE_HOME", ""), os.path.expanduser("~/.cache")):
        if os.path.isabs(folder):
            yield Path(folder) / "efficientconv"
            break
    yield Path(tempfile.gettempdir()) / f"efficientconv-{os.getuid()}"


def _require_private(folder: Path) -> None:
    """Raises OSError if others own the folder or may write to it. A folder of this user loses others' write permission."""
    found = folder.stat()
    if found.st_uid == folder.lstat().st_uid == os.getuid() and found.st_mode & 0o022:
        folder.chmod(stat.S_IMODE(found.st_mode) & ~0o022)
    if folder.lstat().st_uid != os.getuid() or not _is_private(folder.stat(), stat.S_ISDIR):
        raise PermissionError(0, "it is another user's")


def _is_private(found: os.stat_result, is_kind: Callable[[int], bool]) -> bool:
    return is_kind(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o022


def _file_name(name: str, content: bytes) -> str:
    return f"{name}.{hashlib.sha256(content).hexdigest()[:32]}.so"
