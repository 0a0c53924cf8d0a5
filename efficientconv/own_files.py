"""Refuses files of the user's own that would not do what they seem to say."""

from __future__ import annotations

from pathlib import Path

import yaml
from hydra.conf import HydraConf

from efficientconv.errors import UserError

NAMED = {"model": "name", "tier": "tier"}  # files that state their own name, by which runs and tables are called


def refuse_misleading(hydra: HydraConf, stated: dict[str, str | None]) -> None:
    """Raises UserError for a file that another one of its name hides, and for one that states another file's name.

    Args:
        hydra: Hydra's own part of a composed configuration.
        stated: the names that the configuration has, by group.
    """
    folders = [Path(source.path) for source in hydra.runtime.config_sources if source.schema == "file"]
    for group, name in hydra.runtime.choices.items():
        if not isinstance(name, str) or group.startswith("hydra/"):
            continue
        files = [file for folder in folders if (file := folder / group / f"{name}.yaml").exists()]
        if len(files) > 1:
            raise UserError(f"{group}={name}: {files[1]} is hidden by {files[0]}; give it another name")
        if files and group in NAMED and stated.get(group) != name:
            _refuse_name_of_another(files[0], NAMED[group])


def _refuse_name_of_another(file: Path, key: str) -> None:
    values = yaml.safe_load(file.read_text())
    if isinstance(values, dict) and values.get(key) != file.stem:  # otherwise the command gave another name
        said = f"{file} says {key}: {values.get(key)}, by which its runs would be called"
        raise UserError(f"{said}: let it say {key}: {file.stem}")
