"""What probes measured of each layer at the epochs at which they looked; numpy, no plotly."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from bnnbench.results import Results
    from bnnbench.series import Series
    from bnnbench.store import Entry
    from bnnbench_reports.readings import Array, Cell

#: angles in degrees between weights of the theory and their binarization, in high dimension
GAUSSIAN = math.degrees(math.acos(math.sqrt(2 / math.pi)))
UNIFORM = 30.0
TERNARY = 34.15  #: Gaussian weights, 0 where they are below a tenth of their deviation
QUANTILES = (5, 25, 50, 75, 95)  #: of the filters' angles, in percent, as the probe has them


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
    found: dict[tuple[str, str, str], Look] = {}
    for look in every_look(results, metrics, **place):
        key = look.task, look.method, look.layer
        found[key] = found.get(key, look) if first else look
    return list(found.values())


def every_look(results: Results, metrics: Iterable[str], **place: str) -> list[Look]:
    """Return all looks at each layer, one after the other, in the order of :func:`looks`."""
    entries = {e.run_id: e for e in results.confirmed()}
    series = [s for s in results.series(metrics, **place) if s.run_id in entries]
    found: dict[Cell, dict[str, list[tuple[Entry, Series]]]] = {}
    for each in series:
        entry = entries[each.run_id]
        layers = found.setdefault((entry.task, entry.method), {})
        layers.setdefault(each.layer, []).append((entry, each))
    study = results.study
    cells = [(task.name, method.name) for task in study.tasks for method in study.methods]
    return [
        look
        for cell in cells
        if cell in found
        for layer in _in_order(found[cell])
        for look in _looks(cell, layer, [series for _, series in found[cell][layer]])
    ]


def _looks(cell: Cell, layer: str, series: Sequence[Series]) -> Iterator[Look]:
    """Yield the looks at a layer by epoch; there is one series of a metric for each seed."""
    points = [(each.metric, each.values()) for each in series]
    for epoch in sorted({epoch for _, values in points for epoch in values}):
        found: dict[str, list[float]] = {}
        for metric, values in points:
            if math.isfinite(values.get(epoch, math.nan)):
                found.setdefault(metric, []).append(values[epoch])
        means = {metric: float(np.mean(numbers)) for metric, numbers in found.items()}
        yield Look(*cell, layer, epoch, means, {m: len(numbers) for m, numbers in found.items()})


def left_out(results: Results, found: Iterable[str]) -> str:
    """Say which methods with finished runs are not among those found, and why, if it is known.

    A method whose networks have no weights but the binary ones has nothing to be compared.
    """
    has, modes = set(found), _modes(results)
    without = [m for m in modes if m not in has and modes[m] == {"binary"}]
    others = [m for m in modes if m not in has and modes[m] != {"binary"}]
    none = f"Not applicable, for there is no latent beside the weight: {', '.join(without)}."
    rest = f"Not measured: {', '.join(others)}."
    return " ".join([none] * bool(without) + [rest] * bool(others))


def _modes(results: Results) -> dict[str, set[str]]:
    """The inference modes in which a method's finished networks were judged, by method."""
    found: dict[str, set[str]] = {}
    for method in results.study.methods:
        for entry in results.confirmed(method=method.name):
            outcome = results.outcomes[entry.run_id]
            bits = outcome.bits.get("weight_bits", {})
            found.setdefault(method.name, set()).update(outcome.selected, bits)
    return found


def unrelated_angle(quantile: float, d: Array) -> Array:
    """Return a quantile of the angle in degrees of two random vectors of d > 1 numbers.

    Its density is proportional to sin(theta)^(d - 2): (1 + cos theta)/2 has the beta distribution
    with both parameters (d - 1)/2.
    """
    from scipy.special import betaincinv

    half = (d - 1) / 2
    angle: Array = np.degrees(np.arccos(2 * betaincinv(half, half, 1 - quantile) - 1))
    return angle


def gaussian_angle(quantile: float, d: Array) -> Array:
    """Return about a quantile of the angle in degrees of Gaussian vectors to their signs.

    The cosine is the sum of |u| over sqrt(d), u being random on the sphere. Its mean and variance
    are exact; its quantiles are those of a normal distribution, half a degree off at d = 27.
    """
    from scipy.special import gammaln, ndtri

    mean = np.exp(gammaln(d / 2) - gammaln((d + 1) / 2)) * np.sqrt(d / np.pi)
    variance = (1 + (d - 1) * 2 / np.pi) / d - mean**2
    cosine = mean + ndtri(1 - quantile) * np.sqrt(np.maximum(variance, 0))
    angle: Array = np.degrees(np.arccos(np.minimum(cosine, 1)))
    return angle


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
