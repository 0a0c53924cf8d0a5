"""Tables for results/paper/README.md: the paper's claims about cost, checked by counting, and measurements by others."""

from __future__ import annotations

from collections.abc import Sequence
from operator import itemgetter
from pathlib import Path

from efficientconv.csv_files import read_rows
from efficientconv.results.figures import FIGURES
from efficientconv.results.table import Column, Row, Table


def ratios(claims: Sequence[Row]) -> str:
    """The ratios in results/claims.csv: how many times fewer MACs than another network, as claimed and as counted."""
    return Table(claims, [
        Column("model"),
        Column("against"),
        Column("claimed in (mark)", lambda row: "{2} ({0})".format(*row["claim_source"].partition(": "))),
        Column("claimed", "claimed_ratio"),
        FIGURES["macs"].column(title="M MACs, ours"),
        Column("by the MACs quoted (M)", "ratio_quoted", ".2f"),
        Column("by those counted in torchvision's", "ratio_counted", ".2f"),
        Column("as quoted", lambda row: "confirmed" if row["confirmed"] == "True" else "**not confirmed**"),
    ]).markdown()  # fmt: skip


def others_table(others: list[dict[str, str]], tier: Path) -> str:
    """Top-1 errors with SIC layers in place of standard layers: by others, and of a tier's models A and C."""
    table = {row["row"]: row for row in read_rows(tier / "table2.csv")}
    a, c = table["a"], table["c"]
    rows = [
        ("theirs", row["network"], f"{row['data']}, {row['epochs']} epochs", row["original_top1_error_percent"],
         row["sic_top1_error_percent"],
         float(row["sic_top1_error_percent"]) - float(row["original_top1_error_percent"]),
         row["sic_params_percent_of_original"], row["source"])
        for row in others
    ] + [
        ("ours", "C for A", f"tier {tier.name}", f"{100 - a['top1_mean_percent']:.2f}",
         f"{100 - c['top1_mean_percent']:.2f}", -c["difference_points"],
         f"{100 * c['params'] / a['params']:.1f}", f"table 2 of the tier, {a['n']} and {c['n']} seeds"),
    ]  # fmt: skip
    titles = (
        "whose", "network", "data", "standard, error %", "SIC, error %", "points lost", "of the parameters, %", "source",
    )  # fmt: skip
    return Table(rows, [Column(title, itemgetter(n), ".2f") for n, title in enumerate(titles)]).markdown()
