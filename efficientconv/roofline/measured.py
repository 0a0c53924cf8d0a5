"""The shares of its peaks that a GPU was measured to reach, in the place of the guessed ones: from scripts/gpu_day.py."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from efficientconv.files import read_json
from efficientconv.roofline.limit import limit
from efficientconv.roofline.machine import GUESSED, Machine, Share
from efficientconv.roofline.work import Work

REMEDY = "delete it, and scripts/gpu_day.py measures it again"


def with_measured(device: str, machine: Machine, folder: Path) -> tuple[Machine, Mapping[str, Share], str]:
    """The machine and its shares as `folder` (results/gpu) has them, else as guessed; and which of the two, in words."""
    found = [path for path in folder.glob(f"*{device}*/operations.json") if not path.parent.name.endswith("-tiny")]
    if not found:
        return machine, GUESSED, "guessed"
    rows = read_json(found[0], dict, REMEDY)["rows"]
    launches = [row["ms"] / 1e3 for row in rows if row["kind"] == "launch"]
    machine = replace(machine, launch_s=launches[0]) if launches else machine
    return machine, _shares(rows, machine), f"measured, results/gpu/{found[0].parent.name}"


def _shares(rows: list[dict], machine: Machine) -> dict[str, Share]:
    """Of each kind the median of its operations; of a kind that was not measured by itself, that of element by element."""
    reached = defaultdict(list)
    for row in rows:
        if row["kind"] != "launch":
            least = limit([Work(row["kind"], row["flops"], row["bytes"])], machine, row["precision"]).seconds
            reached[row["kind"]].append(1e3 * least / row["ms"])
    shares = {kind: Share(value, value) for kind, values in reached.items() if (value := statistics.median(values))}
    return {kind: shares.get(kind, shares.get("elementwise", guess)) for kind, guess in GUESSED.items()}
