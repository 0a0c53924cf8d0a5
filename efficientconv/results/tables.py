"""The paper's tables as data: configs/table/<name>.yaml, which rows each has and what it claims."""

from __future__ import annotations

from typing import Annotated, Literal

import yaml
from pydantic import Field

from efficientconv.config import CONFIG_DIR
from efficientconv.errors import UserError, did_you_mean
from efficientconv.validation import Section, validate

Relation = Literal["better", "worse", "no_worse", "not_better"]


class Claim(Section):
    """A sentence of the paper that a comparison of two rows can support or contradict."""

    sentence: str
    row: str
    relation: Annotated[Relation, Field(alias="is")]
    than: str
    source: str  # the mark of how sure it is that the paper says so


class TableConfig(Section):
    """Rows are models by name."""

    title: str
    source: str
    baseline: str  # costs are given as shares of its own
    rows: list[str]
    quoted: list[str] = []  # networks whose figures the paper quotes; trained only when asked for
    trained: bool = True  # False: a table of arithmetic
    claims: list[Claim] = []


def table_names() -> list[str]:
    return sorted(path.stem for path in (CONFIG_DIR / "table").glob("*.yaml"))


def table_config(name: str) -> TableConfig:
    """Raises UserError with the nearest name."""
    if name not in table_names():
        raise UserError(f"unknown table '{name}': {did_you_mean(name, table_names())}")
    values = yaml.safe_load((CONFIG_DIR / "table" / f"{name}.yaml").read_text())
    return validate(TableConfig, values, where=f"table/{name}")


def needed_models(table: TableConfig) -> list[str]:
    """Rows to train, and rows of other tables that a claim compares with; not the quoted networks."""
    compared = [name for claim in table.claims for name in (claim.row, claim.than)]
    return [name for name in dict.fromkeys([*table.rows, *compared]) if name not in table.quoted]
