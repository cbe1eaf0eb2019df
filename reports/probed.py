"""What probes measured of each layer at the last epoch at which they looked; numpy, no plotly."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from bnnbench.results import Results
    from bnnbench.series import Series
    from bnnbench.store import Entry

#: angles in degrees between weights of the theory and their binarization, in high dimension
GAUSSIAN = math.degrees(math.acos(math.sqrt(2 / math.pi)))
UNIFORM = 30.0
TERNARY = 34.15  #: Gaussian weights, 0 where they are below a tenth of their deviation
#: times 1/sqrt(dimension): the deviation of the angle of Gaussian weights and of unrelated vectors
GAUSSIAN_SD = math.degrees(math.sqrt((1 - 3 / math.pi) / (1 - 2 / math.pi)))
APART_SD = math.degrees(1.0)


class Look(NamedTuple):
    """The figures of a layer of a (task, method) at an epoch, by metric: means over n seeds.

    ``seen`` says of how many seeds a figure is the mean, where some lack it.
    """

    task: str
    method: str
    layer: str
    epoch: int
    values: Mapping[str, float]
    seen: Mapping[str, int]

    @property
    def n(self) -> int:
        """The number of seeds."""
        return max(self.seen.values(), default=0)


def looks(
    results: Results, metrics: Iterable[str], *, first: bool = False, **place: str
) -> list[Look]:
    """Return the last look at each layer (or the first) in the order of the study.

    ``place``: split and mode. Layers are in the order of the network, from its input on. A metric
    that only some seeds have is a mean over those.
    """
    chosen: Callable[[Iterable[int]], int] = min if first else max
    entries = {e.run_id: e for e in results.confirmed()}
    series = [s for s in results.series(metrics, **place) if s.run_id in entries]
    found: dict[tuple[str, str], dict[str, list[tuple[Entry, Series]]]] = {}
    for each in series:
        entry = entries[each.run_id]
        layers = found.setdefault((entry.task, entry.method), {})
        layers.setdefault(each.layer, []).append((entry, each))
    study = results.study
    cells = [(task.name, method.name) for task in study.tasks for method in study.methods]
    return [
        _look(cell, layer, found[cell][layer], chosen)
        for cell in cells
        if cell in found
        for layer in _in_order(found[cell])
    ]


def not_applicable(results: Results, found: Sequence[Look]) -> str:
    """Return who of the methods that have finished has no latent of its own, as a sentence."""
    has = {look.method for look in found}
    done = [m.name for m in results.study.methods if results.confirmed(method=m.name)]
    none = ", ".join(name for name in done if name not in has)
    return f"Not applicable, for there is no latent beside the weight: {none}." if none else ""


def _look(
    cell: tuple[str, str],
    layer: str,
    pairs: Sequence[tuple[Entry, Series]],
    chosen: Callable[[Iterable[int]], int],
) -> Look:
    points = [(series.metric, series.values()) for _, series in pairs]  # one series for each seed
    epoch = chosen({epoch for _, values in points for epoch in values})
    found: dict[str, list[float]] = {}
    for metric, values in points:
        if math.isfinite(values.get(epoch, math.nan)):
            found.setdefault(metric, []).append(values[epoch])
    means = {metric: float(np.mean(numbers)) for metric, numbers in found.items()}
    return Look(*cell, layer, epoch, means, {m: len(numbers) for m, numbers in found.items()})


def _in_order(layers: Mapping[str, Sequence[tuple[Entry, Series]]]) -> list[str]:
    """Layers from the network's input to its output, as far as that is known."""
    entry = next(iter(layers.values()))[0][0]
    roles = [short(str(role["parameter"])) for role in entry.facts.get("roles", [])]
    places = {name: number for number, name in enumerate(roles)}
    return sorted(layers, key=lambda name: (places.get(short(name), len(roles)), name))


def short(layer: str) -> str:
    """Return a layer's name without that of its weight.

    >>> short("conv1.weight")
    'conv1'
    """
    return layer.removesuffix(".weight")
