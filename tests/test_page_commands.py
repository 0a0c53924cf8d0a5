"""What pages and scripts tell a user to type: each command is taken by its own parser, and each Python block runs."""

from __future__ import annotations

import argparse
import ast
import functools
import importlib
import importlib.util
import inspect
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import hydra._internal.utils
import pytest
import torch
import torch.distributed.run
import wandb.cli.cli
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override
from hydra.core.plugins import Plugins
from hydra.plugins.completion_plugin import CompletionPlugin
from readme import pages
from tensorboard.program import TensorBoard

import efficientconv
import efficientconv.layers
from conftest import ROOT
from efficientconv.cli import compose
from efficientconv.config import RunConfig
from efficientconv.data import DATA_SETS, FILE_SETS
from efficientconv.files import CONFIG_DIR
from efficientconv.layers import LAYERS
from efficientconv.models.zoo import REGISTERED
from efficientconv.validation import validate
from report_pages import CHROMIUMS

TEXTS = {str(path.relative_to(ROOT)): path.read_text() for path in {*pages(), *ROOT.glob("results/**/*.md")}}
SCRIPTS = {
    str(path.relative_to(ROOT)): path.read_text()
    for pattern in ("*.py", "scripts/*.py")
    for path in sorted(ROOT.glob(pattern))
}
HYDRA = {"train.py": "train", "eval.py": "eval"} | {  # commands of Hydra's, and their configurations
    name: entry[1] for name, text in SCRIPTS.items() if (entry := re.search(r"@cli\.entry\(\"(\w+)\"", text))
}
TOOLS = ("git", "mypy", "pre-commit", "pytest", "ruff")  # whose arguments nobody here parses
PROGRAMS = ("bash", "pip", "python", "source", "tensorboard", "torchrun", "wandb", *CHROMIUMS, *TOOLS)
NAMES = {  # that stand for something in inline Python
    **{name: getattr(module, name) for module in (efficientconv, efficientconv.layers) for name in module.__all__},
    "ec": efficientconv, "efficientconv": efficientconv, "torch": torch,
}  # fmt: skip


class Parsed(Exception):
    """A script's parser took its arguments: (namespace,)."""


def commands(text: str) -> Iterator[str]:
    """Lines of its shell blocks, and what stands between backticks and begins with a program, or with variables for one."""
    shell = "\n".join(re.findall(r"```(?:bash|sh)\n(.*?)```", text, flags=re.DOTALL)).replace("\\\n", " ")
    variables = {"PWD": str(ROOT)} | dict(re.findall(r'^(\w+)="(.*)"$', shell, flags=re.MULTILINE))
    lines = [line for line in shell.splitlines() if line.strip() and not re.match(r"\w+=\"", line)]
    for line in [*lines, *filter(None, map(command_of, inline(text)))]:
        yield filled(re.sub(r"\$(\w+)", lambda found: variables[found[1]], line))


def command_of(code: str) -> str | None:
    """The command that code between backticks is, if it is one. `eval "$(<command>)"` is this command."""
    code = re.sub(r'^eval "\$\((.*)\)"$', r"\1", code)
    words = [word for word in code.split() if not re.match(r"[A-Z_]+=", word)]
    if len(words) < 2:
        return None
    return f"python {code}" if words[0] in SCRIPTS else code if words[0] in PROGRAMS else None


def commands_of_script(text: str) -> Iterator[str]:
    """The indented lines of its docstring; two spaces and more separate a command from what it does."""
    about = re.sub(r" *\\\n *", " ", ast.get_docstring(ast.parse(text), clean=False) or "")
    for line in re.findall(r"^    (\w.*)$", about, flags=re.MULTILINE):
        yield filled(re.split(" {2,}", line)[0])


def inline(text: str) -> list[str]:
    """What stands between backticks."""
    return re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))


def filled(text: str) -> str:
    """Its <placeholders> as words; that of a model is the name of one, that of a count is a number."""
    return re.sub(r"<[^<>]*>", "placeholder", text.replace("model=<name>", "model=c").replace("=<n>", "=2"))


@functools.cache
def check_command(line: str) -> None:
    """Raises what its own parser raises, or an AssertionError."""
    words = shlex.split(line, comments=True)
    while re.match(r"[A-Z_]+=", words[0]):
        words.pop(0)
    program, *args = words
    if program == "python" and args[0] == "-m":
        assert importlib.util.find_spec(args[1]), line
    elif program == "python":
        check_script(args[0], args[1:])
    elif program == "torchrun":
        options = torch.distributed.run.get_args_parser().parse_args(args)
        check_script(options.training_script, options.training_script_args)
    elif program == "bash":
        assert (ROOT / args[0]).is_file(), line
    elif program == "wandb":
        assert args[0] in wandb.cli.cli.cli.commands and (args[0] != "sweep" or (ROOT / args[1]).is_file()), line
    elif program == "tensorboard":
        TensorBoard().configure(["tensorboard", *args])
    else:
        assert program in PROGRAMS, f"{line}: which program is that?"


def check_script(path: str, args: list[str]) -> None:
    assert (ROOT / path).is_file(), path
    if path in HYDRA:
        options = hydra._internal.utils.get_args_parser().parse_intermixed_args(args)
        check = check_completion if options.shell_completion else check_settings
        check(HYDRA[path], options.overrides)
        return
    module = importlib.import_module(Path(path).stem)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Parsed) as parsed:
        for name in ("parse_args", "parse_intermixed_args"):
            patch.setattr(argparse.ArgumentParser, name, stop_after(getattr(argparse.ArgumentParser, name)))
        patch.setattr("sys.argv", [path, *args])
        module.main()
    given = vars(parsed.value.args[0])
    settings = given.get("settings", given.get("overrides", []))
    if path == "scripts/predict.py":
        module.parse_order(settings)
    elif path == "scripts/reproduce.py":
        module.rows_to_train(module.parse_order(settings).tables, given["only"])
    runs = [setting for setting in settings if setting.partition("=")[0] not in ("table", "seeds")]
    if path in ("scripts/reproduce.py", "scripts/decisions.py", "scripts/tune.py"):
        check_settings("train", runs)


def stop_after(parse):
    def stopped(self, *args):
        raise Parsed(parse(self, *args))

    return stopped


def check_completion(command: str, settings: list[str]) -> None:
    shells = [plugin.provides() for plugin in Plugins.instance().discover(CompletionPlugin)]
    assert settings in [[f"install={shell}"] for shell in shells]


def check_settings(command: str, settings: list[str]) -> None:
    """As train.py takes them, each sweep at its first value."""
    values = compose(command, [first_value(override) for override in OverridesParser.create().parse_overrides(settings)])
    if command == "train":
        validate(RunConfig, values)


def first_value(override: Override) -> str:
    if not override.is_sweep_override():
        return override.input_line
    value = override.value()
    first = value.start if isinstance(value, IntervalSweep) else next(override.sweep_string_iterator())
    return f"{override.get_key_element()}={first}"


def settings_in(text: str) -> Iterator[list[str]]:
    """What stands between backticks and is key=value all through, for keys of train.py and of Hydra's launchers."""
    groups = {"data", *(path.name for path in CONFIG_DIR.iterdir() if path.is_dir())} - {"table", "sweep"}
    for words in map(str.split, inline(text)):
        keys = [re.match(r"(\w+)[\w./]*=\S", word) for word in words]
        if all(keys) and {key[1] for key in keys} <= groups | {"layers", "seed", "hydra"}:
            yield [filled(word) for word in words]


def check_python(code: str) -> None:
    """Raises if inline Python names something that is not there, or calls it with arguments that it does not take."""
    call = ast.parse(code, mode="eval").body
    named = call.func if isinstance(call, ast.Call) else call
    called = eval(compile(ast.Expression(named), code, "eval"), NAMES)
    if isinstance(call, ast.Call) and (call.args or call.keywords):  # f() names the function
        inspect.signature(called).bind(*call.args, **{word.arg: word.value for word in call.keywords})


def python_in(text: str) -> Iterator[str]:
    """What stands between backticks and is a call or an attribute of `NAMES`."""
    for code in inline(text):
        if (found := re.fullmatch(r"(\w+)((\.\w+)+|(\.\w+)*\(.*\))", code)) and found[1] in NAMES:
            yield code


EACH_PAGE = pytest.mark.parametrize("page", sorted(TEXTS))


@EACH_PAGE
def test_every_command_is_taken_by_its_own_parser(page: str, capsys):
    for line in commands(TEXTS[page]):
        check_command(line)


@pytest.mark.parametrize("script", SCRIPTS)
def test_every_command_of_a_docstring_is_taken_by_its_own_parser(script: str, capsys):
    for line in commands_of_script(SCRIPTS[script]):
        check_command(line)


@EACH_PAGE
def test_every_setting_is_one_of_train(page: str):
    for settings in settings_in(TEXTS[page]):
        if settings != ["hydra/launcher=ray"] or importlib.util.find_spec("hydra_plugins.hydra_ray_launcher"):
            check_settings("train", settings)


@EACH_PAGE
def test_all_inline_python_names_what_there_is(page: str):
    for code in python_in(TEXTS[page]):
        check_python(code)


@EACH_PAGE
def test_every_python_block_runs(page: str, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch):
    for registry in (LAYERS, DATA_SETS, FILE_SETS, REGISTERED):  # pages register entries of their own
        monkeypatch.setattr(registry, "_entries", dict(registry._entries))
    names: dict[str, object] = {}
    for block in re.findall(r"```python\n(.*?)```", TEXTS[page], flags=re.DOTALL):
        if "outputs/<run>" in block:
            block = block.replace("outputs/<run>", str(request.getfixturevalue("finished_run")))
        exec(compile(block.replace("<file or folder>", str(pictures(tmp_path))), page, "exec"), names)


def pictures(folder: Path) -> Path:
    from PIL import Image

    (folder / "pictures").mkdir(exist_ok=True)
    Image.new("RGB", (40, 30)).save(folder / "pictures" / "a.png")
    return folder / "pictures"


@pytest.mark.parametrize("text", [
    "`python train.py model=nosuch`", "`python train.py trainer.epoch=1`", "`python eval.py rum=x`",
    "```bash\nnosuch x\n```", '`eval "$(python train.py -sc install=nosuch)"`',
    "`python scripts/reproduce.py table=7 tier=smoke`", "`python scripts/nosuch.py x`",
    "`bash scripts/no.sh`", "`python scripts/table.py --no`", "`scripts/runs.py lost`",
    "`OMP_NUM_THREADS=1 python scripts/benchmark.py nosuch`",
    "`python -m nosuch`", "`torchrun --nosuch train.py`", "`wandb nosuch`", "`python train.py -m model=a,nosuch optim.l=1`",
])  # fmt: skip
def test_a_command_that_does_not_exist_is_found(text: str):
    with pytest.raises((Exception, SystemExit)):
        check_command(*commands(text))


@pytest.mark.parametrize("text", ["`hydra/launcher=nosuch`", "`hydra.launcher.job=2`", "`optim.l=1`"])
def test_a_setting_that_does_not_exist_is_found(text: str):
    with pytest.raises(Exception, match="unknown"):
        check_settings("train", *settings_in(text))


@pytest.mark.parametrize("text", ["`ec.nosuch(model)`", "`ec.freeze(model, nosuch=1)`", "`Topology((8, 16), nosuch=3)`"])
def test_inline_python_that_is_wrong_is_found(text: str):
    with pytest.raises((AttributeError, TypeError)):
        check_python(*python_in(text))
