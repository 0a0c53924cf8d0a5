"""The paper's tables as data: the rows and claims of configs/table/<name>.yaml.

A row is a model at the tier's width, or `<model>@<MACs>`: a model at the width with this many MACs (models/budget.py).
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
CostKind = Literal["macs", "inference", "training"]
COSTS: dict[CostKind, str] = {"macs": "macs", "inference": "ms_per_image", "training": "training_ms_per_image"}  # as figures


def model_of(row: str) -> str:
    return row.partition("@")[0]


def budget_of(row: str) -> float | None:
    """The MACs of one image; None: the tier's width. Raises ValueError for a text that is no number."""
    budget = row.partition("@")[2]
    return float(budget) if "@" in row else None


def _checked(row: str) -> str:
    budget_of(row)
    return row


RowName = Annotated[str, AfterValidator(_checked)]


class Claim(Section):
    """A sentence that a comparison of two rows can support or contradict.

    at_equal: `than` is a model. `row` is compared with the accuracy of this model at the row's cost, between its rows.
    """

    sentence: str
    row: RowName
    relation: Annotated[Relation, Field(alias="is")]
    than: RowName
    source: str  # a mark: how sure it is that the paper says so
    at_equal: CostKind | None = None


class TableConfig(Section):
    """A table of the paper, or an experiment of this project's. Rows are names of models."""

    name: str
    title: str
    source: str
    baseline: RowName  # costs are also given as shares of this row's
    rows: list[RowName]
    quoted: list[str] = []  # networks whose figures the paper quotes; trained only on request
    trained: bool = True  # False: a table of arithmetic
    curve_of: str | None = None  # a table of curves: the model whose curve the other rows are compared with
    claims: list[Claim] = []

    @property
    def heading(self) -> str:
        return f"Table {self.name}" if self.name.isdigit() else f"Experiment {self.name}"

    @property
    def suffix(self) -> str:
        """The end of its files' names, as in table2.md and table_residual.md."""
        return self.name if self.name.isdigit() else f"_{self.name}"

    @model_validator(mode="after")
    def check(self) -> TableConfig:
        at_equal = [claim for claim in self.claims if claim.at_equal]
        if any(claim.than != self.curve_of or claim.row not in self.rows for claim in at_equal):
            raise ValueError("at_equal compares a row of the table with the model of curve_of")
        return self


def table_names() -> list[str]:
    return sorted(path.stem for path in (CONFIG_DIR / "table").glob("*.yaml"))


def table_config(name: str) -> TableConfig:
    """The table of this name. Raises UserError with the nearest name."""
    if name not in table_names():
        raise UserError(f"unknown table '{name}': {did_you_mean(name, table_names())}")
    values = yaml.safe_load((CONFIG_DIR / "table" / f"{name}.yaml").read_text())
    return validate(TableConfig, {"name": name} | values, where=f"table/{name}")


def needed_rows(table: TableConfig) -> list[str]:
    """The rows to train, also those of other tables that a claim compares with; not the quoted networks."""
    compared = [row for claim in table.claims for row in (claim.row, *(() if claim.at_equal else (claim.than,)))]
    return [row for row in dict.fromkeys([*table.rows, *compared]) if row not in table.quoted]


def trained_models() -> list[str]:
    """The models that any table trains at the tier's width."""
    tables = [table for table in map(table_config, table_names()) if table.trained]
    return list(dict.fromkeys(row for table in tables for row in needed_rows(table) if budget_of(row) is None))


@cache
def tier_width(tier: str | None) -> float | None:
    """The width of the models of a tier, except rows with a budget; None: no such tier."""
    path = CONFIG_DIR / "tier" / f"{tier}.yaml"
    return yaml.safe_load(path.read_text()).get("model", {}).get("width", 1.0) if path.exists() else None
