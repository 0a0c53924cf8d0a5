"""README.md says what the results say, and its commands come early."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from conftest import ROOT
from efficientconv import count, create_model
from efficientconv.cli import compose
from efficientconv.data.imagenet import COMPLETE
from efficientconv.results.readme import BLOCK, TABLES, pages, updated

TEXT = (ROOT / "README.md").read_text()


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_tables_are_those_of_the_results(page: Path):
    text = page.read_text()
    assert updated(text) == text, "run python scripts/readme.py"


def test_no_table_is_left_out():
    shown = {found[1] for page in pages() for found in BLOCK.finditer(page.read_text())}
    assert shown == set(TABLES)


def test_a_page_cannot_ask_for_a_table_that_is_not_made():
    with pytest.raises(ValueError, match="nosuch"):
        updated("<!-- nosuch tier -->\n<!-- end -->")


def test_training_costs_are_multiplied_out():
    """From a count made here and the tier as Hydra composes it; 2 FLOPs a MAC, one forward pass and two for gradients."""
    epochs = compose("train", ["tier=imagenet"])["trainer"]["epochs"]
    flops = 6 * count(create_model("a", num_classes=1000), (3, 221, 221)).macs * COMPLETE[1] * epochs
    assert f"| imagenet | a run of a | {flops / 1e15:,.0f} | {flops / 10e12 / 3600:,.0f} |" in TEXT


def test_the_two_commands_stand_within_the_first_25_lines():
    start = "\n".join(TEXT.splitlines()[:25])
    assert "bash scripts/quickstart.sh" in start and "bash scripts/test.sh" in start


def test_every_file_that_it_names_is_there():
    named = set(re.findall(r"(?:scripts|results|configs|efficientconv|tests)/[\w/]+\.\w+", TEXT))
    missing = [name for name in named if not (ROOT / name).exists()]
    assert not missing, missing
