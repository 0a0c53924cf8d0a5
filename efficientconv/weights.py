"""model.safetensors: the final weights of a run, its configuration, its classes, and a checksum of all of these.

The format itself has no checksum. This project adds one to the header's metadata: the SHA-256 of the rest of the header,
with sorted keys, and of the tensors' bytes. Published weights are small run folders, found by their names.
"""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from efficientconv.errors import UserError, did_you_mean
from efficientconv.files import read_bytes, shipped, write_atomically

CHECKSUM, METADATA = "sha256", "__metadata__"
OURS = {"config", "classes"}
PUBLISHED = shipped("published", "results/weights")


def list_weights() -> list[str]:
    """Names of the published weights: `load_run` and create_model(weights=...) take them."""
    return sorted(path.parent.name for path in PUBLISHED.glob("*/model.safetensors"))


def find_weights(source: str | Path) -> Path:
    """`source` itself if it is a run's folder or a file, otherwise the folder of the published weights of that name.

    Raises UserError if there is neither.
    """
    if not isinstance(source, (str, os.PathLike)):
        raise UserError(f"weights are given by a name or a path, not by {source!r}: {did_you_mean('', list_weights())}")
    path = Path(source)
    if path.exists():
        return path
    if str(source) not in (names := list_weights()):
        raise UserError(f"{source} is no run folder and no name of published weights: {did_you_mean(str(source), names)}")
    return PUBLISHED / path


def write_weights(path: Path, tensors: dict[str, Tensor], config: dict, classes: list[str], image_size: int) -> None:
    """Writes model.safetensors. It notes `image_size`, as `config` may leave it to the data. Raises OSError."""
    tensors = {name: tensor.contiguous() for name, tensor in tensors.items()}
    config = config | {"data": config["data"] | {"image_size": image_size}}
    metadata = {"config": json.dumps(config), "classes": json.dumps(classes)}
    digest = _digest(*_parts(save(tensors, metadata)))
    write_atomically(path, save(tensors, metadata | {CHECKSUM: digest}))


class Weights(NamedTuple):
    """The content of a file of weights.

    A file without a checksum, of an earlier version or of another program, is not `checked`. A file of another program has
    no `classes` and no `config`.
    """

    tensors: dict[str, Tensor]
    classes: list[str] | None  # by label
    config: dict | None  # the run's
    checked: bool


def read_weights(path: Path) -> Weights:
    """The weights in a file. Raises UserError if the file is missing, damaged or not a file of weights."""
    content = read_bytes(path)
    if content is None:
        raise UserError(f"cannot read the weights in {path}: the file does not exist")
    try:
        tensors = load(content)
    except SafetensorError as error:
        raise UserError(f"cannot read the weights in {path}: {error}") from None
    header, data = _parts(content)
    metadata = header.get(METADATA, {})
    _check(path, metadata, _digest(header, data))
    return Weights(tensors, _noted(path, metadata, "classes"), _noted(path, metadata, "config"), CHECKSUM in metadata)


def load_checked(path: Path) -> Weights:
    """The same as `read_weights`, with a warning for a file without a checksum."""
    weights = read_weights(path)
    if not weights.checked:
        warnings.warn(f"{path} has no checksum, as files of earlier versions: damage to it would not show", stacklevel=2)
    return weights


def load_into(model: nn.Module, weights: dict[str, Tensor], origin: Path) -> None:
    """Loads the weights into `model`. Raises UserError if they belong to another network."""
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines()[1:]]
        first = lines[0][:200] if lines else str(error)
        raise UserError(f"{origin} holds the weights of another network: {first}") from None


def _check(path: Path, metadata: dict, digest: str) -> None:
    if CHECKSUM in metadata:
        sound = metadata[CHECKSUM] == digest
    else:  # the flipped bit may be in the name of the checksum itself
        sound = metadata.keys() == OURS or not metadata.keys() & OURS
    if not sound:
        raise UserError(f"the weights in {path} are damaged: they do not match their checksum; copy the file again")


def _noted(path: Path, metadata: dict, name: str) -> Any:
    try:
        return json.loads(metadata[name]) if name in metadata else None
    except ValueError:
        raise UserError(f"the weights in {path} are damaged: their {name} cannot be read; copy the file again") from None


def _digest(header: dict, data: bytes) -> str:
    metadata = {key: value for key, value in header.get(METADATA, {}).items() if key != CHECKSUM}
    named = json.dumps(header | {METADATA: metadata}, sort_keys=True).encode()
    return hashlib.sha256(named + data).hexdigest()


def _parts(content: bytes) -> tuple[dict, bytes]:
    """The header, which follows its length in bytes, and the rest of the file."""
    end = 8 + int.from_bytes(content[:8], "little")
    return json.loads(content[8:end]), content[end:]
