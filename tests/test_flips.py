"""The flip probe counts what loops in plain Python count."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from bnnbench.interfaces import Dataset, Split
from bnnbench.latents import Latents
from bnnbench.layers import BinaryConv2d, BinaryLinear
from bnnbench.probes import FlipProbe
from bnnbench.training import Settings, train
from bnnbench_plugins.binaryconnect import binaryconnect
from bnnbench_plugins.bop import bop
from bnnbench_plugins.losses import squared_hinge

METRICS = ("flip_step", "flip_epoch", "flip_init")


def network():
    return nn.Sequential(
        BinaryConv2d(1, 2, 2, bias=False), nn.Flatten(), BinaryLinear(8, 3, bias=False)
    )


def codes(latents):
    """The signs by layer in plain Python, +1 for zero, and all of them under no name."""
    plain = {
        name: [1 if x >= 0 else -1 for x in latent.flatten().tolist()]
        for name, latent in latents.tensors.items()
    }
    return plain | {"": [sign for signs in plain.values() for sign in signs]}


def changed(now, then):
    return sum(a != b for a, b in zip(now, then, strict=True)) / len(now)


def brute_force(epochs):
    """The figures of each epoch from the codes before training and after each step."""
    start = before = last = epochs[0][0]
    for steps in epochs[1:]:
        figures = {}
        for layer in start:
            shares = []
            previous = last
            for now in steps:
                shares.append(changed(now[layer], previous[layer]))
                previous = now
            figures["flip_step", layer] = sum(shares) / len(shares) if shares else 0.0
            figures["flip_epoch", layer] = changed(previous[layer], before[layer])
            figures["flip_init", layer] = changed(previous[layer], start[layer])
            figures["pi", layer] = math.log(figures["flip_step", layer] + math.exp(-9))
        last = before = steps[-1] if steps else before
        yield figures


def named(measured):
    return {(m.metric, m.layer): m.value for m in measured}


def close(expected, actual):
    return expected.keys() == actual.keys() and all(
        math.isclose(value, actual[key], rel_tol=1e-12, abs_tol=1e-15)
        for key, value in expected.items()
    )


@settings(max_examples=25, deadline=None)
@given(
    steps=st.lists(st.integers(0, 4), min_size=1, max_size=4),
    seed=st.integers(0, 2**32),
    spread=st.sampled_from([0.0, 0.1, 1.0]),
)
def test_brute_force(steps, seed, spread):
    """Per layer and in total, over several epochs, on latents that wander (zeros among them)."""
    generator = torch.Generator().manual_seed(seed)
    latents, probe = Latents(network()), FlipProbe()
    assert list(probe.epoch(latents)) == []
    history, found = [[codes(latents)]], []
    for count in steps:
        history.append([])
        for _ in range(count):
            latents.flips.watch()
            for latent in latents.tensors.values():
                move = spread * torch.randn(latent.shape, generator=generator)
                latent.add_(move).mul_(torch.rand(latent.shape, generator=generator) > 0.1)
            probe.step(latents)
            latents.flips.clear()
            history[-1].append(codes(latents))
        found.append(named(probe.epoch(latents)))

    expected = list(brute_force(history))

    assert all(close(e, f) for e, f in zip(expected, found, strict=True))


class Watch:
    """A probe that keeps the codes, and the network's own weights, after each step."""

    def __init__(self, model):
        self.model, self.history, self.weights = model, [], []

    def step(self, latents):
        self.history[-1].append(codes(latents))
        self.weights[-1].append(latents.state())

    def epoch(self, latents):
        if not self.history:
            self.history.append([codes(latents)])
            self.weights.append([latents.state()])
        self.history.append([])
        self.weights.append([])
        return []


def run(method):
    torch.manual_seed(0)
    model = nn.Sequential(*network(), nn.BatchNorm1d(3))
    inputs, targets = torch.randn(60, 1, 3, 3), torch.randint(3, (60,))
    data = Dataset(*(Split(inputs, targets),) * 3, classes=3)
    watch = Watch(model)
    measured = list(
        train(model, method, data, squared_hinge(), Settings(3, 10, 0), [FlipProbe(), watch])
    )
    flips = [
        {(m.metric, m.layer): m.value for m in epoch if m.metric in (*METRICS, "pi")}
        for epoch in measured[1:-1]
    ]
    return flips, watch


@pytest.mark.usefixtures("both_ways")
def test_flips_of_bop_are_changes_of_its_weights():
    """For Bop a flip is a change of the weight itself."""
    flips, watch = run(bop(gamma=0.1, tau=1e-3))
    steps = [w for epoch in watch.weights[1:] for w in epoch]
    first = {name: torch.where(w >= 0, 1.0, -1.0) for name, w in watch.weights[0][0].items()}
    size = sum(w.numel() for w in first.values())
    changes = [
        sum((now[name] != then[name]).sum().item() for name in now) / size
        for then, now in zip([first, *steps], steps, strict=False)
    ]

    expected = [sum(changes[6 * e : 6 * e + 6]) / 6 for e in range(3)]
    found = [epoch["flip_step", ""] for epoch in flips]

    assert all(math.isclose(e, f) for e, f in zip(expected, found, strict=True))
    assert 0 < expected[0] < 1


@pytest.mark.usefixtures("both_ways")
def test_stochastic_samples_are_no_flips():
    """For stochastic BinaryConnect flips are those of the latents' signs, never of the draws."""
    flips, watch = run(binaryconnect(binarization="stochastic", lr=1e-2, draws=2))

    expected = list(brute_force(watch.history[:-1]))

    assert all(close(e, f) for e, f in zip(expected, flips, strict=True))
    assert expected[0]["flip_step", ""] < 0.2


@pytest.mark.usefixtures("both_ways")
def test_still_latents_never_flip():
    """Where no sign changes there are no flips, though a new network is drawn at every step."""
    flips, _ = run(binaryconnect(binarization="stochastic", lr=1e-9, lr_end=1e-9, draws=2))

    assert {0.0} == {epoch[metric, ""] for epoch in flips for metric in METRICS}
    assert {-9.0} == {epoch["pi", ""] for epoch in flips}
