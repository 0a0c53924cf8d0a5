"""Writes the tables in README.md, docs/ and results/*/README.md, and the benchmark pages, from the data in results/.

    python scripts/readme.py

A test compares the pages with what this command would write.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from checkout import ROOT
from efficientconv.help import parser_for
from efficientconv.signals import guarded, leave_on_signals

if __name__ == "__main__":
    leave_on_signals()
    parser_for(__doc__).parse_args()  # a mistake and --help are answered now: the imports take seconds

from efficientconv.benchmark.report import written_again
from efficientconv.csv_files import csv_rows, read_rows
from efficientconv.errors import UserError
from efficientconv.gpu_day.report.page import front_line, summary
from efficientconv.layers import LAYERS
from efficientconv.models import model_config
from efficientconv.results import data_tables, paper, paper_pages, tier_pages
from efficientconv.results.figures import FIGURES
from efficientconv.results.findings import elsewhere, findings, headline
from efficientconv.results.table import Column, Row, Table
from efficientconv.results.training_cost import training_cost_table
from efficientconv.weights import PUBLISHED, list_weights

RESULTS = ROOT / "results"
BLOCK = re.compile(r"<!-- (\w+) ?(\w*) -->\n.*?<!-- end -->", flags=re.DOTALL)


def main() -> None:
    parser_for(__doc__).parse_args()
    for path in pages():
        path.write_text(updated(path.read_text()))
    written_again(RESULTS)


def pages() -> list[Path]:
    """The pages of a checkout whose tables are made here, and whose commands and links are tested."""
    patterns = ("README.md", "CONTRIBUTING.md", "docs/*.md", "results/*/README.md")
    return [path for pattern in patterns for path in sorted(ROOT.glob(pattern))]


def updated(text: str) -> str:
    """The page with new text between each `<!-- name -->`, or `<!-- name tier -->`, and `<!-- end -->`."""
    return BLOCK.sub(lambda found: f"{found[0].splitlines()[0]}\n{_table(found[1], found[2])}\n<!-- end -->", text)


def _table(name: str, tier: str) -> str:
    if name not in TABLES:
        raise ValueError(f"no table is called '{name}'; there are {', '.join(TABLES)}")
    return TABLES[name](*([RESULTS / tier] if tier else []))


def counted_costs() -> str:
    """The counted costs beside the paper's figures, model by model."""
    return Table([row for row in _rows("complexity.csv") if row["layout"] == "imagenet"], [
        Column("model"),
        Column("stages", lambda row: model_config(row["model"]).description),
        FIGURES["macs"].column(title="M MACs, ours"),
        FIGURES["params"].column(title="M parameters, ours"),
        Column("stages' MACs over A's, ours", "stage_macs_vs_a", ".3f"),
        Column("paper: ideal (M)", "ideal_fraction"),
        Column("paper: top-1 error % (M, unchecked)", lambda row: paper.value(row["model"], "top1_error_percent")),
    ]).markdown()  # fmt: skip


def layers() -> str:
    """Every registered layer, with the formula in its docstring."""
    return Table([(name, LAYERS.get(name)) for name in LAYERS.names()], [
        Column("layer (registered name)", lambda row: f"`{row[0]}`"),
        Column("MACs, n -> m channels, maps of h' x w' afterwards", lambda row: _formula(row[1])),
        Column("file", lambda row: f"`layers/{row[1].__module__.rpartition('.')[2]}.py`"),
    ]).markdown()  # fmt: skip


def weights_table() -> str:
    """The published weights, from their cards."""
    cards = [json.loads((PUBLISHED / name / "card.json").read_text()) for name in list_weights()]
    return Table(cards, [
        Column("name", lambda card: f"`{card['name']}`"),
        Column("model", lambda card: card["model"].upper()),
        Column("width", show=".3f"),
        *(FIGURES[name].column() for name in ("macs", "params", "top1_percent")),
        Column("runs"),
    ]).markdown()  # fmt: skip


def _formula(layer: type) -> str:
    found = re.search(r"MACs: (.+?h' w'(?: / \w+)?)", inspect.getdoc(layer) or "")
    if found is None:
        raise UserError(f"{layer.__name__}: its docstring says no cost; add it, as in: MACs: n m k^2 h' w'")
    return found[1].replace("^2", "²")


def _rows(name: str) -> Sequence[Row]:
    return read_rows(RESULTS / name)


TABLES: dict[str, Callable[..., str]] = {
    "costs": counted_costs,
    "layers": layers,
    "weights": weights_table,
    "data_speed": lambda: data_tables.speed_table(_rows("data_throughput.csv")),
    "data_estimates": lambda: data_tables.estimate_table(_rows("data_throughput.csv")),
    "training_costs": lambda: training_cost_table(_rows("complexity.csv"), _rows("benchmark_models.csv")),
    "paper_ratios": lambda: paper_pages.ratios(_rows("claims.csv")),
    "paper_others": lambda tier: paper_pages.others_table(csv_rows(paper.PAPER_DIR / "others.csv"), tier),
    "gpu": lambda: summary(RESULTS / "gpu"),
    "gpu_front": lambda: front_line(RESULTS / "gpu"),
    "headline": headline,
    "elsewhere": lambda: elsewhere(RESULTS),
    "findings": findings,
    "tier_results": tier_pages.result_table,
    "tier_claims": tier_pages.claim_table,
    "tier_fit": tier_pages.fit_table,
    "tier_rates": tier_pages.rate_table,
}


if __name__ == "__main__":
    guarded(main)
