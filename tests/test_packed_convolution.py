"""Convolutions on packed bits, against loops over plain numbers."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bnnbench.errors import DataError
from bnnbench.packed import convolution, product, sums
from bnnbench.packed.bits import pack, pack_images
from bnnbench.packed.convolution import (
    BinaryConvolution,
    Geometry,
    RealConvolution,
    pack_filters,
    unpack_filters,
)
from bnnbench.packed.pooling import Pooling, pooled
from bnnbench.packed.thresholds import ALWAYS, Thresholds


def signs(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 2, shape) * 2 - 1


def convolved(x, w, g, pad):
    """The sums (n, h', w', filters) of images (n, c, h, w), filter by filter, place by place."""
    (kh, kw), (sh, sw), (ph, pw), (dh, dw) = g.kernel, g.stride, g.padding, g.dilation
    wide = np.pad(x, ((0, 0), (0, 0), (ph, ph), (pw, pw)), constant_values=pad)
    rows = range(0, wide.shape[2] - dh * (kh - 1), sh)
    columns = range(0, wide.shape[3] - dw * (kw - 1), sw)
    found = np.zeros((len(x), len(rows), len(columns), len(w)), x.dtype)
    deep, part = x.shape[1] // g.groups, len(w) // g.groups
    for f, (i, y), (j, z) in itertools.product(range(len(w)), enumerate(rows), enumerate(columns)):
        first = f // part * deep
        patch = wide[:, first : first + deep, y : y + dh * kh : dh, z : z + dw * kw : dw]
        found[:, i, j, f] = (patch[:, :, :kh, :kw] * w[f]).sum((1, 2, 3))
    return found


def assert_equal_sums(x, w, geometry, pad):
    """Sums, signs and real inputs agree with the loops."""
    expected = convolved(x, w, geometry, pad)
    layer = BinaryConvolution(pack_filters(w), x.shape[1], geometry, pad)
    images = pack_images(x.astype(np.float32))

    found = layer(images)
    assert found.dtype == np.int32
    assert (found == expected).all()

    thresholds = Thresholds(
        np.resize([0, 1, -2, 3, ALWAYS], len(w)).astype(np.int32),
        np.resize([False, True], len(w)),
    )
    reached = (expected >= thresholds.least) != thresholds.falls
    assert (layer.signs(images, thresholds) == pack(reached)).all()

    real = 7 * np.random.default_rng(1).integers(-9, 10, x.shape)
    layer = RealConvolution(pack_filters(w), x.shape[1], geometry, pad)
    found = layer(np.ascontiguousarray(real.transpose(0, 2, 3, 1)).astype(np.float32))
    assert found.dtype == np.float32
    assert (found == convolved(real, w, geometry, pad)).all()


@pytest.mark.parametrize("pad", [-1, 0, 1])
@pytest.mark.parametrize("stride", [(1, 1), (2, 1), (2, 3)])
@pytest.mark.parametrize("padding", [(0, 0), (1, 1), (2, 1), (3, 4)])
@pytest.mark.parametrize("dilation", [(1, 1), (2, 1), (1, 3)])
def test_stride_padding_and_dilation(pad, stride, padding, dilation):
    """With every kind of padding, also with more of it than the filter is large."""
    geometry = Geometry((3, 2), stride, padding, dilation)
    assert_equal_sums(signs(2, 3, 6, 7), signs(5, 3, 3, 2, seed=1), geometry, pad)


@pytest.mark.parametrize("pad", [-1, 0, 1])
@pytest.mark.parametrize("channels", [1, 2, 31, 32, 63, 64, 65, 96, 128, 130])
def test_every_place_of_a_channel_in_its_words(channels, pad):
    """The bits of a patch are closed up, whether or not channels fill their words."""
    geometry = Geometry((3, 3), padding=(1, 1))
    x, w = signs(1, channels, 4, 5), signs(3, channels, 3, 3, seed=1)
    assert_equal_sums(x, w, geometry, pad)


@pytest.mark.parametrize(("groups", "deep"), [(2, 3), (3, 33), (2, 64), (4, 1), (70, 1), (5, 13)])
def test_groups(groups, deep):
    """Each group of filters sees its own channels, as far as to one channel each."""
    geometry = Geometry((2, 3), padding=(1, 0), groups=groups)
    x, w = signs(2, groups * deep, 4, 4), signs(2 * groups, deep, 2, 3, seed=1)
    for pad in (-1, 0, 1):
        assert_equal_sums(x, w, geometry, pad)


def every(*shape):
    """All arrays of signs of a shape, one after the other."""
    return np.array([*itertools.product([-1, 1], repeat=int(np.prod(shape)))]).reshape(-1, *shape)


FILTERS, PICTURES = every(1, 2, 2), every(1, 3, 3)  # 16 and 512: all that there are
BORDERS = [(0, 0), (1, -1), (1, 0), (1, 1)]  #: how wide, and of what


@pytest.mark.parametrize("stride", [*itertools.product((1, 2), (1, 2))])
@pytest.mark.parametrize(("wide", "pad"), BORDERS)
def test_every_small_convolution(wide, pad, stride):
    """All 2x2 filters of one channel give all 3x3 images the sums of the loops, exhaustively."""
    assert (len(FILTERS), len(PICTURES)) == (2**4, 2**9)
    geometry = Geometry((2, 2), stride, (wide, wide))
    assert_equal_sums(PICTURES, FILTERS, geometry, pad)


@given(st.sampled_from([1, 2]), st.sampled_from(BORDERS), st.integers(0, 2**31))
@settings(max_examples=20, deadline=None)
def test_every_small_convolution_in_groups(stride, border, seed):
    """So they do in two groups: every filter, every image in each, beside whatever is in the other.

    All pairs of images are too many (2^18); each run of this test has 512 others.
    """
    (wide, pad), random = border, np.random.default_rng(seed)
    x = np.concatenate([PICTURES, random.permutation(PICTURES)], axis=1)
    w = np.concatenate([FILTERS, random.permutation(FILTERS)])
    assert_equal_sums(x, w, Geometry((2, 2), (stride, stride), (wide, wide), groups=2), pad)


@pytest.mark.parametrize("way", ["tables", "counts", "plain"])
def test_every_way_of_counting(way, monkeypatch):
    """Kinds of places have the right base in each pass; 1x1 filters need no patches."""
    if way == "tables" and "avx2" not in product._features():
        pytest.skip("byte shuffles of 32 bytes need AVX2")
    monkeypatch.setattr(product, "fastest", lambda: way)
    geometry = Geometry((3, 3), (2, 2), (1, 1))
    assert_equal_sums(signs(3, 40, 7, 6), signs(35, 40, 3, 3, seed=1), geometry, 0)
    assert_equal_sums(signs(2, 70, 3, 4), signs(35, 70, 1, 1, seed=1), Geometry((1, 1)), 0)


def test_many_runs_of_patches(monkeypatch):
    """Patches are gathered in runs that begin anywhere in an image."""
    monkeypatch.setattr("bnnbench.packed.convolution.TOGETHER", 1)
    geometry = Geometry((3, 3), padding=(1, 1))
    assert_equal_sums(signs(3, 3, 6, 7), signs(4, 3, 3, 3, seed=1), geometry, 0)


def test_threads_change_no_sum(monkeypatch):
    """Places are shared out without a gap or an overlap."""
    monkeypatch.setattr(product, "WORTH", 0)
    for module in (product, convolution, sums):
        monkeypatch.setattr(module, "follow_torch_threads", lambda: 2)
    geometry = Geometry((3, 3), padding=(1, 1))
    assert_equal_sums(signs(3, 3, 6, 7), signs(40, 3, 3, 3, seed=1), geometry, 0)


@given(
    st.sampled_from([-1, 0, 1]),
    st.tuples(*[st.integers(1, 3)] * 6),
    st.tuples(st.integers(0, 3), st.integers(0, 3)),
    st.tuples(st.integers(1, 3), st.integers(1, 40), st.integers(1, 3), st.integers(0, 2**31)),
)
@settings(max_examples=40, deadline=None)
def test_any_convolution(pad, sizes, padding, counts):
    """Whatever the shape, the sums are exact."""
    groups, deep, part, seed = counts
    geometry = Geometry(sizes[:2], sizes[2:4], padding, sizes[4:], groups)
    x = signs(2, groups * deep, 8, 7, seed=seed)
    w = signs(groups * part, deep, *sizes[:2], seed=seed + 1)
    assert_equal_sums(x, w, geometry, pad)


def windows(x, pooling):
    """The maxima of (n, h, w, c) in each window; what lies beyond the rim is nothing."""
    (kh, kw), (sh, sw), (ph, pw), (dh, dw) = (
        pooling.kernel, pooling.stride, pooling.padding, pooling.dilation,
    )  # fmt: skip
    height, width = pooling.places(x.shape[1], 0), pooling.places(x.shape[2], 1)
    least = np.iinfo(np.int64).min
    found = np.full((len(x), height, width, x.shape[3]), least)
    for i, j, a, b in itertools.product(range(height), range(width), range(kh), range(kw)):
        y, z = i * sh - ph + a * dh, j * sw - pw + b * dw
        if 0 <= y < x.shape[1] and 0 <= z < x.shape[2]:
            found[:, i, j] = np.maximum(found[:, i, j], x[:, y, z])
    return found


POOLINGS = [
    Pooling((2, 2), (2, 2)),
    Pooling((3, 3), (2, 2), (1, 1)),
    Pooling((3, 2), (1, 3), (1, 0), ceil=True),
    Pooling((2, 2), (3, 2), (1, 1), (1, 2), ceil=True),
    Pooling((2, 3), (2, 1), (0, 1), (3, 1)),
]


@pytest.mark.parametrize("pooling", POOLINGS)
def test_maxima_of_signs(pooling):
    """An "or" of words is the maximum of each channel, in windows as torch has them."""
    x = signs(2, 7, 8, 70)
    x[:, ::2, ::3] = -1

    found = pooled(pack(x), pooling)

    assert (found == pack(windows(x, pooling))).all()
    layer = torch.nn.MaxPool2d(
        pooling.kernel, pooling.stride, pooling.padding, pooling.dilation, ceil_mode=pooling.ceil
    )
    of_torch = layer(torch.from_numpy(x.transpose(0, 3, 1, 2)).float()).numpy()
    assert (found == pack_images(of_torch)).all()


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("pooling", POOLINGS)
def test_sums_are_pooled_before_thresholds(pooling, groups):
    """max(s) is compared, in channels that rise and in channels that fall, or are constant."""
    geometry = Geometry((3, 3), padding=(1, 1), groups=groups)
    x, w = signs(2, 4, 7, 8), signs(10, 4 // groups, 3, 3, seed=1)
    maxima = windows(convolved(x, w, geometry, 0), pooling)
    least = np.array([0, 0, 3, 3, -5, -5, ALWAYS, ALWAYS, 9, 9], np.int32)
    thresholds = Thresholds(least, np.resize([False, True], 10))
    layer = BinaryConvolution(pack_filters(w), 4, geometry, 0)

    found = layer.signs(pack_images(x.astype(np.float32)), thresholds, pooling)

    assert (found == pack((maxima >= least) != thresholds.falls)).all()


def test_thresholds_and_image_sizes_are_not_mixed_up():
    """What is remembered of one size and one norm serves no other."""
    geometry = Geometry((3, 3), padding=(1, 1))
    w = signs(4, 5, 3, 3)
    layer = BinaryConvolution(pack_filters(w), 5, geometry, 0)
    for size, least in itertools.product([(4, 5), (5, 4), (6, 6)], [0, 3, -3]):
        x = signs(1, 5, *size)
        sums = convolved(x, w, geometry, 0)
        images = pack_images(x.astype(np.float32))
        thresholds = Thresholds(np.full(4, least, np.int32), np.zeros(4, bool))
        assert (layer.signs(images, thresholds) == pack(sums >= least)).all()
        assert (layer(images) == sums).all()


def test_no_images():
    """An empty batch has no sums."""
    layer, none = BinaryConvolution(GOOD, 6, PLAIN), np.empty((0, 5, 5, 1), np.uint64)
    thresholds = Thresholds(np.zeros(4, np.int32), np.ones(4, bool))
    assert layer(none).shape == (0, 3, 3, 4)
    assert layer.signs(none, thresholds, POOLINGS[0]).shape == (0, 1, 1, 1)
    real = RealConvolution(GOOD, 6, PLAIN)
    assert real(np.empty((0, 5, 5, 6), np.float32)).shape == (0, 3, 3, 4)


def test_filters_are_packed_along_channels():
    """And come back as torch has them."""
    w = signs(3, 70, 2, 4)
    assert pack_filters(w).shape == (3, 2, 4, 2)
    assert (unpack_filters(pack_filters(w), 70) == w).all()


GOOD = pack_filters(signs(4, 6, 3, 3))
PLAIN = Geometry((3, 3))
IMAGES = pack(signs(1, 5, 5, 6))


@pytest.mark.parametrize(
    "fault",
    [
        lambda: Geometry((0, 3)),
        lambda: Geometry((3, 3), stride=(0, 1)),
        lambda: Geometry((3, 3), padding=(-1, 0)),
        lambda: Geometry((3, 3), groups=0),
        lambda: Geometry((3, 3), padding=(2**31, 1)),
        lambda: Pooling((2, 2), (2, 2), dilation=(2**40, 1)),
        lambda: Pooling((2, 2), (2, 2), (2, 0)),
        lambda: Pooling((2, 2), (0, 2)),
        lambda: BinaryConvolution(GOOD, 70, PLAIN),
        lambda: BinaryConvolution(GOOD, 12, Geometry((3, 3), groups=3)),
        lambda: BinaryConvolution(GOOD, 18, Geometry((3, 3), groups=3)),
        lambda: BinaryConvolution(GOOD, 6, Geometry((3, 2))),
        lambda: BinaryConvolution(GOOD[0], 6, PLAIN),
        lambda: BinaryConvolution(GOOD, 6, PLAIN, 2),
        lambda: BinaryConvolution(GOOD, 6, PLAIN)(IMAGES[0]),
        lambda: BinaryConvolution(GOOD, 6, PLAIN)(IMAGES[:, :2]),
        lambda: BinaryConvolution(GOOD, 6, PLAIN)(IMAGES.astype(np.int64)),
        lambda: RealConvolution(GOOD, 6, PLAIN)(np.ones((1, 5, 5, 6))),
        lambda: RealConvolution(GOOD, 6, PLAIN)(np.ones((1, 5, 5, 5), np.float32)),
        lambda: RealConvolution(GOOD, 6, PLAIN)(np.ones((1, 2, 5, 6), np.float32)),
        lambda: pooled(IMAGES[0], POOLINGS[0]),
        lambda: pooled(IMAGES[:, :1], POOLINGS[0]),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(fault):
    """Before anything is computed."""
    with pytest.raises(DataError) as refused:
        fault()
    assert "\n" not in str(refused.value)
