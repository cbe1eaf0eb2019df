"""Columns and tables: what a study is handed out as, in files and in frames.

text      never missing; empty where there is none
integer   missing where it is not known
number    float64; missing where it is not known, or was not finite
flag      true or false; missing where it is not known
json      an object or a list; what is not finite in it is the text "nan", "inf" or "-inf"
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from operator import attrgetter
from typing import Any, Literal, NamedTuple

Kind = Literal["text", "integer", "number", "flag", "json"]
Source = str | Callable[[Any], Any]  #: an attribute of the line, or a function of it


class Column(NamedTuple):
    """A column: what it holds, and how its value is found in a line of the table."""

    name: str
    kind: Kind
    unit: str
    meaning: str
    of: Callable[[Any], Any]


class Table(NamedTuple):
    """A table: what a row of it is, and its columns."""

    name: str
    meaning: str
    columns: tuple[Column, ...]

    @property
    def names(self) -> list[str]:
        """The names of the columns."""
        return [column.name for column in self.columns]

    def rows(self, lines: Iterable[Any]) -> Iterator[list[Any]]:
        """Yield the row of each line; a value is None (missing) or what its kind says."""
        cells = [(column.of, CLEAN[column.kind]) for column in self.columns]
        for line in lines:
            yield [clean(of(line)) for of, clean in cells]


def text(name: str, source: Source, meaning: str, unit: str = "") -> Column:
    """Return a column of texts."""
    return Column(name, "text", unit, meaning, _of(source))


def integer(name: str, source: Source, meaning: str, unit: str = "") -> Column:
    """Return a column of whole numbers."""
    return Column(name, "integer", unit, meaning, _of(source))


def number(name: str, source: Source, meaning: str, unit: str) -> Column:
    """Return a column of numbers."""
    return Column(name, "number", unit, meaning, _of(source))


def flag(name: str, source: Source, meaning: str) -> Column:
    """Return a column of true and false."""
    return Column(name, "flag", "", meaning, _of(source))


def nested(name: str, source: Source, meaning: str, unit: str = "") -> Column:
    """Return a column of objects or lists."""
    return Column(name, "json", unit, meaning, _of(source))


def _of(source: Source) -> Callable[[Any], Any]:
    return attrgetter(source) if isinstance(source, str) else source


def _number(value: Any) -> float | None:
    return float(value) if value is not None and math.isfinite(value) else None


def plain(value: Any) -> Any:
    """Return a value of dicts, lists, texts and finite numbers only, as every reader knows them.

    >>> plain({"lr": (0.1, float("inf"))})
    {'lr': [0.1, 'inf']}
    """
    if isinstance(value, Mapping):
        return {str(name): plain(inner) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(inner) for inner in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


CLEAN: Mapping[Kind, Callable[[Any], Any]] = {
    "text": lambda value: "" if value is None else str(value),
    "integer": lambda value: None if value is None else int(value),
    "number": _number,
    "flag": lambda value: None if value is None else bool(value),
    "json": plain,
}
