"""BayesBiNN: what every method must do, and its equations in plain Python floats."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import pytest
import torch
from bnnbench.chance import draw_key, uniform
from bnnbench.testing import BinarizerSuite, MethodSuite, OptimizerSuite
from bnnbench.testing.recording import Recorded

from bayesbinn import BayesBiNN, Concrete, bayesbinn, bernoulli

if TYPE_CHECKING:
    from torch import Tensor


class TestBayesBiNN(MethodSuite):
    """What bnnbench asks of every method."""

    component = bayesbinn


class TestRule(OptimizerSuite):
    """What bnnbench asks of every optimizer."""

    component = BayesBiNN


class TestConcrete(BinarizerSuite):
    """What bnnbench asks of every binarizer."""

    component = Concrete


EPOCHS, STEPS = 4, 3  #: of what is recorded


def test_draws_are_tanh_of_logistic_noise() -> None:
    """tanh((lambda + log(u/(1 - u))/2)/tau), with a fresh u for each weight and each call."""
    natural = torch.linspace(-3, 3, 24, dtype=torch.float64).view(4, 6)
    torch.manual_seed(5)
    keys = [draw_key() for _ in range(2)]
    torch.manual_seed(5)
    binarizer = Concrete(temperature=0.7)

    for key in keys:
        us = uniform(natural, key).flatten().tolist()
        expected = [
            math.tanh((x + math.log(u / (1 - u)) / 2) / 0.7)
            for x, u in zip(natural.flatten().tolist(), us, strict=True)
        ]
        assert expected == pytest.approx(binarizer.forward(natural).flatten().tolist(), rel=1e-9)
    assert keys[0] != keys[1]


@pytest.mark.parametrize("draw", [bernoulli, Concrete(1e-10).forward])
def test_draws_have_the_mean_of_the_posterior(draw: Any) -> None:
    """Cold draws are +-1 with mean tanh(lambda)."""
    natural = torch.tensor([-1.0, -0.2, 0.0, 0.5, 2.0], dtype=torch.float64)
    torch.manual_seed(0)

    found = draw(natural.repeat(40_000, 1))

    assert {-1.0, 1.0} == set(found.unique().tolist())
    assert natural.tanh().tolist() == pytest.approx(found.mean(0).tolist(), abs=0.02)


@pytest.mark.parametrize("samples", [1, 3])
@pytest.mark.parametrize("scale", [1.0, 10.0])
def test_natural_parameters_follow_the_learning_rule(samples: int, scale: float) -> None:
    """Each step takes the mean of its passes, N times; each pass has its own draw."""
    hyper = {"momentum": 0.6, "reweight": 0.3, "temperature": 0.5, "start": 1.5}
    recorded = Recorded(
        bayesbinn(lr=2.0, samples=samples, trainset_scale=scale, **hyper), scale=1e-3
    )
    natural, n = recorded.latents[0], 2 * STEPS * scale
    average = [0.0] * len(natural)
    assert EPOCHS * STEPS * samples == len(recorded.gradients)
    assert len(recorded.weights) == len({tuple(b) for b in recorded.weights})
    for step in range(EPOCHS * STEPS):
        total = [0.0] * len(natural)
        for pass_ in range(step * samples, (step + 1) * samples):
            drawn, gradient = recorded.weights[pass_], recorded.gradients[pass_]
            for i, (x, b, g) in enumerate(zip(natural, drawn, gradient, strict=True)):
                mu = math.tanh(x)
                total[i] += n / samples * g * (1 - b * b + 1e-10) / 0.5 / (1 - mu * mu + 1e-10)
        average = [
            0.6 * a + 0.4 * (g + 0.3 * x) for a, g, x in zip(average, total, natural, strict=True)
        ]
        rate = (1 + math.cos(math.pi * (step // STEPS) / EPOCHS)) / (1 - 0.6 ** (step + 1))
        natural = [x - rate * a for x, a in zip(natural, average, strict=True)]
        assert recorded.latents[step + 1] == pytest.approx(natural, rel=1e-8, abs=1e-10), step


def test_real_parameters_get_the_mean_gradient_of_the_passes() -> None:
    """Adam moves them by the mean of three random gradients, as if there had been one."""
    recorded = Recorded(bayesbinn(samples=3, real_lr=0.1), scale=1e-3)
    bias = recorded.biases[0]
    m = v = [0.0] * len(bias)
    for step in range(EPOCHS * STEPS):
        three = zip(*recorded.pulls[3 * step : 3 * step + 3], strict=True)
        mean = [sum(each) / 3 for each in three]
        m = [0.9 * x + 0.1 * g for x, g in zip(m, mean, strict=True)]
        v = [0.999 * x + 0.001 * g * g for x, g in zip(v, mean, strict=True)]
        k, rate = step + 1, 0.05 * (1 + math.cos(math.pi * (step // STEPS) / EPOCHS))
        bias = [
            x - rate * a / (1 - 0.9**k) / (math.sqrt(b / (1 - 0.999**k)) + 1e-8)
            for x, a, b in zip(bias, m, v, strict=True)
        ]
        assert recorded.biases[step + 1] == pytest.approx(bias, rel=1e-9, abs=1e-12), step


def test_modes_are_mode_mean_and_ensemble_of_the_posterior() -> None:
    """sign, tanh, and draws whose outputs are averaged."""
    modes = Concrete(draws=7).inference_modes()
    natural = torch.tensor([-0.3, 0.0, 2.0])

    assert modes["binary"].view(natural).tolist() == [-1.0, 1.0, 1.0]
    assert natural.tanh().tolist() == modes["mean"].view(natural).tolist()
    assert modes["ensemble"].draws == 7
    assert {-1.0, 1.0} >= set(modes["ensemble"].view(natural).tolist())


def test_first_parameters_are_coins() -> None:
    """+-start, about as often one as the other."""
    torch.manual_seed(0)
    first = bayesbinn(start=4.0).initialize(torch.empty(100, 100))

    assert {-4.0, 4.0} == set(first.unique().tolist())
    assert first.mean().item() == pytest.approx(0.0, abs=0.2)


def test_weights_are_measured_as_one_bit_in_the_modes_that_have_it() -> None:
    """The mode and each network of the ensemble; the mean has real weights."""
    bits = Recorded(bayesbinn(start=0.5), scale=1e-3).measured("weight_bits")
    assert bits == {"binary": 1, "mean": 32, "ensemble": 1}


def test_parameters_without_a_gradient_stay() -> None:
    """A frozen parameter is no error."""
    moved, frozen = torch.ones(2), torch.ones(2)
    optimizer = BayesBiNN([{"params": [moved]}, {"params": [frozen]}], lr=0.5)

    class Closed:
        examples = 1

        def __call__(self) -> Tensor:
            moved.grad = torch.tensor([1.0, -1.0])
            return torch.tensor(0.25)

    assert optimizer.step(Closed()).item() == 0.25
    assert (moved.tolist(), frozen.tolist()) == ([0.0, 1.0], [1.0, 1.0])
