"""Reads key=value arguments in Hydra's grammar, and completes them so that every setting of the schema can be given."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, Quote, QuotedString
from hydra.errors import OverrideParseException

from efficientconv.config import RunConfig
from efficientconv.errors import UserError
from efficientconv.files import CONFIG_DIR
from efficientconv.validation import known_keys

ONE_NAME = ("model", "data", "tier")  # groups of which Hydra would merge several, one over the other
RUN_FOLDER_KEYS = ("hydra.run.dir", "hydra.output_subdir")  # of folders that Hydra would make


def parsed(overrides: Sequence[str], config_loader: ConfigLoader | None = None) -> list[Override]:
    """Each override, read by Hydra's grammar. Raises UserError, which shows the form to type if only quotes are missing."""
    parser = OverridesParser.create(config_loader)
    return [_parsed(override, parser) for override in overrides]


def _parsed(override: str, parser: OverridesParser) -> Override:
    try:
        (result,) = parser.parse_overrides([override])
    except OverrideParseException:
        raise UserError(_unreadable(override, parser)) from None
    if not result.key_or_group:
        raise UserError(_unreadable(override, parser))
    return result


def completed(config_name: str, overrides: Sequence[str], several: bool = False) -> list[str]:
    """The overrides in the form that Hydra accepts. Every setting of the schema may be given, even if no YAML file names it.

    Args:
        several: a setting may have several values, of which the sweeper makes several jobs.

    Raises:
        UserError: an override cannot be read, has several values for one job, or contradicts another one.
    """
    given = parsed(overrides)
    chosen = {override.key_or_group for override in given}
    if "model.width" in chosen:
        given += _without_budget(given)
    # a logger's settings are those of its file: they do not switch it on
    settings = [key for key in known_keys(RunConfig) if "." in key and not key.startswith("logger.")]
    known = {key for key in settings if config_name == "train" or key.partition(".")[0] in chosen}
    return [_completed(override, known, several) for override in given]


def _without_budget(given: list[Override]) -> list[Override]:
    """What makes a width count where a file has a budget. Raises UserError if a budget is given beside the width."""
    budgets = [override for override in given if override.key_or_group == "model.macs"]
    if any(override.value() is not None for override in budgets):
        raise UserError("model.macs chooses the width, so that model.width cannot be given beside it; leave one of them out")
    return [] if budgets else parsed(["model.macs=null"])


def _completed(override: Override, known: set[str], several: bool) -> str:
    key, line = override.key_or_group, str(override.input_line)
    value = line.partition("=")[2]
    if override.is_sweep_override() and not several:
        other = "" if key in ONE_NAME else f"; a list is {key}=[{value}], a text '{key}=\"{value}\"'"
        raise UserError(f"{line}: several values are for train.py -m{other}")
    if key in ONE_NAME and isinstance(override.value(), list):
        raise UserError(f"{line}: give one name; several are for train.py -m, without brackets")
    if key in RUN_FOLDER_KEYS:
        raise UserError(f"{line}: Hydra makes no folder here; set run_dir=<folder> or output_root=<folder>")
    if override.is_delete():
        return line
    if key in known:
        return f"++{line.lstrip('+')}"  # adds it where it is missing
    if key == "data" or (CONFIG_DIR / key).is_dir() or key.startswith("hydra/"):
        if override.is_sweep_override():
            return line
        is_name = isinstance(override.value(), (str, list))  # Hydra ends with a ValueError at a number for a file's name
        return line if is_name else f"{override.get_key_element()}='{value}'"
    return line


def _unreadable(override: str, parser: OverridesParser) -> str:
    """The message for an override that cannot be read, with the form to type if quotes are missing."""
    key, equals, value = override.partition("=")
    if value.startswith("~/"):
        return f"{key}: Hydra reads no ~ in {value}; type {key}=$HOME/{value[2:]}"
    quoted = f"{key}={QuotedString(value, Quote.double).with_quotes()}"
    try:
        parser.parse_overrides([quoted])
    except OverrideParseException:
        equals = ""
    if not (key and equals):
        return f"'{override}' is no key=value; --help lists the keys"
    return f"{key}: Hydra cannot read {value}; if it is a text, type {shlex.quote(quoted)}"
