"""The tables of README.md, docs/ and results/*/README.md, made from the files in results/: nobody types a figure."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable
from operator import itemgetter
from pathlib import Path

from efficientconv.layers import LAYERS
from efficientconv.models import list_models, model_config
from efficientconv.results import data_tables, gpu_page, paper, paper_pages, tier_pages
from efficientconv.results.csv_files import csv_rows, number
from efficientconv.results.figures import FIGURES
from efficientconv.results.findings import findings
from efficientconv.results.table import Column, Table
from efficientconv.results.training_cost import training_cost_table
from efficientconv.weights import PUBLISHED, list_weights

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "results"
BLOCK = re.compile(r"<!-- (\w+) ?(\w*) -->\n.*?<!-- end -->", flags=re.DOTALL)


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


def cost_table() -> str:
    """The counted costs beside the paper's figures, model by model."""
    costs = {row["model"]: row for row in _rows("complexity.csv") if row["layout"] == "imagenet"}
    return Table(list_models(), [
        Column("model", lambda name: name),
        Column("stages", lambda name: model_config(name).description),
        Column("M MACs, ours", lambda name: int(costs[name]["macs"]), FIGURES["macs"].show),
        Column("M parameters, ours", lambda name: int(costs[name]["params"]), FIGURES["params"].show),
        Column("stages' MACs over A's, ours", lambda name: number(costs[name]["stage_macs_vs_a"]), ".3f"),
        Column("paper: ideal (M)", lambda name: costs[name]["ideal_fraction"]),
        Column("paper: top-1 error % (M, unchecked)", lambda name: paper.value(name, "top1_error_percent")),
    ]).markdown()  # fmt: skip


def layer_table() -> str:
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
        Column("width", lambda card: card["width"], ".3f"),
        *(FIGURES[name].column(itemgetter(name)) for name in ("macs", "params", "top1_percent")),
        Column("runs", itemgetter("runs")),
    ]).markdown()  # fmt: skip


def _formula(layer: type) -> str:
    return re.search(r"MACs: (.+?h' w'(?: / \w+)?)", inspect.getdoc(layer))[1].replace("^2", "²")


def _rows(name: str) -> list[dict[str, str]]:
    return csv_rows(RESULTS / name)


TABLES: dict[str, Callable[..., str]] = {
    "costs": cost_table,
    "layers": layer_table,
    "weights": weights_table,
    "data_speed": lambda: data_tables.speed_table(_rows("data_throughput.csv")),
    "data_estimates": lambda: data_tables.estimate_table(_rows("data_throughput.csv")),
    "training_costs": lambda: training_cost_table(_rows("complexity.csv"), _rows("benchmark_models.csv")),
    "paper_ratios": lambda: paper_pages.ratio_table(_rows("claims.csv")),
    "paper_others": lambda tier: paper_pages.others_table(csv_rows(paper.PAPER_DIR / "others.csv"), tier),
    "gpu": lambda: gpu_page.summary(RESULTS / "gpu"),
    "gpu_front": lambda: gpu_page.front(RESULTS / "gpu"),
    "findings": findings,
    "tier_results": tier_pages.result_table,
    "tier_claims": tier_pages.claim_table,
    "tier_fit": tier_pages.fit_table,
    "tier_rates": tier_pages.rate_table,
}
