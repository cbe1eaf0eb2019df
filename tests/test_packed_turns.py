"""Where real sums turn, against torch's own sign of float32 numbers of all kinds."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from bnnbench.binarization import sign
from bnnbench.errors import DataError
from bnnbench.layers import BinaryActivation, BinaryConv2d, BinaryLinear
from bnnbench.packed import vectors
from bnnbench.packed.bits import unpack
from bnnbench.packed.turns import real_turning
from bnnbench_plugins.binarizers import SignHardTanh

from .test_packed_thresholds import EDGES, drawn
from .test_packing import binarized, norm, packed

INF, NAN = math.inf, math.nan
ODD = [0.0, -0.0, 1e-45, -1e-45, 1e-38, -1e-38, 3.4e38, -3.4e38, INF, -INF, NAN, 1.0, -1.0]


def any_numbers(count, seed):
    """Float32 of any bits, the odd ones first."""
    bits = np.random.default_rng(seed).integers(0, 2**32, count, np.uint32)
    return np.concatenate([np.array(ODD, np.float32), bits.view(np.float32)])


def next_door(turns):
    """Of each channel the number at which it turns, and 40 on either side."""
    at = (turns.direction * turns.least).astype(np.float32)
    up, down = [at], [at]
    for _ in range(40):  # beyond infinity is infinity
        up.append(np.nextafter(up[-1], np.float32(INF)))
        down.append(np.nextafter(down[-1], np.float32(-INF)))
    return np.stack([*down[::-1], *up])


def assert_signs_of_torch(function, channels, seed=0, count=3000):
    """The comparison is the sign of the function, in every channel."""
    turns = real_turning(function, channels)
    some = np.repeat(any_numbers(count, seed)[:, None], channels, axis=1)
    with np.errstate(all="ignore"):
        x = np.concatenate([some, next_door(turns)])
    expected = sign(function(torch.from_numpy(x))).numpy()
    assert (unpack(turns(x), channels) == expected).all()
    return turns


def test_batch_normalization():
    """Of gammas of either sign and of any float32, infinite ones and NaN among them."""
    norm = drawn(70, 1)
    turns = assert_signs_of_torch(lambda x: functional.batch_norm(x, *norm), 70)

    assert {-1.0, 1.0} == {*turns.direction.tolist()}
    assert np.isfinite(turns.least).all()


def test_edges():
    """gamma 0, beta of either sign or 0, variances that are tiny or huge, huge means."""
    turns = assert_signs_of_torch(lambda x: functional.batch_norm(x, *EDGES), EDGES.shape[1])

    nothing = (EDGES[2] == 0).numpy()
    assert ((turns.direction == 0) == nothing).all()


def normalized(x, seed):
    return functional.batch_norm(x, *drawn(65, seed))


BETWEEN = {
    "nothing": lambda x: x,
    "scaled": lambda x: x * torch.linspace(-2, 2, 65),
    "shifted": lambda x: x + torch.linspace(-2, 2, 65),
    "clipped": lambda x: functional.hardtanh(x - 3, -1, 1) + torch.linspace(-2, 2, 65),
    "relu": lambda x: functional.relu(x - 3) - 1,
    "always": lambda x: functional.relu(x),
    "never": lambda x: functional.hardtanh(x, -3, -1),
    "slopes": lambda x: functional.prelu(x, torch.tensor([0.25])) + torch.linspace(-2, 2, 65),
    "twice": lambda x: functional.batch_norm(
        functional.batch_norm(x, *drawn(65, 2)), *drawn(65, 3)
    ),
}


@pytest.mark.parametrize("name", BETWEEN)
def test_what_may_lie_between(name):
    """Whatever torch does to each channel by itself, if it never turns back."""
    assert_signs_of_torch(BETWEEN[name], 65)


@given(st.integers(1, 130), st.integers(0, 2**31), st.sampled_from([1e-6, 1.0, 1e6]))
@settings(max_examples=25, deadline=None)
def test_any_normalization(channels, seed, spread):
    """Whatever the parameters, and however many channels a word has to spare."""
    norm = drawn(channels, seed, spread)
    assert_signs_of_torch(lambda x: functional.batch_norm(x, *norm), channels, seed, count=200)


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("shape", [(64,), (5, 64), (2, 3, 4, 130)])
def test_shapes(shape, compiled, monkeypatch):
    """Channels are last, whatever stands before them; with numpy alone the words are the same."""
    monkeypatch.setattr(vectors, "COMPILED", compiled)
    norm = drawn(shape[-1], 3)
    turns = real_turning(lambda x: functional.batch_norm(x, *norm), shape[-1])
    x = 30 * np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    x[..., ::2] = (turns.direction * turns.least)[::2]  # where they just turn

    rows = torch.from_numpy(x).reshape(-1, shape[-1])
    expected = sign(functional.batch_norm(rows, *norm)).numpy().reshape(shape)
    assert (unpack(turns(x), shape[-1]) == expected).all()
    assert turns(x[..., ::-1]).tolist() == turns(x[..., ::-1].copy()).tolist()


def test_images_turn_where_rows_do():
    """What torch makes of a number is the same in an image of either memory order."""
    norm = drawn(33, 5)
    turns = real_turning(lambda x: functional.batch_norm(x, *norm), 33)
    near = next_door(turns)[23:58].reshape(5, 7, 33)[None]

    for order in (torch.contiguous_format, torch.channels_last):
        x = torch.from_numpy(near).permute(0, 3, 1, 2).contiguous(memory_format=order)
        expected = sign(functional.batch_norm(x, *norm)).permute(0, 2, 3, 1).numpy()
        assert (unpack(turns(near), 33) == expected).all()


@pytest.mark.parametrize(
    ("place", "value"), [(0, NAN), (0, INF), (1, NAN), (2, INF), (2, NAN), (3, NAN), (3, INF)]
)
def test_what_is_not_a_number_is_refused(place, value):
    """Parameters that are infinite or NaN, as where a training has diverged."""
    norm = [torch.ones(3) for _ in range(4)]
    norm[place][1] = value
    with pytest.raises(DataError, match="NaN of some"):
        real_turning(lambda x: functional.batch_norm(x, *norm), 3)


def test_a_variance_of_0_is_refused():
    """Without an eps it divides by 0."""
    norm = (torch.zeros(1), torch.zeros(1), torch.ones(1), torch.zeros(1))
    with pytest.raises(DataError, match="NaN of some"):
        real_turning(lambda x: functional.batch_norm(x, *norm, eps=0.0), 1)


# in a network


def layers(kind, generator, *between):
    """A binary layer of real inputs, what is between it and a sign, and a layer of bits."""
    if kind == "dense":
        return [
            BinaryLinear(9, 70), norm(nn.BatchNorm1d, 70, generator), *between,
            BinaryActivation(SignHardTanh()), BinaryLinear(70, 4, bias=False),
        ]  # fmt: skip
    return [
        BinaryConv2d(1, 70, 3, padding=1), norm(nn.BatchNorm2d, 70, generator), *between,
        BinaryActivation(SignHardTanh()), nn.Flatten(), BinaryLinear(630, 4, bias=False),
    ]  # fmt: skip


def both(kind, *between, size=1.0):
    """A network as it is computed, fused and node by node, and its inputs."""
    generator = torch.Generator().manual_seed(1)
    torch.manual_seed(0)
    network = binarized(nn.Sequential(*layers(kind, generator, *between)), -size, size)
    shape = (9,) if kind == "dense" else (1, 3, 3)
    made = (packed(network, shape, 4, fused=fused) for fused in (True, False))
    return *made, network, 3 * torch.randn(50, *shape, generator=generator)


@pytest.mark.parametrize("kind", ["dense", "convolution"])
@pytest.mark.parametrize("size", [1.0, 0.3])
@pytest.mark.parametrize("between", [[], [nn.Hardtanh(), nn.PReLU()]], ids=["norm", "more"])
def test_a_layer_and_its_sign_are_one_step(kind, size, between):
    """Bit for bit what the nodes give one by one, with gammas of both signs and 0, and a bias."""
    fused, plain, network, x = both(kind, *between, size=size)

    names = [step.name for step in fused.steps]
    assert [node.op for node in fused.description.nodes if node.name == names[0]] == ["sign"]
    assert torch.equal(fused(x), plain(x))
    same = torch.isclose(fused(x), network(x), atol=1e-4).all(1)
    assert same.float().mean() > 0.9  # but for sums that torch rounds to the other side


def slopes(value):
    made = nn.PReLU(70)
    made.weight.data.fill_(value)
    return made


def test_what_falls_and_rises_is_not_fused():
    """A slope below 0 turns what a normalization gives the other way round."""
    fused, plain, _, x = both("dense", slopes(-0.5))

    assert [step.name for step in fused.steps] == [step.name for step in plain.steps]
    assert torch.equal(fused(x), plain(x))


def test_what_is_not_a_number_is_not_fused():
    """Then the sign is that of what torch makes of it."""
    diverged = nn.BatchNorm1d(70)
    diverged.running_mean[3] = INF
    fused, plain, _, x = both("dense", diverged)

    assert len(fused.steps) == len(plain.steps)
    assert torch.equal(fused(x), plain(x))


class Twice(nn.Module):
    """A layer whose normalized sums are needed twice."""

    def __init__(self):
        super().__init__()
        self.first, self.norm = BinaryLinear(9, 6), nn.BatchNorm1d(6)
        self.act, self.last = BinaryActivation(SignHardTanh()), nn.Linear(6, 4)
        self.beside = nn.Linear(6, 4)

    def forward(self, x):
        y = self.norm(self.first(x))
        return self.beside(y) + self.last(self.act(y))


def test_sums_that_others_need_are_not_fused():
    """They are there for both."""
    network = binarized(Twice())
    x = torch.randn(20, 9)
    fused, plain = (packed(network, (9,), 4, fused=fused) for fused in (True, False))

    assert len(fused.steps) == len(plain.steps)
    assert torch.equal(fused(x), plain(x))
