"""SVHN: its three splits, read from files of the canonical layout, and what is refused."""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest
import scipy.io
import torch

from bnnbench.downloads import Source, verify
from bnnbench.errors import DataError
from bnnbench_plugins import cache
from bnnbench_plugins.datasets import svhn as module
from bnnbench_plugins.datasets.svhn import SOURCE, svhn

SPLITS = ("train", "validation", "test")
COUNTS = {"train": 67, "extra": 131, "test": 26}
OF_TRAIN, OF_EXTRA, FIRST_OF_EXTRA, LAST_OF_TRAIN = 2, 1, 30, 6


def arrays(count, seed):
    """Images as MATLAB has them, each class there at least three times, 10 for the digit 0."""
    rng = np.random.default_rng(seed)
    labels = np.append(np.tile(np.arange(1, 11), 3), rng.integers(1, 11, count))[:count]
    images = rng.integers(0, 256, (32, 32, 3, count), dtype=np.uint8)
    return {"X": images, "y": rng.permutation(labels)[:, None].astype(np.uint8)}


def mat(content, packed=True):
    file = io.BytesIO()
    scipy.io.savemat(file, content, do_compression=packed)
    return file.getvalue()


@pytest.fixture(scope="module")
def contents():
    made = {"train": arrays(67, 0), "extra": arrays(131, 1), "test": arrays(26, 2)}
    made["test"]["y"] = made["test"]["y"].astype(float)
    return made


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A cache of its own, an empty folder of data, and laws that fit small files."""
    monkeypatch.setenv("BNNBENCH_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("BNNBENCH_CACHE", str(tmp_path / "cache"))
    for name in ("COUNTS", "OF_TRAIN", "OF_EXTRA", "FIRST_OF_EXTRA", "LAST_OF_TRAIN"):
        monkeypatch.setattr(module, name, globals()[name])
    monkeypatch.setattr(module, "STRETCH", 10)
    (tmp_path / "data" / "svhn").mkdir(parents=True)
    return tmp_path / "data" / "svhn"


@pytest.fixture
def put(place, monkeypatch):
    """Put files there, with their own checksums."""

    def put(contents, packed=True):
        md5s = {}
        for name, content in contents.items():
            written = content if isinstance(content, bytes) else mat(content, packed)
            (place / f"{name}_32x32.mat").write_bytes(written)
            digest = hashlib.md5(written, usedforsecurity=False)
            md5s[f"{name}_32x32.mat"] = digest.hexdigest()
        monkeypatch.setattr(module, "SOURCE", Source("svhn", (), md5s, 0))

    return put


def expected(contents, split):
    """The images and digits of each split, picked one by one in a loop."""
    seen = {"train": {}, "extra": {}}
    picked = {name: [] for name in SPLITS}
    for file in ("train", "extra"):
        content = contents[file]
        for number, label in enumerate(content["y"][:, 0]):
            seen[file][label] = seen[file].get(label, 0) + 1
            to = "train"
            if split == "paper":
                held = {"train": OF_TRAIN, "extra": OF_EXTRA}[file]
                to = "validation" if seen[file][label] <= held else "train"
            elif split == "train-only":
                to = "validation" if number >= COUNTS["train"] - LAST_OF_TRAIN else "train"
                to = None if file == "extra" else to
            elif file == "extra":
                to = "validation" if number < FIRST_OF_EXTRA else None
            if to:
                picked[to].append((content["X"][..., number].transpose(2, 0, 1), label % 10))
    test = contents["test"]
    picked["test"] = [
        (test["X"][..., i].transpose(2, 0, 1), int(label) % 10)
        for i, label in enumerate(test["y"][:, 0])
    ]
    return picked


def read(split):
    """The bytes and digits of each image in a split of a data set of type "unit"."""
    pixels = split.inputs.mul(255).round().byte().numpy()
    return list(zip(pixels, split.targets.tolist(), strict=True))


@pytest.mark.parametrize("split", ["paper", "extra-validation", "train-only"])
@pytest.mark.parametrize("packed", [True, False])
def test_splits(put, contents, split, packed):
    """Each image is in the split that the rule, applied one by one, puts it in, in order."""
    put(contents, packed)

    data = svhn(split=split, preprocessing="unit")

    assert (data.shape, data.classes, data.synthetic, data.remark) == ((3, 32, 32), 10, False, "")
    for name, wanted in expected(contents, split).items():
        found = read(getattr(data, name))
        assert [digit for _, digit in wanted] == [digit for _, digit in found]
        np.testing.assert_array_equal([x for x, _ in wanted], [x for x, _ in found])
    assert {torch.float32} == {getattr(data, name).inputs.dtype for name in SPLITS}
    assert {torch.int64} == {getattr(data, name).targets.dtype for name in SPLITS}


def test_validation_of_the_paper(put, contents):
    """All classes are held out equally often: as many of each as the paper says."""
    put(contents)

    counts = svhn(preprocessing="unit").validation.targets.bincount()

    assert [OF_TRAIN + OF_EXTRA] * 10 == counts.tolist()


def test_published_numbers():
    """The paper's 598,388 and 6,000 are what its rule leaves of the published files."""
    train, extra, test = (module.COUNTS[name] for name in ("train", "extra", "test"))
    held = 10 * (module.OF_TRAIN + module.OF_EXTRA)

    assert (598_388, 6_000, 26_032) == (train + extra - held, held, test)
    assert (73_257, 30_000) == (train, module.FIRST_OF_EXTRA)


def test_first_of_train(put, contents):
    """A short study takes the first training images of the split, and fits to them alone."""
    put(contents)
    whole, short = svhn(preprocessing="unit"), svhn(preprocessing="unit", train=20)
    standardized = svhn(preprocessing="standardized", train=20)

    assert short.train.inputs.equal(whole.train.inputs[:20])
    assert short.train.targets.equal(whole.train.targets[:20])
    assert short.validation.inputs.equal(whole.validation.inputs)
    assert ("", "trained on 20 of 168") == (whole.remark, short.remark)
    assert "trained on 61" not in svhn(preprocessing="unit", split="train-only", train=61).remark
    pixels = short.train.inputs.double().transpose(0, 1).flatten(1)
    mean, sd = pixels.mean(1).view(3, 1, 1), pixels.std(1, correction=0).view(3, 1, 1)
    wanted = (whole.test.inputs.double() - mean) / sd
    torch.testing.assert_close(standardized.test.inputs.double(), wanted, atol=1e-5, rtol=0)


@pytest.mark.parametrize("preprocessing", ["signed", "centered", "gcn-lcn", "gcn-lcn-red"])
def test_preprocessings(put, contents, preprocessing):
    """Each preprocessing gives finite images that are not those of another."""
    put(contents)

    found = svhn(preprocessing=preprocessing, split="train-only").test.inputs

    assert found.isfinite().all()
    assert not torch.allclose(found, svhn(preprocessing="unit", split="train-only").test.inputs)


def test_augmentation(put, contents):
    """Training images are augmented with a generator, the others never."""
    put(contents)
    data = svhn(preprocessing="unit", augmentation="flip")

    for name, changed in {"train": True, "validation": False, "test": False}.items():
        split = getattr(data, name)
        found, _ = next(split.batches(len(split), None, torch.Generator().manual_seed(0)))
        assert changed != found.equal(split.inputs)


def test_train_only_needs_no_extra(put, contents, place):
    """Without the extra file the smallest split is had, and the others name what is missing."""
    put(contents)
    (place / "extra_32x32.mat").unlink()

    assert 61 == len(svhn(split="train-only", preprocessing="unit").train)
    with pytest.raises(DataError, match=r"extra_32x32\.mat must have MD5 [^\n]+ got missing; run"):
        svhn(preprocessing="unit")


def test_unpacked_once(put, contents, place):
    """What was unpacked is kept: the files are not read again, nor needed."""
    put(contents)
    before = svhn(preprocessing="unit")
    for path in place.glob("*.mat"):
        path.unlink()

    after = svhn(preprocessing="unit")

    for name in SPLITS:
        assert getattr(before, name).inputs.equal(getattr(after, name).inputs)
        assert getattr(before, name).fingerprint() == getattr(after, name).fingerprint()


def test_kept_by_what_is_picked(put, contents, tmp_path, monkeypatch):
    """Another choice of as many images is another result, also where results are kept."""
    put(contents)
    before = svhn(preprocessing="standardized")
    monkeypatch.setattr(module, "OF_TRAIN", OF_EXTRA)
    monkeypatch.setattr(module, "OF_EXTRA", OF_TRAIN)

    after = svhn(preprocessing="standardized")

    monkeypatch.setenv("BNNBENCH_CACHE", str(tmp_path / "another"))
    fresh = svhn(preprocessing="standardized")
    assert after.validation.inputs.shape == before.validation.inputs.shape
    assert after.validation.inputs.equal(fresh.validation.inputs)
    assert not after.validation.inputs.equal(before.validation.inputs)


@pytest.mark.parametrize("damage", ["shorter", "missing", "meta", "garbage"])
def test_damaged_cache(put, contents, tmp_path, damage):
    """A folder of the cache that is not whole is made anew."""
    put(contents)
    before = svhn(preprocessing="unit")
    for meta in (tmp_path / "cache").glob("*/meta.json"):
        images = meta.with_name("images.npy")
        if damage == "shorter":
            images.write_bytes(images.read_bytes()[:-1])
        elif damage == "missing":
            images.unlink()
        elif damage == "meta":
            meta.unlink()
        else:
            meta.write_text("{")

    after = svhn(preprocessing="unit")

    assert before.train.inputs.equal(after.train.inputs)
    assert 3 == len([*(tmp_path / "cache").glob("*/meta.json")])
    assert not [*(tmp_path / "cache").glob("*.part")]


def test_damaged_file(put, contents, place):
    """A damaged file is named before anything is read from it."""
    put(contents)
    path = place / "train_32x32.mat"
    path.write_bytes(path.read_bytes()[:-1])

    with pytest.raises(DataError, match=r"train_32x32[^\n]+; run: bnnbench data fetch svhn$"):
        svhn(preprocessing="unit")


def without(content, name):
    return {key: value for key, value in content.items() if key != name}


GOOD = arrays(67, 0)


@pytest.mark.parametrize(
    ("content", "got"),
    [
        (arrays(66, 0), r"X of shape \(32, 32, 3, 66\)"),
        (without(GOOD, "y"), "only X"),
        (without(GOOD, "X"), "only y"),
        ({}, "only nothing"),
        ({**GOOD, "X": GOOD["X"].astype(np.int16)}, "X of type int16"),
        ({**GOOD, "X": GOOD["X"].transpose(2, 0, 1, 3)}, r"X of shape \(3, 32, 32, 67\)"),
        ({**GOOD, "y": GOOD["y"] % 10}, "other labels"),
        ({**GOOD, "y": GOOD["y"] + 1}, "other labels"),
        ({**GOOD, "y": GOOD["y"] + 0.5}, "other labels"),
        ({**GOOD, "y": GOOD["y"].T}, r"y of shape \(1, 67\)"),
        ({**GOOD, "z": GOOD["y"]}, r"z of shape \(67, 1\)"),
        (mat(GOOD)[:-40], "whole MATLAB file"),
    ],
    ids=[
        "fewer",
        "no labels",
        "no images",
        "empty",
        "type",
        "order",
        "zero",
        "eleven",
        "half",
        "row",
        "another",
        "truncated",
    ],
)
def test_wrong_content(put, contents, tmp_path, content, got):
    """A file with the right checksum and the wrong arrays is refused, and leaves nothing."""
    put({**contents, "train": content})

    with pytest.raises(DataError, match=got) as raised:
        svhn(preprocessing="unit")

    assert "\n" not in str(raised.value)
    assert "train_32x32.mat" in str(raised.value)
    assert not [*(tmp_path / "cache").glob("*")]


def test_full_disk(put, contents, monkeypatch):
    """A cache that cannot be written is named in one line, with the way out."""
    put(contents)

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cache.os, "fsync", fail)
    with pytest.raises(DataError, match=r"No space left on device; set BNNBENCH_CACHE") as raised:
        svhn(preprocessing="unit")
    assert "\n" not in str(raised.value)


def test_space_that_is_asked_for(put, contents, monkeypatch):
    """As much space must be left as the bytes and labels of a file take."""
    put(contents)
    asked = {}

    def noted(identity, size, make):
        found = kept(identity, size, make)
        asked[size] = sum(array.nbytes for array in found.arrays.values())
        return found

    kept = cache.kept
    monkeypatch.setattr(cache, "kept", noted)

    svhn(preprocessing="unit")

    assert 3 == len(asked)
    assert [*asked] == [*asked.values()]


def test_source_of_svhn():
    """What to download is known from the factory, without torch, numpy or scipy."""
    code = (
        "import sys; from bnnbench_plugins.datasets.svhn import svhn;"
        "print(svhn.source.name, {'torch', 'numpy', 'scipy', 'pooch', 'rich'} & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert SOURCE is svhn.source
    assert "svhn set()" == done.stdout.strip()


def test_memory(place, tmp_path, monkeypatch):
    """Unpacking 31 MB needs a small part of that."""
    monkeypatch.setattr(module, "STRETCH", 100)
    content = {"X": np.zeros((32, 32, 3, 10_000), np.uint8), "y": np.ones((10_000, 1), np.uint8)}
    (place / "train_32x32.mat").write_bytes(mat(content))

    tracemalloc.start()
    module._unpack(place / "train_32x32.mat", 10_000, cache.Draft(tmp_path))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert peak < 4_000_000
    assert (tmp_path / "images.npy").stat().st_size > 30_000_000


def has_svhn():
    return "BNNBENCH_DATA" in os.environ and {"present"} == set(verify(SOURCE).values())


@pytest.mark.skipif(not has_svhn(), reason="BNNBENCH_DATA does not hold SVHN")
def test_real_svhn(tmp_path, monkeypatch):
    """The real files give 600 of each digit to validate, and 26,032 images to test."""
    monkeypatch.setenv("BNNBENCH_CACHE", str(tmp_path))

    data = svhn(preprocessing="unit", train=1_000)

    assert [1_000, 6_000, 26_032] == [len(getattr(data, name)) for name in SPLITS]
    assert [600] * 10 == data.validation.targets.bincount().tolist()
