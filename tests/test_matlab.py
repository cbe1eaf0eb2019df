"""The reader of MATLAB files agrees with scipy's, in little memory, and refuses what is wrong."""

from __future__ import annotations

import io
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
import scipy.io
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bnnbench.errors import DataError
from bnnbench_plugins.datasets import matlab
from bnnbench_plugins.datasets.matlab import arrays

KINDS = ["u1", "i1", "<u2", "<i2", "<u4", "<i4", "<f4", "<f8"]


def mat(content, packed=True):
    file = io.BytesIO()
    scipy.io.savemat(file, content, do_compression=packed)
    return file.getvalue()


def svhn_like(count, seed=0):
    draw = np.random.default_rng(seed).integers
    labels = draw(1, 11, (count, 1), dtype=np.uint8)
    return {"X": draw(0, 256, (32, 32, 3, count), dtype=np.uint8), "y": labels}


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "some_32x32.mat"

    def write(content):
        path.write_bytes(content)
        return path

    return write


def read(path):
    return {array.name: array.whole() for array in arrays(path)}


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    shapes=st.lists(st.lists(st.integers(0, 5), min_size=2, max_size=5), min_size=1, max_size=3),
    kind=st.sampled_from(KINDS),
    packed=st.booleans(),
    seed=st.integers(0, 99),
)
def test_what_scipy_wrote(file, shapes, kind, packed, seed):
    """What scipy writes is read as scipy reads it: any shape and kind, packed or not."""
    rng = np.random.default_rng(seed)
    content = {f"a{i}": rng.integers(0, 100, shape).astype(kind) for i, shape in enumerate(shapes)}
    path = file(mat(content, packed))

    found = read(path)

    assert [*content] == [*found]
    for name, expected in scipy.io.loadmat(path, variable_names=[*content]).items():
        if name in content:
            assert expected.dtype == found[name].dtype
            np.testing.assert_array_equal(content[name], found[name])


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("size", [1, 3, 7, 100])
def test_stretches(file, packed, size):
    """Stretches of the last axis follow one another, whatever their size, the last one smaller."""
    content = svhn_like(7)
    path = file(mat(content, packed))

    for array in arrays(path):
        found = list(array.stretches(size))
        lengths = [min(size, 7 - start) for start in range(0, array.shape[-1], size)]
        if array.name == "X":
            assert lengths == [len(stretch) for stretch in found]
            assert (found[0].shape[1:], found[0].dtype) == ((32, 32, 3), np.uint8)
            np.testing.assert_array_equal(np.concatenate(found), content["X"].transpose(3, 0, 1, 2))


@pytest.mark.parametrize("packed", [True, False])
def test_arrays_that_are_not_read(file, packed):
    """An array that nobody reads, or reads in part, is skipped; the next one is whole."""
    content = {"a": np.arange(5.0)[None], **svhn_like(9), "b": np.uint8([[1, 2]])}
    path = file(mat(content, packed))

    found = {}
    for array in arrays(path):
        if array.name == "X":
            next(array.stretches(2))
        if array.name in ("y", "b"):
            found[array.name] = array.whole()

    np.testing.assert_array_equal(content["y"], found["y"])
    np.testing.assert_array_equal([[1, 2]], found["b"])


def test_doubles_stored_as_bytes(file):
    """MATLAB stores an array of small whole doubles as bytes; their values are the same."""
    values = np.array([[10], [3], [7]], np.uint8)
    whole = mat({"y": values}, packed=False)
    as_double = whole.replace(struct.pack("<II", 9, 0), struct.pack("<II", 6, 0), 1)

    assert whole != as_double
    np.testing.assert_array_equal(values, read(file(as_double))["y"])
    np.testing.assert_array_equal(values, scipy.io.loadmat(file(as_double))["y"])


CONTENT = svhn_like(20)


@pytest.mark.parametrize("packed", [True, False])
def test_truncated(file, packed):
    """A file that is cut off is refused, wherever the cut is."""
    whole = mat(CONTENT, packed)
    starts = [0, 1, 100, 127, 129, 135, 140, 200, len(whole) // 2, len(whole) - 9]
    if packed:  # a file that is not may lack what fills its last element up
        starts += [len(whole) - 1, len(whole) - 3]

    for cut in starts:
        with pytest.raises(DataError, match=r"some_32x32\.mat") as raised:
            read(file(whole[:cut]))
        assert "\n" not in str(raised.value)


def test_damaged(file):
    """A flipped bit anywhere in the packed bytes is found, the checksum's own bits among them."""
    whole = mat(CONTENT)
    places = np.random.default_rng(1).integers(HEADER, len(whole), 60)

    for place in [*places, len(whole) - 1]:
        damaged = bytearray(whole)
        damaged[place] ^= 1 << int(place) % 8
        with pytest.raises(DataError, match=r"some_32x32\.mat"):
            read(file(bytes(damaged)))


HEADER = 128


def element(whole, inside, after=b""):
    """A file with the header of ``whole`` and one packed element, with something after it."""
    packed = zlib.compress(inside) + after
    return whole[:HEADER] + struct.pack("<II", 15, len(packed)) + packed


def inside(whole):
    return whole[HEADER:]


PLAIN = mat({"y": np.arange(20, dtype=np.uint8)[:, None]}, packed=False)


@pytest.mark.parametrize(
    ("content", "law"),
    [
        (b"", "level 5, with 00 01 49 4d at byte 124, got nothing"),
        (b"PK" * 200, "at byte 124, got 50 4b 50 4b"),
        (PLAIN[:124] + b"\x00\x02IM" + PLAIN[128:], "got 00 02 49 4d"),
        (PLAIN[:124] + b"\x01\x00MI" + PLAIN[128:], "must be little-endian, got a big-endian"),
        (PLAIN + b"xyz", "ends within an element's tag"),
        (PLAIN[:128] + struct.pack("<II", 9, 8) + bytes(8), "element of type 9, not an array"),
        (PLAIN.replace(struct.pack("<II", 9, 0), struct.pack("<II", 4, 0), 1), "plain numbers"),
        (PLAIN.replace(struct.pack("<II", 9, 0), struct.pack("<II", 0x809, 0), 1), "plain numbers"),
        (PLAIN.replace(struct.pack("<ii", 20, 1), struct.pack("<ii", 21, 1), 1), "has 20 bytes"),
        (PLAIN.replace(struct.pack("<ii", 20, 1), struct.pack("<ii", -20, -1), 1), "has 20 bytes"),
        (PLAIN[:132] + struct.pack("<I", len(PLAIN) - 136 - 8) + PLAIN[136:], "more in an array"),
        (element(PLAIN, inside(PLAIN) + b"more"), "do not end where they should"),
        (element(PLAIN, inside(PLAIN), b"more"), "do not end where they should"),
        (element(PLAIN, inside(PLAIN)[:-12]), "ends too early"),
        (element(PLAIN, inside(PLAIN)) + b"\0" * 8, "element of type 0"),
    ],
    ids=[
        "empty",
        "zip",
        "7.3",
        "swapped",
        "tag",
        "type",
        "text",
        "complex",
        "dimensions",
        "negative",
        "element",
        "trailing",
        "unpacked",
        "short",
        "second",
    ],
)
def test_wrong_content(file, content, law):
    """A file that is not exactly what its tags say is refused in one line that names it."""
    with pytest.raises(DataError, match=law) as raised:
        read(file(content))

    assert "\n" not in str(raised.value)
    assert "some_32x32.mat" in str(raised.value)


def test_packed_by_hand(file):
    """What the laws above pack by hand is read where it is right, also without the filling."""
    for packed in (inside(PLAIN), inside(PLAIN)[:-4]):
        found = read(file(element(PLAIN, packed)))
        np.testing.assert_array_equal(np.arange(20)[:, None], found["y"])


def test_missing(tmp_path):
    """A file that is not there is named."""
    with pytest.raises(DataError, match=r"absent\.mat must be a readable file, got: No such file"):
        read(tmp_path / "absent.mat")


@pytest.mark.parametrize("packed", [True, False])
def test_memory(file, packed, monkeypatch):
    """Reading 12 MB in stretches needs a fraction of them, however well they were packed."""
    monkeypatch.setattr(matlab, "PIECE", 2**12)
    content = {"X": np.zeros((32, 32, 3, 4000), np.uint8), "y": np.ones((4000, 1), np.uint8)}
    path = file(mat(content, packed))

    tracemalloc.start()
    total = sum(len(stretch) for array in arrays(path) for stretch in array.stretches(100))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert 4001 == total
    assert peak < 2_000_000
