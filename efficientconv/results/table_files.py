"""results/<tier>/table<name>.md and .csv, and claims<name>.csv: the paper beside ours, the verdicts, how it was made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from efficientconv.files import write_atomically
from efficientconv.results.equal_cost import Needed
from efficientconv.results.markdown import csv_text, markdown_table
from efficientconv.results.statistics import CONFIDENCE, MARGIN_POINTS, Comparison
from efficientconv.results.table_columns import (
    claim_cells,
    claim_figures,
    needed_cells,
    needed_figures,
    row_cells,
    row_figures,
)
from efficientconv.results.table_rows import JudgedClaim, TableRow
from efficientconv.results.tables import Cost, TableConfig


@dataclass(frozen=True)
class Context:
    """What stands around a table: where its numbers come from, and how to make them again."""

    table: str
    tier: str
    about_tier: str  # what it costs and what it can prove
    conditions: str  # data, width, epochs
    command: str
    measured_on: str


@dataclass(frozen=True)
class Findings:
    """`needed`: of a table of curves, by row of another model, what the curve's model needs for its accuracy."""

    rows: Sequence[TableRow]
    claims: Sequence[JudgedClaim]
    comparison: Comparison
    needed: Mapping[str, Mapping[Cost, Needed]]


def write_tier_table(folder: Path, config: TableConfig, found: Findings, context: Context) -> list[Path]:
    """The files, each whole or not at all."""
    stem = table_stem(context.table)
    texts = {
        f"{stem}.md": _text(config, found, context),
        f"{stem}.csv": csv_text([row_figures(row, context.tier) for row in found.rows]),
    }
    if found.claims:
        figures = [claim_figures(judged, found.comparison.test) for judged in found.claims]
        texts[stem.replace("table", "claims") + ".csv"] = csv_text(figures)
    if found.needed:
        compared = [row for row in found.rows if row.name in found.needed]
        figures = [needed_figures(row, found.needed[row.name]) for row in compared]
        texts[stem.replace("table", "needed") + ".csv"] = csv_text(figures)
    return write_texts(folder, texts)


def write_texts(folder: Path, texts: dict[str, str]) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        write_atomically(folder / name, text.encode())
    return [folder / name for name in texts]


def table_stem(table: str) -> str:
    return f"table{table}" if table.isdigit() else f"table_{table}"


def table_title(table: str) -> str:
    return f"Table {table}" if table.isdigit() else f"Experiment {table}"


def _text(config: TableConfig, found: Findings, context: Context) -> str:
    parts = [
        f"# {table_title(context.table)}, tier {context.tier}: {config.title}",
        f"The tier. {context.about_tier}",
        f"Ours: {context.conditions}. The paper's: ImageNet, validation images, centre crop, 100 minus the error that it "
        "reports, from memory, unchecked (M). Which layer keeps accuracy at which cost can be compared between the two; "
        "accuracies can't.",
        markdown_table([row_cells(row, config.baseline, context.tier) for row in found.rows]),
        f"± is the standard deviation over n seeds; the interval is a bootstrap's, {CONFIDENCE:.0%}, of the mean. A "
        f"difference is one of means, its interval of {CONFIDENCE:.0%} Student's t by {_test_text(found.comparison)} MACs, "
        "parameters and times are those of this tier's networks. ms per image: median of interleaved passes on "
        f"{context.measured_on}.",
        *(_needed_text(config, found) if found.needed else ()),
        *(_claims_text(found) if found.claims else ()),
        f"Made by `{context.command}` from the records in runs/.",
    ]
    return "\n\n".join(parts) + "\n"


def _test_text(comparison: Comparison) -> str:
    premises = comparison.premises
    if premises.hold:
        how = f"the variance pooled over this table's rows (standard deviation {premises.pooled_std:.2f}, df {premises.df})"
    else:
        how = "Welch's test, for the variance may not be pooled"
    return f"{how}: {premises}."


def _needed_text(config: TableConfig, found: Findings) -> list[str]:
    curve = config.curve_of
    compared = [row for row in found.rows if row.name in found.needed]
    return [
        f"## What {curve} needs for the same accuracy",
        markdown_table([needed_cells(row, found.needed[row.name], curve) for row in compared]),
        f"Read off {curve}'s rows above, joined by straight lines over the logarithm of the cost; in brackets every cost at "
        f"which the difference from that line is not significant (test inversion, {CONFIDENCE:.0%}). less, more: than the "
        f"cheapest and the dearest {curve} trained. Beside it the same as a multiple of the row's own cost: above 1, the "
        f"row needs less than {curve}.",
    ]


def _claims_text(found: Findings) -> list[str]:
    tested = sum(judged.verdict.p is not None for judged in found.claims)
    return [
        f"## What the paper claims, and what these runs say ({found.comparison.test}, Holm over {tested} tested)",
        markdown_table([claim_cells(judged) for judged in found.claims]),
        'A claim is tested against a bound: 0 for "better" and "worse"; "no worse" and "not better" allow '
        f"{MARGIN_POINTS} points, this project's choice (D). Where p, corrected by Holm over the claims of this table that "
        f"could be tested, is below {1 - CONFIDENCE:.2g}, the claim is supported or contradicted, by the side of the bound "
        "that the difference lies on; else it is undecided. An interval is that of its difference alone. Verdicts are about "
        "seeds, on one set of test images.",
    ]
