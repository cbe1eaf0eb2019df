"""The compiled pass does what the operations one after the other do, on random latents."""

from __future__ import annotations

import itertools
import math
import os
import subprocess
import sys

import pytest
import torch
from torch import nn

from bnnbench import chance, kernels, updates
from bnnbench.elementwise import Movement, Projection, clip
from bnnbench.errors import PluginError
from bnnbench.latents import Latents
from bnnbench.layers import BinaryConv2d, BinaryLinear
from bnnbench.updates import OnePass, Separate, can_compile
from bnnbench_plugins.binarizers import Identity, Sign, SignHardTanh, Stochastic
from bnnbench_plugins.bmd import Tanh, TanhGradient
from bnnbench_plugins.bnew import Bnew, Relaxed
from bnnbench_plugins.bop import Bop, Latentless
from bnnbench_plugins.bop2 import Bop2
from bnnbench_plugins.optimizers import ClippedAdam, ClippedSGD, FusedAdam
from bnnbench_plugins.proxquant import ProxAdam
from bnnbench_plugins.ternary import Ternary
from bnnbench_plugins.xnor import CentredAdam

from .conftest import ROOT
from .papers.chance import uniform

PAIRS = {
    "real": (Identity(), FusedAdam, {"lr": 1e-2, "weight_decay": 1e-2}),
    "ste": (SignHardTanh(), ClippedAdam, {"lr": 5e-2}),
    "bc-adam": (Sign("glorot"), ClippedAdam, {"lr": 5e-2, "clip": 0.5}),
    "bc-sgd": (Sign(0.5), ClippedSGD, {"lr": 5e-2, "momentum": 0.9}),
    "bc-stochastic": (Stochastic(0.5), ClippedSGD, {"lr": 5e-2}),
    "bop": (Latentless(), Bop, {"gamma": 0.3, "tau": 0.2}),
    "bop2": (Latentless(), Bop2, {"gamma": 0.3, "sigma": 0.6, "tau": 0.5}),
    "bop2-unbiased": (Latentless(), Bop2, {"tau": 0.5, "unbiased": True}),
    "bmd": (Tanh(3.0), FusedAdam, {"lr": 5e-2}),
    "gd-tanh": (TanhGradient(0.5), FusedAdam, {"lr": 5e-2}),  # near 1 - b^2 = 0 all digits go
    "bnew": (Relaxed(), Bnew, {"lr": 5e-2, "lam": 0.1}),
    "bnew-imagenet": (Relaxed(), Bnew, {"lr": 5e-2, "lam": 0.1, "order": "adam_then_reg"}),
    "proxquant": (Relaxed(), ProxAdam, {"lr": 5e-2, "r": 0.05}),
}
every_pair = pytest.mark.parametrize("name", PAIRS)


def network(dtype=torch.float32, memory_format=torch.contiguous_format, device="cpu"):
    """A convolution and a dense layer with more weights than a block, and no multiple of it."""
    torch.manual_seed(7)
    model = nn.Sequential(
        BinaryConv2d(3, 5, 3), BinaryLinear(kernels.BLOCK + 37, 3), BinaryLinear(1, 1)
    )
    return model.to(device, dtype).to(memory_format=memory_format)


class Moved:
    """The latents of a network under one of the two ways, with gradients of random numbers."""

    def __init__(self, way, name, **layout):
        self.binarizer, kind, hyper = PAIRS[name]
        self.latents = Latents(network(**layout), lambda w: torch.randn_like(w) * 0.7)
        self.optimizer = kind(self.latents.groups(), **hyper)
        self.update = way(self.latents, self.optimizer)

    def go(self, steps, seed=0):
        """Yield the codes before each step, and what the network computes with after it."""
        generator = torch.Generator().manual_seed(seed)
        torch.manual_seed(seed)
        self.update.project(self.binarizer)
        for step in range(steps):
            before = self.latents.codes()
            for weight in self.latents.weights.values():
                weight.grad = torch.empty_like(weight).copy_(
                    torch.randn(weight.shape, generator=generator, dtype=weight.dtype)
                )
            following = self.binarizer if step + 1 < steps else None
            self.update.step(self.binarizer, following)
            if following:
                self.update.project(following)
            yield before
            self.latents.flips.clear()


def weights_after(moved, steps):
    """What the network computes with after each step but one more, which leaves none behind."""
    for _ in itertools.islice(moved.go(steps + 1), steps):
        yield {name: weight.detach().clone() for name, weight in moved.latents.weights.items()}


def assert_alike(first, second, tolerance):
    for name, latent in first.latents.tensors.items():
        other = second.latents.tensors[name]
        torch.testing.assert_close(latent, other, rtol=tolerance, atol=tolerance)


@every_pair
def test_both_ways_agree(name):
    """Latents and flips after every step are the same, but for the rounding of float32."""
    one, other = Moved(OnePass, name), Moved(Separate, name)
    flips = 0

    for _ in zip(one.go(6), other.go(6), strict=True):
        assert_alike(one, other, 2e-5)
        counted, compared = one.latents.flips.by_layer(), other.latents.flips.by_layer()
        assert {k: int(v) for k, v in counted.items()} == {k: int(v) for k, v in compared.items()}
        flips += sum(counted.values())

    assert flips > 0


@every_pair
def test_next_weights_agree(name):
    """The weights that the pass leaves behind are those that the binarizer makes of the latents."""
    one, other = (list(weights_after(Moved(way, name), 3)) for way in (OnePass, Separate))

    for found, expected in zip(one, other, strict=True):
        torch.testing.assert_close(found, expected, rtol=2e-5, atol=2e-5)


@every_pair
def test_flips_are_counted_exactly(name):
    """The pass counts what a loop over the signs counts, from step to step."""
    moved = Moved(OnePass, name)
    for before in moved.go(5):
        now = moved.latents.codes()
        for layer, flips in moved.latents.flips.by_layer().items():
            pairs = zip(before[layer].flatten(), now[layer].flatten(), strict=True)
            assert sum(bool(a) != bool(b) for a, b in pairs) == flips


@pytest.mark.parametrize("name", ["bc-adam", "bc-stochastic", "bmd"])
def test_threads_change_no_bit(name, monkeypatch):
    """On two threads each weight becomes what it becomes on one."""
    alone = Moved(OnePass, name)
    list(alone.go(3))
    monkeypatch.setattr("bnnbench.threads.follow_torch_threads", lambda: 2)
    together = Moved(OnePass, name)
    assert together.update.run.keywords["parallel"]
    list(together.go(3))

    for layer, latent in alone.latents.tensors.items():
        assert torch.equal(latent, together.latents.tensors[layer])


@pytest.mark.parametrize("threads", [1, 2])
def test_a_pass_leaves_torch_its_threads(threads):
    """Products go on with as many threads as torch was given, though numba starts more."""
    code = f"""
import torch
from tests.test_updates import Moved, OnePass
torch.set_num_threads({threads})
moved = Moved(OnePass, "bc-adam")
assert moved.update.run.keywords["parallel"] == ({threads} > 1)
list(moved.go(2))
print(torch.get_num_threads())
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**os.environ, "NUMBA_NUM_THREADS": "4", "PYTHONSAFEPATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )

    assert str(threads) == done.stdout.strip(), done.stderr


@pytest.mark.parametrize("name", ["bc-adam", "bc-stochastic"])
def test_memory_order_is_kept(name):
    """With channels last, gradients in any order find their weights."""
    last = {"memory_format": torch.channels_last}
    one, other = Moved(OnePass, name, **last), Moved(Separate, name, **last)
    convolution = one.latents.tensors["0"]
    assert not convolution.is_contiguous()

    for _ in zip(one.go(3), other.go(3), strict=True):
        assert_alike(one, other, 2e-5)


def test_a_gradient_of_another_order():
    """A gradient that lies in another memory order than its latent finds the same places."""
    one, other = (Moved(way, "ste") for way in (OnePass, Separate))
    for moved in (one, other):
        torch.manual_seed(3)
        moved.update.project(moved.binarizer)
        for weight in moved.latents.weights.values():
            grad = torch.randn_like(weight)
            weight.grad = grad.transpose(0, 1).contiguous().transpose(0, 1)
        moved.update.step(moved.binarizer, None)

    assert_alike(one, other, 2e-5)


@every_pair
def test_nothing_is_read_that_was_not_written(name):
    """Weights full of NaN before the pass are the new weights after it, whatever they were."""
    clean, poisoned = Moved(OnePass, name), Moved(OnePass, name)
    for moved in (clean, poisoned):
        torch.manual_seed(5)
        moved.update.project(moved.binarizer)
        for weight in moved.latents.weights.values():
            weight.grad = torch.randn_like(weight)
            if moved is poisoned:
                weight.data.fill_(math.nan)
        moved.update.step(moved.binarizer, moved.binarizer)

    for layer, weight in clean.latents.weights.items():
        assert torch.equal(weight, poisoned.latents.weights[layer])
        assert torch.isfinite(weight).all()


@pytest.mark.parametrize("name", ["real", "bc-adam", "bnew", "bmd"])
def test_not_a_number_stays(name):
    """A gradient that is not a number is not hidden by a clip."""
    moved = Moved(OnePass, name)
    for weight in moved.latents.weights.values():
        weight.grad = torch.full_like(weight, math.nan)
    moved.update.step(moved.binarizer, None)

    assert all(latent.isnan().all() for latent in moved.latents.tensors.values())


def test_uniform_numbers_are_those_of_the_formula():
    """Both forms of the hash give what Python's integers give, for keys of all sizes."""
    torch.manual_seed(0)
    keys = [(0, 0), (2**32 - 1, 2**32 - 1), (2**31, 1), *(chance.draw_key() for _ in range(5))]
    for key in keys:
        plain = [uniform(i, *key) for i in range(500)]
        assert plain == chance.uniform(torch.empty(20, 25), key).flatten().tolist()
        places = [kernels.U32((key[0] + i) % 2**32) for i in range(9)]
        hashed = [int(kernels._hash(place, kernels.U32(key[1]))) for place in places]
        assert plain[:9] == [(h >> 8) / 2**24 for h in hashed]


def test_uniform_numbers_are_uniform_and_independent():
    """Pairs of neighbours, of places and of keys fall into 64 x 64 cells as chance has it.

    Keys with the same first half too, which meet wherever two first halves are less than a layer
    apart. Pearson's statistic and the correlation, at five standard deviations.
    """
    torch.manual_seed(1)
    (first, second), other = chance.draw_key(), chance.draw_key()
    one, two, half = (
        chance.uniform(torch.empty(1 << 20, dtype=torch.float64), key)
        for key in ((first, second), other, (first, other[1]))
    )
    for a, b in ((one[1:], one[:-1]), (one, two), (one, half), (one[1:], half[:-1])):
        cells = ((a * 64).long() * 64 + (b * 64).long()).bincount(minlength=64**2).double()
        expected, freedom = len(a) / 64**2, 64**2 - 1
        statistic = float(((cells - expected) ** 2 / expected).sum())
        assert abs(statistic - freedom) < 5 * math.sqrt(2 * freedom)
        assert abs(float(torch.corrcoef(torch.stack((a, b)))[0, 1])) < 5 / math.sqrt(len(a))


def test_tanh_is_close():
    """The compiled tanh of float32 is within 4e-7 of the exact one, everywhere, and odd."""
    x = torch.cat([torch.linspace(0, 12, 10_001), torch.tensor([0.0, 1e-30, math.inf])])
    x = torch.cat([x, -x])
    found = torch.tensor([float(kernels._tanh(v)) for v in x.numpy()])
    exact = x.double().tanh()

    assert float((found - exact).abs().max()) < 4e-7
    assert float(((found - exact).abs() / exact.abs().clamp_min(1e-30)).max()) < 4e-7
    assert torch.equal(
        *(found * torch.tensor([[1.0], [-1.0]]).expand(2, len(x) // 2).flatten()).chunk(2)
    )


class Stubborn(ClippedAdam):
    """An optimizer with a step of its own, and a rule that it only inherits."""

    def step(self, closure=None):
        return None


def test_an_inherited_rule_is_not_used():
    """A subclass that changes the step is moved by its own step."""
    latents = Latents(network())
    optimizer = ClippedAdam(latents.groups())
    assert can_compile(latents, Sign(), optimizer)
    assert not can_compile(latents, Sign(), Stubborn(latents.groups()))
    assert not can_compile(latents, Ternary(), optimizer)
    assert not can_compile(latents, Sign(), CentredAdam(latents.groups()))
    assert not can_compile(Latents(network(torch.float16)), Sign(), optimizer)


def test_the_way_depends_on_the_work(monkeypatch):
    """What is too little to win back a compilation is not compiled, unless it is asked for."""
    latents = Latents(network())
    optimizer = ClippedAdam(latents.groups())
    enough = math.ceil(updates.WORTH / len(latents))
    ways = {
        (way, steps): type(updates.update_of(latents, Sign(), optimizer, way, steps))
        for way in ("auto", "compiled", "separate")
        for steps in (enough - 1, enough)
    }

    assert {Separate} == {ways["separate", enough], ways["separate", enough - 1]}
    assert {OnePass} == {ways["compiled", enough], ways["compiled", enough - 1]}
    assert (Separate, OnePass) == (ways["auto", enough - 1], ways["auto", enough])
    monkeypatch.setattr(updates, "find_spec", lambda name: None)
    assert Separate is type(updates.update_of(latents, Sign(), optimizer, "compiled", 1))


def _branching(w, g, lr):
    return clip(w - lr * g, -1.0, 1.0) if hash((w, g)) else open("x")  # noqa: PTH123


class Branching(torch.optim.SGD):
    def elementwise(self, group, step):
        return Movement(_branching, (group["lr"],))


def test_a_rule_that_does_not_compile():
    """Its author is told which rule, and what a rule may be."""
    latents = Latents(network())
    update = OnePass(latents, Branching(latents.groups(), lr=0.1))
    for weight in latents.weights.values():
        weight.grad = torch.ones_like(weight)

    with pytest.raises(PluginError, match="plain arithmetic on numbers, but _branching with"):
        update.step(Sign(), None)


def test_literals_have_the_precision_of_the_weights():
    """A rule with literals computes in float32 as torch does, and not in double precision."""
    w = torch.rand(1000)
    expected = ((w * 0.1 + 0.7) * 3.3).to(torch.float32)
    out = torch.empty_like(w)
    grads = torch.zeros_like(w)
    kernels.run(
        (_still, _scaled, Projection(_scaled).backward, False),
        (w, grads, out), [], ((), (), ()), (0, 0), parallel=False,
    )  # fmt: skip

    assert torch.equal(expected, out)


def _still(w, g):
    return w


def _scaled(w):
    return _inner(w) * 3.3


def _inner(w):
    return w * 0.1 + 0.7
