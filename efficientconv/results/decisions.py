"""The ledger of decisions: what each setting that the paper leaves open moves, on held-out training images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import yaml

from efficientconv.config import CONFIG_DIR
from efficientconv.results.markdown import Row, markdown_table
from efficientconv.results.record import RunRecord
from efficientconv.results.statistics import CONFIDENCE, Comparison, Difference, holm, spread
from efficientconv.results.table_columns import difference_text, plus_minus
from efficientconv.validation import Section, validate

HELD_OUT = 0.1  # of the training images, in these runs


class Decision(Section):
    decision: str
    kept: str
    otherwise: str
    model: str
    setting: str  # that does otherwise

    @property
    def variants(self) -> dict[str, list[str]]:
        """By name: what the runs of both have on the command line."""
        model = f"model={self.model}"
        return {model: [model], f"{model} {self.setting}": [model, self.setting]}


def decisions() -> list[Decision]:
    entries = yaml.safe_load((CONFIG_DIR / "decisions.yaml").read_text())
    return [validate(Decision, entry, where="decisions") for entry in entries]


def ledger(runs: Mapping[str, Sequence[RunRecord]], tier: str) -> str:
    """A row a decision, as markdown.

    Args:
        runs: finished ones by variant.
    """
    accuracies = {
        name: {record.seed: record.metrics[-1]["val_top1_percent"] for record in records} for name, records in runs.items()
    }
    comparison = Comparison(accuracies)
    found = [comparison.difference(*reversed(decision.variants)) for decision in decisions()]
    tested = [None if difference is None else difference.p_against(0) for difference in found]
    by_holm = iter(holm([p for p in tested if p is not None]))
    corrected = [None if p is None else next(by_holm) for p in tested]
    rows = [
        _row(decision, *map(accuracies.get, decision.variants), difference, p, tier)
        for decision, difference, p in zip(decisions(), found, corrected)
    ]
    test = f"; {comparison.test}: {comparison.premises}" if any(p is not None for p in tested) else ""
    return (
        f"{markdown_table(rows)}\n\nTop-1 % on the {HELD_OUT:.0%} of the training images that these runs hold out, after "
        f"the last epoch; the test images have no part in it. Differences: otherwise minus kept, {CONFIDENCE:.0%}{test}. "
        "Moves: by Holm over the rows that are run."
    )


def _row(
    decision: Decision, kept: Mapping[int, float] | None, other: Mapping[int, float] | None, difference: Difference | None,
    p: float | None, tier: str,
) -> Row:  # fmt: skip
    return {
        "decision (D)": decision.decision,
        "kept": decision.kept,
        "otherwise": f"{decision.otherwise}: `{decision.setting}`",
        "model": decision.model,
        "kept, %": plus_minus(spread(list(kept.values()))) if kept else "not run yet",
        "otherwise, %": plus_minus(spread(list(other.values()))) if other else "not run yet",
        "difference, points": difference_text(difference),
        "moves": _moves(difference, p),
        "command": f"`python train.py -m tier={tier} data.val_fraction={HELD_OUT} model={decision.model} {decision.setting} "
        "seed=0,1`",
    }


def _moves(difference: Difference | None, p: float | None) -> str:
    if p is None:
        return "not run yet" if difference is None else "one seed shows no spread"
    if p >= 1 - CONFIDENCE:
        return f"not told apart (p = {p:.2f})"
    return f"**{'better' if difference.mean > 0 else 'worse'}** (p = {p:.2g})"
