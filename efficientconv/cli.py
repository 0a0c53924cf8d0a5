"""The edge to Hydra: turns its configuration into plain values, and every mistake of a user into one line."""

from __future__ import annotations

import difflib
import functools
import os
import re
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import hydra
import yaml
from hydra._internal.utils import get_args_parser  # Hydra's options; it has no public name for them
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, MissingConfigException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from efficientconv.config import RunConfig
from efficientconv.data_settings import data_settings
from efficientconv.errors import UserError, did_you_mean
from efficientconv.files import CONFIG_DIR
from efficientconv.help import choices
from efficientconv.overrides import completed, parsed
from efficientconv.signals import guarded
from efficientconv.system import is_first_process
from efficientconv.tracking.loggers import require_loggers
from efficientconv.unused import unused_settings
from efficientconv.validation import known_keys, validate

for _name, _settings in data_settings().items():  # data=<name>; the other groups are files in configs/
    ConfigStore.instance().store(group="data", name=_name, node=_settings)

NAMED = {"model": "name", "tier": "tier"}  # files that state their own name, by which runs and tables are called
COMPLETIONS = ("install=", "uninstall=", "query=")  # of -sc
Task = Callable[[dict], object]
_REFUSED = {
    "multirun": "is for train.py; give this command one value a setting",
    "resolve": "goes with --cfg",
    "experimental_rerun": "is not for this program: the same command again continues a run",
}
_MODES = ("run", "multirun", "cfg", "info", "shell_completion")  # options of which Hydra takes one


def entry(config_name: str, sweeps: bool = False) -> Callable[[Task], Callable[[], None]]:
    """Decorator: makes a command of a function of the configuration, which Hydra composes from configs/<config_name>.yaml.

    A mistake in the command, the configuration or the data ends the command with one line on stderr and exit code 2. Set
    HYDRA_FULL_ERROR=1 to see the traceback instead.

    Args:
        sweeps: whether the command accepts `-m`, which gives the overrides to the configured sweeper.
    """

    def decorate(task: Task) -> Callable[[], None]:
        show_traceback = os.environ.get("HYDRA_FULL_ERROR", "0") != "0"

        @hydra.main(version_base="1.3", config_path=str(CONFIG_DIR), config_name=config_name)
        @functools.wraps(task)
        def job(cfg: DictConfig) -> None:
            guarded(one_line()(lambda: task(plain(cfg))), show_traceback)

        def command() -> None:
            os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra hands its exceptions on instead of printing them
            guarded(one_line()(lambda: _start(config_name, job, sweeps)), show_traceback)

        return command

    return decorate


def compose(config_name: str, overrides: Sequence[str]) -> dict:
    """The configuration that `entry(config_name)` gives to its command for these overrides. Raises UserError."""
    with one_line(), hydra.initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        return _composed(config_name, overrides)


def compose_run(overrides: Sequence[str]) -> RunConfig:
    """The configuration that train.py composes for these overrides. Raises UserError."""
    return validate(RunConfig, compose("train", overrides))


def run_config(values: dict) -> RunConfig:
    """The composed `values` as the configuration of a run.

    model.macs is a budget for one image. The width that meets the budget takes its place: a run is named by its width.
    Raises UserError for a setting out of range, a setting that a logger would refuse, and a budget that no width meets.
    """
    config = validate(RunConfig, values)
    require_loggers(config.logger)
    budget = config.model.macs
    if budget is None:
        return config
    from efficientconv.data import find_data  # here: torch takes seconds, and most configurations ask for no budget
    from efficientconv.models.budget import at_width, width_for

    data = find_data(config.data)
    fit = width_for(config.model, budget, data.num_classes, data.image_size)
    if is_first_process():
        print(f"model.macs={budget:g}: model {config.model.name} has {fit}", flush=True)
    return config.model_copy(update={"model": at_width(config.model, fit.width)})


def warn_of_unused(runs: Iterable[RunConfig], overrides: Sequence[str] | None = None) -> None:
    """Warns of settings that were given and change none of the command's `runs`. `overrides`: None: those of the command."""
    given = HydraConfig.get().overrides.task if overrides is None else overrides
    if is_first_process():
        for line in unused_settings([override.key_or_group for override in parsed(given)], runs):
            warnings.warn(line, stacklevel=2)


@contextmanager
def one_line() -> Iterator[None]:
    """Errors of Hydra and OmegaConf inside the block become a UserError of one line."""
    try:
        yield
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(explain(error)) from error


def explain(error: Exception) -> str:
    """One line that says what was wrong and what to do."""
    if isinstance(error, MissingConfigException) and "/" in (missing := error.missing_cfg_file or ""):
        group, _, name = missing.rpartition("/")
        options = error.options or choices(group)  # of a list Hydra names none
        return f"unknown {group} '{name}': {did_you_mean(name, options)}"
    if isinstance(error, MissingMandatoryValue):
        return f"{error.full_key} is missing: give {error.full_key}=<value>"
    if unknown := re.search(r"Could not override '([^']+)'", str(error)):
        return f"unknown key '{unknown[1]}': {_nearest_key(unknown[1])}"
    merged = error.__cause__ if str(error).startswith("Error merging override") else None  # that has the reason
    lines = [line.strip() for text in (error, merged or "") for line in str(text).splitlines() if line.strip()]
    return "; ".join(line for line in lines if not line.startswith(("full_key", "object_type", "See ")))


def _start(config_name: str, job: Callable[[], None], sweeps: bool) -> None:
    """Starts Hydra, which reads options from sys.argv. Options and overrides may be in any order."""
    parser = get_args_parser()
    parser.error = _refuse_options  # type: ignore[method-assign]  # argparse would print its usage
    options = vars(parser.parse_intermixed_args())
    overrides = options.pop("overrides")
    for name, refused in (("multirun", not sweeps), ("resolve", not options["cfg"]), ("experimental_rerun", True)):
        if options[name] and refused:
            raise UserError(f"--{name.replace('_', '-')} {_REFUSED[name]}")
    if len([name for name in _MODES if options[name]]) > 1:
        raise UserError("-m, --cfg, --info, -sc and --run do not go together; give one of them")
    if options["shell_completion"] and not any(override.startswith(COMPLETIONS) for override in overrides):
        raise UserError("-sc goes with install=<shell> or uninstall=<shell>: bash, fish, zsh")
    flags = list(sys.argv[1:])
    for override in overrides:
        flags.remove(override)
    sys.argv[1:] = [*flags, *completed(config_name, overrides, several=options["multirun"])]
    job()


def _refuse_options(message: str) -> NoReturn:
    raise UserError(f"{message}; settings are key=value, --help lists them and the options")


def _composed(config_name: str, overrides: Sequence[str]) -> dict:
    """The configuration that Hydra gives to a job. Hydra must be initialized."""
    cfg = hydra.compose(config_name, completed(config_name, overrides), return_hydra_config=True)
    HydraConfig.instance().set_config(cfg)  # for ${hydra:...}
    return plain(cfg)


def plain(cfg: DictConfig) -> dict:
    """A composed configuration without Hydra's own part, interpolations resolved, no value missing.

    Raises UserError for files of the user's own that would not do what they seem to say.
    """
    own = OmegaConf.masked_copy(cfg, [str(key) for key in cfg if key != "hydra"])
    values: Any = OmegaConf.to_container(own, resolve=True, throw_on_missing=True)
    _refuse_misleading_files(values)
    return values


def _refuse_misleading_files(values: dict) -> None:
    """Refuses a file that another one of its name hides, and one that states another file's name."""
    hydra, model = HydraConfig.get(), values.get("model")
    stated = {"model": model.get("name") if isinstance(model, dict) else None, "tier": values.get("tier")}
    folders = [Path(source.path) for source in hydra.runtime.config_sources if source.schema == "file"]
    for group, name in hydra.runtime.choices.items():
        if not isinstance(name, str) or group.startswith("hydra/"):
            continue
        files = [file for folder in folders if (file := folder / group / f"{name}.yaml").exists()]
        if len(files) > 1:
            raise UserError(f"{group}={name}: {files[1]} is hidden by {files[0]}; give it another name")
        if files and group in NAMED and stated[group] != name:
            _refuse_name_of_another(files[0], NAMED[group])


def _refuse_name_of_another(file: Path, key: str) -> None:
    values = yaml.safe_load(file.read_text())
    if isinstance(values, dict) and values.get(key) != file.stem:  # otherwise the command gave another name
        said = f"{file} says {key}: {values.get(key)}, by which its runs would be called"
        raise UserError(f"{said}: let it say {key}: {file.stem}")


def _nearest_key(key: str) -> str:
    """A hint for an unknown key: the keys of its section, or a key of another section, and where to find all keys."""
    known, (section, _, last) = known_keys(RunConfig), key.rpartition(".")
    if "resume" in last:  # a setting of most other trainers
        return "none is needed: the same command again continues a run"
    if "pretrained" in last:  # timm's
        return 'train.py begins with random weights; in Python, create_model("c", weights=<name or run>) has trained ones'
    if key in known:
        group, _, name = section.rpartition(".")
        chosen = f"{group}={name}" if group else f"{section}=<name>, which this command does not have"
        return f"it goes with {chosen}"
    beside = [name.rpartition(".")[2] for name in known if name.rpartition(".")[0] == section]
    if section and beside:
        return did_you_mean(last, beside, f"{section}.")
    sections = [name.partition(".")[0] for name in known]  # model=c is a key, too
    elsewhere = {name.rpartition(".")[2]: name for name in known} | dict(zip(sections, sections))
    near = difflib.get_close_matches(last, elsewhere, n=1)
    return "".join(f"train.py has {elsewhere[name]}; " for name in near) + "the option --cfg job prints all keys"
