"""A measurement: one number, and all that says which number it is."""

from __future__ import annotations

from typing import NamedTuple


class Measurement(NamedTuple):
    """One number of a run.

    ``accuracy`` is in percent, ``seconds.*`` in seconds, flips are shares in [0, 1].
    ``epoch`` counts from 1, 0 is before training. ``phase`` counts from 0. An empty ``split``,
    ``mode`` or ``layer`` says that the number does not depend on it; an empty ``layer`` is the
    total over all binary weights.
    """

    metric: str
    value: float
    epoch: int = 0
    split: str = ""
    mode: str = ""
    layer: str = ""
    phase: int = 0
