"""The comparisons of a study, found once for all the figures that draw them."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from bnnbench.comparisons import Comparisons

if TYPE_CHECKING:
    from bnnbench.results import Results


@lru_cache(maxsize=1)
def compared(results: Results) -> Comparisons:
    """Return the comparisons of results, the same ones for the same results."""
    return Comparisons(results)
