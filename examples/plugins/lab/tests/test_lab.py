"""LAB: what every method must do, and its equations in plain Python floats."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import torch
from bnnbench.errors import UsageError
from bnnbench.interfaces import Dataset, Split
from bnnbench.layers import BinaryLinear
from bnnbench.methods import Method
from bnnbench.schedules import Progress
from bnnbench.testing import BinarizerSuite, MethodSuite
from bnnbench.testing.recording import Recorded
from bnnbench.training import Settings, train
from bnnbench_plugins.optimizers import ClippedSGD
from torch import nn

from lab import LossAware, lab

if TYPE_CHECKING:
    from torch import Tensor


class TestLab(MethodSuite):
    """What bnnbench asks of every method."""

    component = lab


class TestLossAware(BinarizerSuite):
    """What bnnbench asks of every binarizer."""

    component = LossAware


def test_latents_are_adams_and_heights_see_its_second_moment() -> None:
    """Latents after every step, and alpha sign w with the v of the steps before; at first mean |w|."""
    recorded = Recorded(lab(lr=0.05, decay=0.5), epochs=4, steps=3)
    w = recorded.latents[0]
    m = v = [0.0] * len(w)
    for step, (gradient, weight) in enumerate(
        zip(recorded.gradients, recorded.weights, strict=True)
    ):
        d = [math.sqrt(x) + 1e-8 for x in v]
        alpha = sum(x * abs(y) for x, y in zip(d, w, strict=True)) / sum(d)
        expected = [alpha if x >= 0 else -alpha for x in w]
        assert weight == pytest.approx(expected, rel=1e-9), step

        rate = 0.05 * (1.0, 1.0, 0.25, 0.25)[step // 3]  # parts 0, 12.5, 25, 37.5 of 50
        m = [0.9 * x + 0.1 * g for x, g in zip(m, gradient, strict=True)]
        v = [0.999 * x + 0.001 * g * g for x, g in zip(v, gradient, strict=True)]
        k = step + 1
        adam = [
            rate * a / (1 - 0.9**k) / (math.sqrt(b / (1 - 0.999**k)) + 1e-8)
            for a, b in zip(m, v, strict=True)
        ]
        w = [min(max(x - s, -1.0), 1.0) for x, s in zip(w, adam, strict=True)]
        assert recorded.latents[step + 1] == pytest.approx(w, rel=1e-9, abs=1e-12), step
    assert recorded.measured("weight_bits") == {"binary": 1}


def test_the_moment_makes_a_difference() -> None:
    """The comparison would see heights that are means: they are others after the first step."""
    recorded = Recorded(lab(lr=0.05))

    for step, (latent, weight) in enumerate(zip(recorded.latents, recorded.weights, strict=False)):
        mean = sum(map(abs, latent)) / len(latent)
        assert (abs(weight[0]) == pytest.approx(mean, rel=1e-6)) == (step == 0)


def test_rates_fall_after_15_and_25_of_50_epochs() -> None:
    """By a tenth each time, as in the script."""
    rate = lab().phases[0].binary.hyper["lr"]

    found = [rate(Progress(0, 50, epoch, 50)) for epoch in (0, 14, 15, 24, 25, 49)]

    assert found == pytest.approx([1e-2, 1e-2, 1e-3, 1e-3, 1e-4, 1e-4])


def test_first_latents_are_uniform_in_glorots_bound() -> None:
    """Within c, and near it."""
    weight = torch.empty(40, 60)

    latent = lab().initialize(weight)

    c = math.sqrt(1.5 / 100)
    assert 0.99 * c < latent.abs().max() <= c


def test_what_is_no_adam_is_refused() -> None:
    """In one line that names the way out."""
    with pytest.raises(UsageError, match="ClippedSGD does not have; let an optimizer derived from"):
        LossAware().inform(ClippedSGD([torch.zeros(1)]))


def test_the_judged_heights_are_those_of_the_selected_epoch() -> None:
    """Everything learned is spoilt in the second half; the test is that of the first."""
    torch.manual_seed(0)
    inputs = torch.randn(80, 6)
    split = Split(inputs, inputs[:, :3].argmax(1))
    (phase,) = lab(lr=0.05).phases
    half = replace(phase, share=0.5)
    method = Method("spoilt", (half, replace(half, start=torch.neg)))

    def loss(outputs: Tensor, inputs: Tensor, targets: Tensor) -> Tensor:
        return nn.functional.cross_entropy(outputs, targets)

    model = nn.Sequential(BinaryLinear(6, 3))  # no normalization takes the height away
    settings = Settings(6, 10, 7, test=True)
    told = list(train(model, method, Dataset(split, split, split, 3), loss, settings))

    (best,) = (m.value for m in told[-1] if m.metric == "selected_epoch")
    then = [m.value for m in told[int(best)] if (m.metric, m.split) == ("loss", "validation")]
    now = [m.value for m in told[-1] if (m.metric, m.split) == ("loss", "test")]
    assert best <= 3
    assert then == now
