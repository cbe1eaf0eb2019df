"""How long somebody is waited for, as a variable of the environment says."""

from __future__ import annotations

import math
import os

from bnnbench.errors import UsageError


def seconds(name: str, default: float) -> float:
    """Return the seconds that a variable of the environment sets, else the default.

    Raises:
        UsageError: it is set to something else than seconds.
    """
    given = os.environ.get(name, "")
    if not given:
        return default
    try:
        found = float(given)
    except ValueError:
        found = math.nan
    if not found > 0:
        raise UsageError(f"{name} must be seconds, a number above 0, got {given!r}; unset it")
    return found
