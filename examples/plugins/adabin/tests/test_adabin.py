"""AdaBin: what every method must do, and its equations in plain Python floats."""

from __future__ import annotations

import math
import random
from typing import TYPE_CHECKING, ClassVar

import pytest
import torch
from bnnbench.interfaces import Dataset, Split
from bnnbench.layers import BinaryActivation, activation_bits, real_parameters
from bnnbench.testing import ArchitectureSuite, BinarizerSuite, MethodSuite
from bnnbench.testing.recording import Recorded, sgd, slopes
from bnnbench.training import Settings, Training
from torch import nn

from adabin import AdaptiveSets, AdaptiveSign, Maxout, adabin, adabin_mlp, adabin_vgg_small

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor


class TestAdaBin(MethodSuite):
    """What bnnbench asks of every method."""

    component = adabin

    def test_one_bit(self) -> None:
        """Two values for each filter, which are not +-alpha, after a training."""
        assert Recorded(adabin()).measured("weight_bits") == {"binary": 1}


class TestAdaptiveSets(BinarizerSuite):
    """What bnnbench asks of every binarizer."""

    component = AdaptiveSets

    def test_one_bit(self) -> None:
        """Two values for each filter, which are not +-alpha."""
        w = torch.randn(50, 8, generator=torch.manual_seed(0))
        assert all(len(row.unique()) == 2 for row in AdaptiveSets().forward(w))


class TestDense(ArchitectureSuite):
    """What bnnbench asks of every architecture."""

    component = adabin_mlp
    hyperparameters: ClassVar = {"width": 16}


class TestImages(ArchitectureSuite):
    """The same of the network for images."""

    component = adabin_vgg_small
    hyperparameters: ClassVar = {"width": 4}
    shapes: ClassVar = {(3, 8, 8): 10}


def parts(w: Sequence[float]) -> tuple[list[float], float, float]:
    """u, alpha and beta."""
    beta = sum(w) / len(w)
    alpha = math.sqrt(sum((x - beta) ** 2 for x in w) / len(w))
    return [(x - beta) / alpha for x in w], alpha, beta


def sign(x: float) -> float:
    return 1.0 if x >= 0 else -1.0


def binarized(w: Sequence[float]) -> list[float]:
    u, alpha, beta = parts(w)
    return [beta + alpha * sign(x) for x in u]


def gradient(w: Sequence[float], g: Sequence[float], t: float) -> list[float]:
    """Of sum g (alpha S(u) + beta), S being the sign at this w, with the slope of k tanh(t u)."""
    k, (here, _, _) = max(1 / t, 1), parts(w)

    def soft(v: Sequence[float]) -> float:
        u, alpha, beta = parts(v)
        rise = [k * (math.tanh(t * x) - math.tanh(t * x0)) for x, x0 in zip(u, here, strict=True)]
        signs = [sign(x0) + r for x0, r in zip(here, rise, strict=True)]
        return sum(y * (alpha * s + beta) for y, s in zip(g, signs, strict=True))

    return slopes(soft, w)


@pytest.mark.parametrize("t", [0.1, 1.0, 3.0])
def test_weights_and_gradients_of_random_filters(t: float) -> None:
    """Beta +- alpha for each filter; the gradient goes through alpha and beta too."""
    chance = random.Random(3)
    for n in (2, 5, 40):
        rows = [[chance.gauss(0.3, 0.2) for _ in range(n)] for _ in range(4)]
        grads = [[chance.gauss(0, 1) for _ in row] for row in rows]
        w, g = (torch.tensor(x, dtype=torch.float64) for x in (rows, grads))

        forward, backward = AdaptiveSets(t).forward(w), AdaptiveSets(t).backward(w, g)

        for row, grad, found, down in zip(rows, grads, forward, backward, strict=True):
            assert binarized(row) == pytest.approx(found.tolist(), rel=1e-12)
            assert len(set(found.tolist())) == 2
            assert gradient(row, grad, t) == pytest.approx(down.tolist(), rel=1e-5, abs=1e-5)


def test_convolutions_have_filters_too() -> None:
    """A filter of a convolution is what a row of a dense layer is."""
    w, g = torch.randn(2, 4, 3, 2, 2, dtype=torch.float64, generator=torch.manual_seed(0))

    for method, given in ((AdaptiveSets(0.7).forward, (w,)), (AdaptiveSets(0.7).backward, (w, g))):
        flat = method(*(x.flatten(1) for x in given))
        assert torch.allclose(flat, method(*given).flatten(1), rtol=1e-12)


def test_training_is_sgd_with_the_estimator_of_each_epoch() -> None:
    """Latents after every step, and what the network computes with."""
    recorded = Recorded(adabin(lr=0.05, weight_decay=0.01, t_min=0.2), epochs=4, steps=3)
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
    assert recorded.measured("weight_bits") == {"binary": 1}


def test_activations_learn_their_two_values() -> None:
    """Beta +- alpha; the gradients of x, alpha and beta are those of the piecewise quadratic."""
    chance = random.Random(5)
    alpha, beta = 0.8, -0.3
    x, g = ([chance.gauss(0, 1) for _ in range(30)] for _ in range(2))
    here = [(v - beta) / alpha for v in x]
    layer = AdaptiveSign().double()
    with torch.no_grad():
        layer.alpha.fill_(alpha)
        layer.beta.fill_(beta)
    given = torch.tensor(x, dtype=torch.float64, requires_grad=True)

    def rise(u: float) -> float:
        """The piecewise quadratic whose slope is (2 - 2|u|)+."""
        v = min(max(u, -1.0), 1.0)
        return 2 * v - v * abs(v)

    def soft(numbers: Sequence[float]) -> float:
        *inputs, a, b = numbers
        total = 0.0
        for y, v, u0 in zip(g, inputs, here, strict=True):
            total += y * (a * (sign(u0) + rise((v - b) / a) - rise(u0)) + b)
        return total

    out = layer(given)
    out.backward(torch.tensor(g, dtype=torch.float64))

    assert [beta + alpha * sign(u) for u in here] == pytest.approx(out.tolist(), rel=1e-12)
    found = [*given.grad.tolist(), layer.alpha.grad.item(), layer.beta.grad.item()]
    assert slopes(soft, [*x, alpha, beta]) == pytest.approx(found, rel=1e-4, abs=1e-5)


def test_maxout_has_a_slope_for_each_side_of_each_channel() -> None:
    """gamma+ above 0, gamma- below; 1 and 0.25 at first."""
    layer = Maxout(2)
    x = torch.tensor([[[1.0, -2.0], [3.0, -4.0]]])
    assert layer(x).tolist() == [[[1.0, -0.5], [3.0, -1.0]]]
    with torch.no_grad():
        layer.positive.copy_(torch.tensor([2.0, 3.0]))
        layer.negative.copy_(torch.tensor([0.5, 1.0]))

    assert layer(x).tolist() == [[[2.0, -1.0], [9.0, -4.0]]]


@pytest.mark.parametrize("maxout", [False, True])
def test_networks_have_adaptive_activations_alone(maxout: bool) -> None:
    """Of one bit each; two real parameters for a layer, and two for a channel with Maxout."""
    plain = adabin_mlp(shape=(6,), classes=3, depth=2, width=8, maxout=maxout)
    images = adabin_vgg_small(shape=(3, 8, 8), classes=10, width=4)
    activations = [m for m in plain.modules() if isinstance(m, BinaryActivation)]
    learned = [n for n, m in plain.named_modules() if isinstance(m, (AdaptiveSign, Maxout))]
    own = [p for n, p in real_parameters(plain).items() if n.rpartition(".")[0] in learned]

    assert len(activations) == 2
    assert all(isinstance(m.binarizer, AdaptiveSign) for m in activations)
    assert (activation_bits(plain), activation_bits(images)) == (1, 1)
    assert 2 * 2 + maxout * 2 * 2 * 8 == sum(p.numel() for p in own)
    assert sum(isinstance(m, AdaptiveSign) for m in images.modules()) == 5


def test_what_activations_learn_is_taken_up() -> None:
    """Alpha and beta move in training, and a training that goes on has them, bit for bit."""
    torch.manual_seed(1)
    inputs = torch.randn(60, 6)
    split = Split(inputs, inputs[:, :3].argmax(1))
    data = Dataset(split, split, split, classes=3)

    def loss(outputs: Tensor, inputs: Tensor, targets: Tensor) -> Tensor:
        return nn.functional.cross_entropy(outputs, targets)

    def begun() -> Training:
        torch.manual_seed(2)
        model = adabin_mlp(shape=(6,), classes=3, depth=2, width=8, maxout=True)
        return Training(model, adabin(), data, loss, Settings(4, 10, 7))

    calm, first, second = begun(), begun(), begun()
    list(calm)
    for _ in first:
        if first.epoch == 2:
            break
    second.load(first.state())
    list(second)

    moved = {n: p for n, p in calm.model.named_parameters() if n.endswith(("alpha", "beta"))}
    assert len(moved) == 4
    assert all(p.item() not in (0.0, 1.0) for p in moved.values())
    for name, tensor in calm.network().items():
        assert torch.equal(tensor, second.network()[name]), name
