"""Classes or functions by name. A name cannot be registered twice, and an unknown name lists the known ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from efficientconv.errors import UserError, did_you_mean

T = TypeVar("T", bound=Callable)


class Registry(Generic[T]):
    """`kind` names what is registered ("layer", "data set") in messages."""

    def __init__(self, kind: str):
        self.kind = kind
        self._entries: dict[str, T] = {}

    def register(self, name: str) -> Callable[[T], T]:
        """Decorator. Raises ValueError when the name is taken."""

        def add(entry: T) -> T:
            if name in self._entries:
                raise ValueError(f"{self.kind} '{name}' is registered twice: {self._entries[name]} and {entry}")
            self._entries[name] = entry
            return entry

        return add

    def get(self, name: str) -> T:
        """Raises UserError with the nearest name and the list of names."""
        if name not in self._entries:
            raise UserError(f"unknown {self.kind} '{name}': {did_you_mean(name, self._entries)}")
        return self._entries[name]

    def names(self) -> list[str]:
        return sorted(self._entries)
