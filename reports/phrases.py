"""Numbers and names as sentences have them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

NAMED = 3  #: things that a sentence names one by one


def span(values: Sequence[float], form: str = ".2f") -> str:
    """Return the least and the greatest value, once where they are written alike.

    >>> span([2.5, 1.0]), span([1.0]), span([5, 5], "d")
    ('1.00 to 2.50', '1.00', '5')
    """
    ends = (f"{min(values):{form}}", f"{max(values):{form}}")
    return " to ".join(dict.fromkeys(ends))


def listed(told: Sequence[str], most: int = NAMED) -> str:
    """Return things one after the other, of many the first, and how many more there are.

    >>> listed(["a", "b", "c"]), listed(["a", "b", "c", "d", "e"])
    ('a, b and c', 'a, b, c and 2 others')
    """
    left = len(told) - most
    items = [*told[:most], *([f"{left} other{'s' if left > 1 else ''}"] if left > 0 else [])]
    return " and ".join(filter(None, (", ".join(items[:-1]), items[-1])))


def joined(clauses: Sequence[str]) -> str:
    """Return clauses as one sentence, nothing where there is none.

    >>> joined(["the data are synthetic", "2 runs shared the machine"])
    'The data are synthetic; 2 runs shared the machine.'
    """
    text = "; ".join(clauses)
    return f"{text[0].upper()}{text[1:]}." if text else ""
