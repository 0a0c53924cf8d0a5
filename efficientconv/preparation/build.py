"""Makes a prepared set: its files in parallel. Files that were finished before a kill are kept."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from hashlib import sha256
from importlib.metadata import version
from multiprocessing import Value, active_children
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path

import numpy as np
from PIL import features
from tqdm import tqdm

from efficientconv.data.damage import DamagedImage
from efficientconv.data.parallel import follow_parent
from efficientconv.data.prepared import MANIFEST, UNFINISHED, PreparedManifest, Recipe
from efficientconv.errors import UserError
from efficientconv.files import lock, make_folder, remove_leftovers, write_atomically
from efficientconv.preparation.archive import Archive, read_archive, write_archive
from efficientconv.preparation.plan import Plan
from efficientconv.preparation.source import Item
from efficientconv.progress import Progress
from efficientconv.signals import Preempted, held_back
from efficientconv.text import printable

POLL_SECONDS = 0.5

_counter: Synchronized[int]  # in a worker: the images that are done, of all workers


def build(plan: Plan, workers: int) -> None:
    """Makes the set. Raises UserError. The next start keeps the files that are finished."""
    with _claimed(plan):
        archives = _make_files(plan, workers)
        manifest = PreparedManifest(
            recipe=plan.recipe, images=plan.images, contents=plan.contents, classes=plan.source.classes, subset=plan.subset,
            counts={part: len(items) for part, items in plan.source.parts.items()},
            files=_write_records(plan, archives), made_with=_versions(),
        )  # fmt: skip
        write_atomically(plan.folder / MANIFEST, manifest.to_json().encode())
        (plan.folder / UNFINISHED).unlink()


@contextmanager
def _claimed(plan: Plan) -> Iterator[None]:
    """Locks the folder for this process, and marks it as unfinished. Raises UserError if it belongs to another plan."""
    busy = f"another process is preparing '{plan.folder}': wait for it"
    try:
        make_folder(plan.folder)
        with os.fdopen(lock(plan.folder / UNFINISHED, busy), "r+") as file:
            identity = json.dumps(plan.identity())
            if (begun := file.read()) and begun != identity:
                raise UserError(f"'{plan.folder}' is half of another set (other images or options): name a new folder")
            if not begun:
                file.write(identity)
                file.flush()
            remove_leftovers(plan.folder)
            yield
    except OSError as error:
        raise UserError(
            f"cannot write to '{plan.folder}' ({error.strerror}): make that possible, and run this again to continue"
        ) from None


def _make_files(plan: Plan, workers: int) -> list[Archive]:
    """The files, in the plan's order. Prints a line for each damaged image, then raises UserError with their number."""
    total, counter = sum(map(len, plan.source.parts.values())), Value("q")
    pool = ProcessPoolExecutor(workers, initializer=_start_worker, initargs=(counter,))
    try:
        with Progress("preparing", total) as progress:
            with held_back():
                futures = [pool.submit(_make_file, path, items, plan.recipe) for path, items in plan.files()]
            _watch(futures, counter, progress)
        results = [future.result() for future in futures]
    except BrokenProcessPool:
        raise UserError(
            "a worker was killed, probably because memory ran out: run this again with fewer --workers"
        ) from None
    except Preempted:
        for worker in active_children():
            worker.kill()  # else each would finish its file first
        raise
    finally:
        pool.shutdown(cancel_futures=True)
    archives = [result for result in results if isinstance(result, Archive)]
    if damaged := [error for result in results if not isinstance(result, Archive) for error in result]:
        raise UserError(
            f"{len(damaged)} of {total} images are damaged, '{damaged[0].path}' first: replace them and run this again; the "
            "files without any are done"
        )
    return archives


def _watch(futures: list[Future], counter: Synchronized[int], progress: Progress) -> None:
    """Moves the progress bar until all files are done. Names the damaged images of each file when it is done."""
    pending = set(futures)
    while pending:
        done, pending = wait(pending, POLL_SECONDS, FIRST_COMPLETED)
        for result in [future.result() for future in done]:
            for error in [] if isinstance(result, Archive) else result:
                tqdm.write(f"damaged: {printable(error.path)}: {printable(error.reason)}")
        progress.update(counter.value - progress.done)


def _start_worker(counter: Synchronized[int]) -> None:
    global _counter
    _counter = counter
    follow_parent()


def _make_file(path: Path, items: list[Item], recipe: Recipe) -> Archive | list[DamagedImage]:
    if path.exists():
        archive = read_archive(path, items)
        _count(len(items))
        return archive
    return write_archive(path, items, recipe, _count) or read_archive(path, items)


def _count(images: int = 1) -> None:
    with _counter.get_lock():
        _counter.value += images


def _write_records(plan: Plan, archives: list[Archive]) -> dict[str, dict]:
    """Writes train.npy and val.npy. Returns bytes and SHA-256 of all files of the set."""
    files = {archive.name: {"bytes": archive.bytes, "sha256": archive.sha256} for archive in archives}
    for part, items in plan.source.parts.items():
        of_part = [archive.records for archive in archives if archive.name.startswith(f"{part}-")]
        records = np.concatenate(of_part)
        records["file"] = np.repeat(range(len(of_part)), list(map(len, of_part)))
        records["label"] = np.searchsorted(plan.source.classes, [item.label for item in items])
        path = plan.folder / f"{part}.npy"
        write_atomically(path, _npy(records))
        files[path.name] = {"bytes": path.stat().st_size, "sha256": sha256(path.read_bytes()).hexdigest()}
    return files


def _npy(records: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, records)
    return buffer.getvalue()


def _versions() -> dict[str, str | None]:
    turbo = features.version("libjpeg_turbo")  # None: Pillow was built with another library
    return {"pillow": version("pillow"), "torchvision": version("torchvision"), "libjpeg_turbo": turbo}
