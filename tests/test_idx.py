"""The reader of IDX takes what is right, and says in one line what is wrong."""

from __future__ import annotations

import gzip
import struct

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bnnbench.errors import DataError
from bnnbench_plugins.datasets.idx import read_idx

IMAGES = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)


def idx(array, kind=8):
    header = bytes([0, 0, kind, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.tobytes()


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "some-idx3-ubyte.gz"

    def write(content, packed=True):
        path.write_bytes(gzip.compress(content) if packed else content)
        return path

    return write


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(shape=st.lists(st.integers(0, 5), min_size=1, max_size=4), seed=st.integers(0, 99))
def test_what_was_written(file, shape, seed):
    """What was written is read, whatever its dimensions, empty ones among them."""
    array = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)

    found = read_idx(file(idx(array)), len(shape))

    assert np.uint8 == found.dtype
    assert array.shape == found.shape
    assert (array == found).all()


@pytest.mark.parametrize(
    ("content", "law"),
    [
        (idx(IMAGES)[:-1], "must hold 12 values, got 11"),
        (idx(IMAGES) + b"x", "must hold 12 values, got 13"),
        (idx(IMAGES)[:10], "must have 3 dimensions"),
        (idx(IMAGES, kind=9), "must begin with 00 00 08 03, got 00 00 09 03"),
        (idx(IMAGES[0]), "must begin with 00 00 08 03, got 00 00 08 02"),
        (b"PK" + idx(IMAGES)[2:], "must begin with"),
        (b"", "got nothing"),
    ],
    ids=["truncated", "trailing", "header", "type", "dimensions", "magic", "empty"],
)
def test_wrong_content(file, content, law):
    """A file that is not exactly what its header says is refused."""
    with pytest.raises(DataError, match=law) as raised:
        read_idx(file(content), 3)

    assert "\n" not in str(raised.value)
    assert "some-idx3-ubyte.gz" in str(raised.value)


@pytest.mark.parametrize("cut", [1, 5, 12, 30])
def test_truncated_gzip(file, cut):
    """A gzip file that ends early is refused, wherever it ends."""
    whole = gzip.compress(idx(IMAGES))

    with pytest.raises(DataError, match="must be a whole gzip file") as raised:
        read_idx(file(whole[:-cut], packed=False), 3)

    assert "\n" not in str(raised.value)


def test_not_gzip(file):
    """A file that is not gzipped is refused, and so is one that is not there."""
    path = file(idx(IMAGES), packed=False)
    with pytest.raises(DataError, match="must be a whole gzip file"):
        read_idx(path, 3)
    with pytest.raises(DataError, match="must be a whole gzip file"):
        read_idx(path.with_name("absent.gz"), 3)


def test_damaged_gzip(file):
    """A flipped bit in the packed bytes is found."""
    packed = bytearray(gzip.compress(idx(np.zeros((9, 9, 9), np.uint8) + 7)))
    packed[-6] ^= 1

    with pytest.raises(DataError, match="must be a whole gzip file"):
        read_idx(file(bytes(packed), packed=False), 3)


def test_a_huge_claim_costs_nothing(file):
    """A header that claims a thousand petabytes is refused as fast as any other."""
    header = bytes([0, 0, 8, 3]) + struct.pack(">3I", *[10**6] * 3)

    with pytest.raises(DataError, match="must hold"):
        read_idx(file(header + b"x"), 3)
