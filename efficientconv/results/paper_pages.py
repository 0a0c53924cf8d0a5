"""Tables for results/paper/README.md: the paper's claims of cost by arithmetic, and what others measured of its layers."""

from __future__ import annotations

from pathlib import Path

from efficientconv.results.markdown import Row, csv_rows, markdown_table


def ratio_table(claims: list[dict[str, str]]) -> str:
    """Of results/claims.csv: how many times fewer MACs than another network, as claimed and as counted."""
    return markdown_table(
        [
            {
                "model": row["model"],
                "against": row["against"],
                "claimed in (mark)": f"{row['claim_source'].partition(': ')[2]} ({row['claim_source'].partition(':')[0]})",
                "claimed": row["claimed_ratio"],
                "M MACs, ours": f"{int(row['macs']) / 1e6:.2f}",
                "by the MACs quoted (M)": row["ratio_quoted"],
                "by those counted in torchvision's": row["ratio_counted"],
                "as quoted": "confirmed" if row["confirmed"] == "True" else "**not confirmed**",
            }
            for row in claims
        ]
    )


def others_table(others: list[dict[str, str]], tier: Path) -> str:
    """Top-1 errors where SIC layers take the place of standard ones: of others, and of a tier's models A and C."""
    table = {row["row"]: row for row in csv_rows(tier / "table2.csv")}
    a, c = table["a"], table["c"]
    ours = {
        "whose": "ours",
        "network": "C for A",
        "data": f"tier {tier.name}",
        "standard, error %": f"{100 - float(a['top1_mean_percent']):.2f}",
        "SIC, error %": f"{100 - float(c['top1_mean_percent']):.2f}",
        "points lost": f"{-float(c['difference_points']):.2f}",
        "of the parameters, %": f"{100 * int(c['params']) / int(a['params']):.1f}",
        "source": f"table 2 of the tier, {a['n']} and {c['n']} seeds",
    }
    return markdown_table([*map(_other, others), ours])


def _other(row: dict[str, str]) -> Row:
    standard, sic = row["original_top1_error_percent"], row["sic_top1_error_percent"]
    return {
        "whose": "theirs",
        "network": row["network"],
        "data": f"{row['data']}, {row['epochs']} epochs",
        "standard, error %": standard,
        "SIC, error %": sic,
        "points lost": f"{float(sic) - float(standard):.2f}",
        "of the parameters, %": row["sic_params_percent_of_original"],
        "source": row["source"],
    }
