"""What is true of any architecture, any schedule and any division into phases, not of one."""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import pairwise
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bnnbench.latents import Latents
from bnnbench.layers import activation_bits, real_parameters
from bnnbench.methods import Method
from bnnbench.roles import roles
from bnnbench.schedules import (
    Geometric,
    Linear,
    LinearEpochs,
    Pieces,
    Progress,
    Rescaled,
    Staircase,
    Stairs,
)
from bnnbench_plugins.architectures.binarynet import binarynet
from bnnbench_plugins.architectures.mlp import mlp

KINDS = ("binary", "real")
ACTIVATIONS = {"relu": 32, "hardtanh": 32, "rprelu": 32, "sign": 1, "quadratic": 1, "swish": 1}
ACTIVATIONS |= {"ede": 1, "reste": 1, "rsign": 1}

options = st.fixed_dictionaries(
    {
        "activation": st.sampled_from(sorted(ACTIVATIONS)),
        "first": st.sampled_from(KINDS),
        "last": st.sampled_from(KINDS),
        "dropout": st.sampled_from([0.0, 0.5]),
        "classes": st.integers(2, 5),
    }
)


def check_roles(model, weights, chosen):
    """Every parameter has one role; the binary ones are the weights that the options say."""
    found = {role["parameter"]: role for role in roles(model)}
    named = dict(model.named_parameters())
    outer = {weights[0]: "first", weights[-1]: "last"}
    binary = [name for name in weights if chosen.get(outer.get(name, ""), "binary") == "binary"]

    assert list(named) == [role["parameter"] for role in roles(model)]
    assert {n: list(p.shape) for n, p in named.items()} == {n: r["shape"] for n, r in found.items()}
    assert binary == [name for name, role in found.items() if role["role"] == "binary"]
    assert {"binary", "real"} >= {role["role"] for role in found.values()}
    assert outer == {name: role["place"] for name, role in found.items() if role["place"]}
    latents, real = Latents(model), real_parameters(model)
    moved = [*latents.weights.values(), *real.values()]
    assert len(moved) == len({id(p) for p in moved}) == len(named)
    assert {id(p) for p in moved} == {id(p) for p in named.values()}
    assert len(latents) == sum(named[name].numel() for name in binary)
    assert activation_bits(model) == ACTIVATIONS[chosen["activation"]]


@settings(max_examples=50, deadline=None)
@given(chosen=options, depth=st.integers(1, 4), width=st.integers(1, 8), side=st.integers(1, 5))
def test_roles_in_an_mlp(chosen, depth, width, side):
    """Binary are the dense layers' weights, but for an outer one that is to be real."""
    model = mlp(shape=(side, side), depth=depth, width=width, **chosen)

    check_roles(model, [f"dense{n}.weight" for n in range(1, depth + 2)], chosen)


@settings(max_examples=25, deadline=None)
@given(chosen=options, width=st.integers(1, 3), channels=st.integers(1, 3))
def test_roles_in_a_binarynet(chosen, width, channels):
    """Binary are the six convolutions and the three dense layers, but for a real outer one."""
    model = binarynet(shape=(channels, 8, 8), width=width, dense=4, **chosen)

    weights = [f"conv{n}.weight" for n in range(1, 7)] + [f"dense{n}.weight" for n in (7, 8, 9)]
    check_roles(model, weights, chosen)
    assert (2, chosen["classes"]) == model(torch.randn(2, channels, 8, 8)).shape


positive = st.floats(1e-9, 1e3)
factors = st.floats(0.1, 3.0)


@st.composite
def moments(draw):
    """A moment of a stage: its step lies in its epoch."""
    epochs, steps = draw(st.integers(1, 300)), draw(st.integers(1, 50))
    epoch = draw(st.integers(0, epochs - 1))
    step = epoch * steps + draw(st.integers(0, steps - 1))
    return Progress(step, epochs * steps, epoch, epochs)


def close(expected, actual):
    return actual == pytest.approx(expected, rel=1e-9, abs=1e-300)


@given(at=moments(), start=positive, end=positive)
def test_geometric(at, start, end):
    """A straight line of logarithms over the epochs, which stops one short of the end."""
    e, E = at.epoch, at.epochs

    expected = math.exp(((E - e) * math.log(start) + e * math.log(end)) / E)

    assert close(expected, Geometric(start, end)(at))


@given(at=moments(), start=positive, end=positive)
def test_linear(at, start, end):
    """A straight line over the steps that has both ends; one step has the first."""
    t, T = at.step, at.total

    expected = ((T - 1 - t) * start + t * end) / (T - 1) if T > 1 else start

    assert close(expected, Linear(start, end)(at))


@given(at=moments(), start=positive)
def test_linear_epochs(at, start):
    """So many epochs are left after this one, of all: 0 in the last."""
    left = len(range(at.epoch + 1, at.epochs))

    assert LinearEpochs(start)(at) == pytest.approx(start * left / at.epochs, abs=1e-12 * start)


@given(at=moments(), start=positive, factor=st.floats(0.99, 1.01), interval=st.integers(1, 400))
def test_stairs(at, start, factor, interval):
    """One factor after each step that is a multiple of the interval, step 0 among them."""
    passed = [k for k in range(at.step) if k % interval == 0]

    stairs = Stairs(start, factor, Fraction(at.total, interval))

    assert close(start * math.prod([factor] * len(passed)), stairs(at))


@given(at=moments(), start=positive, factor=factors, stages=st.integers(1, 12))
def test_staircase(at, start, factor, stages):
    """One factor for each equal stage that is over."""
    over = [k for k in range(1, stages) if Fraction(k, stages) * at.total <= at.step]

    assert close(start * math.prod([factor] * len(over)), Staircase(start, factor, stages)(at))


@given(at=moments(), start=positive, data=st.data())
def test_pieces(at, start, data):
    """The factor of the piece that began last."""
    begins = data.draw(st.sets(st.integers(1, at.epochs), max_size=5))
    pieces = [(k, data.draw(factors)) for k in sorted({0, *begins})]

    expected = start * next(f for k, f in reversed(pieces) if k <= at.epoch)

    assert close(expected, Pieces(start, tuple((k / at.epochs, f) for k, f in pieces))(at))


@given(
    at=moments(),
    value=positive,
    steps=st.integers(1, 10**6),
    power=st.sampled_from([0.5, 1.0, 2.0]),
    most=st.floats(1e-6, 1e6) | st.just(math.inf),
    scheduled=st.booleans(),
)
def test_rescaled(at, value, steps, power, most, scheduled):
    """Times the power of the ratio of lengths, of a number or of a schedule, but not above most."""
    inner = Linear(value, 2 * value) if scheduled else value
    now = value * (1 + at.step / max(at.total - 1, 1)) if scheduled else value

    expected = min(most, now * math.exp(power * (math.log(steps) - math.log(at.total))))

    assert close(expected, Rescaled(inner, steps, power, most)(at))


@given(total=st.integers(1, 3000), steps=st.integers(1, 10**6), value=positive)
def test_rescaled_keeps_the_sum(total, steps, value):
    """With power 1 the sum over the training is the published one, whatever its length."""
    schedule = Rescaled(value, steps)

    assert close(value * steps, total * schedule(Progress(0, total, 0, 1)))


BC, IR_NET = Geometric(3e-3, 2e-6), Geometric(1e-3, 10.0)
BOP, BOP_IMAGENET = Staircase(1e-4, 0.1, 5), Linear(1e-4, 1e-6)
BETA, MD_LR = Stairs(1.0, 1.02, 500), Stairs(1e-3, 0.3, Fraction(10, 3))
REACTNET, LINEAR_TO_ZERO = LinearEpochs(2.5e-3), Linear(1e-2, 0.0)


@pytest.mark.parametrize(
    ("schedule", "at", "expected"),
    [
        (BC, Progress(0, 500_000, 0, 500), 3e-3),
        (BC, Progress(999, 500_000, 0, 500), 3e-3),
        (BC, Progress(1000, 500_000, 1, 500), 3e-3 * 0.9854807),
        (BC, Progress(499_999, 500_000, 499, 500), 2.0294666e-6),
        (BOP, Progress(99_999, 500_000, 99, 500), 1e-4),
        (BOP, Progress(100_000, 500_000, 100, 500), 1e-5),
        (BOP, Progress(499_999, 500_000, 499, 500), 1e-8),
        (BOP_IMAGENET, Progress(0, 1000, 0, 10), 1e-4),
        (BOP_IMAGENET, Progress(999, 1000, 9, 10), 1e-6),
        (BETA, Progress(0, 100_000, 0, 1), 1.0),
        (BETA, Progress(1, 100_000, 0, 1), 1.02),
        (BETA, Progress(200, 100_000, 0, 1), 1.02),
        (BETA, Progress(201, 100_000, 0, 1), 1.0404),
        (BETA, Progress(99_999, 100_000, 0, 1), 19956.569),
        (MD_LR, Progress(0, 100_000, 0, 1), 1e-3),
        (MD_LR, Progress(1, 100_000, 0, 1), 3e-4),
        (MD_LR, Progress(30_000, 100_000, 0, 1), 3e-4),
        (MD_LR, Progress(30_001, 100_000, 0, 1), 9e-5),
        (REACTNET, Progress(0, 1280, 0, 128), 2.5e-3 * 127 / 128),
        (REACTNET, Progress(9, 1280, 0, 128), 2.5e-3 * 127 / 128),
        (REACTNET, Progress(1270, 1280, 127, 128), 0.0),
        (LINEAR_TO_ZERO, Progress(351_999, 352_000, 999, 1000), 0.0),
        (IR_NET, Progress(399, 400, 399, 400), 9.7723722),
    ],
)
def test_published_indexing(schedule, at, expected):
    """Where the published programs change a value first, and whether they reach its end."""
    assert schedule(at) == pytest.approx(expected, rel=1e-6, abs=1e-18)


@given(
    parts=st.lists(st.tuples(st.integers(1, 50), st.booleans()), min_size=1, max_size=6),
    more=st.integers(0, 60),
)
def test_phases_share_the_epochs(parts, more):
    """Phases follow each other without a gap, each has an epoch; a stage is a run of phases."""
    total, epochs = sum(size for size, _ in parts), len(parts) + more
    phases = [
        SimpleNamespace(share=size / total, continues=number > 0 and continues, selectable=True)
        for number, (size, continues) in enumerate(parts)
    ]
    method = Method("m", tuple(phases))
    spans, stages = method.spans(epochs), method.stages(epochs)

    assert (0, epochs) == (spans[0][0], spans[-1][1])
    assert all(end == first for (_, end), (first, _) in pairwise(spans))
    assert all(first < end for first, end in spans)
    assert all(a <= first and end <= b for (a, b), (first, end) in zip(stages, spans, strict=True))
    for (phase, before, stage), span in zip(
        zip(phases[1:], stages, stages[1:], strict=False), spans[1:], strict=True
    ):
        assert stage == before if phase.continues else stage[0] == span[0] == before[1]
