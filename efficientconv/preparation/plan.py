"""The plan of a prepared set: its images, the disk space that it needs, and whether it exists already."""

from __future__ import annotations

import os
import shutil
import statistics
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path

from efficientconv.data.damage import DamagedImage
from efficientconv.data.prepared import MANIFEST, UNFINISHED, PreparedManifest, Recipe
from efficientconv.errors import UserError
from efficientconv.preparation.archive import encoded
from efficientconv.preparation.source import Item, Source, contents_of

SAMPLE = 64  # images of each part, encoded to estimate the size of all
RECORD_BYTES = 300  # of an image, beside its content: the record, and its entries in the archive


@dataclass(frozen=True)
class Plan:
    """The images and options of a prepared set, and its folder."""

    source: Source
    folder: Path
    recipe: Recipe
    subset: bool
    images_per_file: int

    def files(self) -> Iterator[tuple[Path, list[Item]]]:
        """Each file and its images, in the order of the source: by class."""
        for part, items in self.source.parts.items():
            for number, first in enumerate(range(0, len(items), self.images_per_file)):
                yield self.folder / f"{part}-{number:05d}.zip", items[first : first + self.images_per_file]

    @property
    def images(self) -> str:
        """SHA-256 of the images' names."""
        names = "\n".join(f"{part}/{item.name}" for part, items in self.source.parts.items() for item in items)
        return sha256(os.fsencode(names)).hexdigest()

    @cached_property
    def contents(self) -> str:
        """A digest that differs for other images with the same names."""
        return contents_of([item for part in self.source.parts.values() for item in part])

    def identity(self) -> dict:
        """Two starts with the same identity make files with the same names. Each file notes the images that it holds."""
        return {"recipe": asdict(self.recipe), "images": self.images, "images_per_file": self.images_per_file}


def estimated_bytes(plan: Plan) -> int:
    """The bytes of the whole set, estimated from a sample of its images."""
    return sum(round(len(items) * (RECORD_BYTES + _mean_bytes(items, plan.recipe))) for items in plan.source.parts.values())


def _mean_bytes(items: list[Item], recipe: Recipe) -> float:
    sizes = []
    for item in items[:: max(1, len(items) // SAMPLE)]:
        try:
            sizes.append(len(encoded(item, recipe)[0]))
        except DamagedImage:  # named when its turn comes
            pass
    return statistics.mean(sizes or [0])


def require_space(folder: Path, needed_bytes: int) -> int:
    """The free bytes on the disk. Raises UserError if they, with the files of earlier starts, are too few."""
    there = sum(path.stat().st_size for path in folder.glob("*.zip*"))
    place = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    free = shutil.disk_usage(place).free
    if free + there < needed_bytes:
        raise UserError(
            f"'{folder}' needs about {needed_bytes / 1e9:.3g} GB and has {(free + there) / 1e9:.3g} GB: free some, choose "
            "another folder, or lower --size or --quality"
        )
    return free


def is_done(plan: Plan) -> bool:
    """Whether the folder already holds exactly this set. Raises UserError if it holds anything else."""
    if (plan.folder / MANIFEST).exists() and not (plan.folder / UNFINISHED).exists():
        manifest, _ = PreparedManifest.read(plan.folder)
        there, here = (manifest.recipe, manifest.images), (plan.recipe, plan.images)
        if there == here and manifest.contents in (None, plan.contents):
            return True
        what = "other images of the same names" if there == here else manifest.recipe
        raise UserError(f"'{plan.folder}' holds another prepared set ({what}): choose another folder")
    if not (plan.folder / UNFINISHED).exists() and plan.folder.exists():
        if not plan.folder.is_dir() or any(plan.folder.iterdir()):
            raise UserError(f"'{plan.folder}' is not an empty folder: name a new one")
    return False
