"""The points of a search that are known before it begins: defaults, a grid, a Sobol sequence."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from itertools import product
from typing import TYPE_CHECKING, Any

from bnnbench.spaces import Choice, Int, Space

if TYPE_CHECKING:
    from bnnbench.cells import Cell

Point = dict[str, Any]


def first_points(cell: Cell) -> list[Point]:
    """Return the hyperparameters of the first trials; the sampler finds those of the others.

    The defaults come first, where they lie in the search space. With ``grid`` every trial is a
    point of the grid, with ``qmc`` every other one a point of the sequence.
    """
    trials = cell.study.protocol.trials
    defaults = {name: cell.defaults[name] for name in cell.spaces}
    inside = all(cell.spaces[name].holds(value) for name, value in defaults.items())
    first = [defaults] if inside else []
    if cell.study.protocol.sampler == "grid":
        first = grid_points(cell.spaces, trials, cell.optuna_name)
    if cell.study.protocol.sampler == "qmc":
        first += sobol_points(cell.spaces, trials - len(first), cell.optuna_name)
    return first[:trials]


def sobol_points(spaces: Mapping[str, Space], count: int, name: str) -> list[Point]:
    """Return a scrambled Sobol sequence over the spaces; ``name`` seeds the scrambling."""
    from scipy.stats import qmc

    from bnnbench.seeds import derive

    if count <= 0:
        return []
    sequence = qmc.Sobol(len(spaces), rng=derive(0, name) % 2**32)
    shares = sequence.random_base2(math.ceil(math.log2(count)))[:count]
    return [
        {key: at(spaces[key], float(share)) for key, share in zip(spaces, row, strict=True)}
        for row in shares
    ]


def grid_points(spaces: Mapping[str, Space], trials: int, name: str) -> list[Point]:
    """Return the points of a grid in an order that ``name`` seeds."""
    levels = grid(spaces, trials)
    points = [dict(zip(levels, values, strict=True)) for values in product(*levels.values())]
    random.Random(name).shuffle(points)  # noqa: S311  # an order, not a secret
    return points


def grid(spaces: Mapping[str, Space], trials: int) -> dict[str, list[Any]]:
    """Return equal levels of every hyperparameter, as few as give at least ``trials`` points.

    >>> from bnnbench.spaces import Float
    >>> grid({"lr": Float(1e-4, 1e-2, log=True), "n": Int(1, 9)}, 9)
    {'lr': [0.0001, 0.001, 0.01], 'n': [1, 5, 9]}
    """

    def levels(count: int) -> dict[str, list[Any]]:
        return {name: _levels(space, count) for name, space in spaces.items()}

    def size(count: int) -> int:
        return math.prod(len(values) for values in levels(count).values())

    count = 1
    while trials > size(count) < size(count + 1):
        count += 1
    return levels(count)


def at(space: Space, share: float) -> Any:
    """Return the value that lies at a share, from 0 to 1, of the way through a space.

    >>> at(Choice("a", "b"), 0.7), at(Int(1, 3), 0.5)
    ('b', 2)
    """
    if isinstance(space, Choice):
        return space.options[min(int(share * len(space.options)), len(space.options) - 1)]
    low, high = space.low, space.high
    value = low * (high / low) ** share if space.log else low + (high - low) * share
    value = min(max(float(f"{value:.12g}"), low), high)
    return round(value) if isinstance(space, Int) else value


def _levels(space: Space, count: int) -> list[Any]:
    if isinstance(space, Choice):
        return list(space.options)
    shares = [i / (count - 1) for i in range(count)] if count > 1 else [0.5]
    return list(dict.fromkeys(at(space, share) for share in shares))
