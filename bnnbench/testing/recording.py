"""A training of which all is written down, and plain floats to compare it with.

    recorded = Recorded(my_method(lr=0.05))
    expected = sgd(recorded.latents[0], gradient, rates, momentum=0.9)
    for found, w in zip(recorded.latents[1:], expected):
        assert found == pytest.approx(w)

The loop is the harness's own, in float64; what the loss sends back is random, so that an equation
that holds of it holds of any network.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from bnnbench.interfaces import Dataset, Split
from bnnbench.layers import BinaryLinear
from bnnbench.training import Settings, train

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from torch import Tensor

    from bnnbench.latents import Latents
    from bnnbench.methods import Method


class Recorded:
    """A training of one binary layer, whose gradients are N(0, ``scale``^2), step by step.

    Every list has flat lists of floats. ``weights`` (what the network computed with) and
    ``gradients`` (at these weights) have one for each forward pass, ``pulls`` the gradients at the
    biases, which are real. ``latents`` and ``biases`` have one before training, then one after
    every step. ``measurements`` are those of all epochs.

    Args:
        method: what is trained.
        scale: standard deviation of the gradients at the weights; those at biases have 1.
        epochs: of ``steps`` steps each.
        steps: of an epoch.
        inputs: weights of a filter.
        filters: rows of the layer's weights.
        seed: of the weights, the gradients and the method's own chances.
    """

    def __init__(
        self,
        method: Method,
        *,
        scale: float = 1.0,
        epochs: int = 4,
        steps: int = 3,
        inputs: int = 5,
        filters: int = 3,
        seed: int = 7,
    ) -> None:
        torch.manual_seed(seed)
        self.scale, self.inputs = scale, inputs
        self.layer = BinaryLinear(inputs, filters).double()
        self.weights: list[list[float]] = []
        self.gradients: list[list[float]] = []
        self.pulls: list[list[float]] = []
        self.latents: list[list[float]] = []
        self.biases: list[list[float]] = []
        examples = torch.zeros(2 * steps, inputs, dtype=torch.float64)
        split = Split(examples, torch.zeros(2 * steps).long())
        data = Dataset(split, split, split, classes=filters)
        settings = Settings(epochs, batch_size=2, seed=seed)
        training = train(nn.Sequential(self.layer), method, data, self._loss, settings, [self])
        self.measurements = [measured for epoch in training for measured in epoch]

    def rows(self, flat: Sequence[float]) -> list[Sequence[float]]:
        """Return the filters of flat weights or gradients, each by itself."""
        return [flat[n : n + self.inputs] for n in range(0, len(flat), self.inputs)]

    def measured(self, metric: str) -> dict[str, float]:
        """Return the last value of a metric, by inference mode."""
        return {m.mode: m.value for m in self.measurements if m.metric == metric}

    def _loss(self, outputs: Tensor, inputs: Tensor, targets: Tensor) -> Tensor:
        if not torch.is_grad_enabled():
            return outputs.sum() * 0
        weight, bias = self.layer.weight, self.layer.bias
        gradient = self.scale * torch.randn(weight.shape, dtype=torch.float64)
        pull = torch.randn(bias.shape, dtype=torch.float64)
        self.weights.append(weight.flatten().tolist())
        self.gradients.append(gradient.flatten().tolist())
        self.pulls.append(pull.tolist())
        return (weight * gradient).sum() + (bias * pull).sum()

    def step(self, latents: Latents) -> None:
        """Write down what a step has left."""
        self.latents.append(next(iter(latents.tensors.values())).flatten().tolist())
        self.biases.append(self.layer.bias.tolist())

    def epoch(self, latents: Latents) -> tuple[()]:
        """Write down what training begins with."""
        if not self.latents:
            self.step(latents)
        return ()

    def state(self) -> dict[str, Any]:
        """Return nothing: this training is not taken up again."""
        return {}

    def load(self, state: Any) -> None:
        """Take nothing."""


def sgd(
    w: Sequence[float],
    gradient: Callable[[int, Sequence[float]], Sequence[float]],
    rates: Sequence[float],
    *,
    momentum: float = 0.0,
    decay: float = 0.0,
) -> Iterator[Sequence[float]]:
    """Yield where SGD is after each of the steps, in plain floats.

    v <- momentum v + g + decay w, w <- w - rate v, with g = gradient(step, w).

    >>> [w for (w,) in sgd([1.0], lambda step, w: [2.0 * w[0]], [0.25, 0.25])]
    [0.5, 0.25]
    """
    velocity = [0.0] * len(w)
    for step, rate in enumerate(rates):
        pulled = zip(velocity, gradient(step, w), w, strict=True)
        velocity = [momentum * v + g + decay * x for v, g, x in pulled]
        w = [x - rate * v for x, v in zip(w, velocity, strict=True)]
        yield w


def slopes(f: Callable[[list[float]], float], w: Sequence[float]) -> list[float]:
    """Return the gradient of a function by central differences: no derivation to get wrong.

    >>> [round(slope, 6) for slope in slopes(lambda w: w[0] * w[1] ** 2, [3.0, 2.0])]
    [4.0, 12.0]
    """
    found = []
    for n, x in enumerate(w):
        h = 1e-6 * max(abs(x), 1e-2)
        above, below = ([*w[:n], x + d, *w[n + 1 :]] for d in (h, -h))
        found.append((f(above) - f(below)) / (2 * h))
    return found
