"""Every method moves its latents as its paper's rule does, worked out in plain Python floats.

The rule runs beside the training loop itself: a loss of our own puts a random gradient at every
weight, and a probe looks at the latents after every step.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise

import pytest
import torch
from torch import nn

from bnnbench.interfaces import Dataset, Split
from bnnbench.layers import BinaryLinear
from bnnbench.seeds import derive
from bnnbench.training import Settings, train
from bnnbench_plugins.binarizers import Stochastic
from bnnbench_plugins.binaryconnect import binaryconnect
from bnnbench_plugins.bop import bop
from bnnbench_plugins.real import real
from bnnbench_plugins.ste import ste

from .papers import adam as adam_rule
from .papers import binaryconnect as bc
from .papers import bop as bop_rule
from .papers import chance as chance_rule
from .papers import real as real_rule
from .papers import sgd as sgd_rule
from .papers import ste as ste_rule

EPOCHS, STEPS = 6, 5
SIZES = {"one": (5, 4), "two": (4, 3)}  # layer: fan in, fan out
SEED = 11


@dataclass
class Watched:
    """A training run with random gradients, and all that went by: lists of plain floats."""

    weights: list = field(default_factory=list)  # what the network computed with, each step
    gradients: list = field(default_factory=list)
    latents: list = field(default_factory=list)  # after each step, the first before training
    bias: list = field(default_factory=list)  # the only real parameter, likewise

    def loss(self, model, size, outputs, targets):
        if not torch.is_grad_enabled():
            return outputs.sum() * 0
        generator = torch.Generator().manual_seed(len(self.gradients))
        named = dict(model.named_parameters())
        given = {
            name: size * torch.randn(p.shape, generator=generator, dtype=p.dtype)
            for name, p in named.items()
        }
        self.gradients.append({name: g.flatten().tolist() for name, g in given.items()})
        self.weights.append({name: p.flatten().tolist() for name, p in named.items()})
        return sum((p * given[name]).sum() for name, p in named.items())


class Recorder:
    """A probe that keeps the latents."""

    def __init__(self, watched, model):
        self.watched, self.model = watched, model

    def step(self, latents):
        tensors = latents.tensors.items()
        self.watched.latents.append({name: x.flatten().tolist() for name, x in tensors})
        self.watched.bias.append(self.model.two.bias.tolist())

    def epoch(self, latents):
        if not self.watched.latents:
            self.step(latents)
        return []


def watch(method, size=1.0):
    torch.manual_seed(0)
    model = nn.Sequential()
    for name, (inputs, outputs) in SIZES.items():
        model.add_module(name, BinaryLinear(inputs, outputs, bias=name == "two").double())
    n = 2 * STEPS
    split = Split(torch.zeros(n, 5, dtype=torch.float64), torch.zeros(n, dtype=torch.int64))
    watched = Watched()
    list(
        train(
            model,
            method,
            Dataset(split, split, split, classes=3),
            lambda outputs, inputs, targets: watched.loss(model, size, outputs, targets),
            Settings(epochs=EPOCHS, batch_size=2, seed=SEED),
            probes=[Recorder(watched, model)],
        )
    )
    assert EPOCHS * STEPS == len(watched.gradients)
    return watched


def moves_as(watched, rule, start=list):
    """Assert that the rule makes the same latents of the same gradients, step by step."""
    for layer in SIZES:
        w, state = start(watched.latents[0][layer]), {}
        for t, gradients in enumerate(watched.gradients):
            w = rule(w, gradients[f"{layer}.weight"], state, layer=layer, t=t)

            assert watched.latents[t + 1][layer] == pytest.approx(w, rel=1e-9, abs=1e-12), (
                layer,
                t,
            )


def moves_bias_as(watched, rule):
    w, state = watched.bias[0], {}
    for t, gradients in enumerate(watched.gradients):
        w = rule(w, gradients["two.bias"], state, t=t)

        assert watched.bias[t + 1] == pytest.approx(w, rel=1e-9, abs=1e-12)


def decayed(start, end, t):
    return bc.learning_rate(start, end, t // STEPS, EPOCHS)


def c_of(layer):
    return bc.glorot(*SIZES[layer])


@pytest.mark.usefixtures("both_ways")
def test_real():
    """Real weights, binary layers' and others', are moved by Adam with a decaying rate."""
    watched = watch(real(lr=1e-2, lr_end=1e-4))

    def rule(w, g, state, t, layer=None):
        return real_rule.step(w, g, state, lr=decayed(1e-2, 1e-4, t))

    moves_as(watched, rule)
    moves_bias_as(watched, rule)
    assert [seen["one"] for seen in watched.latents[:-1]] == [
        seen["one.weight"] for seen in watched.weights
    ]


@pytest.mark.usefixtures("both_ways")
@pytest.mark.parametrize("gradient", ["identity", "hardtanh"])
@pytest.mark.parametrize("lr_scale", ["glorot", "none"])
@pytest.mark.parametrize("decay", ["geometric", "linear"])
def test_ste(gradient, lr_scale, decay):
    """The STE moves as algorithm 1 of BNN says, with either gradient, and computes with signs."""
    watched = watch(ste(lr=5e-2, lr_end=1e-3, gradient=gradient, lr_scale=lr_scale, decay=decay))

    def rule(w, g, state, layer, t):
        S = 1 / c_of(layer) if lr_scale == "glorot" else 1.0
        lr = decayed(5e-2, 1e-3, t)
        if decay == "linear":
            lr = 5e-2 * (1 - t / (EPOCHS * STEPS - 1))
        return ste_rule.step(w, g, state, lr=lr, S=S, hardtanh=gradient == "hardtanh")

    moves_as(watched, rule)
    for seen, latents in zip(watched.weights, watched.latents, strict=False):
        assert ste_rule.binarize(latents["two"]) == seen["two.weight"]


def test_ste_reaches_the_edge():
    """The comparison would see a wrong edge: some latents are clipped, and come back."""
    latents = [x for seen in watch(ste(lr=5e-2, gradient="hardtanh")).latents for x in seen["one"]]
    at_edge = sum(abs(x) == 1 for x in latents)

    assert 0 < at_edge < len(latents)


@pytest.mark.usefixtures("both_ways")
@pytest.mark.parametrize("scale", [1.0, 2.0, "glorot"])
@pytest.mark.parametrize("lr_scale", ["auto", "glorot", "glorot_sq", "none"])
@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
@pytest.mark.parametrize("binarization", ["deterministic", "stochastic"])
def test_binaryconnect(binarization, optimizer, lr_scale, scale):
    """BinaryConnect moves as algorithm 1 says, for every H, every S and both optimizers."""
    method = binaryconnect(
        binarization=binarization,
        optimizer=optimizer,
        lr=2e-2,
        lr_end=1e-3,
        momentum=0.9,
        scale=scale,
        lr_scale=lr_scale,
        draws=2,
    )
    watched = watch(method)

    def rule(w, g, state, layer, t):
        c = c_of(layer)
        H = c if scale == "glorot" else scale
        powers = {"none": 0, "glorot": 1, "glorot_sq": 2, "auto": 1 if optimizer == "adam" else 2}
        S = ((H if lr_scale == "auto" else 1.0) / c) ** powers[lr_scale]
        move, rates = adam_rule.step, {}
        if optimizer == "sgd":
            move, rates = sgd_rule.step, {"momentum": 0.9}
        return bc.step(w, g, state, move=move, S=S, H=H, lr=decayed(2e-2, 1e-3, t), **rates)

    def real_rule(w, g, state, t):
        if optimizer == "sgd":
            return sgd_rule.step(w, g, state, lr=decayed(2e-2, 1e-3, t), momentum=0.9)
        return adam_rule.step(w, g, state, lr=decayed(2e-2, 1e-3, t))

    moves_as(watched, rule)
    moves_bias_as(watched, real_rule)


@pytest.mark.usefixtures("both_ways")
@pytest.mark.parametrize("scale", [1.0, 2.0, "glorot"])
def test_binaryconnect_computes_with_signs(scale):
    """The network computes with +H where w >= 0 and -H elsewhere (eq. 1)."""
    watched = watch(binaryconnect(scale=scale))

    for seen, latents in zip(watched.weights, watched.latents, strict=False):
        for layer in SIZES:
            H = c_of(layer) if scale == "glorot" else scale
            assert bc.binarize(latents[layer], H=H) == pytest.approx(
                seen[f"{layer}.weight"], rel=1e-12
            )


@pytest.mark.usefixtures("both_ways")
@pytest.mark.parametrize("scale", [1.0, 2.0, "glorot"])
def test_binaryconnect_computes_with_draws(scale):
    """With the same uniform numbers the plain rule draws the same weights at every step (eq. 2)."""
    watched = watch(binaryconnect(binarization="stochastic", scale=scale, draws=2))
    generator = torch.Generator().manual_seed(derive(SEED, "training"))
    heights = {layer: c_of(layer) if scale == "glorot" else scale for layer in SIZES}
    for layer, (inputs, outputs) in SIZES.items():  # the first latents, of U(-H, H)
        draws = torch.rand(outputs, inputs, generator=generator, dtype=torch.float64)
        first = [heights[layer] * (2 * u - 1) for u in draws.flatten().tolist()]
        assert watched.latents[0][layer] == pytest.approx(first, rel=1e-9, abs=1e-12)
    for seen, latents in zip(watched.weights, watched.latents, strict=False):
        for layer, (inputs, outputs) in SIZES.items():
            key = torch.randint(2**32, (2,), generator=generator).tolist()
            u = [chance_rule.uniform(i, *key) for i in range(inputs * outputs)]

            expected = bc.binarize_by_chance(latents[layer], u, H=heights[layer])
            assert expected == pytest.approx(seen[f"{layer}.weight"], rel=1e-12)


@pytest.mark.parametrize("scale", [1.0, 0.25])
def test_draws_follow_the_hard_sigmoid(scale):
    """A weight is +H as often as hard_sigmoid(w/H) says, within five standard deviations."""
    n, grid = 20_000, [-1.5, -1.0, -0.9, -0.3, 0.0, 0.1, 0.7, 1.0, 2.0]
    torch.manual_seed(3)
    latent = scale * torch.tensor(grid, dtype=torch.float64).repeat(n, 1)

    weights = Stochastic(scale).forward(latent)

    assert {-scale, scale} == set(weights.unique().tolist())
    for x, count in zip(grid, (weights > 0).sum(0).tolist(), strict=True):
        p = bc.hard_sigmoid(x)
        assert abs(count - n * p) <= 5 * (n * p * (1 - p)) ** 0.5


@pytest.mark.usefixtures("both_ways")
@pytest.mark.parametrize(
    ("gamma", "tau", "rescale"),
    [
        *[(0.2, 0.1, False), (0.5, 0.0, False), (1e-2, 1e-3, False)],
        *[(1.2e-5, 8e-4, True), (3e-5, 0.0, True), (1e-3, 1e-5, True)],
    ],
)
@pytest.mark.parametrize("stages", [1, 3, 5])
def test_bop(gamma, tau, rescale, stages):
    """Bop flips as algorithm 1 says, with a gamma that decays by stages; others follow Adam.

    Rescaled, gamma times the steps and tau by the root of gamma are those of 500 000 steps.
    """
    watched = watch(bop(gamma=gamma, tau=tau, stages=stages, real_lr=1e-2, rescale=rescale))

    def rule(w, g, state, layer, t):
        now, least = bop_rule.adaptivity(gamma, 0.1, stages, t, EPOCHS * STEPS), tau
        if rescale:
            now, least = bop_rule.rescaled(now, tau, EPOCHS * STEPS)
        return bop_rule.step(w, g, state, gamma=now, tau=least)

    moves_as(watched, rule, start=bop_rule.binarize)
    moves_bias_as(watched, lambda w, g, state, t: adam_rule.step(w, g, state, lr=1e-2))


@pytest.mark.usefixtures("both_ways")
@pytest.mark.parametrize("rescale", [True, False])
def test_bop_of_the_bnew_programs(rescale):
    """Gamma and the real parameters' learning rate fall linearly to 0, at the last step."""
    gamma, tau = (1e-5, 1e-5) if rescale else (0.3, 0.05)
    method = bop(gamma=gamma, tau=tau, real_lr=1e-2, schedule="linear", rescale=rescale)
    watched, last = watch(method), EPOCHS * STEPS - 1

    def rule(w, g, state, layer, t):
        now, least = gamma * (1 - t / last), tau
        if rescale:
            now, least = bop_rule.rescaled(now, tau, EPOCHS * STEPS, published=352_000)
        return bop_rule.step(w, g, state, gamma=now, tau=least)

    moves_as(watched, rule, start=bop_rule.binarize)
    moves_bias_as(
        watched, lambda w, g, state, t: adam_rule.step(w, g, state, lr=1e-2 * (1 - t / last))
    )


def test_bop_flips_now_and_then():
    """The comparison would see a wrong flip: some weights flip in a step, and others stay."""
    method = bop(gamma=0.2, tau=0.1, rescale=False)
    latents = [seen["one"] for seen in watch(method).latents[1:]]
    changed = [a != b for x, y in pairwise(latents) for a, b in zip(x, y, strict=True)]

    assert 0 < sum(changed) < len(changed)
