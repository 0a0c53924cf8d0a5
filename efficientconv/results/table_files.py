"""results/<tier>/table<name>.md and .csv, and claims<name>.csv: the paper beside ours, the verdicts, how it was made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from efficientconv.files import write_atomically
from efficientconv.results.markdown import csv_text, markdown_table
from efficientconv.results.statistics import CONFIDENCE, MARGIN_POINTS
from efficientconv.results.table_columns import claim_cells, claim_figures, row_cells, row_figures
from efficientconv.results.table_rows import JudgedClaim, TableRow
from efficientconv.results.tables import TableConfig


@dataclass(frozen=True)
class Context:
    """What stands around a table: where its numbers come from, and how to make them again."""

    table: str
    tier: str
    about_tier: str  # what it costs and what it can prove
    conditions: str  # data, width, epochs
    command: str
    measured_on: str


def write_tier_table(
    folder: Path, config: TableConfig, rows: Sequence[TableRow], claims: Sequence[JudgedClaim], context: Context
) -> list[Path]:
    """The files, each whole or not at all."""
    stem = table_stem(context.table)
    texts = {
        f"{stem}.md": _text(config, rows, claims, context),
        f"{stem}.csv": csv_text([row_figures(row, context.tier) for row in rows]),
    }
    if claims:
        texts[stem.replace("table", "claims") + ".csv"] = csv_text([claim_figures(judged) for judged in claims])
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


def _text(config: TableConfig, rows: Sequence[TableRow], claims: Sequence[JudgedClaim], context: Context) -> str:
    parts = [
        f"# {table_title(context.table)}, tier {context.tier}: {config.title}",
        f"The tier. {context.about_tier}",
        f"Ours: {context.conditions}. The paper's: ImageNet, validation images, centre crop, 100 minus the error that it "
        "reports, from memory, unchecked (M). Which layer keeps accuracy at which cost can be compared between the two; "
        "accuracies can't.",
        markdown_table([row_cells(row, config.baseline, context.tier) for row in rows]),
        f"± is the standard deviation over n seeds; the interval is a bootstrap's, {CONFIDENCE:.0%}, of the mean. A "
        "difference is paired over seeds, its interval Student's t. MACs, parameters and times are those of this tier's "
        f"networks. ms per image: median of interleaved forward passes on {context.measured_on}.",
        *(_claims_text(claims) if claims else ()),
        f"Made by `{context.command}` from the records in runs/.",
    ]
    return "\n\n".join(parts) + "\n"


def _claims_text(claims: Sequence[JudgedClaim]) -> list[str]:
    return [
        "## What the paper claims, and what these runs say",
        markdown_table([claim_cells(judged) for judged in claims]),
        "A claim is supported where the whole interval lies on its side of the bound, contradicted where it lies on the "
        'other, else undecided. The bound of "better" and "worse" is 0; "no worse" and "not better" allow '
        f"{MARGIN_POINTS} points, this project's choice (D). Verdicts are about seeds, on one set of test images.",
    ]
