"""The settings of `data=<name>`, which the files of data/sets/ state beside each data set.

The settings are literals. They are read without importing the files, which import torch: so a mistake is reported at once.
"""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

SETS = Path(__file__).resolve().parent / "data" / "sets"


@cache
def data_settings() -> dict[str, dict[str, object]]:
    """The arguments of each `DATA_SETS.register(name, **settings)`, by name."""
    calls = (node for file in sorted(SETS.glob("*.py")) for node in ast.walk(ast.parse(file.read_text())))
    registered = [node for node in calls if isinstance(node, ast.Call) and ast.unparse(node.func) == "DATA_SETS.register"]
    stated = [(ast.literal_eval(node.args[0]), node.keywords) for node in registered]
    return {
        name: {"name": name} | {word.arg: ast.literal_eval(word.value) for word in words if word.arg}
        for name, words in stated
    }
