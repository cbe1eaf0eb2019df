"""Bop's second order, and the methods whose weights have a height, move as their papers say.

The plain rules run beside the training loop, as in test_papers. Then what holds for any method: the
same seed gives the same bits, and a training that is taken up again goes on with the same bits.
"""

from __future__ import annotations

import io
from functools import partial
from itertools import pairwise

import pytest
import torch

from bnnbench.interfaces import Dataset, Split
from bnnbench.seeds import RandomState, derive
from bnnbench.training import Settings, Training
from bnnbench_plugins.architectures.mlp import mlp
from bnnbench_plugins.bop import bop
from bnnbench_plugins.bop2 import bop2
from bnnbench_plugins.losses import cross_entropy
from bnnbench_plugins.ternary import ternary
from bnnbench_plugins.twostep import two_step
from bnnbench_plugins.xnor import xnor

from .papers import adam as adam_rule
from .papers import bop as bop_rule
from .papers import bop2 as bop2_rule
from .papers import ste as ste_rule
from .papers import ternary as ternary_rule
from .papers import twostep as twostep_rule
from .papers import xnor as xnor_rule
from .test_papers import EPOCHS, SEED, SIZES, STEPS, c_of, decayed, moves_as, moves_bias_as, watch
from .test_training import accuracies_on_digits

TOTAL = EPOCHS * STEPS
GRADIENTS = ["torch7", "exact", "alpha", "detached"]


@pytest.mark.usefixtures("both_ways")
@pytest.mark.parametrize("unbiased", [False, True])
@pytest.mark.parametrize("size", [1e-3, 1.0])
def test_bop2(unbiased, size):
    """Bop2 flips by either form of its rule; gamma, sigma, tau and the rate are linear by step."""
    tau, tau_end = (0.4, 0.1) if not unbiased else (0.6, 0.2)
    method = bop2(
        gamma=0.3,
        gamma_end=0.05,
        sigma=1e-2,
        sigma_end=0.4,
        tau=tau,
        tau_end=tau_end,
        unbiased=unbiased,
        real_lr=1e-2,
        real_lr_end=1e-4,
    )
    watched = watch(method, size=size)

    def rule(w, g, state, layer, t):
        now = partial(bop2_rule.linear, t=t, steps=TOTAL)
        rates = {"gamma": now(0.3, 0.05), "sigma": now(1e-2, 0.4), "tau": now(tau, tau_end)}
        return bop2_rule.step(w, g, state, unbiased=unbiased, **rates)

    def real_rule(w, g, state, t):
        return adam_rule.step(w, g, state, lr=bop2_rule.linear(1e-2, 1e-4, t, TOTAL))

    moves_as(watched, rule, start=bop_rule.binarize)
    moves_bias_as(watched, real_rule)
    latents = [seen["one"] for seen in watched.latents[1:]]
    changed = [a != b for x, y in pairwise(latents) for a, b in zip(x, y, strict=True)]
    assert 0.02 < sum(changed) / len(changed) < 0.98


def test_bop2_does_not_hear_the_scale_of_the_loss():
    """A thousand times the loss flips the same weights; Bop's first order would flip others."""
    small, large = (watch(bop2(tau=0.3, tau_end=0.3), size=size) for size in (1e-2, 10.0))

    assert small.latents[1:] == large.latents[1:]


@pytest.mark.parametrize("gradient", GRADIENTS)
@pytest.mark.parametrize(("boost", "decay"), [(1.0, 0.3), (1e9, 5e-4), (1e9, 0.0)])
def test_xnor(gradient, boost, decay):
    """The latents are centred and clipped after each step of Adam on boosted gradients, decayed."""
    watched = watch(xnor(gradient=gradient, lr=0.2, weight_decay=decay, boost=boost))

    def rates(t):
        rate, decaying = xnor_rule.regime(t // STEPS, EPOCHS)
        return {"lr": 0.2 * rate, "decay": decay * decaying, "boost": boost}

    def rule(w, g, state, layer, t):
        n, _ = SIZES[layer]
        w = w if t else xnor_rule.constrain(w, n)  # as the phase begins
        return xnor_rule.step(w, g, state, n=n, gradient=gradient, **rates(t))

    moves_as(watched, rule)
    moves_bias_as(watched, lambda w, g, state, t: xnor_rule.boosted_adam(w, g, state, **rates(t)))


def test_xnor_reaches_the_edge():
    """The comparison would see a wrong edge of a mask: latents are clipped, and others are not."""
    for gradient in GRADIENTS:
        watched = watch(xnor(gradient=gradient, lr=0.2))
        latents = [x for seen in watched.latents for x in seen["one"]]

        assert 0 < sum(abs(x) == 1 for x in latents) < len(latents)


def test_xnor_begins_with_constrained_latents():
    """The first latents are the network's weights, centred and clipped; the network's stay."""
    weights = watch(xnor()).weights[0]
    for layer, (n, _) in SIZES.items():
        for f in xnor_rule.filters(weights[f"{layer}.weight"], n):
            assert 1 == len({abs(x) for x in f}), "a height for each filter"
            assert {True, False} == {x > 0 for x in f}
    w = [[0.3, -2.0, 1.1, 0.1], [0.0, 0.2, 0.4, 9.0]]
    weight = torch.tensor(w, dtype=torch.float64)

    first = xnor().phases[0].start(weight)

    assert xnor_rule.constrain([*w[0], *w[1]], 4) == pytest.approx(first.flatten().tolist())
    assert w == weight.tolist()


def test_xnor_computes_with_heights():
    """The network computes with alpha sign(w), an alpha for each filter."""
    watched = watch(xnor(lr=5e-2))

    for seen, latents in zip(watched.weights, watched.latents, strict=False):
        for layer, (n, _) in SIZES.items():
            expected = xnor_rule.binarize(xnor_rule.constrain(latents[layer], n), n)
            assert expected == pytest.approx(seen[f"{layer}.weight"], rel=1e-9)


@pytest.mark.parametrize("share", [0.5, 1 / 3])
@pytest.mark.parametrize("decay", ["epoch", "step"])
def test_two_step(share, decay):
    """Real weights that decay, then signs with heights; both optimizers fresh, the rate anew."""
    watched = watch(two_step(lr=5e-2, weight_decay=0.3, share=share, decay=decay))
    turn = round(share * EPOCHS)

    def rate(t):
        first, epochs = (0, turn) if t < turn * STEPS else (turn, EPOCHS - turn)
        if decay == "step":
            return 5e-2 * (1 - (t - first * STEPS) / (epochs * STEPS - 1))
        return twostep_rule.learning_rate(5e-2, t // STEPS - first, epochs)

    def fresh(state, t):
        if t == turn * STEPS:
            state.clear()

    def rule(w, g, state, layer, t):
        fresh(state, t)
        if t < turn * STEPS:
            return twostep_rule.binary_activations(w, g, state, lr=rate(t), decay=0.3)
        return twostep_rule.binary_weights(w, g, state, n=SIZES[layer][0], lr=rate(t))

    def real_rule(w, g, state, t):
        fresh(state, t)
        return adam_rule.step(w, g, state, lr=rate(t))

    moves_as(watched, rule)
    moves_bias_as(watched, real_rule)
    for t, (seen, latents) in enumerate(zip(watched.weights, watched.latents, strict=False)):
        w, n = latents["one"], SIZES["one"][0]
        expected = w if t < turn * STEPS else xnor_rule.binarize(w, n)
        assert expected == pytest.approx(seen["one.weight"], rel=1e-12)


def test_two_step_is_selected_from_its_second_step():
    """The networks of the first step are real and are not what the method is after."""
    first, second = two_step().phases

    assert ["binary activations", "binary weights"] == [first.name, second.name]
    assert [False, True] == [first.selectable, second.selectable]


@pytest.mark.parametrize("threshold", [0.7, 0.3])
def test_ternary(threshold):
    """The latents move as the straight-through estimator's; the weights have three values."""
    watched = watch(ternary(lr=5e-2, lr_end=1e-3, threshold=threshold))

    def rule(w, g, state, layer, t):
        rates = {"lr": decayed(5e-2, 1e-3, t), "S": 1 / c_of(layer)}
        return ste_rule.step(w, g, state, hardtanh=False, **rates)

    def real_rule(w, g, state, t):
        return adam_rule.step(w, g, state, lr=decayed(5e-2, 1e-3, t))

    moves_as(watched, rule)
    moves_bias_as(watched, real_rule)
    zeros = 0
    for seen, latents in zip(watched.weights, watched.latents, strict=False):
        for layer in SIZES:
            expected = ternary_rule.ternarize(latents[layer], threshold)
            zeros += expected.count(0.0)
            assert expected == pytest.approx(seen[f"{layer}.weight"], rel=1e-12)
    assert zeros


def test_ternary_begins_inside_the_clip():
    """The first latents are of U(-1, 1), as the straight-through estimator's."""
    watched = watch(ternary())
    generator = torch.Generator().manual_seed(derive(SEED, "training"))
    u = torch.rand(4, 5, generator=generator, dtype=torch.float64).flatten().tolist()

    assert watched.latents[0]["one"] == pytest.approx([2 * x - 1 for x in u], abs=1e-12)


METHODS = {
    "bop": bop(),
    "bop2": bop2(),
    "bop2-unbiased": bop2(unbiased=True),
    **{f"xnor-{gradient}": xnor(gradient=gradient) for gradient in GRADIENTS},
    "two-step": two_step(lr=1e-2),
    "ternary": ternary(),
}
every_method = pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
LAST = 4


def four_classes():
    generator = torch.Generator().manual_seed(2)
    inputs = torch.randn(120, 6, generator=generator)
    targets = inputs[:, :4].argmax(1)
    parts = zip(inputs.split(40), targets.split(40), strict=True)
    return Dataset(*(Split(x, y) for x, y in parts), classes=4)


def training_of(method, activation="rsign", epochs=LAST, seed=5):
    with RandomState(3).in_force():
        model = mlp(shape=(6,), classes=4, depth=2, width=8, activation=activation, dropout=0.1)
    return Training(model, method, four_classes(), cross_entropy(), Settings(epochs, 8, seed))


def told(measured):
    return [m for epoch in measured for m in epoch if not m.metric.startswith("seconds")]


def ended(training):
    """Everything that a finished training leaves: tensors by name."""
    model = {f"model.{k}": v.clone() for k, v in training.model.state_dict().items()}
    return model | {f"latents.{k}": v for k, v in training.latents.state().items()}


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


@every_method
def test_same_seed_same_bits(method):
    """The same seed gives the same measurements and network; another one gives others."""
    trainings = [training_of(method, seed=seed) for seed in (5, 5, 6)]
    measured = [told(training) for training in trainings]
    one, again, other = map(ended, trainings)

    assert measured[0] == measured[1]
    assert same(one, again)
    assert measured[0] != measured[2]
    assert not same(one, other)


def stopped(training, epoch):
    """The measurements up to the end of an epoch, and the state as it is read back from a file."""
    measured, file = [], io.BytesIO()
    for each in training:
        measured.append(each)
        if training.epoch == epoch:
            break
    torch.save(training.state(), file)
    file.seek(0)
    return measured, torch.load(file, weights_only=True)


@every_method
@pytest.mark.parametrize("activation", ["rsign", "ede", "reste"])
def test_taken_up_again(method, activation):
    """After any epoch, a phase's last too, a training goes on from its state with the same bits."""
    whole = training_of(method, activation)
    expected = told(whole)
    for epoch in range(1, LAST):
        before, state = stopped(training_of(method, activation), epoch)
        resumed = training_of(method, activation)
        resumed.load(state)

        assert expected == told([*before, *resumed])
        assert same(ended(whole), ended(resumed))


@every_method
def test_every_method_learns(method):
    """Four epochs on digits, with the published hyperparameters, are far above one in ten."""
    assert accuracies_on_digits(method, 4, cross_entropy())[-1] > 70
