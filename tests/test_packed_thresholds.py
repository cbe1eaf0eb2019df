"""Thresholds, against torch's own batch normalization on every integer that a sum can be."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from bnnbench.binarization import sign
from bnnbench.errors import DataError
from bnnbench.packed.bits import pack, unpack
from bnnbench.packed.dense import BinaryDense
from bnnbench.packed.thresholds import ALWAYS, Thresholds, batch_norm, turning

#: of each channel mean, variance, gamma and beta: zeros of either sign, tiny and huge
EDGES = torch.tensor(
    list(
        itertools.product(
            (0.0, 3.0, -1e30),
            (0.0, 1e-38, 1e-12, 1.0, 1e30),
            (0.0, -0.0, 1.0, -1.0, 1e-30, -1e-30),
            (0.0, -0.0, 1e-20, -1e-20, 2.0, -2.0),
        )
    )
).T.contiguous()


def drawn(channels, seed, spread=30.0):
    """Mean, variance, gamma and beta as a training may leave them."""
    generator = torch.Generator().manual_seed(seed)
    mean, gamma, beta = (torch.randn(channels, generator=generator) for _ in range(3))
    variance = torch.rand(channels, generator=generator) * spread
    return mean * spread, variance, gamma, beta


def assert_turns_like_torch(thresholds, function, length, step=2):
    """The sign of every integer in every channel is that of training's float32."""
    sums = np.arange(-length, length + 1, step, dtype=np.int32)
    channels = len(thresholds.least)
    values = torch.from_numpy(sums).float()[:, None].repeat(1, channels)
    expected = sign(function(values)).numpy()
    every = np.repeat(sums[:, None], channels, axis=1)
    assert (unpack(thresholds(every), channels) == expected).all()


@pytest.mark.parametrize("length", [1, 2, 7, 64, 785, 1152])
@pytest.mark.parametrize("step", [1, 2])
def test_signs_of_batch_normalization(length, step):
    """For gammas of either sign, on each integer."""
    mean, variance, gamma, beta = drawn(50, length)
    found = batch_norm(length, mean, variance, gamma, beta, step=step)

    assert found.falls.any()
    assert not found.falls.all()
    assert_turns_like_torch(
        found, lambda x: functional.batch_norm(x, mean, variance, gamma, beta), length, step
    )


def test_the_same_with_images_and_whole_networks():
    """What torch computes of images in either memory order is what was looked at."""
    mean, variance, gamma, beta = drawn(33, 5)
    found = batch_norm(40, mean, variance, gamma, beta)
    sums = torch.randint(-20, 21, (3, 33, 7, 5), generator=torch.Generator().manual_seed(1)) * 2
    packed = found(sums.permute(0, 2, 3, 1).numpy().astype(np.int32))

    for order in (torch.contiguous_format, torch.channels_last):
        x = sums.float().contiguous(memory_format=order)
        expected = functional.batch_norm(x, mean, variance, gamma, beta).permute(0, 2, 3, 1)
        assert (packed == pack(expected.contiguous().numpy())).all()


def test_edges():
    """gamma 0, beta of either sign or 0, variances that are tiny or huge, huge means."""
    mean, variance, gamma, beta = EDGES
    found = batch_norm(99, mean, variance, gamma, beta)

    assert_turns_like_torch(
        found, lambda x: functional.batch_norm(x, mean, variance, gamma, beta), 99
    )
    of_nothing = (gamma == 0).numpy()
    assert (found.least[of_nothing] == ALWAYS).all()


def test_zero_is_plus_one():
    """A sum at which the normalization is exactly 0 is +1, whether it rises or falls."""
    zero, one = torch.zeros(2), torch.ones(2)
    found = batch_norm(4, zero, one, torch.tensor([1.0, -1.0]), zero, eps=0.0)

    assert unpack(found(np.array([[-2, -2], [0, 0], [2, 2]], np.int32)), 2).tolist() == [
        [-1, 1],
        [1, 1],
        [1, -1],
    ]


@pytest.mark.parametrize("shifted", [False, True])
def test_scales_and_shifts_of_filters(shifted):
    """alpha may be negative or 0; a bias is added as training adds it."""
    mean, variance, gamma, beta = drawn(60, 3, spread=5.0)
    scale = torch.linspace(-0.1, 0.1, 60)
    shift = torch.linspace(3, -5, 60) if shifted else None
    found = batch_norm(300, mean, variance, gamma, beta, 1e-3, scale=scale, shift=shift)

    def function(x):
        x = x * scale if shift is None else x * scale + shift
        return functional.batch_norm(x, mean, variance, gamma, beta, eps=1e-3)

    assert_turns_like_torch(found, function, 300)


def test_without_gamma_and_beta():
    """A normalization that is not affine, and no normalization at all."""
    mean, variance, _, _ = drawn(20, 9)
    found = batch_norm(50, mean, variance)
    assert_turns_like_torch(found, lambda x: functional.batch_norm(x, mean, variance), 50)
    assert_turns_like_torch(turning(lambda x: x, 50, 20), lambda x: x, 50)
    assert (turning(lambda x: x, 50, 20).least == 0).all()


def test_what_is_between_and_saturates():
    """Activations that are flat in parts still turn only once."""
    mean, variance, gamma, beta = drawn(40, 11)

    def function(x):
        return functional.hardtanh(functional.batch_norm(x, mean, variance, gamma, beta)) - 0.25

    assert_turns_like_torch(turning(function, 101, 40), function, 101)


@given(st.integers(1, 300), st.integers(0, 2**31), st.sampled_from([1e-3, 1.0, 1e3]))
@settings(max_examples=40, deadline=None)
def test_any_normalization(length, seed, spread):
    """Whatever the parameters."""
    mean, variance, gamma, beta = drawn(9, seed, spread)
    assert_turns_like_torch(
        batch_norm(length, mean, variance, gamma, beta),
        lambda x: functional.batch_norm(x, mean, variance, gamma, beta),
        length,
    )


def test_more_values_than_are_looked_at_in_one_go(monkeypatch):
    """Long rows are looked at in parts, with the same result."""
    mean, variance, gamma, beta = drawn(7, 2, spread=200.0)
    whole = batch_norm(1001, mean, variance, gamma, beta)
    monkeypatch.setattr("bnnbench.packed.thresholds.TOGETHER", 50)
    parts = batch_norm(1001, mean, variance, gamma, beta)

    assert (whole.least == parts.least).all()
    assert (whole.falls == parts.falls).all()


def test_from_one_layer_to_the_next_without_unpacking():
    """Three dense layers with normalizations give the bits that training's float32 gives."""
    generator = torch.Generator().manual_seed(4)
    widths = [100, 70, 65, 33]
    x = sign(torch.randn(20, widths[0], generator=generator))
    words = pack(x.numpy())
    for number, (k, m) in enumerate(itertools.pairwise(widths)):
        w = sign(torch.randn(m, k, generator=generator))
        norm = drawn(m, number, spread=8.0)
        x = sign(functional.batch_norm(functional.linear(x, w), *norm))
        layer = BinaryDense(pack(w.numpy()), k)
        words = layer.signs(words, batch_norm(k, *norm))
        assert (words == pack(x.numpy())).all()


def test_the_example_of_the_documentation():
    """Its signs are those of torch's layers."""
    text = (Path(__file__).parents[1] / "docs" / "packed.md").read_text()
    names: dict[str, Any] = {}
    exec(text.split("```python\n")[1].split("```")[0], names)

    real = functional.linear(sign(names["inputs"]), sign(names["weight"]))
    assert (names["signs"] == sign(names["norm"](real)).detach().numpy()).all()


def test_a_function_that_turns_twice_is_refused():
    """The line names the channel."""
    with pytest.raises(DataError, match="channel 2 does both"):
        turning(lambda x: (x.abs() - 3) * torch.tensor([0.0, 0.0, 1.0]), 9, 3)
    with pytest.raises(DataError, match="channel 0 does both"):
        turning(lambda x: 3 - x.abs(), 9, 1)


def test_what_is_not_a_number_is_refused():
    """As where a training has diverged."""
    mean = torch.tensor([0.0, float("nan")])
    with pytest.raises(DataError, match="NaN"):
        batch_norm(9, mean, torch.ones(2))
    with pytest.raises(DataError, match="as many"):
        turning(lambda x: x[:, :1], 9, 3)


@pytest.mark.parametrize(
    ("least", "falls"),
    [
        (np.zeros(3, np.int64), np.zeros(3, bool)),
        (np.zeros(3, np.int32), np.zeros(3, np.int8)),
        (np.zeros(3, np.int32), np.zeros(2, bool)),
        (np.zeros((3, 1), np.int32), np.zeros((3, 1), bool)),
        (np.zeros(0, np.int32), np.zeros(0, bool)),
    ],
)
def test_thresholds_of_other_kinds_are_refused(least, falls):
    """One int32 and one truth value for each channel."""
    with pytest.raises(DataError, match="thresholds are"):
        Thresholds(least, falls)
