"""The edge to Hydra: its configuration as plain values, and every mistake of a user as one line."""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import hydra
from hydra.errors import HydraException, MissingConfigException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from efficientconv.config import CONFIG_DIR, RunConfig
from efficientconv.engine.guard import guarded
from efficientconv.errors import UserError, did_you_mean
from efficientconv.validation import known_keys


def entry(config_name: str) -> Callable[[Callable[[dict], object]], Callable[[], None]]:
    """Makes a command of a function of the configuration, composed by Hydra from configs/<config_name>.yaml.

    A mistake in the command, the configuration or the data ends it with one line on stderr and exit code 2; set
    HYDRA_FULL_ERROR=1 to see the traceback instead.
    """

    def decorate(task: Callable[[dict], object]) -> Callable[[], None]:
        show_traceback = os.environ.get("HYDRA_FULL_ERROR", "0") != "0"

        @hydra.main(version_base="1.3", config_path=str(CONFIG_DIR), config_name=config_name)
        @functools.wraps(task)
        def job(cfg: DictConfig) -> None:
            guarded(one_line()(lambda: task(_plain(cfg))), show_traceback)

        def command() -> None:
            os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra hands its exceptions on instead of printing them
            guarded(one_line()(job), show_traceback)

        return command

    return decorate


def compose(config_name: str, overrides: Sequence[str]) -> dict:
    """What `entry(config_name)` would hand to its command for these overrides. Raises UserError, of one line."""
    with one_line(), hydra.initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        return _plain(hydra.compose(config_name, list(overrides)))


@contextmanager
def one_line() -> Iterator[None]:
    """A mistake that Hydra or OmegaConf found becomes a UserError of one line."""
    try:
        yield
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(explain(error)) from error


def explain(error: Exception) -> str:
    """One line that says what was wrong and what to do."""
    if isinstance(error, MissingConfigException) and error.options:
        group, _, name = error.missing_cfg_file.partition("/")
        return f"unknown {group} '{name}': {did_you_mean(name, error.options)}"
    if isinstance(error, MissingMandatoryValue):
        return f"{error.full_key} is missing: give {error.full_key}=<value>"
    if unknown := re.search(r"Could not override '([^']+)'", str(error)):
        return f"unknown key '{unknown[1]}': {_nearest_key(unknown[1])}"
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return "; ".join(line for line in lines if not line.startswith(("full_key", "object_type", "See ")))


def _plain(cfg: DictConfig) -> dict:
    """Interpolations resolved, no value missing."""
    return OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)


def _nearest_key(key: str) -> str:
    """The keys of its section, where there is such a section; else where to find all of them."""
    section = key.rpartition(".")[0]
    beside = [name for name in known_keys(RunConfig) if name.rpartition(".")[0] == section]
    return did_you_mean(key, beside) if section and beside else "the option --cfg job prints all keys"
