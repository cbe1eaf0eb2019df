"""Hyperparameters that change as training goes on, and things that are built from them.

A hyperparameter is a number, a function of :class:`Progress`, or either of these times a factor of
each layer's own (:class:`PerLayer`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

if TYPE_CHECKING:
    from torch import Tensor
    from torch.optim import Optimizer

T_co = TypeVar("T_co", covariant=True)


class Progress(NamedTuple):
    """How far a stage has come: 0-based ``step`` of ``total``, 0-based ``epoch`` of ``epochs``.

    A stage is a phase together with those that continue it.
    """

    step: int
    total: int
    epoch: int
    epochs: int


Schedule = Callable[[Progress], float]


@dataclass(frozen=True)
class PerLayer:
    """A hyperparameter times a factor of each layer's own, found from the layer's latent."""

    value: float | Schedule
    factor: Callable[[Tensor], float]


Hyper = float | Schedule | PerLayer


@dataclass(frozen=True)
class Geometric:
    """From ``start`` towards ``end`` by the same factor each epoch: start * (end/start)^(e/E).

    Constant inside an epoch; the last epoch stops one factor short of ``end``, as in the published
    code of BinaryConnect.

    >>> f"{Geometric(3e-3, 2e-6)(Progress(0, 500, 499, 500)):.4e}"
    '2.0295e-06'
    """

    start: float
    end: float

    def __call__(self, at: Progress) -> float:
        """Return the value in the epoch of ``at``."""
        return float(self.start * (self.end / self.start) ** (at.epoch / at.epochs))


@dataclass(frozen=True)
class Cosine:
    """From ``start`` towards 0 along half a cosine: start (1 + cos(pi e/E))/2 in epoch e of E.

    >>> [round(Cosine(1.0)(Progress(0, 4, e, 4)), 4) for e in range(4)]
    [1.0, 0.8536, 0.5, 0.1464]
    """

    start: float

    def __call__(self, at: Progress) -> float:
        """Return the value in the epoch of ``at``."""
        return self.start * (1 + math.cos(math.pi * at.epoch / at.epochs)) / 2


@dataclass(frozen=True)
class Linear:
    """From ``start`` at the first step to ``end`` at the last.

    >>> [Linear(1.0, 0.0)(Progress(t, 5, 0, 1)) for t in range(5)]
    [1.0, 0.75, 0.5, 0.25, 0.0]
    """

    start: float
    end: float

    def __call__(self, at: Progress) -> float:
        """Return the value at the step of ``at``."""
        share = at.step / max(at.total - 1, 1)
        return self.start + (self.end - self.start) * share


@dataclass(frozen=True)
class LinearEpochs:
    """From ``start`` to 0 in the last epoch: start * (1 - (e + 1)/E), constant inside an epoch.

    Bi-Real Net and ReActNet step their scheduler first thing in an epoch, so that the first has
    not ``start`` and in the last only the statistics of batch normalization move.

    >>> [round(LinearEpochs(1.0)(Progress(0, 5, e, 5)), 1) for e in range(5)]
    [0.8, 0.6, 0.4, 0.2, 0.0]
    """

    start: float

    def __call__(self, at: Progress) -> float:
        """Return the value in the epoch of ``at``."""
        return self.start * (1 - (at.epoch + 1) / at.epochs)


@dataclass(frozen=True)
class Stairs:
    """``start`` times ``factor`` after the first step and after each 1/``stairs`` of the steps.

    The schedulers of mirror descent's public code are stepped where k mod interval = 0, k = 0
    included: step 0 alone has ``start``, and ``stairs`` factors are reached at the end.

    >>> [round(Stairs(1e-3, 0.3, Fraction(10, 3))(Progress(k, 10, 0, 1)), 6) for k in (0, 1, 3, 4)]
    [0.001, 0.0003, 0.0003, 9e-05]
    """

    start: float
    factor: float
    stairs: Fraction | int

    def __call__(self, at: Progress) -> float:
        """Return the value at the step of ``at``."""
        exact = Fraction(self.stairs)
        climbed = -(-exact.numerator * at.step // (exact.denominator * at.total))
        return float(self.start * self.factor**climbed)


@dataclass(frozen=True)
class Pieces:
    """``start`` times the factor of the piece of training that the epoch lies in.

    ``pieces`` are (share of the epochs at which the piece begins, factor), the first at 0.

    >>> [Pieces(1.0, ((0, 1.0), (0.5, 0.1)))(Progress(0, 4, e, 4)) for e in range(4)]
    [1.0, 1.0, 0.1, 0.1]
    """

    start: float
    pieces: tuple[tuple[float, float], ...]

    def __call__(self, at: Progress) -> float:
        """Return the value in the epoch of ``at``."""
        begun = [factor for share, factor in self.pieces if share * at.epochs <= at.epoch + 1e-9]
        return self.start * begun[-1]


@dataclass(frozen=True)
class Rescaled:
    """A value that was published for ``steps`` steps, in a training of another length.

    value * (steps/total)^power, at most ``most``: with power 1 the sum over the training stays what
    it was, with 0.5 what grows with the root of such a value.

    >>> Rescaled(1e-4, steps=500_000)(Progress(0, 5_000, 0, 10))
    0.01
    """

    value: float | Schedule
    steps: int
    power: float = 1.0
    most: float = math.inf

    def __call__(self, at: Progress) -> float:
        """Return the value at ``at``."""
        scale = float((self.steps / at.total) ** self.power)
        return min(resolve(self.value, at) * scale, self.most)


@dataclass(frozen=True)
class Staircase:
    """``start`` times ``factor`` for each finished one of ``stages`` equal stages of the steps.

    >>> [f"{Staircase(1e-4, 0.1, 5)(Progress(t, 10, 0, 1)):.0e}" for t in (0, 1, 2, 9)]
    ['1e-04', '1e-04', '1e-05', '1e-08']
    """

    start: float
    factor: float
    stages: int

    def __call__(self, at: Progress) -> float:
        """Return the value at the step of ``at``."""
        return float(self.start * self.factor ** (self.stages * at.step // at.total))


def resolve(value: Hyper, at: Progress, layer: Tensor | None = None) -> float:
    """Return the number that a hyperparameter is at this progress, for this layer's latent."""
    if isinstance(value, PerLayer):
        if layer is None:
            raise TypeError("a PerLayer hyperparameter needs parameter groups of one layer each")
        return resolve(value.value, at) * value.factor(layer)
    return value(at) if callable(value) else value


@dataclass(frozen=True)
class Scheduled(Generic[T_co]):
    """Something to build, and its hyperparameters, each a number or a schedule.

    ``Scheduled(Adam, lr=Geometric(1e-3, 1e-6))`` is an optimizer; ``Scheduled(Tanh, beta=...)`` a
    binarizer. The same lines serve a learning rate, Bop's gamma, BMD's beta and BNEW's lambda.
    """

    kind: Callable[..., T_co]
    hyper: Mapping[str, Any] = field(default_factory=dict)

    def __init__(self, kind: Callable[..., T_co], **hyper: Any) -> None:
        object.__setattr__(self, "kind", kind)
        object.__setattr__(self, "hyper", hyper)

    def build(self, at: Progress) -> T_co:
        """Return the thing with the hyperparameters of this progress."""
        return self.kind(**{name: resolve(value, at) for name, value in self.hyper.items()})

    def optimizer(self, groups: list[dict[str, Any]], at: Progress) -> T_co:
        """Return the thing built over groups of parameters, each with its hyperparameters."""
        first = self._for(groups[0], at)
        return self.kind([group | self._for(group, at) for group in groups], **first)

    def update(self, optimizer: Optimizer, at: Progress) -> None:
        """Write the hyperparameters of this progress into every group of the optimizer."""
        for group in optimizer.param_groups:
            group.update(self._for(group, at))

    def _for(self, group: Mapping[str, Any], at: Progress) -> dict[str, Any]:
        layer = group["params"][0] if len(group["params"]) == 1 else None
        return {name: resolve(value, at, layer) for name, value in self.hyper.items()}
