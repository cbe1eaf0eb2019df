"""Signs in words, against plain Python integers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from bnnbench.binarization import sign
from bnnbench.errors import DataError
from bnnbench.packed import bits, vectors

LENGTHS = [*range(1, 131), 1000]


def signs(*shape, seed=0):
    return np.random.default_rng(seed).choice(np.array([-1.0, 1.0], np.float32), shape)


def by_hand(row):
    """The words of a row, bit by bit."""
    found = []
    for start in range(0, len(row), 64):
        some = row[start : start + 64]
        found.append(sum(1 << j for j, x in enumerate(some) if x > 0))
    return found


@pytest.mark.parametrize("length", LENGTHS)
def test_bit_j_of_word_i_is_entry_64_i_plus_j(length):
    """+1 is 1, the least significant bit comes first, and unused bits are 0."""
    x = signs(3, length, seed=length)

    assert bits.pack(x).tolist() == [by_hand(row) for row in x]
    assert (bits.unpack(bits.pack(x), length) == x).all()


def test_what_is_at_least_zero_is_plus_one_as_in_training():
    """Zeros of either sign are +1, NaN is -1, in every place of a word and in the rest."""
    odd = np.array([0.0, -0.0, np.nan, np.inf, -np.inf, 1e-45, -1e-45], np.float32)
    x = np.tile(odd, 20)

    expected = sign(torch.from_numpy(x)).numpy()
    assert (bits.unpack(bits.pack(x), 140) == expected).all()
    assert (bits.unpack(bits.pack(x.astype(np.float64)), 140) == expected).all()


@pytest.mark.parametrize("kind", [np.bool_, np.int8, np.int32, np.float16, np.float64])
def test_numbers_of_any_kind_are_packed_alike(kind):
    """Truth values count as they are; a view with gaps is as good as a copy."""
    x = signs(4, 2, 150)
    other = x > 0 if kind is np.bool_ else x.astype(kind)

    assert (bits.pack(other) == bits.pack(x)).all()
    assert (bits.pack(x[:, 1, ::2]) == bits.pack(x[:, 1, ::2].copy())).all()
    assert bits.pack(other).shape == (4, 2, 3)


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("shape", [(2, 3, 5, 7), (1, 70, 8, 8), (1, 128, 3, 43), (3, 1, 1, 1)])
def test_images_are_packed_along_their_channels(shape, compiled, monkeypatch):
    """Whatever their memory order, and with numpy alone."""
    monkeypatch.setattr(vectors, "COMPILED", compiled)
    x = signs(*shape)
    last = np.ascontiguousarray(x.transpose(0, 2, 3, 1))
    expected = [[[by_hand(pixel) for pixel in row] for row in image] for image in last]

    assert bits.pack_images(x).tolist() == expected
    assert bits.pack_images(last.transpose(0, 3, 1, 2)).tolist() == expected


@pytest.mark.parametrize("channels", [1, 3, 37, 63, 64, 65, 128, 150])
def test_joined_words_are_the_packed_row_of_all_signs(channels):
    """Height, width, channels in this order, no bit between them."""
    x = signs(2, 3, 5, channels)

    assert bits.joined(bits.pack(x), channels).tolist() == [by_hand(image.ravel()) for image in x]


@given(arrays(np.bool_, st.tuples(st.integers(1, 4), st.integers(1, 200))))
@settings(max_examples=50, deadline=None)
def test_packing_loses_nothing(x):
    """Unpacked words are the signs that were packed."""
    assert (bits.unpack(bits.pack(x), x.shape[1]) == np.where(x, 1, -1)).all()


def test_no_examples_are_packed_as_none():
    """An empty batch stays one."""
    none = np.empty((0, 3, 4, 5), np.float32)
    assert bits.pack(none).shape == (0, 3, 4, 1)
    assert bits.pack_images(none).shape == (0, 4, 5, 1)
    assert bits.unpack(bits.pack(none), 5).shape == (0, 3, 4, 5)
    assert bits.joined(bits.pack(none), 5).shape == (0, 1)


def bad_words():
    good = np.zeros((2, 2), np.uint64)
    tail = good.copy()
    tail[1, 1] = 1 << 6
    return {
        "too few words": (good, 129),
        "too many words": (good, 64),
        "other words": (good.astype(np.int64), 70),
        "a number": (np.uint64(3).reshape(()), 64),
        "no signs": (good[:, :0], 0),
        "less than none": (good, -5),
        "more than int32 can sum": (good, 2**40),
        "a bit beyond the last sign": (tail, 70),
    }


@pytest.mark.parametrize("name", bad_words())
def test_words_that_cannot_be_are_refused_in_one_line(name):
    """Nothing is allocated for lengths out of the ordinary."""
    words, length = bad_words()[name]
    with pytest.raises(DataError) as refused:
        bits.unpack(words, length)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("shape", [(), (3, 0)])
def test_no_signs_cannot_be_packed(shape):
    """There is at least one."""
    with pytest.raises(DataError, match="last axis"):
        bits.pack(np.ones(shape))


@pytest.mark.parametrize("shape", [(2, 3, 4), (1, 0, 2, 2)])
def test_images_have_four_axes_and_a_channel(shape):
    """Other shapes are refused."""
    with pytest.raises(DataError, match="images are"):
        bits.pack_images(np.ones(shape, np.float32))
