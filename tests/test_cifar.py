"""The CIFARs: what is in their files, how it is split, and what is said of files that are wrong."""

from __future__ import annotations

import io
import subprocess
import sys
import tarfile
from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
import torch

from bnnbench.archives import Archive, unpack
from bnnbench.checksums import md5
from bnnbench.downloads import data_root
from bnnbench.errors import DataError
from bnnbench_plugins.datasets import cifar as module
from bnnbench_plugins.datasets.cifar import HUNDRED, TEN, cifar10, cifar100
from bnnbench_plugins.preprocessing import Preprocessing

SPLITS = ("train", "validation", "test")
HELD = 7  #: images to validate
COUNTS = {  # of each class, in small: no two files alike, five of each class to train
    "data_batch_1": (2, 1, 0, 1, 1, 1, 1, 1, 1, 1),
    "data_batch_2": (0, 1, 2, 1, 1, 1, 1, 1, 1, 1),
    "data_batch_3": (1, 1, 1, 2, 0, 1, 1, 1, 1, 1),
    "data_batch_4": (1, 1, 1, 1, 1, 0, 2, 1, 1, 1),
    "data_batch_5": (1, 1, 1, 0, 2, 2, 0, 1, 1, 1),
    "test_batch": (1,) * 10,
}
FOLDER = "cifar-10-batches-bin"


def records(counts, labels, draw):
    """Records in a random order of classes: label bytes (n, labels) and pixels (n, 3072)."""
    fine = draw.permutation(np.repeat(np.arange(len(counts)), counts))
    marks = np.stack([*(draw.integers(0, bound, len(fine)) for bound in labels[:-1]), fine], 1)
    return marks.astype(np.uint8), draw.integers(0, 256, (len(fine), 3072), dtype=np.uint8)


def write(path, marks, pixels):
    path.write_bytes(b"".join(bytes(m) + bytes(p) for m, p in zip(marks, pixels, strict=True)))


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("BNNBENCH_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("BNNBENCH_CACHE", str(tmp_path / "cache"))
    return tmp_path


@pytest.fixture
def ten(home, monkeypatch):
    """CIFAR-10 in small, put there by hand: the folder, and all labels and pixels in order."""
    folder = home / "data" / "cifar10" / FOLDER
    folder.mkdir(parents=True)
    files = {f"{FOLDER}/{name}.bin": counts for name, counts in COUNTS.items()}
    monkeypatch.setattr(module, "TEN", TEN._replace(files=files, validation=HELD))
    draw, made = np.random.default_rng(0), []
    for name, counts in COUNTS.items():
        made.append(records(counts, (10,), draw))
        write(folder / f"{name}.bin", *made[-1])
    return folder, np.concatenate([m for m, _ in made]), np.concatenate([p for _, p in made])


@pytest.fixture
def hundred(home, monkeypatch):
    """CIFAR-100 in small, with two images of each class to train and one to test."""
    folder = home / "data" / "cifar100" / "cifar-100-binary"
    folder.mkdir(parents=True)
    files = {"cifar-100-binary/train.bin": (2,) * 100, "cifar-100-binary/test.bin": (1,) * 100}
    monkeypatch.setattr(module, "HUNDRED", HUNDRED._replace(files=files, validation=HELD))
    draw = np.random.default_rng(1)
    made = [records(counts, (20, 100), draw) for counts in files.values()]
    for name, pair in zip(("train", "test"), made, strict=True):
        write(folder / f"{name}.bin", *pair)
    return folder, np.concatenate([m for m, _ in made]), np.concatenate([p for _, p in made])


def drawn(split):
    """The bytes of a split with the preprocessing "unit", (n, 3072)."""
    return split.inputs.mul(255).round().byte().flatten(1).numpy()


def check_splits(data, rows, labels, pixels):
    """Each split has these images, with their own labels, in this order."""
    for name, chosen in zip(SPLITS, rows, strict=True):
        split = getattr(data, name)
        assert (drawn(split) == pixels[chosen]).all()
        assert split.targets.tolist() == labels[chosen].tolist()
        assert (torch.float32, torch.int64) == (split.inputs.dtype, split.targets.dtype)
    assert (3, 32, 32) == data.shape


def test_cifar10(ten):
    """The last of the training files' images validate, the test file's test."""
    _, marks, pixels = ten
    data = cifar10(preprocessing="unit")

    rows = range(43), range(43, 50), range(50, 60)
    check_splits(data, map(list, rows), marks[:, 0], pixels)
    assert (10, False, "", "classification") == (
        data.classes, data.synthetic, data.remark, data.task,
    )  # fmt: skip


def test_cifar100(hundred):
    """The fine label is the class, not the coarse one."""
    _, marks, pixels = hundred
    data = cifar100(preprocessing="unit")

    check_splits(
        data, map(list, (range(193), range(193, 200), range(200, 300))), marks[:, 1], pixels
    )
    assert 100 == data.classes


def test_planes(ten):
    """A record's pixels are the red plane, the green and the blue, each row by row."""
    _, _, pixels = ten
    image = cifar10(preprocessing="unit").train.inputs[3].mul(255).round()

    for channel, row, column in [(0, 0, 0), (0, 0, 31), (0, 5, 7), (1, 2, 3), (2, 31, 30)]:
        assert image[channel, row, column] == pixels[3][1024 * channel + 32 * row + column]


def test_random_split(ten):
    """numpy's fixed permutation with BNEW's seed decides who validates."""
    _, marks, pixels = ten
    order = np.random.RandomState(1234).permutation(50)
    data = cifar10(preprocessing="unit", validation="random")

    check_splits(data, (order[:43], order[43:], list(range(50, 60))), marks[:, 0], pixels)


def test_random_split_is_fixed():
    """The split of the whole is the same on every machine: here are its ends."""
    rows = module._rows(TEN, 60_000, 10_000, "random")

    assert [45_000, 5_000, 10_000] == [len(rows[name]) for name in SPLITS]
    assert {*range(50_000)} == {*rows["train"], *rows["validation"]}
    assert [rows["train"][:5].tolist(), rows["validation"][-5:].tolist()] == [
        [20308, 37706, 6041, 42143, 23202],
        [32399, 17048, 23924, 34086, 27439],
    ]


@pytest.mark.parametrize("validation", ["last", "random"])
def test_first_of_the_training_images(ten, validation):
    """A short study trains on the first so many, fits on them alone, and is judged by the same."""
    whole = cifar10(preprocessing="unit", validation=validation)
    short = cifar10(preprocessing="centered", validation=validation, train=9)
    mean = whole.train.inputs[:9].double().mean(0)

    assert 9 == len(short.train)
    assert ("", "trained on 9 of 43") == (whole.remark, short.remark)
    for name, count in zip(SPLITS, (9, 7, 10), strict=True):
        expected = getattr(whole, name).inputs[:count].double() - mean
        found = getattr(short, name).inputs.double()
        torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)
        assert getattr(short, name).targets.equal(getattr(whole, name).targets[:count])


def test_preprocessings(ten):
    """Each named preprocessing is one, and gives what the network can take."""
    names = {*get_args(module.Preprocessing)}
    assert {*get_args(Preprocessing)} >= names
    for name in names - {"gcn-zca"}:  # which needs seconds, whatever the number of images
        data = cifar10(preprocessing=name)
        assert data.train.inputs.isfinite().all()
        assert (43, 3, 32, 32) == data.train.inputs.shape
    signed = cifar10().train.inputs
    torch.testing.assert_close(signed, cifar10(preprocessing="unit").train.inputs * 2 - 1)


def test_augmentation(ten):
    """Training images alone are changed, and what comes in from outside is black."""
    data = cifar10(augmentation="crop-flip")
    assert [True, False, False] == [getattr(data, n).augmentation is not None for n in SPLITS]
    assert cifar10().train.augmentation is None
    white = torch.ones(64, 3, 32, 32)

    changed, _ = data.train.augmentation(white, torch.zeros(64), torch.Generator().manual_seed(0))

    assert {-1.0, 1.0} == {*changed.unique().tolist()}


def cut(path, size):
    path.write_bytes(path.read_bytes()[:size])


def swap(path, other):
    path.rename(path.with_name("x"))
    other.rename(path)
    path.with_name("x").rename(other)


def put(path, place, value):
    content = bytearray(path.read_bytes())
    content[place] = value
    path.write_bytes(bytes(content))


def double(path):
    path.write_bytes(path.read_bytes() * 2)


def batch(folder, number):
    return folder / f"data_batch_{number}.bin"


BROKEN = {
    "a byte less": (lambda f: cut(batch(f, 3), -1), "must hold whole records of 3073 bytes"),
    "a record less": (lambda f: cut(batch(f, 3), -3073), "must hold 1 images of class .*, got 0"),
    "nothing": (lambda f: cut(batch(f, 3), 0), "must hold whole records of 3073 bytes, got 0"),
    "no file": (lambda f: batch(f, 3).unlink(), "must be as it was unpacked, got: missing"),
    "twice": (lambda f: double(batch(f, 3)), "must hold 1 images of class 0, got 2"),
    "label": (lambda f: put(batch(f, 3), 6146, 10), "labels below 10, got 10 in record 2"),
    "shifted": (lambda f: put(batch(f, 3), 0, 255), "labels below 10, got 255 in record 0"),
    "train file": (lambda f: swap(batch(f, 3), batch(f, 5)), "must hold 2 images of class 3"),
    "test file": (lambda f: swap(batch(f, 3), f / "test_batch.bin"), "must hold 2 images of"),
}


@pytest.mark.parametrize(("change", "law"), BROKEN.values(), ids=BROKEN)
def test_wrong_files(ten, home, change, law):
    """A file that is truncated, damaged or another's is named before anything is made of it."""
    change(ten[0])

    with pytest.raises(DataError, match=rf"data_batch_3\.bin .*{law}") as raised:
        cifar10(preprocessing="centered")

    assert "\n" not in str(raised.value)
    assert str(ten[0]) in str(raised.value)
    assert not (home / "cache").exists()


def test_wrong_labels_of_cifar100(hundred):
    """Both labels must exist, the coarse and the fine one."""
    path = hundred[0] / "test.bin"
    put(path, 3074 * 4, 20)
    with pytest.raises(DataError, match="labels below 20, got 20 in record 4"):
        cifar100()
    put(path, 3074 * 4, 19)
    put(path, 3074 * 6 + 1, 100)
    with pytest.raises(DataError, match="labels below 100, got 100 in record 6"):
        cifar100()


def test_incomplete(ten):
    """A copy that lacks images is taken when it is asked for, and says how many it has."""
    folder, marks, pixels = ten
    cut(batch(folder, 1), 3073 * 8)
    cut(folder / "test_batch.bin", 3073 * 9)
    with pytest.raises(DataError, match=r"or set incomplete = true to go without$"):
        cifar10()

    data = cifar10(preprocessing="unit", incomplete=True)

    assert "57 of 60 images" == data.remark
    assert "57 of 60 images, trained on 40 of 41" == cifar10(incomplete=True, train=40).remark
    rows = [*range(8), *range(10, 43)], list(range(43, 50)), list(range(50, 59))
    check_splits(data, rows, marks[:, 0], pixels)


def test_a_whole_copy_has_no_remark(ten):
    """A copy that may lack images and lacks none is the published one."""
    assert "" == cifar10(incomplete=True).remark


@pytest.mark.parametrize("broken", sorted(set(BROKEN) - {"a record less"}))
def test_incomplete_is_not_anything(ten, broken):
    """Images may be lacking; records must be whole, labels exist, and no class have too many."""
    change, _ = BROKEN[broken]
    change(ten[0])

    with pytest.raises(DataError, match=r"(data_batch_3|test_batch)\.bin must"):
        cifar10(incomplete=True)


def test_too_few_to_validate(ten):
    """What is left must be enough to train and to validate."""
    for number in range(1, 6):
        cut(batch(ten[0], number), 3073)

    with pytest.raises(DataError, match=r"must have more than 7 images to train .* got 5$"):
        cifar10(incomplete=True)


def test_unpacked_files(ten, home, monkeypatch):
    """A pixel that is not as it came out of the archive is found, though all counts are right."""
    folder, _, _ = ten
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz", compresslevel=1) as tar:
        tar.add(folder, FOLDER)
    (home / "a.tar.gz").write_bytes(packed.getvalue())
    (stated,) = module.CIFAR10.archives.values()
    made = Archive(md5(home / "a.tar.gz"), stated.members, stated.limit_bytes)
    unpack(home / "a.tar.gz", made, folder.parent)
    source = replace(module.CIFAR10, archives={"a.tar.gz": made})
    monkeypatch.setattr(module, "TEN", module.TEN._replace(source=source))
    before = cifar10().train.inputs.clone()
    path = batch(folder, 2)

    put(path, 100, path.read_bytes()[100] ^ 1)

    with pytest.raises(DataError, match=r"batch_2\.bin .* damaged; run: bnnbench data"):
        cifar10()
    (folder / ".manifest.json").unlink()
    assert 1 == (cifar10().train.inputs != before).sum()


def test_the_cache_knows_the_pixels(ten):
    """Other pixels, another split or fewer images are never answered with what was made before."""
    options = ({}, {"validation": "random"}, {"train": 9})
    found = [cifar10(preprocessing="centered", **more).train.inputs.clone() for more in options]
    again = [cifar10(preprocessing="centered", **more).train.inputs.clone() for more in options]
    assert all(a.equal(b) for a, b in zip(found, again, strict=True))
    path = batch(ten[0], 1)
    put(path, 100, path.read_bytes()[100] ^ 255)

    changed = [cifar10(preprocessing="centered", **more).train.inputs for more in options]

    assert not any(a.equal(b) for a, b in zip(found, changed, strict=True))
    assert not found[0].equal(found[1])
    assert not found[0][:9].equal(found[2])
    keys = [module._key(module.TEN, "last", train) for train in (43, 9)]
    assert keys[0] != keys[1]


def test_published_numbers():
    """The layout is the published one: 50,000 and 10,000 images, of each class as many."""
    for layout, size in ((TEN, 3073), (HUNDRED, 3074)):
        *training, test = (np.asarray(counts) for counts in layout.files.values())
        assert 50_000 == np.sum(training)
        assert 10_000 == test.sum()
        assert 1 == len({*sum(training).tolist()}) == len({*test.tolist()})
        (archive,) = layout.source.archives.values()
        assert sorted(archive.members) == sorted(layout.files)
        assert 60_000 * size == archive.limit_bytes
        assert layout.labels[-1] == len(test)
        assert 5_000 == layout.validation
    assert {10_000} == {sum(counts) for counts in TEN.files.values()}


def test_sources_without_torch():
    """What to download is known from the factories, without torch or numpy."""
    code = (
        "import sys; from bnnbench_plugins.datasets.cifar import cifar10, cifar100;"
        "print(cifar10.source.name, cifar100.source.name,"
        "{'torch', 'numpy', 'pooch', 'rich'} & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert "cifar10 cifar100 set()" == done.stdout.strip()


@pytest.mark.skipif(
    not (data_root() / "cifar10" / FOLDER).is_dir(), reason="BNNBENCH_DATA does not hold CIFAR-10"
)
def test_real_cifar10():
    """The real files begin with a frog, two trucks, a deer and a car; their mean is known."""
    data = cifar10(preprocessing="unit", train=2_000, incomplete=True)

    assert [2_000, 5_000] == [len(data.train), len(data.validation)]
    assert 9_900 < len(data.test) <= 10_000
    lacking, _, trained = data.remark.rpartition("trained on 2,000 of 4")
    assert (lacking, trained) in [("", "5,000"), ("59,891 of 60,000 images, ", "4,914")]
    assert [6, 9, 9, 4, 1] == data.train.targets[:5].tolist()
    assert [3, 8, 8, 0, 6] == data.test.targets[:5].tolist()
    mean = data.validation.inputs.mean((0, 2, 3))
    torch.testing.assert_close(mean, torch.tensor([0.4914, 0.4822, 0.4465]), atol=5e-3, rtol=0)
