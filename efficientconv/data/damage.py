"""Damaged image files: the error that names one, and the list of those found in training."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from efficientconv.errors import UserError

Listener = Callable[[str, str], None]  # gets the path and the reason
Damaged = dict[str, str]  # the reasons, by path


class DamagedImage(UserError):
    """An image file that cannot be decoded. An evaluation ends with this error; training replaces the image."""

    def __init__(self, path: str, reason: str):
        super().__init__(path, reason)  # pickling an exception needs both arguments here
        self.path, self.reason = path, reason

    def __str__(self) -> str:
        return (
            f"cannot read the image '{self.path}' ({self.reason}): replace it or delete it; "
            "scripts/verify_data.py finds all such images"
        )


@contextmanager
def unreadable_named(name: str) -> Iterator[None]:
    """For the reading of an image file: an OSError inside the block becomes a DamagedImage."""
    try:
        yield
    except OSError as error:
        raise DamagedImage(name, error.strerror or str(error)) from None


class DamageLog:
    """The damaged images that this process has found among `num_images` training images."""

    def __init__(self, num_images: int, max_fraction: float):
        self.num_images, self.max_fraction = num_images, max_fraction
        self.reasons: Damaged = {}
        self._listener: Listener | None = None

    def listen(self, listener: Listener) -> None:
        """Calls `listener` once for each damaged image: now for those found before, later for new ones."""
        for path, reason in self.reasons.items():
            listener(path, reason)
        self._listener = listener

    def add(self, path: str, reason: str) -> None:
        """Adds a damaged image, once. Raises UserError if a larger share of the images is damaged than is allowed."""
        if path in self.reasons:
            return
        self.reasons[path] = reason
        if self._listener is not None:
            self._listener(path, reason)
        if len(self.reasons) / self.num_images > self.max_fraction:
            raise UserError(
                f"{len(self.reasons)} of {self.num_images} training images are damaged, the last '{path}' "
                f"({reason}), more than data.max_damaged_fraction={self.max_fraction:g}: replace them or delete them "
                "(scripts/verify_data.py lists all), or raise it"
            )


def no_stand_in(path: str, reason: str) -> UserError:
    return UserError(
        f"the training image '{path}' is damaged ({reason}), and so is each that was tried in its place: "
        "scripts/verify_data.py lists all damaged images"
    )
