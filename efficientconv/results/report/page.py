"""The page as one text with everything inside: the template, style and scripts in page/, plotly.js and the data."""

from __future__ import annotations

import base64
import datetime
import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import jinja2
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from efficientconv.files import read_bytes
from efficientconv.info import git_state
from efficientconv.results.report.claims import claim_kinds
from efficientconv.results.report.payload import pack
from efficientconv.results.report.sources import Sources
from efficientconv.results.report.tables import paper_points, tier_tables
from efficientconv.results.report.times import RunTimes

PAGE = Path(__file__).with_name("page")
LIMIT_BYTES = 6_000_000  # of the pictures of kernels in the page, so that the page stays small enough to send
# in the order in which they run
SCRIPTS = (
    "data", "elements", "groups", "address", "theme", "sections", "filters", "tables", "axes", "marks", "paper", "scatter",
    "configurations", "metrics", "search", "curves", "compare", "details", "main",
)  # fmt: skip


def page(sources: Sources, origins: Iterable[object]) -> str:
    """The text of the HTML file. The content of runs stays data. `origins`: the places that were searched for runs."""
    templates = jinja2.Environment(
        loader=jinja2.FileSystemLoader(PAGE), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    claims, untested = claim_kinds(sources)
    tables = [table for folder in sources.tier_folders for table in sources.attempt(tier_tables, folder) or []]
    data = pack(sources.runs, RunTimes(sources)) | {"paper": paper_points()}  # the scripts read it as DATA
    images = _kernel_images(sources)
    return templates.get_template("report.html").render(
        origins=list(map(str, origins)), made=f"{datetime.datetime.now(datetime.timezone.utc):%Y-%m-%d %H:%M UTC}",
        git=git_state(), warnings=sources.warnings, claims=claims, untested=untested, tables=tables, kernels=images,
        states=sorted(Counter(run.record.state for run in sources.runs).items()),
        style=Markup((PAGE / "report.css").read_text()), plotly=Markup(get_plotlyjs()), scripts=Markup(_scripts()),
        data=Markup(json.dumps(data, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")),
    )  # fmt: skip


def _kernel_images(sources: Sources) -> list[dict[str, str]]:
    """The pictures of scripts/visualize_kernels.py, the tiers' first. A warning names the pictures that are left out."""
    of_tiers = {path: tier.name for tier in sources.tier_folders for path in tier.glob("kernels*.png")}
    titles = {path: f"{of_tiers[path]}/{path.name}" for path in sorted(of_tiers)}
    titles |= {run.path / "kernels.png": run.record.run for run in sources.runs if (run.path / "kernels.png").is_file()}
    images, room = [], LIMIT_BYTES
    for path, title in titles.items():
        content = sources.attempt(read_bytes, path)
        if content is None:
            continue
        url = f"data:image/png;base64,{base64.b64encode(content).decode()}"
        if len(url) <= room:
            images.append({"title": title, "url": url})
            room -= len(url)
        else:
            sources.warnings.append(f"{path} is left out: the page has no room for so many pictures of kernels")
    return images


def _scripts() -> str:
    texts = (f"// {name}.js\n{(PAGE / f'{name}.js').read_text()}" for name in SCRIPTS)
    return '(() => {{\n"use strict";\n{}\n}})();'.format("\n".join(texts))
