"""Numbers that were worked out elsewhere, for the gradients of the sign and for heights of filters.

And what holds of any latents, whatever they are: a binary weight is never 0.
"""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bnnbench.binarization import binarize
from bnnbench.evaluation import weight_bits
from bnnbench.schedules import Geometric, Progress
from bnnbench_plugins.binarizers import (
    EDE,
    Exponent,
    Identity,
    Quadratic,
    ReSTE,
    Sign,
    SignHardTanh,
    Stochastic,
    Swish,
)
from bnnbench_plugins.bop import Bop, bop
from bnnbench_plugins.bop2 import Bop2, bop2
from bnnbench_plugins.optimizers import ClippedAdam, ClippedSGD
from bnnbench_plugins.ternary import Ternary, ternary
from bnnbench_plugins.twostep import NotYetBinary, two_step
from bnnbench_plugins.xnor import CentredAdam, Scaled, xnor

from .papers import xnor as xnor_rule

X = [-1.5, -1.0, -0.75, -0.25, 0.0, 0.25, 0.75, 1.0, 1.5]
GRADIENTS = ["torch7", "exact", "alpha", "detached"]


@pytest.mark.parametrize(
    ("binarizer", "half"),
    [
        (SignHardTanh(), [1, 1, 1, 1, 0]),
        (Quadratic(), [2, 1.5, 0.5, 0, 0]),
        (Swish(), [5, 2.262, -0.3542, -0.195, -0.0303]),
        (EDE(1.0), [1, 0.94, 0.5966, 0.42, 0.1807]),
        (EDE(10.0), [10, 0.2659, 0, 0, 0]),
        (EDE(0.01), [1, 1, 0.9999, 0.9999, 0.9998]),
        (ReSTE(1.0), [1, 1, 1, 1, 1]),
        (ReSTE(2.0), [3.1623, 1, 0.5774, 0.5, 0.4082]),
        (ReSTE(3.0), [4.6416, 0.8399, 0.4038, 0.3333, 0.2544]),
    ],
    ids=repr,
)
def test_gradients_of_the_sign(binarizer, half):
    """Forward is +-1, +1 for 0; the gradient is even in x and has the published values."""
    x = torch.tensor(X, requires_grad=True)

    y = binarize(x, binarizer)
    (3 * y).sum().backward()

    assert [-1, -1, -1, -1, 1, 1, 1, 1, 1] == y.tolist()
    expected = [*reversed(half[1:]), *half]
    assert [3 * value for value in expected] == pytest.approx(x.grad.tolist(), abs=2e-4)


def swish_sign(x, beta):
    """2 sigma(beta x) (1 + beta x (1 - sigma(beta x))) - 1."""
    sigma = 1 / (1 + math.exp(-beta * x))
    return 2 * sigma * (1 + beta * x * (1 - sigma)) - 1


def reste_root(x, o):
    """sign(x) |x|^(1/o)."""
    return math.copysign(abs(x) ** (1 / o), x)


@pytest.mark.parametrize("x", [-1.4, -0.6, -0.11, 0.3, 0.98, 1.1])
@pytest.mark.parametrize(
    ("binarizer", "surrogate"),
    [
        (Quadratic(), lambda x: math.copysign(2 * abs(x) - x * x if abs(x) < 1 else 1, x)),
        (Swish(), lambda x: swish_sign(x, 5.0)),
        (Swish(2.0), lambda x: swish_sign(x, 2.0)),
        (EDE(0.5), lambda x: 2 * math.tanh(0.5 * x)),
        (EDE(3.0), lambda x: math.tanh(3 * x)),
        (ReSTE(1.7), lambda x: reste_root(x, 1.7)),
        (ReSTE(3.0), lambda x: reste_root(x, 3.0)),
    ],
)
def test_gradients_are_of_their_functions(binarizer, surrogate, x):
    """Away from its kinks each gradient is the slope of the function that stands for the sign."""
    h = 1e-6
    slope = (surrogate(x + h) - surrogate(x - h)) / (2 * h)
    latent = torch.tensor([x], dtype=torch.float64)

    handed = binarizer.backward(latent, torch.ones_like(latent)).item()

    assert handed == pytest.approx(slope, rel=1e-5, abs=1e-7)


def test_cuts_of_reste():
    """Up to 0.1 the slope is the chord's, up to 1.5 the power's, both included; past that 0."""
    x = torch.tensor([0.0, 0.1, 0.1001, 1.5, 1.5001], dtype=torch.float64)

    slopes = ReSTE(3.0).backward(x, torch.ones_like(x)).tolist()

    chord = 0.1 ** (1 / 3) / 0.1
    expected = [chord, chord, 0.1001 ** (-2 / 3) / 3, 1.5 ** (-2 / 3) / 3, 0.0]
    assert expected == pytest.approx(slopes, rel=1e-9)


def test_schedules_of_activations():
    """IR-Net's t is 1e-3 at first and 9.77 in the last of 400 epochs; ReSTE's o leaves 1 slowly."""
    t = [Geometric(1e-3, 10.0)(Progress(7 * e, 2800, e, 400)) for e in (0, 200, 399)]
    o = [Exponent(3.0)(Progress(7 * e, 2100, e, 300)) for e in (0, 100, 200, 300)]

    assert t == pytest.approx([1e-3, 0.1, 9.7724], rel=1e-4)
    assert o == pytest.approx([1, 1 + 2 * (1 - math.sqrt(3) / 2), 2, 3])


@pytest.mark.parametrize(
    ("gradient", "mixed", "lopsided"),
    [
        ("detached", [1, 1, 0, 1], [1, 1, 0, 1]),
        ("alpha", [0.575, 0.575, 0, 0.575], [0.575, 0.575, 0, 0.575]),
        ("torch7", [0.61875, 0.61875, 0.1875, 0.61875], [0.61875, 0.61875, 0.1875, 0.61875]),
        ("exact", [0.575, 0.575, 0, 0.575], [1.075, 1.075, 0.5, 0.075]),
    ],
)
def test_gradients_of_heights(gradient, mixed, lopsided):
    """Four gradients of alpha sign(w) for g = 1, n = C_in = 4; each filter has its own alpha."""
    w = torch.tensor([[0.2, -0.6, 1.4, -0.1], [0.2, 0.6, 1.4, -0.1]])
    scaled = Scaled(gradient)

    handed = scaled.backward(w, torch.ones_like(w))

    torch.testing.assert_close(handed, torch.tensor([mixed, lopsided], dtype=torch.float32))
    both = scaled.forward(torch.cat([w, 10 * w]))
    torch.testing.assert_close(
        both[::2].abs(), torch.tensor([[0.575] * 4, [5.75] * 4]), rtol=1e-6, atol=0
    )


def test_exact_is_autograd():
    """The exact gradient is autograd's of mean|w| times a sign with the clip's gradient."""
    torch.manual_seed(0)
    w = torch.randn(5, 3, 2, 2, dtype=torch.float64, requires_grad=True)
    grad = torch.randn_like(w)

    alpha = w.abs().mean((1, 2, 3), keepdim=True)
    (alpha * binarize(w, SignHardTanh()) * grad).sum().backward()

    torch.testing.assert_close(w.grad, Scaled("exact").backward(w.detach(), grad))


@pytest.mark.parametrize(
    ("gradient", "edge", "inside"),
    [
        ("torch7", 3 / 16, 3 / 4),
        ("exact", 7 / 4, 7 / 4),
        ("alpha", 3 / 4, 3 / 4),
        ("detached", 1, 1),
    ],
)
def test_edge_of_the_clip(gradient, edge, inside):
    """torch7's mask leaves |w| = 1 out, where 1/n keeps it alive; the others have it in."""
    w = torch.tensor([1.0, -1.0, 0.5, -0.5], dtype=torch.float64)  # alpha = 3/4

    handed = Scaled(gradient).backward(w.view(1, 4), w.sign().view(1, 4))

    assert [edge, -edge, inside, -inside] == pytest.approx(handed[0].tolist())


def test_heights_of_convolutions():
    """A convolution's filter is all its kernels: alpha and n count them; 1/C_in does not."""
    torch.manual_seed(1)
    w = torch.randn(2, 3, 2, 2, dtype=torch.float64) / 2
    g = torch.randn_like(w)
    alpha = w.abs().flatten(1).mean(1).view(2, 1, 1, 1)

    handed = Scaled("torch7").backward(w, g)

    torch.testing.assert_close(Scaled().forward(w).abs(), alpha.expand_as(w))
    torch.testing.assert_close(handed, g * (alpha * (w.abs() < 1) + 1 / 12) * (1 - 1 / 3))


def test_one_input_channel():
    """With a single input channel there is nothing to centre, and the gradient does not vanish."""
    w = torch.tensor([[[[0.5, -2.0]]]], dtype=torch.float64)
    w.grad = torch.zeros_like(w)

    handed = Scaled("torch7").backward(w, torch.ones_like(w))
    CentredAdam([w]).step()

    assert [1.25 + 0.5, 0.5] == handed.flatten().tolist()
    assert [0.5, -1.0] == w.flatten().tolist()


def test_centring_is_over_the_input_channels():
    """The mean is taken off for each place of the kernel, not over the whole filter."""
    w = torch.tensor([[[[0.1, 0.7]], [[0.3, 0.1]]]], dtype=torch.float64)
    w.grad = torch.zeros_like(w)

    CentredAdam([w]).step()

    assert w.flatten().tolist() == pytest.approx([-0.1, 0.3, 0.1, -0.3])


def test_regime_of_xnor():
    """The five learning rates and two weight decays of the AlexNet runs of 55 epochs."""
    (phase,) = xnor(boost=1.0).phases
    at = [Progress(2 * e, 110, e, 55) for e in range(55)]
    for scheduled in (phase.binary, phase.real):
        hyper = scheduled.hyper
        factors = [(hyper["lr"](p) / 1e-3, hyper["weight_decay"](p) / 5e-4) for p in at]

        for e, (rate, decay) in enumerate(factors):
            assert (rate, decay) == pytest.approx(xnor_rule.regime(e, 55)), e
    assert [17, 28, 42, 51] == [e for e in range(54) if factors[e][0] != factors[e + 1][0]]
    assert {1e-8 / 1e9} == {
        s.hyper["eps"] for s in (xnor().phases[0].binary, xnor().phases[0].real)
    }


@pytest.mark.parametrize("steps", [500_000, 50_000, 5_000])
def test_rescaled_bop(steps):
    """Gamma times the steps of a stage is 10, 1, 0.1, 0.01, 0.001, whatever their number."""
    (phase,) = bop().phases
    gamma, tau = phase.binary.hyper["gamma"], phase.binary.hyper["tau"]
    fifth = steps // 5
    starts = [Progress(stage * fifth, steps, stage, 5) for stage in range(5)]

    assert [10, 1, 0.1, 0.01, 0.001] == pytest.approx([gamma(at) * fifth for at in starts])
    ratios = [(tau(at) / 1e-8) ** 2 / (gamma(starts[0]) / 1e-4) for at in starts]
    assert ratios == pytest.approx([1.0] * 5)


def test_rescaled_bop_ends_at_one():
    """In very few steps gamma is 1, where the average is the last gradient; it is never more."""
    (phase,) = bop().phases
    gammas = [phase.binary.hyper["gamma"](Progress(t, 10, t, 10)) for t in range(10)]

    assert gammas == pytest.approx([1, 1, 0.5, 0.5, 0.05, 0.05, 0.005, 0.005, 5e-4, 5e-4])


def test_bop_as_it_is():
    """Without rescaling, gamma and tau are those that were given, in a training of any length."""
    (phase,) = bop(gamma=0.25, tau=0.125, stages=1, rescale=False).phases
    hyper = phase.binary.hyper

    assert (0.25, 0.125) == (hyper["gamma"](Progress(3, 10, 0, 1)), hyper["tau"])


def test_ends_of_bop2():
    """The published ends are those of the first and the last step of a training of any length."""
    (phase,) = bop2().phases
    named = {**phase.binary.hyper, "lr": phase.real.hyper["lr"]}
    ends = {"tau": (1e-5, 1e-8), "gamma": (1e-2, 1e-5), "sigma": (1e-7, 1e-2), "lr": (1e-2, 1e-3)}
    for steps in (3, 1000):
        for name, (start, end) in ends.items():
            first, last = (named[name](Progress(t, steps, 0, 1)) for t in (0, steps - 1))
            assert (first, last) == pytest.approx((start, end), rel=1e-9)


@pytest.mark.parametrize(
    ("unbiased", "tau", "flipped"),
    [
        (False, 1.9, [-1, -1, 1, 1, 1]),  # m / sqrt(v) = 0.5 g / (0.25 |g|) = +-2
        (False, 2.1, [1, -1, 1, -1, 1]),
        (True, 0.9, [-1, -1, 1, 1, 1]),  # (m / 0.5) / sqrt(v / 0.0625) = +-1
        (True, 1.1, [1, -1, 1, -1, 1]),
        (False, 0.0, [-1, -1, 1, 1, 1]),
    ],
)
def test_bop2_flips(unbiased, tau, flipped):
    """One step from nothing, with gamma = 1/2 and sigma = 1/16; no gradient is no flip."""
    weight = torch.tensor([1, -1, 1, -1, 1], dtype=torch.float64)
    weight.grad = torch.tensor([0.3, 7.0, -0.3, -1e-3, 0.0], dtype=torch.float64)

    Bop2([weight], gamma=0.5, sigma=0.0625, tau=tau, unbiased=unbiased).step()

    assert flipped == weight.tolist()


def test_epsilon_of_bop2():
    """A gradient far below 1e-10 is not strong for its scale: nothing flips."""
    weight = torch.ones(2, dtype=torch.float64)
    weight.grad = torch.tensor([1e-13, 1e-7], dtype=torch.float64)

    Bop2([weight], gamma=1.0, sigma=1.0, tau=0.5).step()

    assert [1, -1] == weight.tolist()


@pytest.mark.parametrize("wrong", [{"gamma": 0.0}, {"gamma": 1.1}, {"sigma": 0.0}, {"tau": -1.0}])
def test_bop2_refuses(wrong):
    """Averages need a rate in (0, 1], and a threshold is not negative."""
    with pytest.raises(ValueError, match="must hold"):
        Bop2([torch.ones(1)], **wrong)


def test_ternary_weights():
    """Delta is 0.7 of the layer's mean, alpha the mean of what is above; 0 is among the three."""
    w = torch.tensor([[0.1, -0.9, 0.69], [-0.71, 0.5, 3.1]])  # mean |w| = 1: delta = 0.7

    ternarized, signs = Ternary().forward(w), Ternary().signs(w)

    alpha = (0.9 + 0.71 + 3.1) / 3
    torch.testing.assert_close(
        ternarized, alpha * torch.tensor([[0.0, -1.0, 0.0], [-1.0, 0.0, 1.0]])
    )
    torch.testing.assert_close(signs, alpha * torch.tensor([[1.0, -1.0, 1.0], [-1.0, 1.0, 1.0]]))


def test_no_weight_on_delta():
    """What is exactly delta is 0: with a threshold of 1/2, the half of the mean."""
    w = torch.tensor([[0.5, 1.0, 1.5, 1.0]])

    assert [0, 7 / 6, 7 / 6, 7 / 6] == pytest.approx(Ternary(0.5).forward(w)[0].tolist())


@pytest.mark.parametrize(
    ("method", "judged", "modes"),
    [
        (bop2(), "binary", {"binary"}),
        (xnor(), "binary", {"binary", "real"}),
        (two_step(), "binary", {"binary", "real"}),
        (ternary(), "ternary", {"binary", "ternary", "real"}),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_what_methods_are_judged_with(method, judged, modes):
    """Ternary networks are judged with three values, the others with two."""
    assert judged == method.judged
    assert modes == set(method.inference_modes())


@pytest.mark.parametrize(
    ("filters", "bits"),
    [
        ([[1.0, -1.0, 1.0, 1.0, -1.0], [0.5, 0.5, -0.5, 0.5, 0.5]], 1),
        ([[0.0, -0.0, 3.0, 3.0, 0.0]], 1),
        ([[1.0, 0.0, -1.0, 0.0, 1.0], [2.0, 2.0, 2.0, 2.0, 2.0]], 2),
        ([[2.0, 1.0, -1.0, -2.0, 1.0]], 2),
        ([[2.0, 1.0, -1.0, -2.0, 0.0], [1.0, 1.0, 1.0, 1.0, 1.0]], 32),
        ([[1.0, 1.0 + 2**-23, 1.0 - 2**-24, 1.0 + 2**-22, 1.0 - 2**-23]], 32),
    ],
)
def test_bits_are_counted(filters, bits):
    """Two values of a filter are one bit, three and four are two, five are real."""
    weight = torch.tensor(filters)

    assert bits == weight_bits({"a": weight})
    assert bits == weight_bits({"a": weight.view(-1, 5, 1, 1), "b": torch.ones(3, 9)})
    assert bits == weight_bits({"a": weight, "b": torch.ones(3, 9)})


def test_bits_are_of_the_worst_layer():
    """One layer of more bits is a network of more bits; without binary layers all are real."""
    signs, threes = torch.tensor([[1.0, -1.0, 1.0]]), torch.tensor([[1.0, 0.0, -1.0]])

    assert [1, 2, 2] == [
        weight_bits(views)
        for views in ({"a": signs}, {"a": threes}, {"a": signs, "b": threes, "c": signs})
    ]
    assert weight_bits({"a": threes, "b": torch.arange(5.0).view(1, 5)}) == 32
    assert weight_bits({"a": torch.full((1, 5), math.nan)}) == 32
    assert weight_bits({}) == 32


BINARIZERS = [
    *(Identity(), Sign(), SignHardTanh(), Stochastic(), NotYetBinary()),
    *(Quadratic(), Swish(), EDE(0.01), EDE(10.0), ReSTE(1.0), ReSTE(3.0)),
    *(Scaled(gradient) for gradient in GRADIENTS),
    *(Ternary(), Ternary(0.3)),
]
every_binarizer = pytest.mark.parametrize("binarizer", BINARIZERS, ids=repr)
NUMBERS = st.one_of(
    st.sampled_from([0.0, -0.0, 1.0, -1.0, 1e-45, -1e-45, 1e30, -1e30, 3.4e38, 2.0**-24]),
    st.floats(-2, 2, width=32),
    st.floats(width=32, allow_nan=False, allow_infinity=False),
)
LAYERS = st.one_of(
    st.lists(NUMBERS, min_size=12, max_size=12), NUMBERS.map(lambda number: [number] * 12)
)
SHAPES = st.sampled_from([(3, 4), (4, 3), (2, 3, 2, 1), (3, 1, 2, 2)])


@every_binarizer
@settings(max_examples=60, deadline=None)
@given(numbers=LAYERS, shape=SHAPES)
@example(numbers=[0.0] * 12, shape=(3, 4))
@example(numbers=[-0.0] * 12, shape=(2, 3, 2, 1))
@example(numbers=[1e-45] * 12, shape=(3, 4))
@example(numbers=[-3.4e38] * 12, shape=(3, 4))
def test_binary_is_never_zero(binarizer, numbers, shape):
    """Whatever the latents, "binary" has +-s in a filter, s > 0 and finite, with their signs."""
    latent = torch.tensor(numbers).view(shape)

    weight = binarizer.inference_modes()["binary"].view(latent)

    heights = weight.abs().flatten(1)
    assert (heights == heights[:, :1]).all()
    assert ((heights > 0) & heights.isfinite()).all()
    assert (weight > 0).equal(latent >= 0)
    assert weight_bits({"a": weight}) == 1
    assert latent.equal(torch.tensor(numbers).view(shape))


@every_binarizer
@settings(max_examples=60, deadline=None)
@given(numbers=LAYERS, shape=SHAPES)
def test_gradients_are_numbers(binarizer, numbers, shape):
    """Whatever the latents, the gradient is a number, and neither it nor they are written to."""
    latent, grad = torch.tensor(numbers).view(shape), torch.full(shape, 0.5)

    handed = binarizer.backward(latent, grad)

    assert shape == handed.shape
    assert not handed.isnan().any()
    assert latent.equal(torch.tensor(numbers).view(shape))
    assert grad.eq(0.5).all()


@pytest.mark.parametrize("optimizer", [Bop, Bop2])
@settings(max_examples=60, deadline=None)
@given(numbers=LAYERS, pushes=LAYERS)
def test_flips_keep_signs(optimizer, numbers, pushes):
    """Whatever they are given, and pushed by, Bop's weights are +-1 from the start."""
    weight = torch.tensor(numbers)
    made = optimizer([weight])
    assert weight.equal(Sign().forward(torch.tensor(numbers)))

    weight.grad = torch.tensor(pushes)
    made.step()

    assert (weight.abs() == 1).all()


OF_ADAM = {"lr": 0.3, "betas": (0.8, 0.95), "eps": 1e-5}


@pytest.mark.parametrize(
    ("optimizer", "hyper"),
    [
        (ClippedAdam, {**OF_ADAM, "clip": 0.5}),
        (CentredAdam, {**OF_ADAM, "weight_decay": 0.1}),
        (ClippedSGD, {"lr": 0.3, "momentum": 0.4, "clip": 0.5}),
        (Bop, {"gamma": 0.3, "tau": 0.2}),
        (Bop2, {"gamma": 0.3, "sigma": 0.4, "tau": 0.2, "unbiased": True}),
    ],
)
def test_hyperparameters_reach_every_group(optimizer, hyper):
    """What an optimizer is told stands in each of its groups, but for what the group has itself."""
    own = {"params": [torch.ones(2, 2)], next(iter(hyper)): 0.7}

    groups = optimizer([{"params": [torch.ones(2, 2)]}, own], **hyper).param_groups

    told = [{name: group[name] for name in hyper} for group in groups]
    assert [hyper, hyper | {next(iter(hyper)): 0.7}] == told
    assert all(group["fused"] for group in groups if "betas" in group)
