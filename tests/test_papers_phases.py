"""Methods with phases move as their papers' rules do, through every lock, and can be taken up.

The rules in plain Python floats are in ``papers``; they run beside the training loop as in
``test_papers``.
"""

from __future__ import annotations

import io
import math
import warnings
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bnnbench.binarization import sign
from bnnbench.training import Settings, Training
from bnnbench_plugins.bmd import bmd
from bnnbench_plugins.bnew import bnew, relaxed
from bnnbench_plugins.bop import Latentless
from bnnbench_plugins.frozen import frozen_random
from bnnbench_plugins.proxquant import proxquant

from .papers import adam as adam_rule
from .papers import binaryconnect as bc
from .papers import bmd as bmd_rule
from .papers import bnew as bnew_rule
from .papers import proxquant as prox_rule
from .test_papers import EPOCHS, SIZES, STEPS, decayed, moves_as, moves_bias_as, watch
from .test_training import DATA, LOSS, network, timeless

T = EPOCHS * STEPS


def weights_are(watched, weight):
    """Assert that the network computed with ``weight(latents, t, layer)`` in every step t."""
    for t, seen in enumerate(watched.weights):
        for layer in SIZES:
            assert seen[f"{layer}.weight"] == pytest.approx(
                weight(watched.latents[t][layer], t, layer), rel=1e-9, abs=1e-12
            ), (layer, t)


# Mirror descent


RATES = {
    "stairs": lambda t: bmd_rule.learning_rate(5e-2, 0.6, t, T),
    "linear": lambda t: bnew_rule.learning_rate(5e-2, t, T),
}
BETAS = {
    "step": lambda t: bmd_rule.sharpness_by_step(40.0, 7, t, T),
    "epoch": lambda t: bmd_rule.sharpness_by_epoch(40.0, t // STEPS, EPOCHS),
}
every_ramp = pytest.mark.parametrize("ramp", BETAS)
every_decay = pytest.mark.parametrize("decay", RATES)


def mirror(variant, ramp, decay, **more):
    method = bmd(
        variant=variant,
        ramp=ramp,
        decay=decay,
        beta_final=40.0,
        updates=7,
        lr=5e-2,
        lr_scale=0.6,
        **more,
    )
    return watch(method)


@pytest.mark.usefixtures("both_ways")
@every_decay
@every_ramp
def test_md_tanh_s(ramp, decay):
    """The dual moves by the gradient at tanh(beta w), as it is and without a clip."""
    watched = mirror("md-tanh-s", ramp, decay)

    def rule(w, g, state, layer, t):
        return bmd_rule.stable(w, g, state, lr=RATES[decay](t))

    moves_as(watched, rule)
    weights_are(watched, lambda w, t, layer: bmd_rule.weights(w, beta=BETAS[ramp](t)))
    moves_bias_as(watched, lambda w, g, state, t: adam_rule.step(w, g, state, lr=RATES[decay](t)))


@pytest.mark.usefixtures("both_ways")
@every_decay
@every_ramp
def test_gd_tanh(ramp, decay):
    """The dual moves by its own gradient, through tanh."""
    watched = mirror("gd-tanh", ramp, decay)

    def rule(w, g, state, layer, t):
        return bmd_rule.through(w, g, state, lr=RATES[decay](t), beta=BETAS[ramp](t))

    moves_as(watched, rule)
    weights_are(watched, lambda w, t, layer: bmd_rule.weights(w, beta=BETAS[ramp](t)))


@every_decay
@every_ramp
def test_md_tanh(ramp, decay):
    """The weight itself moves by the closed form, from the tanh of the first weight on."""
    watched = mirror("md-tanh", ramp, decay)

    def rule(b, g, state, layer, t):
        return bmd_rule.closed_adam(b, g, state, lr=RATES[decay](t), beta=BETAS[ramp](t))

    moves_as(watched, rule, start=lambda w: bmd_rule.weights(w, beta=1.0))
    weights_are(watched, lambda b, t, layer: b if t else bmd_rule.weights(b, beta=1.0))


@every_decay
@every_ramp
def test_md_softmax_s(ramp, decay):
    """A dual variable for each of two levels gives the weights of half their difference."""
    watched = mirror("md-softmax-s", ramp, decay)

    def rule(w, g, state, layer, t):
        if "u" not in state:
            middle = [math.sin(i) for i in range(len(w))]  # any: only the difference counts
            state["u"] = [[c - x for c, x in zip(middle, w, strict=True)]]
            state["u"] += [[c + x for c, x in zip(middle, w, strict=True)]]
        u0, u1 = state["u"]
        seen = watched.weights[t][f"{layer}.weight"]
        beta = BETAS[ramp](t)
        assert seen == pytest.approx(bmd_rule.level_weights(u0, u1, beta=beta), rel=1e-9), t
        u0, u1, _ = bmd_rule.levels(u0, u1, g, state, lr=RATES[decay](t), beta=beta)
        state["u"] = [u0, u1]
        return [(x1 - x0) / 2 for x0, x1 in zip(u0, u1, strict=True)]

    moves_as(watched, rule)


def test_md_softmax_s_begins_with_a_difference():
    """Its first dual variable is half of a draw less another, which has the same values."""
    draws = watch(bmd()).latents[0]
    halves = watch(bmd(variant="md-softmax-s")).latents[0]
    for layer, w in draws.items():
        other = [x - 2 * half for x, half in zip(w, halves[layer], strict=True)]

        assert sorted(other) == pytest.approx(sorted(w))
        assert other != pytest.approx(w)


def test_mirrors_saturate():
    """The comparison would see a wrong beta: in the end most weights are nearly +-1, not all."""
    for variant, near in (("md-tanh-s", 0.99), ("md-tanh", 0.7)):
        seen = mirror(variant, "step", "stairs").weights[-1]["one.weight"]

        assert 0 < sum(abs(b) > near for b in seen) < len(seen)


@pytest.mark.parametrize("variant", ["md-tanh-s", "md-tanh", "gd-tanh", "md-softmax-s"])
def test_locked_mirrors(variant):
    """A lock takes the signs, and the real parameters go on along the same schedule."""
    watched, locked = mirror(variant, "step", "linear", lock=0.4), 4 * STEPS  # of 6 epochs

    for layer in SIZES:
        signs = bc.binarize(watched.latents[locked][layer], H=1.0)
        assert all(seen[layer] == signs for seen in watched.latents[locked + 1 :])
        assert any(seen[layer] != signs for seen in watched.latents[: locked + 1])
    assert {-1.0, 1.0} == set(watched.weights[locked]["one.weight"])
    moves_bias_as(
        watched, lambda w, g, state, t: adam_rule.step(w, g, state, lr=RATES["linear"](t))
    )


# BNEW


def stage(t, relax):
    """The step of the stage that t is in, the steps of this stage, and whether t relaxes."""
    if t < relax * STEPS:
        return t, relax * STEPS, True
    return t - relax * STEPS, T - relax * STEPS, False


def hardening(t, relax, budget, ramp):
    at, steps, relaxes = stage(t, relax)
    if relaxes:
        return 0.0
    start = budget / steps
    if ramp == "step":
        return bnew_rule.strength_by_step(start, at, steps)
    return bnew_rule.strength(start, at // STEPS, EPOCHS - relax)


@pytest.mark.usefixtures("both_ways")
@pytest.mark.parametrize("scale", ["none", "filter"])
@pytest.mark.parametrize("budget", [18.0, 35.0, 90.0])
@pytest.mark.parametrize("ramp", ["epoch", "step"])
@pytest.mark.parametrize("order", ["reg_then_adam", "adam_then_reg"])
@pytest.mark.parametrize(("relax", "epochs"), [(0.0, 0), (1 / 6, 1), (1 / 3, 2)])
def test_bnew(relax, epochs, order, ramp, budget, scale):
    """Relax, harden with a new Adam, lock, and nothing; all by lambda, which has no rate in it."""
    method = bnew(
        budget=budget, lr=5e-2, relax=relax, lock=0.3, order=order, ramp=ramp, scale=scale
    )
    watched = watch(method)
    locked = method.spans(EPOCHS)[-1][0] * STEPS
    filters = {"one": 4, "two": 3} if scale == "filter" else dict.fromkeys(SIZES)

    def rule(w, g, state, layer, t):
        at, steps, _ = stage(t, epochs)
        if at == 0:
            state.clear()
        if t >= locked:
            if t == locked:
                state["locked"] = bnew_rule.lock(w, filters=filters[layer])
            return state["locked"]
        lr = bnew_rule.learning_rate(5e-2, at, steps)
        return bnew_rule.step(
            w, g, state, lr=lr, lam=hardening(t, epochs, budget, ramp), order=order
        )

    def real_rule(w, g, state, t):
        at, steps, _ = stage(t, epochs)
        if at == 0:
            state.clear()
        return adam_rule.step(w, g, state, lr=bnew_rule.learning_rate(5e-2, at, steps))

    assert 0 < locked < T
    moves_as(watched, rule)
    moves_bias_as(watched, real_rule)
    # the lock comes before the step: the network computes with what it leaves
    weights_are(watched, lambda w, t, layer: watched.latents[t + (t == locked)][layer])


def test_bnew_reaches_the_edge():
    """The comparison would see a wrong edge: weights are clipped, go outside, and are inside."""
    watched = watch(bnew(budget=18.0, lr=5e-2, relax=0.0, lock=0.3))
    seen = [abs(x) for latents in watched.latents[1 : 4 * STEPS] for x in latents["one"]]

    assert any(x > 1 for x in seen)
    assert any(x < 0.9 for x in seen)
    after = watch(bnew(budget=18.0, lr=5e-2, relax=0.0, lock=0.3, order="adam_then_reg"))
    assert any(abs(x) == 1 for x in after.latents[3 * STEPS]["one"])
    assert not any(abs(x) > 1 for latents in after.latents for x in latents["one"])


@pytest.mark.usefixtures("both_ways")
def test_relaxed():
    """BNEW's first phase alone: Adam in the hull, with a rate that falls to 0."""
    watched = watch(relaxed(lr=2e-1))

    def rule(w, g, state, layer, t):
        lr = bnew_rule.learning_rate(2e-1, t, T)
        return bnew_rule.step(w, g, state, lr=lr, lam=0.0)

    moves_as(watched, rule)
    weights_are(watched, lambda w, t, layer: w)
    assert any(abs(x) > 1 for latents in watched.latents for x in latents["one"])


# ProxQuant


@pytest.mark.usefixtures("both_ways")
@pytest.mark.parametrize(("harden", "epochs"), [(2 / 3, 4), (0.5, 3), (0.1, 1)])
@pytest.mark.parametrize("budget", [0.5, 3.0])
def test_proxquant(budget, harden, epochs):
    """Adam, the prox and the clip; then the signs stay and the real parameters go on."""
    watched, lr = watch(proxquant(budget=budget, lr=5e-2, harden=harden)), 5e-2
    locked = epochs * STEPS
    reg = budget / (lr * STEPS * sum(range(epochs))) if epochs > 1 else 0.0

    def rule(w, g, state, layer, t):
        if t >= locked:
            return bc.binarize(w, H=1.0)
        r = prox_rule.strength(lr, reg, t // STEPS) if epochs > 1 else budget / STEPS
        return prox_rule.step(w, g, state, lr=lr, r=r)

    moves_as(watched, rule)
    moves_bias_as(watched, lambda w, g, state, t: adam_rule.step(w, g, state, lr=lr))
    before = watched.latents[locked - 1]["one"]
    assert any(abs(x) < 1 for x in before) or budget > 1
    assert watched.weights[-1]["one.weight"] == watched.latents[-1]["one"]


# Random weights


def test_frozen_random():
    """Random signs stay what they are; the real parameters follow Adam with a decaying rate."""
    watched = watch(frozen_random(lr=1e-2, lr_end=1e-4))

    assert {-1.0, 1.0} == set(watched.latents[0]["one"])
    for layer in SIZES:
        assert all(seen[layer] == watched.latents[0][layer] for seen in watched.latents)
    weights_are(watched, lambda w, t, layer: w)
    moves_bias_as(
        watched, lambda w, g, state, t: adam_rule.step(w, g, state, lr=decayed(1e-2, 1e-4, t))
    )


def test_frozen_random_is_a_fair_draw():
    """The signs do not come from the network's own weights, which may all be positive."""
    torch.manual_seed(0)
    weights = frozen_random().initialize(torch.full((100, 100), 0.5))

    assert {-1.0, 1.0} == set(weights.unique().tolist())
    assert abs(weights.mean().item()) < 0.05  # five standard deviations


# Whatever the method


METHODS = {
    "frozen-random": frozen_random,
    "relaxed": relaxed,
    "bnew": lambda: bnew(lock=0.4),
    "bnew-unrelaxed": lambda: bnew(relax=0.0, lock=0.4),
    "bnew-filter": lambda: bnew(lock=0.4, scale="filter", order="adam_then_reg", ramp="step"),
    "proxquant": proxquant,
    "md-tanh-s": lambda: bmd(lr=1e-2),
    "md-tanh-s-locked": lambda: bmd(ramp="epoch", lr=1e-2, decay="linear", lock=0.3),
    "md-tanh": lambda: bmd(variant="md-tanh", lr=1e-2),
    "md-tanh-locked": lambda: bmd(variant="md-tanh", lr=1e-2, lock=0.3),
    "gd-tanh": lambda: bmd(variant="gd-tanh", beta_final=10.0, lr=1e-2),
    "md-softmax-s": lambda: bmd(variant="md-softmax-s", lr=1e-2),
}
every_method = pytest.mark.parametrize("build", METHODS.values(), ids=METHODS)


def training_of(method, epochs=5, seed=0):
    setting = Settings(epochs=epochs, batch_size=20, seed=seed, test=True)
    return Training(network(), method, DATA, LOSS, setting)


def bits(training):
    state = training.model.state_dict()
    return {name: x.clone() for name, x in [*state.items(), *training.latents.state().items()]}


def equal(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def epochs_of(training):
    """The measurements of each epoch, while the training stands at its end."""
    for measured in training:
        if training.stretch and measured[0].metric != "selected_epoch":
            yield measured


@every_method
@settings(max_examples=3, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), epochs=st.integers(3, 8))
def test_binary_weights_are_binary(build, seed, epochs):
    """In "binary" mode a filter has one absolute value, not 0, at every epoch of every phase."""
    training, phases = training_of(build(), epochs, seed), set()
    for measured in epochs_of(training):
        phases.add(training.stretch.number)
        binary = training.stretch.modes["binary"].view
        for latent in training.latents.tensors.values():
            locked = isinstance(training.stretch.binarizer, Latentless)
            for w in (latent,) if locked else (latent, latent * 0, latent * -0.0):
                heights = binary(w).abs().flatten(1)
                assert heights.eq(heights[:, :1]).all()
                assert heights.gt(0).all()
        assert "binary" in {m.mode for m in measured if m.metric == "accuracy"}
    assert phases == set(range(len(training.method.phases)))


@every_method
def test_same_seed_same_bits(build):
    """The same seed gives the same bits, another others."""
    runs = [training_of(build(), seed=seed) for seed in (0, 0, 1)]
    measured = [timeless(list(run)) for run in runs]

    assert measured[0] == measured[1]
    assert equal(bits(runs[0]), bits(runs[1]))
    assert not equal(bits(runs[0]), bits(runs[2]))


@every_method
@pytest.mark.parametrize("cut", [1, 2, 3, 4])
def test_taken_up_at_any_epoch(build, cut):
    """A run of five epochs is one of a few, saved, loaded elsewhere and ended, bit for bit."""
    whole, first, second = (training_of(build()) for _ in range(3))
    expected = list(whole)
    epochs = iter(first)
    for _ in range(cut + 1):
        next(epochs)
    file = io.BytesIO()
    torch.save(first.state(), file)
    file.seek(0)

    second.load(torch.load(file, weights_only=True))
    rest = list(second)

    assert timeless(expected[cut + 1 :]) == timeless(rest)
    assert equal(bits(whole), bits(second))


@every_method
def test_cuts_are_at_every_boundary(build):
    """The cuts of the test above are before, at and after each boundary of five epochs."""
    ends = [end for _, end in build().spans(5)]

    assert ends[-1] == 5
    assert set(ends[:-1]) <= {1, 2, 3, 4}
    assert all(a < b for a, b in pairwise(ends))


@pytest.mark.parametrize("set_to_none", [True, False])
@pytest.mark.parametrize("name", ["bnew", "bnew-filter", "proxquant", "md-tanh-s-locked"])
def test_locked_weights_stay(name, set_to_none, monkeypatch):
    """Locked weights keep every bit, with gradients of zero or none, while real parameters move."""
    plain = torch.optim.Optimizer.zero_grad
    monkeypatch.setattr(
        torch.optim.Optimizer, "zero_grad", lambda self: plain(self, set_to_none=set_to_none)
    )
    training = training_of(METHODS[name](), epochs=20)
    seen = [bits(training) for _ in epochs_of(training) if training.stretch.phase.continues]

    assert len(seen) >= 5
    for latent in training.latents.tensors:
        assert all(torch.equal(seen[0][latent], later[latent]) for later in seen)
    assert any(not torch.equal(seen[0][p], seen[1][p]) for p in seen[0] if "norm" in p)


@pytest.mark.parametrize("method", [bmd, bnew, frozen_random, proxquant, relaxed])
def test_no_warning_by_default(method):
    """A method with its own defaults, all of them, has nothing to warn of."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        method()


def test_handed_over_weights_are_projected():
    """Random signs give way to the signs of weights that another run hands over."""
    method = frozen_random()
    weight = torch.tensor([[0.3, -0.2], [0.0, -4.0]])

    assert torch.equal(method.phases[0].start(weight), sign(weight))
