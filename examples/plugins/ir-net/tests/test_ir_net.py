"""IR-Net: what every method must do, and its equations in plain Python floats."""

from __future__ import annotations

import math
import random
from typing import TYPE_CHECKING, Any

import pytest
import torch
from bnnbench.interfaces import Dataset, Split
from bnnbench.layers import BinaryLinear
from bnnbench.testing import BinarizerSuite, MethodSuite
from bnnbench.training import Settings, train
from torch import nn

from ir_net import Libra, heights, ir_net, standardized

if TYPE_CHECKING:
    from collections.abc import Callable

    from bnnbench.latents import Latents
    from bnnbench.methods import Method
    from torch import Tensor


class TestIRNet(MethodSuite):
    """What bnnbench asks of every method."""

    component = ir_net


class TestLibra(BinarizerSuite):
    """What bnnbench asks of every binarizer."""

    component = Libra


EPOCHS, STEPS, SEED = 4, 3, 7
INPUTS, FILTERS = 5, 3


class Loop:
    """A real training in float64 whose loss has random gradients; all that went by is kept."""

    def __init__(self, method: Method) -> None:
        torch.manual_seed(SEED)
        self.model = nn.Sequential(BinaryLinear(INPUTS, FILTERS)).double()
        self.gradients: list[list[float]] = []  # at the weights
        self.weights: list[list[float]] = []  # what the network computed with
        self.latents: list[list[float]] = []  # before training, then after every step
        n = 2 * STEPS
        split = Split(torch.zeros(n, INPUTS, dtype=torch.float64), torch.zeros(n).long())
        data = Dataset(split, split, split, classes=FILTERS)
        settings = Settings(EPOCHS, batch_size=2, seed=SEED)
        self.told = [
            m for e in train(self.model, method, data, self.loss, settings, [self]) for m in e
        ]

    def loss(self, outputs: Tensor, inputs: Tensor, targets: Tensor) -> Tensor:
        if not torch.is_grad_enabled():
            return outputs.sum() * 0
        weight = self.model[0].weight
        gradient = torch.randn(weight.shape, dtype=torch.float64)
        self.gradients.append(gradient.flatten().tolist())
        self.weights.append(weight.flatten().tolist())
        return (weight * gradient).sum()

    def step(self, latents: Latents) -> None:
        self.latents.append(latents.tensors["0"].flatten().tolist())

    def epoch(self, latents: Latents) -> tuple[()]:
        if not self.latents:
            self.step(latents)
        return ()

    def state(self) -> dict[str, Any]:
        return {}

    def load(self, state: Any) -> None:
        pass


def filters(flat: list[float]) -> list[list[float]]:
    return [flat[n : n + INPUTS] for n in range(0, len(flat), INPUTS)]


def slopes(f: Callable[[list[float]], float], w: list[float]) -> list[float]:
    """The gradient of a function by differences, of which no derivation can be wrong."""
    found = []
    for n, x in enumerate(w):
        h = 1e-6 * max(abs(x), 1e-2)
        above, below = ([*w[:n], x + d, *w[n + 1 :]] for d in (h, -h))
        found.append((f(above) - f(below)) / (2 * h))
    return found


def standard(w: list[float]) -> list[float]:
    n = len(w)
    mean = sum(w) / n
    std = math.sqrt(sum((x - mean) ** 2 for x in w) / (n - 1))
    return [(x - mean) / std for x in w]


def shift(w: list[float]) -> float:
    return 2.0 ** round(math.log2(sum(map(abs, standard(w))) / len(w)))


def binarized(w: list[float]) -> list[float]:
    return [shift(w) if x >= 0 else -shift(w) for x in standard(w)]


def gradient(w: list[float], g: list[float], t: float) -> list[float]:
    """Of sum g 2^s k tanh(t w^), s being a constant."""
    height, k = shift(w), max(1 / t, 1)

    def soft(v: list[float]) -> float:
        return sum(y * height * k * math.tanh(t * x) for y, x in zip(g, standard(v), strict=True))

    return slopes(soft, w)


def moved_by_sgd(rule: Any, t_first: float, loop: Loop, lr: float) -> None:
    """Compare with SGD in plain floats: momentum 0.9, weight decay 0.01, the rate by a cosine."""
    w, velocity = loop.latents[0], [0.0] * (INPUTS * FILTERS)
    for step, gradient in enumerate(loop.gradients):
        epoch = step // STEPS
        t = t_first * (10.0 / t_first) ** (epoch / EPOCHS)
        rate = lr * (1 + math.cos(math.pi * epoch / EPOCHS)) / 2
        pairs = zip(filters(w), filters(gradient), strict=True)
        grads = [x for row, g in pairs for x in rule(row, g, t)]
        velocity = [0.9 * v + g + 0.01 * x for v, g, x in zip(velocity, grads, w, strict=True)]
        w = [x - rate * v for x, v in zip(w, velocity, strict=True)]

        assert loop.latents[step + 1] == pytest.approx(w, rel=1e-6, abs=1e-7), step


@pytest.mark.parametrize("t", [0.1, 1.0, 3.0])
def test_weights_and_gradients_of_random_filters(t: float) -> None:
    """A shift and a sign for each filter; the gradient is that of the estimator, down to w."""
    chance = random.Random(3)
    for n in (2, 5, 40):
        rows = [[chance.gauss(0.3, 0.2) for _ in range(n)] for _ in range(4)]
        rows[0] = [0.0] * (n - 1) + [1.0]  # far from a Gaussian: another shift
        grads = [[chance.gauss(0, 1) for _ in row] for row in rows]
        w, g = (torch.tensor(x, dtype=torch.float64) for x in (rows, grads))

        forward, backward = Libra(t).forward(w), Libra(t).backward(w, g)

        for row, grad, found, down in zip(rows, grads, forward, backward, strict=True):
            assert binarized(row) == pytest.approx(found.tolist(), rel=1e-12)
            assert gradient(row, grad, t) == pytest.approx(down.tolist(), rel=1e-5, abs=1e-5)


def test_heights_are_powers_of_two_and_not_all_equal() -> None:
    """The comparison sees more than one shift."""
    w = torch.zeros(2, 64)
    w[0, 0] = 1.0
    w[1] = torch.linspace(-1, 1, 64)

    found = heights(standardized(w)[0]).flatten().tolist()

    assert found == [0.25, 1.0]


def test_convolutions_have_filters_too() -> None:
    """A filter of a convolution is what a row of a dense layer is."""
    w, g = torch.randn(2, 4, 3, 2, 2, dtype=torch.float64, generator=torch.manual_seed(0))

    for method, given in ((Libra(0.7).forward, (w,)), (Libra(0.7).backward, (w, g))):
        flat = method(*(x.flatten(1) for x in given))
        assert torch.allclose(flat, method(*given).flatten(1), rtol=1e-12)


def test_equal_weights_have_no_std() -> None:
    """They are all +1, and nothing moves them."""
    w = torch.full((2, 3), 0.5)

    assert Libra().forward(w).tolist() == [[1.0] * 3] * 2
    assert Libra().backward(w, torch.randn(2, 3)).tolist() == [[0.0] * 3] * 2


def test_training_is_sgd_with_the_estimator_of_each_epoch() -> None:
    """Latents after every step, and what the network computes with."""
    loop = Loop(ir_net(lr=0.05, weight_decay=0.01, t_min=0.2))

    moved_by_sgd(gradient, 0.2, loop, 0.05)
    for latent, weight in zip(loop.latents, loop.weights, strict=False):
        expected = [x for row in filters(latent) for x in binarized(row)]
        assert expected == pytest.approx(weight, rel=1e-12)


def test_weights_have_one_bit() -> None:
    """Two values for each filter, as bnnbench counts them."""
    told = Loop(ir_net()).told

    assert [m.value for m in told if m.metric == "weight_bits"] == [1]
