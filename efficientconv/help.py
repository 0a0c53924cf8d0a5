"""The pages that --help prints, 80 columns wide: for scripts with options, and for commands with settings in configs/.

This file imports only the standard library, so that --help answers before the slow imports of a command.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import textwrap
from itertools import groupby
from pathlib import Path
from typing import Any

from efficientconv.data_settings import data_settings
from efficientconv.files import CONFIG_DIR

WIDTH = 80  # columns
_WHOLE_WORDS: dict[str, Any] = {"break_long_words": False, "break_on_hyphens": False}
OPTIONS = {
    "-m": "trains every combination of values, such as seed=0,1,2",
    "--cfg job": "prints all settings with their values, and ends",
    "--hydra-help": "prints Hydra's own options",
    "-sc install=bash": "prints a script for completion with Tab: eval it",
}


class _Page(argparse.HelpFormatter):
    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return fitted(text)


class _Parser(argparse.ArgumentParser):
    """Takes ~ at the start of a path for the home folder: in --output=~/x and in quotes, no shell does."""

    def __init__(self, **options: Any):
        super().__init__(**options)
        self.register("type", Path, lambda text: Path(os.path.expanduser(text)))


def parser_for(about: str | None) -> argparse.ArgumentParser:
    """The parser of a script, whose docstring is `about`."""
    return _Parser(description=about, formatter_class=_Page)


def answer_help(config_name: str, sweeps: bool = False) -> None:
    """Prints the page of a command and ends it, where --help is among its arguments."""
    if {"--help", "-h"} & set(sys.argv[1:]):
        print(page(sys.modules["__main__"].__doc__ or "", config_name, sweeps))
        sys.exit()


def page(about: str, config_name: str, sweeps: bool) -> str:
    """The help page: what the command does, the choices of each group, the other settings with their comments, options."""
    defaults, settings, *_ = (CONFIG_DIR / f"{config_name}.yaml").read_text().split("\n\n")  # the rest is Hydra's
    groups = re.findall(r"^  - (\w+): ", defaults, re.MULTILINE)
    options = {option: text for option, text in OPTIONS.items() if sweeps or option != "-m"}
    parts = [
        fitted(about),
        *_section("Groups of settings, group=name:", {group: ", ".join(choices(group)) for group in groups}),
        f"Settings, key=value, as configs/{config_name}.yaml has them:",
        *(f"  {line}" for line in settings.splitlines()),
        "",
        *_section("Options:", options),
    ]
    return "\n".join(parts).rstrip()


def choices(group: str) -> list[str]:
    """The choices of a group of settings: its files in configs/, or for data the registered data sets."""
    return sorted(data_settings() if group == "data" else (file.stem for file in (CONFIG_DIR / group).glob("*.yaml")))


def fitted(text: str) -> str:
    """`text` in WIDTH columns. Prose is filled. An indented line is an example of a command."""
    parts: list[str] = []
    for prose, group in groupby(text.strip("\n").splitlines(), key=lambda line: bool(line) and not line[0].isspace()):
        lines = list(group)
        parts += [_wrapped("\n".join(lines))] if prose else map(_example, lines)
    return "\n".join(parts) + "\n"


def _example(line: str) -> str:
    """In WIDTH columns: what follows the command goes below it, and a shell takes the command's lines as they stand."""
    if len(line) <= WIDTH:
        return line
    command, _, about = line.strip().partition("  ")
    below = " " * 12
    lines = textwrap.wrap(command, WIDTH - 2, initial_indent=" " * 4, subsequent_indent=below, **_WHOLE_WORDS)
    return " \\\n".join(lines) + (f"\n{_wrapped(below + about.strip(), below)}" if about else "")


def _section(title: str, texts: dict[str, str]) -> list[str]:
    """A title and a line for each text; nothing if there are no texts."""
    width = max(map(len, texts), default=0) + 2
    lines = [_wrapped(f"  {name:{width}}{text}", " " * (2 + width)) for name, text in texts.items()]
    return [title, *lines, ""] if lines else []


def _wrapped(text: str, indent: str = "") -> str:
    return textwrap.fill(text, WIDTH, subsequent_indent=indent, **_WHOLE_WORDS)
