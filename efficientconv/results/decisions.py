"""The page of decisions: the effect of each setting that the paper leaves open, on held-out training images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import yaml

from efficientconv.files import CONFIG_DIR
from efficientconv.results.record import RunRecord
from efficientconv.results.statistics import CONFIDENCE, Comparison, Difference, holm, spread
from efficientconv.results.table import Table
from efficientconv.validation import Section, validate

HELD_OUT = 0.1  # the share of the training images that these runs hold out


class Decision(Section):
    decision: str
    kept: str
    otherwise: str
    model: str
    setting: str  # the setting of train.py that chooses `otherwise`

    @property
    def variants(self) -> dict[str, list[str]]:
        """The arguments of train.py for both variants, by the variant's name."""
        model = f"model={self.model}"
        return {model: [model], f"{model} {self.setting}": [model, self.setting]}


def decisions() -> list[Decision]:
    entries = yaml.safe_load((CONFIG_DIR / "decisions.yaml").read_text())
    return [validate(Decision, entry, where="decisions") for entry in entries]


def ledger(runs: Mapping[str, Sequence[RunRecord]], tier: str, seeds: str) -> str:
    """The table as markdown, with a row for each decision.

    Args:
        runs: the finished runs by variant.
        seeds: of the command that makes the runs.
    """
    accuracies = {
        name: {record.seed: record.metrics[-1]["val_top1_percent"] for record in records} for name, records in runs.items()
    }
    comparison = Comparison(accuracies)
    found = [comparison.difference(*reversed(decision.variants)) for decision in decisions()]
    corrected = holm([None if difference is None else difference.p_against(0) for difference in found])
    rows = []
    for decision, difference, p in zip(decisions(), found, corrected):
        kept, other = (_mean(accuracies.get(variant)) for variant in decision.variants)
        rows.append({
            "decision (D)": decision.decision, "kept": decision.kept,
            "otherwise": f"{decision.otherwise}: `{decision.setting}`", "model": decision.model,
            "kept, %": kept, "otherwise, %": other, "difference, points": difference, "moves": _moves(difference, p),
        })  # fmt: skip
    test = f"; {comparison.test}: {comparison.premises}" if any(p is not None for p in corrected) else ""
    settings = [f"model={decision.model} {decision.setting}" for decision in decisions()]
    common = f"python train.py -m tier={tier} seed={seeds} data.val_fraction={HELD_OUT}"
    commands = "\n".join(f"{common} {one}" for one in settings)
    return (
        f"{Table.of(rows).markdown()}\n\n"
        f"Top-1 % on the {HELD_OUT:.0%} of the training images that these runs hold out, after the last epoch. The test "
        f"images are not used. Differences: otherwise minus kept, {CONFIDENCE:.0%}{test}. Moves: by Holm over the rows that "
        f"are run. A command for each row's other variant:\n\n```bash\n{commands}\n```"
    )


def _mean(accuracies: Mapping[int, float] | None) -> str:
    return f"{spread(list(accuracies.values())):.2f}" if accuracies else "not run yet"


def _moves(difference: Difference | None, p: float | None) -> str:
    if p is None:
        return "not run yet" if difference is None else "one seed shows no spread"
    if p >= 1 - CONFIDENCE:
        return f"not told apart (p = {p:.2f})"
    return f"**{'better' if difference.mean > 0 else 'worse'}** (p = {p:.2g})"
