"""Decodes every image of a data set once, lists the damaged images, and writes a manifest with a checksum of each file.

    python scripts/verify_data.py data=folder data.root=<folder>
    python scripts/verify_data.py data=imagenet data.root=<folder> manifest=<file.csv>

A prepared set (scripts/prepare_imagenet.py) already has a manifest; the command compares the files with this manifest.
Exit code 0: all images are sound. 1: some are damaged. 2: the images could not be checked. 75: stopped by a signal.
"""

import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import checkout  # noqa: F401  finds the package
from efficientconv.help import answer_help
from efficientconv.signals import Preempted, leave_on_signals

if __name__ == "__main__":
    leave_on_signals()
    answer_help("verify_data")  # now: the imports take seconds

from tqdm import tqdm

from efficientconv import cli
from efficientconv.config import DataConfig
from efficientconv.data import DATA_SETS, FILE_SETS, DataSet, load_data
from efficientconv.data.dataset import hold_out, root_of
from efficientconv.data.parallel import available_cores
from efficientconv.data.prepared import PreparedManifest, is_prepared, sha256_of
from efficientconv.errors import UserError
from efficientconv.preparation.verify import Manifest, check_images, manifest_at
from efficientconv.progress import Progress
from efficientconv.text import printable
from efficientconv.validation import Section, UserPath, validate

DAMAGED_EXIT = 1


class Order(Section):
    """The settings of configs/verify_data.yaml."""

    data: DataConfig
    manifest: UserPath | None


@cli.entry("verify_data")
def main(values: dict) -> None:
    sys.stdout.reconfigure(errors="backslashreplace")  # names of files are bytes, and some are no UTF-8
    if "data" not in values:
        raise UserError(f"data is missing: give data=<name>, one of {', '.join(DATA_SETS.names())}")
    asked = validate(Order, values)
    config = asked.data
    if config.name == "imagenet" and is_prepared(root_of(config)):
        sys.exit(DAMAGED_EXIT if check_prepared(root_of(config)) else 0)
    if config.name not in FILE_SETS.names():
        check_without_files(config)
        return
    manifest = Path(asked.manifest or f"outputs/{config.name}-manifest.csv")
    try:
        damaged = check_files(FILE_SETS.get(config.name)(config), config, manifest)
    except Preempted:
        raise Preempted("no manifest was written") from None
    sys.exit(DAMAGED_EXIT if damaged else 0)


def check_without_files(config: DataConfig) -> None:
    """Loads a set without image files. Loading checks checksums and lengths, and raises UserError for damage."""
    data = load_data(config)
    held = sum(len(split) for split in (data.train, data.val, data.test) if split is not None)
    print(f"data={config.name} has no image files to decode, so there is no manifest; its {held} images were loaded")


def check_prepared(root: Path) -> list[str]:
    """The names of the damaged files of a prepared set. Its manifest has the checksum of each file."""
    manifest, _ = PreparedManifest.read(root)
    damaged = []
    with ThreadPoolExecutor(available_cores()) as pool, Progress("files", len(manifest.files), "files") as progress:
        for name, digest in zip(manifest.files, pool.map(sha256_of, [root / name for name in manifest.files])):
            if digest != manifest.files[name]["sha256"]:
                damaged.append(name)
                tqdm.write(f"damaged: {root / name}: its bytes are not those that were written")
            progress.update(1)
    print(f"{root}: {len(manifest.files)} files, {sum(manifest.counts.values())} images, {len(damaged)} files damaged")
    return damaged


def check_files(data: DataSet, config: DataConfig, manifest: Path) -> bool:
    """Whether any image is damaged. Prints a line for each damaged image."""
    root = root_of(config)
    if data.passed_over:
        print(data.passed_over, flush=True)
    with manifest_at(manifest, root) as rows:
        train = check_split("train", data.train.paths, rows)
        test = check_split("test", data.test.paths, rows)
    print(f"manifest: {manifest}")
    trained, held_out = hold_out(data.train, config.val_fraction, data.num_classes)
    evaluated = len(test) + (0 if held_out is None else len(train.intersection(held_out.paths)))
    if replaced := len(train.intersection(trained.paths)):
        outcome = "ends at" if replaced / len(trained) > config.max_damaged_fraction else "replaces"
        share = f"data.max_damaged_fraction={config.max_damaged_fraction:g}"
        print(f"training {outcome} {replaced} damaged images ({share})")
    if evaluated:
        print(f"evaluation fails at {evaluated} damaged images, of test or held out of train (data.val_fraction)")
    return bool(train or test)


def check_split(name: str, paths: list[str], rows: Manifest) -> set[str]:
    """The paths of the damaged images."""
    damaged = set()
    with closing(check_images(paths)) as parts, Progress(name, len(paths)) as progress:
        for findings in parts:
            rows.add(name, findings)
            for found in findings:
                if found.damage:
                    damaged.add(found.path)
                    tqdm.write(f"damaged: {printable(found.path)}: {printable(found.damage)}")
            progress.update(len(findings))
    share_percent = 100 * len(damaged) / len(paths)
    print(f"{name}: {len(paths)} images, {len(damaged)} damaged ({share_percent:.3g} %)", flush=True)
    return damaged


if __name__ == "__main__":
    main()
