"""What --help prints, 80 columns wide: of a script with options, and of a command whose settings are files in configs/.

Nothing here imports more than the standard library: a command answers at once, before its own imports.
"""

from __future__ import annotations

import argparse
import re
import sys
import textwrap
from itertools import groupby

from efficientconv.data_settings import data_settings
from efficientconv.files import CONFIG_DIR

WIDTH = 80  # columns
OPTIONS = {
    "-m": "every combination of the values that are given with commas",
    "--cfg job": "prints all settings with their values; nothing is begun",
    "--hydra-help": "Hydra's own options",
    "-sc install=bash": "for completion with Tab: eval what this prints",
}


class _Page(argparse.HelpFormatter):
    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return fitted(text)


def parser_for(about: str | None) -> argparse.ArgumentParser:
    """Of a script; `about` is its docstring."""
    return argparse.ArgumentParser(description=about, formatter_class=_Page)


def answer_help(config_name: str, sweeps: bool = False) -> None:
    """Prints the page of a command and ends it, where --help is among its arguments."""
    if {"--help", "-h"} & set(sys.argv[1:]):
        print(page(sys.modules["__main__"].__doc__ or "", config_name, sweeps))
        sys.exit()


def page(about: str, config_name: str, sweeps: bool) -> str:
    """What the command is for, what each group of settings can be, the other settings as their file has them, options."""
    lines = (CONFIG_DIR / f"{config_name}.yaml").read_text().splitlines()
    groups = re.findall(r"^  - (\w+): ", "\n".join(lines), re.MULTILINE)
    blanks = [number for number, line in enumerate(lines) if not line]  # after the defaults, and before what is Hydra's
    options = {option: text for option, text in OPTIONS.items() if sweeps or option != "-m"}
    parts = [
        fitted(about),
        *_section("Groups of settings, group=name:", {group: ", ".join(choices(group)) for group in groups}),
        f"Settings, key=value, as configs/{config_name}.yaml has them:",
        *(f"  {line}" for line in lines[blanks[0] + 1 : blanks[-1]]),
        "",
        *_section("Options:", options),
    ]
    return "\n".join(parts).rstrip()


def choices(group: str) -> list[str]:
    """The names of a group of settings: its files in configs/, and of data those that the data sets state."""
    return sorted(data_settings() if group == "data" else (file.stem for file in (CONFIG_DIR / group).glob("*.yaml")))


def fitted(text: str) -> str:
    """Prose filled; of an example, which is indented, only what is too wide goes on in the next line."""
    parts = []
    for prose, group in groupby(text.strip("\n").splitlines(), key=lambda line: bool(line) and not line[0].isspace()):
        lines = list(group)
        parts += [_wrapped("\n".join(lines))] if prose else [_wrapped(line, " " * 12) for line in lines]
    return "\n".join(parts) + "\n"


def _section(title: str, texts: dict[str, str]) -> list[str]:
    """None where there is nothing to list."""
    width = max(map(len, texts), default=0) + 2
    lines = [_wrapped(f"  {name:{width}}{text}", " " * (2 + width)) for name, text in texts.items()]
    return [title, *lines, ""] if lines else []


def _wrapped(text: str, indent: str = "") -> str:
    return textwrap.fill(text, WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
