"""IR-Net: what every method must do, and its equations in plain Python floats."""

from __future__ import annotations

import math
import random
from typing import TYPE_CHECKING

import pytest
import torch
from bnnbench.testing import BinarizerSuite, MethodSuite
from bnnbench.testing.recording import Recorded, sgd, slopes

from ir_net import Libra, heights, ir_net, standardized

if TYPE_CHECKING:
    from collections.abc import Sequence


class TestIRNet(MethodSuite):
    """What bnnbench asks of every method."""

    component = ir_net


class TestLibra(BinarizerSuite):
    """What bnnbench asks of every binarizer."""

    component = Libra


def standard(w: Sequence[float]) -> list[float]:
    n = len(w)
    mean = sum(w) / n
    std = math.sqrt(sum((x - mean) ** 2 for x in w) / (n - 1))
    return [(x - mean) / std for x in w]


def shift(w: Sequence[float]) -> float:
    return 2.0 ** round(math.log2(sum(map(abs, standard(w))) / len(w)))


def binarized(w: Sequence[float]) -> list[float]:
    return [shift(w) if x >= 0 else -shift(w) for x in standard(w)]


def gradient(w: Sequence[float], g: Sequence[float], t: float) -> list[float]:
    """Of sum g 2^s k tanh(t w^), s being a constant."""
    height, k = shift(w), max(1 / t, 1)

    def soft(v: Sequence[float]) -> float:
        return sum(y * height * k * math.tanh(t * x) for y, x in zip(g, standard(v), strict=True))

    return slopes(soft, w)


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
    recorded = Recorded(ir_net(lr=0.05, weight_decay=0.01, t_min=0.2), epochs=4, steps=3)
    epochs = [step // 3 for step in range(12)]

    def estimated(step: int, w: Sequence[float]) -> list[float]:
        t = 0.2 * (10.0 / 0.2) ** (epochs[step] / 4)
        pairs = zip(recorded.rows(w), recorded.rows(recorded.gradients[step]), strict=True)
        return [x for row, g in pairs for x in gradient(row, g, t)]

    rates = [0.05 * (1 + math.cos(math.pi * epoch / 4)) / 2 for epoch in epochs]
    moved = sgd(recorded.latents[0], estimated, rates, momentum=0.9, decay=0.01)
    for found, w in zip(recorded.latents[1:], moved, strict=True):
        assert found == pytest.approx(w, rel=1e-6, abs=1e-7)
    for latent, weight in zip(recorded.latents, recorded.weights, strict=False):
        expected = [x for row in recorded.rows(latent) for x in binarized(row)]
        assert expected == pytest.approx(weight, rel=1e-12)


def test_weights_have_one_bit() -> None:
    """Two values for each filter, as bnnbench counts them."""
    assert Recorded(ir_net()).measured("weight_bits") == {"binary": 1}
