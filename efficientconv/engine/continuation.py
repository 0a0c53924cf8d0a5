"""Refuses to continue or report a run on other images, or with another number of processes, than it was begun with."""

from __future__ import annotations

import warnings

from efficientconv.config import RunConfig
from efficientconv.data import FILE_SETS, DataSet, Fingerprint, find_data, fingerprint_of
from efficientconv.engine.run_folder import TEST, TRAIN, RunFolder, run_folder, same_place
from efficientconv.errors import UserError


def found_data(config: RunConfig) -> tuple[DataSet | None, Fingerprint | None]:
    """The files at data.root, and their fingerprint, without which a run of the user's own images has no name.

    None for both if the set is not one of files, or if the run is finished and its files are gone.
    """
    if config.data.name not in FILE_SETS.names():
        return None, None
    try:
        found = find_data(config.data)
        return found, fingerprint_of(found, config.data)
    except UserError as error:
        if run_folder(config).summary() is None:
            raise
        warnings.warn(f"the images of a finished run are not there to be compared: {error}", stacklevel=2)
        return None, None


def refuse_other_images(folder: RunFolder, config: RunConfig, fingerprint: Fingerprint) -> None:
    """Raises UserError if the run in `folder` was begun on other images, or on other copies of the images.

    An unfinished run may get other test images: its weights do not depend on them.
    """
    if not folder.has_begun():
        return
    begun = folder.facts()
    if begun.get("data_pixels", fingerprint.pixels) != fingerprint.pixels:
        raise UserError(
            f"{folder.path} was begun on {begun['data_pixels']} images, and data.root has {fingerprint.pixels} images: set "
            "data.root to the earlier images, or delete the folder to begin again"
        )
    if TRAIN not in begun:
        _compare_places(folder, config, fingerprint)
    elif begun[TRAIN] != fingerprint.train:
        raise UserError(
            f"{folder.path} was trained on other images than those at data.root={config.data.root}; set data.root to the "
            "earlier images, or choose another run_dir or output_root"
        )
    elif begun.get(TEST) != fingerprint.test:
        _tell_of_another_test(folder)


def _compare_places(folder: RunFolder, config: RunConfig, fingerprint: Fingerprint) -> None:
    old = folder.config()
    if fingerprint.own and not same_place(old, config):
        raise UserError(
            f"{folder.path} is of an earlier version: it was begun on the images at data.root={old.data.root}, and has no "
            f"record of them; set data.root={old.data.root}, or choose another run_dir"
        )
    warnings.warn(
        f"{folder.path} is of an earlier version and has no record of its images: those of data.root are assumed",
        stacklevel=3,
    )


def _tell_of_another_test(folder: RunFolder) -> None:
    if folder.summary() is not None:
        raise UserError(
            f"{folder.path} is finished, and was tested on other images than those of data.root: python eval.py "
            f"run={folder.path} data=<set> data.root=<folder> evaluates it on these"
        )
    warnings.warn(f"data.root has other test images than at the start of {folder.path}", stacklevel=3)


def refuse_other_processes(folder: RunFolder, processes: int) -> None:
    """Raises UserError if the run in `folder` was trained by another number of processes.

    The result depends on that number even with synchronized batch norm: each process draws its own dropout.
    """
    if not folder.has_begun():
        return
    begun = folder.facts().get("processes")
    if begun is None:
        warnings.warn(f"{folder.path} does not say how many processes trained it: {processes} assumed", stacklevel=2)
    elif begun != processes:
        by, start = ("1 process", "without torchrun") if begun == 1 else (
            f"{begun} processes", f"with torchrun --nproc_per_node={begun}"
        )  # fmt: skip
        raise UserError(
            f"{folder.path} was trained by {by}, and this start has {processes}: each has its own batch norm statistics and "
            f"dropout, so the result would differ; start it {start}, or choose another run_dir"
        )
