"""The classes of the validation images, which have no class folders: from the development kit, or a list of synsets."""

from __future__ import annotations

import io
import re
import tarfile
from dataclasses import dataclass
from pathlib import Path

from scipy.io import loadmat

from efficientconv.errors import UserError
from efficientconv.files import read_bytes

DEVKIT = "ILSVRC2012_devkit_t12.tar.gz"
NUMBERS, SYNSETS = (f"ILSVRC2012_devkit_t12/data/{name}" for name in ("ILSVRC2012_validation_ground_truth.txt", "meta.mat"))


@dataclass(frozen=True)
class GroundTruth:
    """The synsets of the validation images: that of image n is at place n - 1."""

    path: Path
    synsets: list[str]

    @staticmethod
    def read(path: Path) -> GroundTruth:
        """The development kit, or a text file with the synset of each image on a line. Raises UserError."""
        content = read_bytes(path)
        if content is None:
            raise UserError(
                f"val is not sorted into classes, and '{path}' is not there: put {DEVKIT} there, from ImageNet's "
                "download page, or name it, or a text file with the synset of each image on a line, with --val-labels"
            )
        try:
            is_devkit = tarfile.is_tarfile(io.BytesIO(content))
            return GroundTruth(path, _from_devkit(content) if is_devkit else content.decode().split())
        except (OSError, KeyError, ValueError, IndexError, TypeError, tarfile.TarError) as error:
            raise UserError(f"'{path}' is neither {DEVKIT} nor a list of synsets ({error}): get it again") from None

    def of(self, image: str) -> str:
        """The synset of the image with this file name. Raises UserError if the list does not have the image."""
        number = re.search(r"_val_(\d{8})\.", image)
        if number is None or not 0 < int(number[1]) <= len(self.synsets):
            raise UserError(
                f"'{image}' is none of the {len(self.synsets)} images of '{self.path}', which are called "
                "ILSVRC2012_val_<8 digits>.JPEG: sort val into a folder for each class instead"
            )
        return self.synsets[int(number[1]) - 1]


def _from_devkit(content: bytes) -> list[str]:
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        numbers = archive.extractfile(NUMBERS).read().split()
        records = loadmat(io.BytesIO(archive.extractfile(SYNSETS).read()), squeeze_me=True)["synsets"]
    synsets = {int(record["ILSVRC2012_ID"]): str(record["WNID"]) for record in records}
    return [synsets[int(number)] for number in numbers]
