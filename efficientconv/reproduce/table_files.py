"""results/<tier>/table<name>.md and .csv, and claims<name>.csv: the paper's figures and ours, and the verdicts."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

from efficientconv.reproduce.tier import Tier
from efficientconv.results import claims
from efficientconv.results.pages import page, write_files
from efficientconv.results.statistics import CONFIDENCE, MARGIN_POINTS, Comparison
from efficientconv.results.table import Column, Row, Table
from efficientconv.results.table_columns import line_of, needed_columns, shown
from efficientconv.results.table_config import CostKind
from efficientconv.results.table_rows import PaperTable
from efficientconv.roofline.peaks import OF_LIMIT

AT_EQUAL_TIME = (
    " At equal time an interval includes the error of the measured times: the standard deviation of their repeats, "
    "estimated from the range between their quartiles."
)

RUN = (
    Column("model", "row"), Column("command", show="`{}`".format),
    Column("commits", "commit", ", ".join),
)  # fmt: skip


def write_tier_table(tier: Tier, table: PaperTable, command: str, measured_on: str | None) -> list[Path]:
    """Writes the files, each whole or not at all. `command` makes them again. `measured_on`: the machine of the times."""
    end = table.config.suffix
    lines = [line_of(row, table.config, tier.name) for row in table.rows]
    texts = {f"table{end}.md": _text(tier, table, lines, command, measured_on), f"table{end}.csv": Table.of(lines).csv()}
    if table.claims:
        texts[f"claims{end}.csv"] = Table(table.claims, claims.COLUMNS).csv()
    if table.needed:
        texts[f"needed{end}.csv"] = _needed_table(table, *table.needed).csv()
    return write_files(tier.folder, texts)


def _text(tier: Tier, table: PaperTable, lines: Sequence[Row], command: str, measured_on: str | None) -> str:
    trained, (main, more) = [line for line in lines if line["seeds"]], shown(table.config)
    told = trained if trained and table.config.curve_of else lines
    missing = [line["row"] for line in lines if line not in told]
    return page(
        f"# {table.config.heading}, tier {tier.name}: {table.config.title}",
        f"The tier. {tier.about}",
        f"Ours: {tier.conditions}. The paper's: ImageNet, validation images, centre crop; accuracies are 100 minus "
        "the error that the paper reports, from memory, unchecked (M). Compare between the two which layer keeps "
        "accuracy at which cost, not the accuracies themselves.",
        Table(told, main).markdown(),
        *([f"Not run at this tier: {', '.join(missing)}."] if missing else ()),
        f"{_test_text(table.comparison)} MACs, parameters and times are those of this tier's networks. "
        + (f"ms per image: median of interleaved passes on {measured_on}." if measured_on else "No times were measured."),
        *(_claims_text(table) if table.claims else ()),
        *(_needed_text(table) if table.needed else ()),
        "## The same runs: spread and size",
        Table(told, more).markdown(),
        f"The interval is a bootstrap's, {CONFIDENCE:.0%}, of the mean."
        + (f" {OF_LIMIT}" if any(line["of_limit"] for line in lines) else ""),
        *(("## How it was made", Table(trained, RUN).markdown()) if trained else ()),
        f"Made by `{command}` from the records in runs/.",
    )


def _test_text(comparison: Comparison) -> str:
    premises = comparison.premises
    if not premises.df:
        return "No row has two runs, so differences have no intervals, and no claim is decided."
    if premises.hold:
        how = f"the variance pooled over this table's rows (standard deviation {premises.pooled_std:.2f}, df {premises.df})"
    else:
        how = "Welch's test, for the variance may not be pooled"
    return (
        f"± is the standard deviation over n seeds. Differences of means have intervals of {CONFIDENCE:.0%}, Student's t by "
        f"{how}: {premises}."
    )


def _needed_text(table: PaperTable) -> list[str]:
    curve = table.config.curve_of
    return [
        f"## What {curve} needs for the same accuracy",
        *(_needed_table(table, kind).markdown() for kind in table.needed),
        f"The costs are read off {curve}'s rows above, joined by straight lines over the logarithm of the cost. A row "
        "that is no more accurate than a cheaper row is left out. The brackets hold every cost at which the difference "
        f"from the lines is not significant (test inversion, {CONFIDENCE:.0%}): `less` is less than the cheapest {curve} "
        "that was trained, `more` is more than the most expensive one. The last column is this cost over the row's own "
        f"cost: above 1, the row costs less than {curve}.",
    ]


def _needed_table(table: PaperTable, *kinds: CostKind) -> Table:
    compared = [row for row in table.rows if any(row.name in table.needed[kind] for kind in kinds)]
    needed = [needed_columns(kind, table.needed[kind], table.config.curve_of or "") for kind in kinds]
    return Table(compared, [Column("model", "name", name="row"), *itertools.chain(*needed)])


def _claims_text(table: PaperTable) -> list[str]:
    tested = [claim for claim in table.claims if claim.p is not None]
    shown = tested if tested and table.config.curve_of else table.claims
    left_out = len(table.claims) - len(shown)
    return [
        f"## What the paper claims, and what these runs say ({table.comparison.test}, Holm over {len(tested)} tested)",
        Table(shown, claims.COLUMNS).markdown(),
        *([f"Not tested, because a row of the claim was not run: {left_out} more."] if left_out else []),
        'The threshold is 0 points for "better" and "worse"; "no worse" and "not better" allow '
        f"{MARGIN_POINTS} points, this project's choice (D). The p of a claim is corrected by Holm over the tested "
        f"claims of this table. If it is below {1 - CONFIDENCE:.2g}, the claim is supported or contradicted, by the side "
        "of the threshold on which the difference lies. Otherwise the claim is undecided. An interval is that of its "
        "difference alone, without this correction. Verdicts are about seeds, on one set of test images."
        + (AT_EQUAL_TIME if any(claim.at_equal in ("inference", "training") for claim in table.claims) else ""),
    ]
