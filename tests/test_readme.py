"""Pages say what the results say; every command, setting, file and link in them is there, and every Python block runs."""

from __future__ import annotations

import argparse
import ast
import functools
import importlib
import importlib.util
import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import wandb.cli.cli
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override
from tensorboard.program import TensorBoard
from torch.distributed.run import get_args_parser

from conftest import ROOT
from efficientconv import count, create_model
from efficientconv.cli import compose
from efficientconv.config import RunConfig
from efficientconv.data.sets.imagenet import COMPLETE
from efficientconv.errors import UserError
from efficientconv.files import CONFIG_DIR
from efficientconv.layers import LAYERS, SICConv2d
from efficientconv.results.findings import findings
from efficientconv.results.readme import BLOCK, TABLES, layers, pages, updated
from efficientconv.validation import validate

TEXTS = {str(path.relative_to(ROOT)): path.read_text() for path in pages()}
HYDRA = {"train.py": "train", "eval.py": "eval"} | {  # commands of Hydra's, and their configurations
    f"scripts/{path.name}": entry[1]
    for path in (ROOT / "scripts").glob("*.py")
    if (entry := re.search(r"@cli\.entry\(\"(\w+)\"", path.read_text()))
}
TOOLS = ("git", "mypy", "pre-commit", "pytest", "ruff")  # whose arguments nobody here parses
PROGRAMS = ("bash", "pip", "python", "source", "tensorboard", "torchrun", "wandb", *TOOLS)


class Parsed(Exception):
    """A script's parser took its arguments: (namespace,)."""


def commands(text: str) -> Iterator[str]:
    """Lines of its shell blocks, and what stands between backticks and begins with a program."""
    shell = "\n".join(re.findall(r"```(?:bash|sh)\n(.*?)```", text, flags=re.DOTALL))
    variables = dict(re.findall(r'^(\w+)="(.*)"$', shell, flags=re.MULTILINE))
    lines = [line for line in shell.splitlines() if line.strip() and not re.match(r"\w+=\"", line)]
    prose = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    inline = [code for code in re.findall(r"`([^`\n]+)`", prose) if code.split()[0] in PROGRAMS and " " in code]
    for line in [*lines, *inline]:
        line = re.sub(r"\$(\w+)", lambda found: variables[found[1]], line)
        yield filled(line)


def filled(text: str) -> str:
    """Its <placeholders> as words; that of a model is the name of one."""
    return re.sub(r"<[^<>]*>", "placeholder", text.replace("model=<name>", "model=c"))


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
        options = get_args_parser().parse_args(args)
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
        options = {"--cfg", "job", "-m"}
        check_settings(HYDRA[path], [arg for arg in args if arg not in options])
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
    """What stands between backticks and is key=value all through, for keys of train.py."""
    groups = {"data", *(path.name for path in CONFIG_DIR.iterdir() if path.is_dir())} - {"table", "sweep"}
    for code in re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL)):
        words = code.split()
        keys = [re.match(r"([\w.]+)=\S", word) for word in words]
        if all(keys) and {key[1].partition(".")[0] for key in keys} <= groups | {"layers", "seed"}:
            yield [filled(word) for word in words]


EACH_PAGE = pytest.mark.parametrize("page", TEXTS)


@EACH_PAGE
def test_tables_are_those_of_the_results(page: str):
    assert updated(TEXTS[page]) == TEXTS[page], "run python scripts/readme.py"


@EACH_PAGE
def test_every_command_is_taken_by_its_own_parser(page: str, capsys):
    for line in commands(TEXTS[page]):
        check_command(line)


@EACH_PAGE
def test_every_setting_is_one_of_train(page: str):
    for settings in settings_in(TEXTS[page]):
        check_settings("train", settings)


@EACH_PAGE
def test_every_python_block_runs(page: str, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(LAYERS, "_entries", dict(LAYERS._entries))  # a page registers one
    names: dict[str, object] = {}
    for block in re.findall(r"```python\n(.*?)```", TEXTS[page], flags=re.DOTALL):
        if "outputs/<run>" in block:
            block = block.replace("outputs/<run>", str(request.getfixturevalue("finished_run")))
        exec(compile(block.replace("<file or folder>", str(pictures(tmp_path))), page, "exec"), names)


@EACH_PAGE
def test_every_file_and_link_that_it_names_is_there(page: str):
    text, folder = TEXTS[page], (ROOT / page).parent
    named = {ROOT / name for name in re.findall(r"`((?:scripts|results|configs|efficientconv|tests)/[\w/.]+\.\w+)`", text)}
    links = re.findall(r"\]\((?!https?:)([^)#]*)(?:#([^)]*))?\)", text)
    linked = {folder / path if path else ROOT / page for path, _ in links}
    missing = [str(path) for path in named | linked if not path.exists()]
    assert not missing, missing
    for path, anchor in links:
        target = folder / path if path else ROOT / page
        assert not anchor or anchor in anchors(target.read_text()), f"{path}#{anchor}"


def anchors(text: str) -> set[str]:
    """Of its headings, as a forge makes them."""
    titles = re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def pictures(folder: Path) -> Path:
    from PIL import Image

    (folder / "pictures").mkdir(exist_ok=True)
    Image.new("RGB", (40, 30)).save(folder / "pictures" / "a.png")
    return folder / "pictures"


def test_no_page_has_a_table_of_more_than_eight_columns():
    paths = [*ROOT.glob("results/**/*.md"), *pages()]
    rules = {path: re.findall(r"^\|[-| ]+\|$", path.read_text(), re.MULTILINE) for path in paths}
    assert rules and not [path for path, found in rules.items() if any(rule.count("|") > 9 for rule in found)]


def test_a_layer_must_state_its_cost(monkeypatch):
    monkeypatch.setattr(SICConv2d, "__doc__", "A new layer.")
    with pytest.raises(UserError, match="SICConv2d: its docstring says no cost"):
        layers()


def test_no_table_is_left_out():
    shown = {found[1] for text in TEXTS.values() for found in BLOCK.finditer(text)}
    assert shown == set(TABLES)


def test_a_page_cannot_ask_for_a_table_that_is_not_made():
    with pytest.raises(ValueError, match="nosuch"):
        updated("<!-- nosuch tier -->\n<!-- end -->")


def test_training_costs_are_multiplied_out():
    """From a count made here and the tier as Hydra composes it; 2 FLOPs a MAC, one forward pass and two for gradients."""
    epochs = compose("train", ["tier=imagenet"])["trainer"]["epochs"]
    flops = 6 * count(create_model("a", num_classes=1000), (3, 221, 221)).macs * COMPLETE[1] * epochs
    line = f"| imagenet | a run of a | {flops / 1e15:,.0f} | {flops / 10e12 / 3600:,.0f} |"
    assert line in TEXTS["docs/reproduce.md"]


def test_readme_is_short_and_its_two_commands_come_early():
    lines = TEXTS["README.md"].splitlines()
    assert len(lines) <= 150
    start = "\n".join(lines[:25])
    assert "bash scripts/quickstart.sh" in start and "bash scripts/test.sh" in start


def test_every_page_is_linked_from_readme_and_opens_with_what_it_answers():
    for page in sorted((ROOT / "docs").glob("*.md")):
        title, _, question, *_ = page.read_text().splitlines()
        assert title.startswith("# ") and re.fullmatch(r"\*.+\?\*", question), page
        assert f"](docs/{page.name})" in TEXTS["README.md"], page


def test_the_drawing_of_the_dependencies_has_every_folder_and_every_import_between_two():
    """Imports of modules, not those inside of functions."""
    drawing = re.search(r"## Dependencies.*?```mermaid\n(.*?)```", TEXTS["docs/architecture.md"], flags=re.DOTALL)[1]
    arrows = set(re.findall(r"^ +(\w+)(?:\[.*?\])? --> (\w+)", drawing, flags=re.MULTILINE))
    paths = [path for path in sorted((ROOT / "efficientconv").glob("*/**/*.py")) if "csrc" not in path.parts]
    imports = {(path.relative_to(ROOT).parts[1], folder) for path in paths for folder in imported_folders(path)}
    assert {start for start, _ in imports} <= {node for arrow in arrows for node in arrow}
    assert not [(start, end) for start, end in imports if start != end and end not in below(start, arrows)]
    folders = {start for start, _ in imports}
    assert not [(start, end) for start, end in arrows - imports if {start, end} <= folders], "nothing imports so"
    assert not [node for node, _ in arrows if node in below(node, arrows)], "the arrows lead round"


def imported_folders(path: Path) -> set[str]:
    """The folders of the package from which a file imports at its own import."""
    statements = [statement for statement in ast.parse(path.read_text()).body if isinstance(statement, ast.ImportFrom)]
    full = [f"{statement.module}.{name.name}".split(".") for statement in statements for name in statement.names]
    return {name for package, name, *_ in full if package == "efficientconv" and (ROOT / package / name).is_dir()}


def below(node: str, arrows: set[tuple[str, str]]) -> set[str]:
    """The nodes to which arrows lead from this one, over any number of others."""
    found: set[str] = set()
    ends = {node}
    while ends := {end for start, end in arrows if start in ends} - found:
        found |= ends
    return found


@pytest.mark.parametrize("line", [
    "python train.py model=nosuch", "python train.py trainer.epoch=1", "python eval.py rum=x", "nosuch x",
    "python scripts/reproduce.py table=7 tier=smoke", "python scripts/nosuch.py",
    "bash scripts/no.sh", "python scripts/table.py --no",
    "python -m nosuch", "torchrun --nosuch train.py", "wandb nosuch", "python train.py -m model=a,nosuch optim.l=1",
])  # fmt: skip
def test_a_command_that_does_not_exist_is_found(line: str):
    with pytest.raises((Exception, SystemExit)):
        check_command(line)


def test_findings_at_equal_cost_are_shown_once_they_are_made(tmp_path: Path):
    folder = tmp_path / "cifar_small"
    folder.mkdir()
    for claims in (ROOT / "results/cifar_small").glob("claims*.csv"):
        if claims.name != "claims_equal_cost.csv":
            shutil.copy(claims, folder)
    assert "being trained: `python scripts/reproduce.py table=equal_cost tier=cifar_small" in findings(folder)
    (folder / "claims_equal_cost.csv").write_text(
        "row,than,at_equal,sentence,verdict,difference_points,low,high\n"
        "c@5.16e6,a,macs,x,supported,1.70,1.21,2.19\n"
        "c@2.26e6,a,macs,x,supported,2.40,1.89,2.99\n"
        "c,a,macs,x,undecided,0.10,-0.4,0.6\n"
        "k@5.16e6,a,macs,x,contradicted,-1.60,-2.1,-1.1\n"
        "m,a,inference,x,undecided,0.2,,\n"
        "c@9e6,a,macs,x,,,,\n"
    )
    (folder / "table_equal_cost.csv").write_text("row,macs\nc,4000000\n")
    (folder / "equal_cost_macs.png").touch()
    text = findings(folder)
    both = "MACs: 2.26 M, 5.16 M | +1.70 to +2.40 (+1.21 to +2.99)"
    assert f"| C | SIC 3x3, 4 a stage | {both} | **more accurate** |" in text
    assert "| MACs: 4.00 M (width 0.25) | +0.10 (-0.40 to +0.60) | **undecided** |" in text
    assert "| MACs: 5.16 M | -1.60 (-2.10 to -1.10) | **less accurate** |" in text
    assert "| time of inference | +0.20 | **undecided** |" in text
    assert "The 4 rows stand for 5 comparisons: 2 more accurate, 1 less accurate, 2 undecided." in text
    assert "(results/cifar_small/equal_cost_macs.png)" in text and "**At equal width.**" in text
