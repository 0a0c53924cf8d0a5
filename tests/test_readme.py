"""Pages say what the results say, and every file and link in them is there."""

from __future__ import annotations

import ast
import re
import shutil
from pathlib import Path

import pytest
from readme import BLOCK, TABLES, layers, pages, updated

from conftest import ROOT
from efficientconv import count, create_model
from efficientconv.cli import compose
from efficientconv.csv_files import read_rows
from efficientconv.data import DATA_SETS
from efficientconv.data.sets.imagenet import COMPLETE
from efficientconv.data_settings import data_settings
from efficientconv.errors import UserError
from efficientconv.layers import SICConv2d
from efficientconv.results.findings import findings

TEXTS = {str(path.relative_to(ROOT)): path.read_text() for path in pages()}
EACH_PAGE = pytest.mark.parametrize("page", TEXTS)


@EACH_PAGE
def test_tables_are_those_of_the_results(page: str):
    assert updated(TEXTS[page]) == TEXTS[page], "run python scripts/readme.py"


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


def test_data_sets_are_those_that_are_registered_with_the_images_that_they_hold_out():
    section = TEXTS["docs/getting_started.md"].partition("## Data sets\n")[2].partition("\n## ")[0]
    rows = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    assert sorted(re.findall(r"`(\w+)`", "".join(rows))) == DATA_SETS.names()
    held_out = {name: settings["val_fraction"] for name, settings in data_settings().items()}
    others = set(held_out) - {"imagenet", "digits", "synthetic"}  # docs/getting_started.md: 1 %, 10 % and 10 %, 2 %
    assert held_out == {"imagenet": 0.01, "digits": 0.1, "synthetic": 0.1} | dict.fromkeys(others, 0.02)


def test_training_costs_are_multiplied_out():
    """From a count made here and the tier as Hydra composes it; 2 FLOPs a MAC, one forward pass and two for gradients."""
    epochs = compose("train", ["tier=imagenet"])["trainer"]["epochs"]
    flops = 6 * count(create_model("a", num_classes=1000), (3, 221, 221)).macs * COMPLETE[1] * epochs
    line = f"| imagenet | a run of a | {flops / 1e15:,.0f} | {flops / 10e12 / 3600:,.0f} |"
    assert line in TEXTS["docs/reproduce.md"]


def test_what_is_said_of_other_programs_is_what_was_measured():
    """docs/performance.md: F, I, K are fastest here; A, C, M in ONNX Runtime or OpenVINO, by less on ImageNet's maps."""
    rows = read_rows(ROOT / "results/benchmark_peers.csv")
    for row in rows:
        ours, torch_s = row["ours_ms_median"], min(row["torch_ms_median"], row["compiled_ms_median"])
        others = min(row["onnx_runtime_ms_median"], row["openvino_ms_median"])
        if row["model"] in "fik":
            assert ours < min(others, torch_s), row
        else:
            assert (0.9 if row["layout"] == "imagenet" else 0.8) < others / ours < 1 < torch_s / others, row


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


def test_the_map_names_what_there_is_and_each_part_of_the_package():
    text = re.sub(r"```mermaid\n.*?```|`\S*<\w+>\.py`", "", TEXTS["docs/architecture.md"], flags=re.DOTALL)
    tops = [ROOT / name for name in ("efficientconv", "configs", "hydra_plugins", "results", "scripts", "tests")]
    there = [*ROOT.glob("*.py"), *tops, *(path for top in tops for path in top.rglob("*"))]
    paths = [f"/{path.relative_to(ROOT)}{'/' * path.is_dir()}" for path in there]
    named = set(re.findall(r"[\w/]*\w\.py\b|\b[\w/]+/(?!\w)", text))
    assert not [name for name in named if not any(path.endswith(f"/{name}") for path in paths)]
    package = {path[1:] for path in paths if re.fullmatch(r"/efficientconv/[a-z]\w*(\.py|/)", path)}
    assert not [part for part in package if not {part, part.removeprefix("efficientconv/")} & named]


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
