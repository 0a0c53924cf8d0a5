"""Reports opened in a real browser, and runs enough to make a report large."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from efficientconv.results.record import RunRecord

CHROMIUMS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip


@contextmanager
def browser() -> Iterator[Browser]:
    """A headless Chromium. Where there is none the test is skipped, in CI it fails."""
    path = chromium_path()
    with sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=path, args=FLAGS)


def chromium_path() -> str:
    path = next(filter(None, map(shutil.which, CHROMIUMS)), None)
    if path is None:
        missing = f"no Chromium on the path ({', '.join(CHROMIUMS)}); on Debian: apt-get install chromium"
        pytest.fail(missing) if os.environ.get("CI") == "true" else pytest.skip(missing)
    return path


class Report:
    """A report in a window of its own. `problems`: whatever the page complained of; `requests`: the addresses it asked."""

    def __init__(self, browser: Browser, file: Path, scheme: str = "light", width: int = 1400, choices: str = ""):
        """`choices`: what the address says after #."""
        self.page: Page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
        self.problems: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda message: self.problems.append(message.text))
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(f"{file.as_uri()}{choices}")
        self.show("cost")

    def show(self, section: str) -> None:
        """Scrolls there: a section is drawn when it comes near."""
        self.page.locator(f"#{section} h2").scroll_into_view_if_needed()
        self.page.wait_for_selector(f"#{section}[aria-busy=false]")

    def traces(self, chart: str) -> list[dict]:
        """What plotly.js holds of a chart."""
        keys = ("name", "mode", "x", "y", "error_y", "text", "marker", "showlegend")
        return self.page.evaluate(
            "([id, keys]) => document.getElementById(id).data.map(t => Object.fromEntries(keys.map(k => [k, t[k]])))",
            [chart, keys],
        )

    def rows(self, table: str) -> list[list[str]]:
        """The texts of a table's cells."""
        return self.page.locator(f"{table} tbody tr").evaluate_all(
            "rows => rows.map(row => [...row.children].map(cell => cell.textContent))"
        )

    def saved(self, button: str) -> str:
        """The text of the file that a button gives."""
        with self.page.expect_download() as download:
            self.page.click(button)
        return Path(download.value.path()).read_text()

    def options(self, select: str) -> list[str]:
        return self.page.locator(f"{select} option").all_inner_texts()


def many_runs(record: RunRecord, number: int, epochs: int) -> list[RunRecord]:
    """Variations of a finished run: ten models, ten seeds, ever other rates, each with as many epochs."""
    chance, runs = random.Random(0), []
    for i in range(number):
        name, seed, lr = "abcdefghij"[i // 10 % 10], i % 10, 0.01 * (1 + i // 100)
        config = record.config | {"seed": seed, "model": record.config["model"] | {"name": name}}
        config["optim"] = record.config["optim"] | {"lr": lr}
        metrics = [_varied(record.metrics[-1], chance) for _ in range(epochs)]
        summary = _varied(record.summary, chance) | {"model_name": name}
        runs.append(replace(record, run=f"run{i:04}", config=config, summary=summary, metrics=metrics))
    return runs


def _varied(figures: dict, chance: random.Random) -> dict:
    """With digits of their own: equal ones would take less room than real ones do."""
    return {key: value * chance.uniform(0.5, 1.5) if isinstance(value, float) else value for key, value in figures.items()}
