"""What the figures are drawn from, as values that JSON has.

Named tuples and dataclasses become objects with their fields, arrays lists. Numbers have five
digits; one that is not finite is null. Where a figure has too many numbers, every list of numbers
or of names is thinned to the same length, evenly and with its first and its last: lists that belong
together still do.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

NUMBERS = 20_000  #: numbers and names of a figure
DIGITS = 5
FEWEST = 2  #: what is left of a list at least


class Plain(NamedTuple):
    """Plain values, and to how many items lists were thinned, None where all are there."""

    value: Any
    longest: int | None


def plain(info: Any, most: int = NUMBERS) -> Plain:
    """Return what a figure is drawn from as plain values.

    >>> plain({"x": np.arange(6.0), "seeds": {1: 0.123456789}}, most=4)
    Plain(value={'x': [0, 2, 5], 'seeds': {'1': 0.12346}}, longest=3)
    """
    whole = unfolded(info)
    if _count(whole) <= most:
        return Plain(written(whole), None)
    longest = max(_lengths(whole), default=0)
    value = whole
    while longest > FEWEST and _count(value) > most:
        longest = max(FEWEST, longest // 2)
        value = thinned(whole, longest)
    return Plain(written(value), longest)


def unfolded(value: Any) -> Any:
    """Return a value as dicts, lists, arrays and scalars."""
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return {name: unfolded(each) for name, each in value._asdict().items()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        known = ((field.name, getattr(value, field.name)) for field in dataclasses.fields(value))
        return {name: unfolded(each) for name, each in known}
    if isinstance(value, Mapping):
        return {_key(key): unfolded(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [unfolded(each) for each in value]
    return value


def _key(key: Any) -> str:
    return ", ".join(map(str, key)) if isinstance(key, tuple) else str(key)


def _items(value: Any) -> Iterator[Any]:
    """Yield what an object or a list holds."""
    yield from value.values() if isinstance(value, dict) else value


def _count(value: Any) -> int:
    if isinstance(value, np.ndarray):
        return int(value.size)
    return sum(map(_count, _items(value))) if isinstance(value, dict | list) else 1


def _lengths(value: Any) -> Iterator[int]:
    """Yield how long each list is that may be thinned."""
    if isinstance(value, np.ndarray):
        yield from value.shape
    elif isinstance(value, dict | list):
        if _is_row(value):
            yield len(value)
        for each in _items(value):
            yield from _lengths(each)


def _is_row(value: Any) -> bool:
    """Whether a list, or an object by seed, has numbers or names in it and nothing else."""
    return not any(isinstance(each, dict | list | np.ndarray) for each in _items(value))


def thinned(value: Any, longest: int) -> Any:
    """Return a value whose lists of numbers or names have at most so many items."""
    if isinstance(value, np.ndarray):
        return value[np.ix_(*(_kept(length, longest) for length in value.shape))]
    if isinstance(value, list):
        kept = _kept(len(value), longest) if _is_row(value) else range(len(value))
        return [thinned(value[place], longest) for place in kept]
    if isinstance(value, dict):
        names = list(value)
        by_seed = _is_row(value) and len({type(each) for each in value.values()}) == 1
        kept = _kept(len(names), longest) if by_seed else range(len(names))
        return {names[place]: thinned(value[names[place]], longest) for place in kept}
    return value


def _kept(length: int, longest: int) -> Any:
    """The places that are left of a list: evenly spaced, the first and the last among them."""
    if length <= longest:
        return range(length)
    return np.linspace(0, length - 1, longest).round().astype(int).tolist()


def written(value: Any) -> Any:
    """Return a value as JSON has it."""
    if isinstance(value, dict):
        return {name: written(each) for name, each in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return written(value.tolist())
    if isinstance(value, list):
        return [written(each) for each in value]
    if isinstance(value, float):
        return _rounded(value)
    return value if value is None or isinstance(value, bool | int | str) else str(value)


def _rounded(value: float) -> float | None:
    if not math.isfinite(value):
        return None
    short = float(f"{value:.{DIGITS}g}")
    return int(short) if short.is_integer() and abs(short) < 10**DIGITS else short
