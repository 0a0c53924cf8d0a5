"""The paper's tables as data: configs/table/<name>.yaml, which rows each has and what it claims.

A row is a model at the tier's width, or `<model>@<MACs>`: at the width at which it costs that (models/budget.py).
"""

from __future__ import annotations

from functools import cache
from typing import Annotated, Literal

import yaml
from pydantic import AfterValidator, Field, model_validator

from efficientconv.errors import UserError, did_you_mean
from efficientconv.files import CONFIG_DIR
from efficientconv.validation import Section, validate

Relation = Literal["better", "worse", "no_worse", "not_better"]
Cost = Literal["macs", "inference", "training"]  # MACs; measured ms per image of a forward pass, of a training step


def model_of(row: str) -> str:
    return row.partition("@")[0]


def budget_of(row: str) -> float | None:
    """MACs of one image; None: the tier's width. Raises ValueError for what is no number."""
    budget = row.partition("@")[2]
    return float(budget) if "@" in row else None


def _checked(row: str) -> str:
    budget_of(row)
    return row


Row = Annotated[str, AfterValidator(_checked)]


class Claim(Section):
    """A sentence that a comparison of two rows can support or contradict.

    at_equal: `than` is a model, and `row` is held against its accuracy at the row's own cost, between that model's rows.
    """

    sentence: str
    row: Row
    relation: Annotated[Relation, Field(alias="is")]
    than: Row
    source: str  # the mark of how sure it is that the paper says so
    at_equal: Cost | None = None


class TableConfig(Section):
    """Rows are models by name."""

    title: str
    source: str
    baseline: Row  # costs are given as shares of its own
    rows: list[Row]
    quoted: list[str] = []  # networks whose figures the paper quotes; trained only when asked for
    trained: bool = True  # False: a table of arithmetic
    curve_of: str | None = None  # a table of curves: of this model, what the others' accuracy would cost it
    claims: list[Claim] = []

    @model_validator(mode="after")
    def check(self) -> TableConfig:
        at_equal = [claim for claim in self.claims if claim.at_equal]
        if any(claim.than != self.curve_of or claim.row not in self.rows for claim in at_equal):
            raise ValueError("at_equal compares a row of the table with the model of curve_of")
        return self


def table_names() -> list[str]:
    return sorted(path.stem for path in (CONFIG_DIR / "table").glob("*.yaml"))


def table_config(name: str) -> TableConfig:
    """Raises UserError with the nearest name."""
    if name not in table_names():
        raise UserError(f"unknown table '{name}': {did_you_mean(name, table_names())}")
    values = yaml.safe_load((CONFIG_DIR / "table" / f"{name}.yaml").read_text())
    return validate(TableConfig, values, where=f"table/{name}")


def needed_rows(table: TableConfig) -> list[str]:
    """Rows to train, and rows of other tables that a claim compares with; not the quoted networks."""
    compared = [row for claim in table.claims for row in (claim.row, *(() if claim.at_equal else (claim.than,)))]
    return [row for row in dict.fromkeys([*table.rows, *compared]) if row not in table.quoted]


@cache
def tier_width(tier: str | None) -> float | None:
    """Of all models of a tier that have no budget; None: no such tier."""
    path = CONFIG_DIR / "tier" / f"{tier}.yaml"
    return yaml.safe_load(path.read_text()).get("model", {}).get("width", 1.0) if path.exists() else None
