"""Images and their prepared splits: which pixels, made when, kept how, and whole or not at all."""

from __future__ import annotations

import json
import os
import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from bnnbench.errors import DataError, UsageError
from bnnbench_plugins import prepared
from bnnbench_plugins.datasets import images as images_module
from bnnbench_plugins.datasets.images import Images
from bnnbench_plugins.prepared import prepare
from bnnbench_plugins.preprocessing import recipe

NAMES = ["train", "validation", "test"]
KEY = {"files": {"a.bin": "0123"}, "rows": "first"}
KEPT = ["centered", "gcn-zca", "gcn-lcn", "gcn-lcn-red"]
BYTES = ["unit", "signed", "md-bnn-standardized", "scalar-centered", "standardized"]


def pixels(n, seed=0, shape=(3, 4, 5)):
    return np.random.default_rng(seed).integers(0, 256, (n, *shape), dtype=np.uint8)


def splits(train=0, validation=1, test=2):
    """Three small splits, each from its own seed."""
    seeds = zip(NAMES, (12, 5, 7), (train, validation, test), strict=True)
    return {name: Images([pixels(n, seed)]) for name, n, seed in seeds}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """A cache of its own for each test; it need not exist."""
    folder = tmp_path / "deep" / "cache"
    monkeypatch.setenv("BNNBENCH_CACHE", str(folder))
    return folder


@pytest.fixture
def looks(monkeypatch):
    """Counts how often the images are looked at."""
    seen, chunks = [], Images.chunks

    def counted(self, size=None):
        seen.append(len(self))
        return chunks(self, size)

    monkeypatch.setattr(Images, "chunks", counted)
    return seen


def same(one, other):
    pairs = [(seen(one, name), seen(other, name)) for name in NAMES]
    return all(torch.equal(a, b) for a, b in [*pairs, (one.fill, other.fill)])


def seen(found, split):
    """What a network sees of a split, float32 in any case, by plain indexing."""
    inputs = found.inputs[split]
    assert inputs.dtype == (torch.float32 if found.table is None else torch.uint8)
    if found.table is None:
        return inputs
    channels = zip(found.table, inputs.unbind(1), strict=True)
    return torch.stack([values[pixels.long()] for values, pixels in channels], 1)


def folders(cache):
    return sorted(path.name for path in cache.iterdir())


def entry(cache):
    (folder,) = cache.iterdir()
    return folder


# images


@pytest.mark.parametrize("size", [1, 3, 4, 100, None])
@pytest.mark.parametrize("picked", [True, False])
def test_images(size, picked):
    """Rows of several arrays come as rows of the arrays joined, in order and repeated."""
    arrays = [pixels(n, n) for n in (4, 1, 0, 7)]
    rows = np.array([11, 0, 4, 4, 3, 5, 10]) if picked else None
    whole = np.concatenate(arrays)

    images = Images(arrays, rows)
    chunks = list(images.chunks(size))

    expected = whole if rows is None else whole[rows]
    assert np.array_equal(expected, np.concatenate(chunks))
    assert (len(expected), (3, 4, 5)) == (len(images), images.shape)
    full = [len(chunk) for chunk in chunks[:-1]]
    assert full == [size] * len(full)
    assert all(chunk.dtype == np.uint8 for chunk in chunks)


def test_subset():
    """A subset of rows picks among the rows that were picked."""
    rows = np.array([3, 1, 4, 1, 5])
    images = Images([pixels(3), pixels(6, 1)], rows)

    found = images.subset(np.array([2, 0])).subset(np.array([1]))

    assert np.array_equal(pixels(6, 1)[[0]], np.concatenate(list(found.chunks())))


def test_mapped_images(tmp_path):
    """Arrays that are mapped from a file are read chunk by chunk."""
    (tmp_path / "raw").write_bytes(pixels(9).tobytes())
    mapped = np.memmap(tmp_path / "raw", np.uint8, "r", shape=(9, 3, 4, 5))

    for rows in (None, np.arange(9)):
        assert np.array_equal(pixels(9), np.concatenate(list(Images([mapped], rows).chunks(2))))


@pytest.mark.parametrize(
    "arrays", [[], [pixels(2)[0]], [pixels(2) / 255], [pixels(2), pixels(2, shape=(3, 5, 4))]]
)
def test_images_are_bytes_of_one_shape(arrays):
    """No array, no batch, no bytes or more than one shape are refused."""
    with pytest.raises(ValueError, match="must be uint8 arrays"):
        Images(arrays)


@pytest.mark.parametrize("row", [-1, 9])
def test_rows_that_there_are(row):
    """A row outside the arrays is refused at once; numpy would take -1 for the last."""
    with pytest.raises(ValueError, match=r"rows must be in \[0, 9\)"):
        Images([pixels(4), pixels(5)], np.array([0, row]))


# what is prepared


@pytest.mark.parametrize("name", KEPT + BYTES)
@pytest.mark.parametrize("chunk", [1, 200, 2**22])
def test_prepared(name, chunk, monkeypatch):
    """All splits go through what is fitted to the training images, whatever the chunks."""
    monkeypatch.setattr(images_module, "CHUNK", chunk)
    transform = recipe(name).fit([pixels(12, 0)])

    found = prepare(name, splits(), KEY)

    for split, n, seed in zip(NAMES, (12, 5, 7), (0, 1, 2), strict=True):
        inputs = seen(found, split)
        assert (torch.float32, (n, 3, 4, 5)) == (inputs.dtype, tuple(inputs.shape))
        exact = name in BYTES
        wanted = transform(pixels(n, seed))
        assert np.allclose(wanted, inputs.numpy(), rtol=0, atol=0 if exact else 1e-4)


@pytest.mark.parametrize("name", KEPT + BYTES)
def test_fitted_to_train_alone(name):
    """Other images to validate and to test change nothing for those that are trained on."""
    one = prepare(name, splits(), KEY)
    other = prepare(name, splits(validation=8, test=9), {**KEY, "other": True})
    again = prepare(name, splits(train=7), {**KEY, "other": 2})

    assert seen(one, "train").equal(seen(other, "train"))
    assert not seen(one, "test").equal(seen(other, "test"))
    fits = recipe(name).fits
    assert fits != seen(one, "test").equal(seen(again, "test"))


@pytest.mark.parametrize("name", KEPT + BYTES)
def test_fill(name, monkeypatch):
    """The fill is what a black pixel has become, in each channel, and zero where it varies."""
    black = splits()
    black["test"] = Images([np.zeros((1, 3, 4, 5), np.uint8)])

    found = prepare(name, black, KEY)

    became = seen(found, "test")[0, :, 0, 0]
    assert (torch.float32, (3,)) == (found.fill.dtype, tuple(found.fill.shape))
    assert found.fill.equal(became if recipe(name).pointwise else torch.zeros(3))
    monkeypatch.setattr(prepared, "IN_MEMORY", 0)
    assert prepare(name, black, KEY).fill.equal(found.fill)


# the cache


@pytest.mark.parametrize("name", BYTES)
def test_bytes(name, cache, monkeypatch):
    """Few bytes need no cache; many lie there as bytes, with the same result."""
    small = prepare(name, splits(), KEY)
    assert not cache.exists()
    monkeypatch.setattr(prepared, "IN_MEMORY", 24 * 60 - 1)

    large = prepare(name, splits(), KEY)

    assert 1 == len(folders(cache))
    assert same(small, large)
    assert 24 * 60 < sum(path.stat().st_size for path in entry(cache).glob("*.npy")) < 24 * 90


@pytest.mark.parametrize("name", KEPT)
def test_prepared_once(name, looks, cache, monkeypatch):
    """The second time nothing is looked at and nothing is written."""
    first = prepare(name, splits(), KEY)
    assert sum(looks) == 24 + 12 * recipe(name).fits
    looks.clear()
    before = {path: path.stat().st_mtime_ns for path in cache.rglob("*")}
    monkeypatch.setattr("bnnbench_plugins.cache._turn", None)  # nor does it wait for anybody

    second = prepare(name, splits(), KEY)

    assert [] == looks
    assert same(first, second)
    assert before == {path: path.stat().st_mtime_ns for path in cache.rglob("*")}
    assert sorted([*(f"{split}.npy" for split in NAMES), "meta.json"]) == folders(entry(cache))


def test_what_names_a_result(cache, monkeypatch):
    """Another key, preprocessing, parameter, number of images or version is another result."""
    few = splits()
    few["train"] = few["train"].subset(np.arange(11))
    prepare("gcn-lcn", splits(), KEY)
    prepare("gcn-lcn", splits(), {"rows": "first", "files": {"a.bin": "0123"}})  # the same key
    assert 1 == len(folders(cache))

    prepare("gcn-lcn", splits(), {**KEY, "rows": "last"})
    prepare("gcn-lcn-red", splits(), KEY)
    prepare("gcn-lcn", few, KEY)
    monkeypatch.setattr(prepared, "VERSION", -1)
    prepare("gcn-lcn", splits(), KEY)

    assert 5 == len(folders(cache))


def test_parameters_name_a_result(cache, monkeypatch):
    """A preprocessing that gets another parameter under its old name is another result."""
    from bnnbench_plugins.preprocessing.whitening import GcnZca

    prepare("gcn-zca", splits(), KEY)
    monkeypatch.setattr(prepared, "recipe", lambda name: GcnZca(bias=0.2))

    found = prepare("gcn-zca", splits(), KEY)

    assert 2 == len(folders(cache))
    expected = GcnZca(bias=0.2).fit([pixels(12)])(pixels(12))
    assert np.allclose(expected, found.inputs["train"], rtol=0, atol=1e-4)


def test_written_to_by_nobody(cache):
    """What a process writes to its inputs stays with it; the files keep what was prepared."""
    first = prepare("gcn-lcn", splits(), KEY)
    kept = first.inputs["train"].clone()

    first.inputs["train"].zero_()

    assert prepare("gcn-lcn", splits(), KEY).inputs["train"].equal(kept)


def another_fill(folder):
    meta = json.loads((folder / "meta.json").read_text())
    meta["facts"]["table"] = [[1.0] * 256] * 3
    (folder / "meta.json").write_text(json.dumps(meta))


def another_result(folder):
    """Whole, but of another preprocessing."""
    prepare("gcn-lcn", splits(), KEY)
    (other,) = set(folder.parent.iterdir()) - {folder}
    for path in folder.iterdir():
        path.unlink()
    other.replace(folder)


def truncated(folder):
    os.truncate(folder / "test.npy", (folder / "test.npy").stat().st_size - 4)


@pytest.mark.parametrize("damage", [another_fill, another_result, truncated])
def test_damage_is_mended(damage, cache, looks):
    """What is wrong in the cache is made anew, and is whole afterwards."""
    first = prepare("gcn-zca", splits(), KEY)
    kept = {split: first.inputs[split].clone() for split in NAMES}
    damage(entry(cache))

    second = prepare("gcn-zca", splits(), KEY)

    assert all(second.inputs[split].equal(kept[split]) for split in NAMES)
    assert second.fill.equal(first.fill)
    looks.clear()
    assert same(second, prepare("gcn-zca", splits(), KEY))
    assert [] == looks


@pytest.mark.parametrize("stop", [KeyboardInterrupt, MemoryError, UsageError])
def test_broken_off(stop, cache, monkeypatch):
    """A preparation that is broken off leaves nothing."""
    chunks = Images.chunks

    def broken(self, size=None):
        yield from chunks(self, 3)
        raise stop

    monkeypatch.setattr(Images, "chunks", broken)
    with pytest.raises(stop):
        prepare("gcn-lcn", splits(), KEY)
    assert [] == folders(cache)
    monkeypatch.undo()


def test_in_threads(cache, looks):
    """Of several that want the same at once, one makes it and all have it."""
    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(lambda _: prepare("gcn-lcn", splits(), KEY), range(3)))

    assert 24 == sum(looks)
    assert all(same(found[0], each) for each in found)
    assert 1 == len(folders(cache))


def test_space_that_is_asked_for(cache, monkeypatch, looks):
    """As much space must be left as all splits take in float32, or nothing is begun."""
    usage = type("Usage", (), {"free": 24 * 60 * 4 - 1})
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage)

    with pytest.raises(DataError, match=r"not so much space left; set BNNBENCH_CACHE to another$"):
        prepare("gcn-lcn", splits(), KEY)

    assert [] == looks
    usage.free += 1
    prepare("gcn-lcn", splits(), KEY)


def test_progress(monkeypatch, capsys):
    """What takes more than a moment says on standard error how far it is, up to all of it."""
    prepare("gcn-lcn", splits(), KEY)
    assert ("", "") == capsys.readouterr()
    monkeypatch.setattr(prepared, "PATIENCE", 0)
    monkeypatch.setattr(prepared, "PAUSE", 0)
    monkeypatch.setattr(images_module, "CHUNK", 1)

    prepare("gcn-zca", splits(), KEY)

    out, err = capsys.readouterr()
    lines = err.splitlines()
    assert "" == out
    assert all(line.startswith("preparing gcn-zca: ") for line in lines)
    assert 36 + 1 == len(lines)  # fitted to 12, then 24 prepared
    assert "preparing gcn-zca: 50 % after 0 s" == lines[17]
    assert "preparing gcn-zca: 100 % after 0 s" == lines[-2]
    assert "done" in lines[-1]


def test_memory(monkeypatch, tmp_path):
    """Preparing takes the memory of a few chunks, not of the whole."""
    monkeypatch.setattr(images_module, "CHUNK", 2**14)
    size = 2**20
    (tmp_path / "raw").write_bytes(bytes(size))
    mapped = np.memmap(tmp_path / "raw", np.uint8, "r", shape=(size // 192, 3, 8, 8))
    many = {"train": Images([mapped]), "validation": Images([mapped[:9]]), "test": Images([mapped])}
    tracemalloc.start()

    prepare("gcn-lcn", many, KEY)

    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**20  # the result has 8 MiB, a chunk 16 KiB and 128 KiB in float64
