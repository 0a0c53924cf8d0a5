"""results/<tier>/table<name>.md and .csv, and claims<name>.csv: the paper beside ours, the verdicts, how it was made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from efficientconv.benchmark.peaks import OF_LIMIT
from efficientconv.results.equal_cost import Needed
from efficientconv.results.pages import page, write_files
from efficientconv.results.statistics import CONFIDENCE, MARGIN_POINTS, Comparison
from efficientconv.results.table import Table
from efficientconv.results.table_columns import ROW, claim_columns, main_columns, more_columns, needed_columns, run_columns
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
    """`needed`: of a table of curves, by cost and by row of another model, what the curve's model needs for its accuracy."""

    rows: Sequence[TableRow]
    claims: Sequence[JudgedClaim]
    comparison: Comparison
    needed: Mapping[Cost, Mapping[str, Needed]]


def write_tier_table(folder: Path, config: TableConfig, found: Findings, context: Context) -> list[Path]:
    """The files, each whole or not at all."""
    stem, of_runs = table_stem(context.table), run_columns(context.tier)
    texts = {
        f"{stem}.md": _text(config, found, context),
        f"{stem}.csv": Table(found.rows, [*main_columns(config), *more_columns(config), *of_runs]).csv(),
    }
    if found.claims:
        texts[stem.replace("table", "claims") + ".csv"] = Table(found.claims, claim_columns(found.comparison.test)).csv()
    if found.needed:
        texts[stem.replace("table", "needed") + ".csv"] = _needed_table(config, found, *found.needed).csv()
    return write_files(folder, texts)


def table_stem(table: str) -> str:
    return f"table{table}" if table.isdigit() else f"table_{table}"


def table_title(table: str) -> str:
    return f"Table {table}" if table.isdigit() else f"Experiment {table}"


def _text(config: TableConfig, found: Findings, context: Context) -> str:
    trained = [row for row in found.rows if row.runs]
    return page(
        f"# {table_title(context.table)}, tier {context.tier}: {config.title}",
        f"The tier. {context.about_tier}",
        f"Ours: {context.conditions}. The paper's: ImageNet, validation images, centre crop, 100 minus the error that it "
        "reports, from memory, unchecked (M). Which layer keeps accuracy at which cost can be compared between the two; "
        "accuracies can't.",
        Table(found.rows, main_columns(config)).markdown(),
        f"± is the standard deviation over n seeds. Differences of means have intervals of {CONFIDENCE:.0%}, Student's t by "
        f"{_test_text(found.comparison)} MACs, parameters and times are those of this tier's networks. ms per image: median "
        f"of interleaved passes on {context.measured_on}.",
        *(_claims_text(found) if found.claims else ()),
        *(_needed_text(config, found) if found.needed else ()),
        "## The same runs: spread and size",
        Table(found.rows, more_columns(config)).markdown(),
        f"The interval is a bootstrap's, {CONFIDENCE:.0%}, of the mean."
        + (f" {OF_LIMIT}" if any(row.of_limit("inference") for row in found.rows) else ""),
        "## How it was made" if trained else "",
        Table(trained, run_columns(context.tier)).markdown() if trained else "",
        f"Made by `{context.command}` from the records in runs/.",
    )


def _test_text(comparison: Comparison) -> str:
    premises = comparison.premises
    if premises.hold:
        how = f"the variance pooled over this table's rows (standard deviation {premises.pooled_std:.2f}, df {premises.df})"
    else:
        how = "Welch's test, for the variance may not be pooled"
    return f"{how}: {premises}."


def _needed_text(config: TableConfig, found: Findings) -> list[str]:
    curve = config.curve_of
    return [
        f"## What {curve} needs for the same accuracy",
        *(_needed_table(config, found, kind).markdown() for kind in found.needed),
        f"Read off {curve}'s rows above, joined by straight lines over the logarithm of the cost; a row that is no more "
        f"accurate than a cheaper one is left out. In brackets every cost at which the difference from that line is not "
        f"significant (test inversion, {CONFIDENCE:.0%}). less, more: than the cheapest and the dearest {curve} trained. "
        f"Beside it the same as a multiple of the row's own cost: above 1, the row needs less than {curve}.",
    ]


def _needed_table(config: TableConfig, found: Findings, *kinds: Cost) -> Table:
    compared = [row for row in found.rows if any(row.name in found.needed[kind] for kind in kinds)]
    columns = [needed_columns(kind, found.needed[kind], config.curve_of) for kind in kinds]
    return Table(compared, [ROW, *(column for of_kind in columns for column in of_kind)])


def _claims_text(found: Findings) -> list[str]:
    tested = sum(judged.verdict.p is not None for judged in found.claims)
    return [
        f"## What the paper claims, and what these runs say ({found.comparison.test}, Holm over {tested} tested)",
        Table(found.claims, claim_columns(found.comparison.test)).markdown(),
        'The threshold is 0 points for "better" and "worse"; "no worse" and "not better" allow '
        f"{MARGIN_POINTS} points, this project's choice (D). Where p, corrected by Holm over the claims of this table that "
        f"could be tested, is below {1 - CONFIDENCE:.2g}, the claim is supported or contradicted, by the side of the "
        "threshold that the difference lies on; else it is undecided. An interval is that of its difference alone. Verdicts "
        "are about seeds, on one set of test images.",
    ]
