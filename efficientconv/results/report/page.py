"""The page as one text: its own files in page/, plotly.js and the data, all inside."""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Iterable
from pathlib import Path

from plotly.offline import get_plotlyjs

from efficientconv.engine.environment import git_state
from efficientconv.results.report.images import kernel_images
from efficientconv.results.report.payload import pack
from efficientconv.results.report.sources import Sources
from efficientconv.results.report.tables import paper_points, tier_tables
from efficientconv.results.report.times import Times

PAGE = Path(__file__).with_name("page")
# in the order that they run in
SCRIPTS = (
    "data", "elements", "theme", "filters", "sections", "tables", "groups", "marks", "paper", "scatter", "metrics",
    "curves", "runs", "compare", "main",
)  # fmt: skip


def report_data(sources: Sources, origins: Iterable[object]) -> dict:
    """All that the page shows. `origins`: where the runs were looked for."""
    tables = [sources.attempt(tier_tables, folder) or [] for folder in sources.tier_folders]
    runs = pack(sources.runs, Times(sources))
    images = kernel_images(sources)
    made = {"at": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="minutes"), **git_state()}
    return {
        "made": made | {"of": [str(origin) for origin in origins]}, "warnings": sources.warnings, **runs,
        "tables": [table for of_tier in tables for table in of_tier], "paper": paper_points(), "kernels": images,
    }  # fmt: skip


def page(data: dict) -> str:
    """The HTML file's text. Whatever the data hold, they stay data."""
    scripts = "\n".join(f"// {name}.js\n{(PAGE / f'{name}.js').read_text()}" for name in SCRIPTS)
    parts = {
        "css": (PAGE / "report.css").read_text(),
        "plotly": get_plotlyjs(),
        "data": json.dumps(data, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c"),
        "scripts": f'(() => {{\n"use strict";\n{scripts}\n}})();',
    }
    return re.sub(r"/\* here: (\w+) \*/", lambda place: parts[place[1]], (PAGE / "report.html").read_text())
