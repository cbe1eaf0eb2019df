"""Dense layers on packed bits, against integer products of plain signs."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bnnbench.errors import DataError
from bnnbench.packed import product, sums
from bnnbench.packed.bits import pack
from bnnbench.packed.dense import BinaryDense, RealDense
from bnnbench.packed.thresholds import ALWAYS, Thresholds

WAYS = ["tables", "counts", "plain"]


def signs(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 2, shape) * 2 - 1


def choose(monkeypatch, way):
    if way == "tables" and "avx2" not in product._features():
        pytest.skip("byte shuffles of 32 bytes need AVX2")
    monkeypatch.setattr(product, "fastest", lambda: way)


@pytest.fixture(params=WAYS)
def way(request, monkeypatch):
    """Each of the passes that count."""
    choose(monkeypatch, request.param)
    return request.param


def assert_equal_products(x, w):
    """Sums of products, and signs by thresholds, are those of integers."""
    expected = x @ w.T
    layer = BinaryDense(pack(w), w.shape[1])

    found = layer(pack(x))
    assert found.dtype == np.int32
    assert (found == expected).all()

    least = np.resize([0, 1, -1, 2, -3, ALWAYS], len(w)).astype(np.int32)
    falls = np.resize([False, True, True, False, False], len(w))
    signs = layer.signs(pack(x), Thresholds(least, falls))
    assert (signs == pack((expected >= least) != falls)).all()


@pytest.mark.usefixtures("way")
def test_every_pair_of_four_signs():
    """All 16 x 16 products of patterns of 4 bits, in every place of a byte and word."""
    patterns = np.array(list(itertools.product([-1, 1], repeat=4)))
    assert_equal_products(patterns, patterns)
    for place in (0, 4, 20, 60, 64, 124):
        x, w = (np.repeat(signs(1, 130, seed=s), 16, axis=0) for s in (1, 2))
        x[:, place : place + 4] = w[:, place : place + 4] = patterns
        assert_equal_products(x, w)


@pytest.mark.usefixtures("way")
def test_every_width_up_to_130():
    """No bit of a word, byte or half byte is lost or counted twice."""
    for length in range(1, 131):
        assert_equal_products(signs(3, length, seed=length), signs(5, length, seed=length + 1))


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("outputs", [1, 31, 32, 33, 64, 65, 127])
def test_rows_and_outputs_that_fill_no_block(outputs):
    """From one row to more than two passes take together."""
    for rows in (1, 2, 3, 4, 5, 8, 9, 17):
        assert_equal_products(signs(rows, 70, seed=rows), signs(outputs, 70, seed=outputs))


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("length", [479, 480, 481, 1151, 1152, 1153, 2305, 4100, 33000])
def test_counts_do_not_overflow(length):
    """Rows that agree everywhere, nowhere, or in one half of the signs have the extreme sums."""
    rows = np.ones((4, length), np.int64)
    rows[1] = -1
    rows[2, ::2] = -1
    rows[3, : length // 2] = -1
    assert_equal_products(np.tile(rows, (3, 1)), rows)


@pytest.mark.usefixtures("way")
def test_no_rows():
    """An empty batch has no sums."""
    layer = BinaryDense(pack(signs(40, 70)), 70)
    none = np.empty((0, 2), np.uint64)
    assert layer(none).shape == (0, 40)
    assert layer.signs(none, Thresholds(np.zeros(40, np.int32), np.ones(40, bool))).shape == (0, 1)
    assert RealDense(GOOD, 70)(np.empty((0, 70), np.float32)).shape == (0, 3)


def test_more_signs_than_sixteen_bits_count():
    """A row of 65,536 or more is counted in 32 bits."""
    for length in (2**16 - 1, 2**16, 70001):
        assert_equal_products(-np.ones((1, length), np.int64), np.ones((2, length), np.int64))


def test_thresholds_are_not_mixed_up():
    """What is remembered of one norm serves no other."""
    x, w = signs(5, 70), signs(6, 70, seed=1)
    layer = BinaryDense(pack(w), 70)
    for least in (0, 8, -8, 0):
        thresholds = Thresholds(np.full(6, least, np.int32), np.zeros(6, bool))
        assert (layer.signs(pack(x), thresholds) == pack(x @ w.T >= least)).all()


@given(st.integers(1, 20), st.integers(1, 70), st.integers(1, 1300), st.integers(0, 2**31))
@settings(max_examples=40, deadline=None)
def test_any_shape(rows, outputs, length, seed):
    """Whatever the shape, the sums are exact."""
    assert_equal_products(signs(rows, length, seed=seed), signs(outputs, length, seed=seed + 1))


@pytest.fixture
def two_threads(monkeypatch):
    """Torch has two threads, and any work is worth them."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    monkeypatch.setattr(product, "WORTH", 0)
    monkeypatch.setattr(sums, "WORTH", 0)
    monkeypatch.setattr(product, "follow_torch_threads", lambda: 2)
    monkeypatch.setattr(sums, "follow_torch_threads", lambda: 2)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("two_threads")
def test_threads_change_no_sum():
    """Rows and blocks are shared out without a gap or an overlap."""
    for rows, outputs in [(1, 300), (30, 33), (100, 70)]:
        assert_equal_products(signs(rows, 90), signs(outputs, 90, seed=1))


def bound(x, length):
    """What the documentation of bnnbench.packed.sums promises."""
    return (10 + length / 64) * 2.0**-24 * np.abs(x).astype(np.float64).sum(1, keepdims=True)


SHAPES = [(1, 1, 1), (3, 5, 7), (4, 17, 64), (16, 33, 65), (17, 16, 200), (33, 3, 700)]


@pytest.mark.parametrize("shape", SHAPES)
def test_real_inputs_are_summed_within_the_stated_rounding(shape):
    """Against sums in double precision, for numbers of many magnitudes."""
    rows, outputs, length = shape
    generator = np.random.default_rng(rows)
    x = generator.standard_normal((rows, length)) * 10.0 ** generator.integers(-4, 5, length)
    x, w = x.astype(np.float32), signs(outputs, length)

    found = RealDense(pack(w), length)(x)

    assert found.dtype == np.float32
    assert (np.abs(found - x.astype(np.float64) @ w.T) <= bound(x, length)).all()


@pytest.mark.parametrize("shape", SHAPES)
def test_integers_are_summed_exactly(shape):
    """Bytes of an image times signs need no rounding, as their sums stay below 2^24."""
    rows, outputs, length = shape
    x, w = np.random.default_rng(1).integers(0, 256, (rows, length)), signs(outputs, length)
    layer = RealDense(pack(w), length)

    assert (layer(x.astype(np.float32)) == x @ w.T).all()
    assert (layer.totals == w.sum(1)).all()


def test_a_row_does_not_depend_on_the_others():
    """Alone or among many, by itself or side by side, to the last bit."""
    x = np.random.default_rng(2).standard_normal((37, 333)).astype(np.float32)
    layer = RealDense(pack(signs(50, 333)), 333)
    together = layer(x)

    for rows in (1, 2, 3, 4, 16, 20):
        assert (layer(x[:rows]) == together[:rows]).all()
    assert (layer(x[20:21]) == together[20:21]).all()


def test_threads_change_no_real_sum(two_threads, monkeypatch):
    """The order of additions is the same on any number of threads."""
    x = np.random.default_rng(3).standard_normal((40, 130)).astype(np.float32)
    layer = RealDense(pack(signs(70, 130)), 130)
    shared = [layer(x), layer(x[:2])]
    monkeypatch.setattr(sums, "follow_torch_threads", lambda: 1)

    assert (shared[0] == layer(x)).all()
    assert (shared[1] == layer(x[:2])).all()


def test_numpy_alone_sums_real_inputs(monkeypatch):
    """Where nothing may be compiled, within the same bound."""
    monkeypatch.setattr(sums, "COMPILED", False)
    x = np.random.default_rng(4).standard_normal((5, 100)).astype(np.float32)
    w = signs(6, 100)

    found = RealDense(pack(w), 100)(x)
    assert (np.abs(found - x.astype(np.float64) @ w.T) <= bound(x, 100)).all()


GOOD = pack(signs(3, 70))
TWO = Thresholds(np.zeros(2, np.int32), np.zeros(2, bool))


@pytest.mark.parametrize(
    "fault",
    [
        lambda: BinaryDense(GOOD, 64),
        lambda: BinaryDense(GOOD[0], 70),
        lambda: BinaryDense(GOOD[:0], 70),
        lambda: BinaryDense(GOOD, 128 + 1),
        lambda: RealDense(~GOOD, 70),
        lambda: BinaryDense(GOOD, 70)(GOOD[:, :1]),
        lambda: BinaryDense(GOOD, 70)(GOOD[0]),
        lambda: BinaryDense(GOOD, 70)(GOOD.astype(np.float32)),
        lambda: BinaryDense(GOOD, 70).signs(
            GOOD, Thresholds(np.zeros(2, np.int32), np.ones(2, bool))
        ),
        lambda: RealDense(GOOD, 70)(np.ones((1, 70))),
        lambda: RealDense(GOOD, 70)(np.ones((1, 71), np.float32)),
        lambda: RealDense(GOOD, 70)(np.ones(70, np.float32)),
    ],
)
def test_other_shapes_are_refused_in_one_line(fault):
    """Before anything is computed."""
    with pytest.raises(DataError) as refused:
        fault()
    assert "\n" not in str(refused.value)
