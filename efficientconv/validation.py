"""Turns a dictionary of settings into typed, immutable values, or raises an error of one line."""

from __future__ import annotations

import re
from os.path import expanduser
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError

from efficientconv.errors import UserError, did_you_mean


class Section(BaseModel):
    """A group of settings. Unknown keys, wrong types, infinite numbers and values out of range are refused."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


def file_name(name: str) -> str:
    """`name`, if it can be the name of a file or folder. Raises ValueError otherwise, for example for a path."""
    if not re.fullmatch(r"\w[\w.+-]{0,99}", name):
        raise ValueError("names a folder: up to 100 letters, digits, . _ + and -, a letter or digit first")
    return name


UserPath = Annotated[str, AfterValidator(expanduser)]  # no shell replaces the ~ in a yaml file
S = TypeVar("S", bound=Section)


def validate(schema: type[S], values: dict, where: str = "") -> S:
    """`values` as a `schema`. The first fault becomes a UserError of one line. `where` is a prefix of the key in it."""
    try:
        return schema.model_validate(values)
    except ValidationError as error:
        # a misspelt key first: the one that it was meant to be is missing too
        fault = min(error.errors(), key=lambda fault: fault["type"] != "extra_forbidden")
        path = [where, *map(str, fault["loc"])] if where else list(map(str, fault["loc"]))
        key = ".".join(path)
        if fault["type"] == "extra_forbidden":
            hint = did_you_mean(path[-1], _fields_at(schema, fault["loc"][:-1]))
            raise UserError(f"unknown key '{key}': {hint}") from None
        message = fault["msg"].removeprefix("Value error, ")
        got = "" if isinstance(fault["input"], (dict, Section)) else f", got {fault['input']!r}"
        if fault["type"] == "string_type" and isinstance(fault["input"], (int, float)):  # a folder that is named 2017
            got += f"; a text is quoted twice, '\"{fault['input']}\"'"
        raise UserError(f"{key + ': ' if key else ''}{message[0].lower()}{message[1:]}{got}") from None


def _fields_at(schema: type[Section], path: tuple) -> list[str]:
    """The names of the settings at `path` of `schema`, through nested sections and lists and dictionaries of sections."""
    for part in path:
        if part not in schema.model_fields:
            continue  # a list index or a key of a dictionary: the section type was entered with the field
        nested = _sections_in(schema.model_fields[part].annotation)
        schema = nested[0] if nested else schema
    return list(schema.model_fields)


def known_keys(schema: type[Section], prefix: str = "") -> list[str]:
    """The dotted names of all settings of `schema`, including sections that may be missing."""
    keys = []
    for name, field in schema.model_fields.items():
        nested = _sections_in(field.annotation)
        is_section = nested and field.annotation in (nested[0], nested[0] | None)
        keys += known_keys(nested[0], f"{prefix}{name}.") if is_section else [f"{prefix}{name}"]
    return keys


def _sections_in(annotation: Any) -> list[type[Section]]:
    return [t for t in _types_in(annotation) if isinstance(t, type) and issubclass(t, Section)]


def _types_in(annotation: Any) -> list[Any]:
    inner = getattr(annotation, "__args__", ())
    return [annotation] + [t for a in inner for t in _types_in(a)]


def flat(values: dict, prefix: str = "") -> dict[str, object]:
    """Nested settings by their dotted names."""
    leaves: dict[str, object] = {}
    for key, value in values.items():
        leaves |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return leaves
