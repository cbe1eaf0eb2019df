"""The pets: their split, squares and trimaps, from folders of the canonical layout."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from bnnbench.archives import unpack
from bnnbench.downloads import folder
from bnnbench.errors import DataError
from bnnbench_plugins import cache
from bnnbench_plugins.datasets import pets as module
from bnnbench_plugins.datasets.pets import SOURCE, oxford_iiit_pet

FETCH = "bnnbench data fetch oxford-iiit-pet"
SPLITS = ("train", "validation", "test")
COUNTS = {"trainval": 22, "test": 9}
NAMES = {
    "trainval": [f"Abyssinian_{i}" for i in range(11)] + [f"great_pyrenees_{i}" for i in range(11)],
    "test": [f"Abyssinian_{i}" for i in range(100, 109)],
}
ALL = NAMES["trainval"] + NAMES["test"]


def photograph(rng, mode="RGB"):
    """A smooth random photograph of a random size, so that JPEG changes it little."""
    size = tuple(rng.integers(40, 90, 2).tolist())
    coarse = Image.fromarray(rng.integers(0, 256, (4, 4, 3), dtype=np.uint8))
    return coarse.resize(size, Image.Resampling.BICUBIC).convert(mode)


def lines(names):
    return "".join(
        f"{name} {1 + i % 37} {1 + i % 2} {1 + i % 12}\n" for i, name in enumerate(names)
    )


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A whole folder, small: most photographs are JPEGs, some are called so."""
    root, rng = tmp_path_factory.mktemp("pets"), np.random.default_rng(0)
    (root / "annotations" / "trimaps").mkdir(parents=True)
    (root / "images").mkdir()
    kinds = [("GIF", "P"), ("PNG", "RGBA"), ("JPEG", "CMYK"), ("JPEG", "L"), ("PNG", "LA")]
    kinds.append(("PNG", "P"))
    for i, name in enumerate(ALL):
        kind, mode = kinds[i] if i < len(kinds) else ("JPEG", "RGB")
        picture = photograph(rng, mode)
        options = {"quality": 95} if kind == "JPEG" else {}
        if (kind, mode) == ("PNG", "P"):
            options = {"transparency": bytes(range(256))}
        picture.save(root / "images" / f"{name}.jpg", kind, **options)
        trimap = rng.integers(1, 4, picture.size[::-1], dtype=np.uint8)
        Image.fromarray(trimap).save(root / "annotations" / "trimaps" / f"{name}.png")
    for name, listed in NAMES.items():
        (root / "annotations" / f"{name}.txt").write_text(lines(listed))
    for path in ("images/._Abyssinian_0.jpg", "annotations/trimaps/._Abyssinian_0.png"):
        (root / path).write_bytes(b"of another system")
    return root


@pytest.fixture
def place(written, tmp_path, monkeypatch):
    """A copy of that folder that a test may change, and a cache of its own."""
    monkeypatch.setenv("BNNBENCH_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("BNNBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(module, "COUNTS", COUNTS)
    subprocess.run(["mkdir", "-p", str(tmp_path / "data")], check=True)
    subprocess.run(
        ["cp", "-r", str(written), str(tmp_path / "data" / "oxford-iiit-pet")], check=True
    )
    return tmp_path / "data" / "oxford-iiit-pet"


def small(**options):
    return oxford_iiit_pet(**{"size": 32, "preprocessing": "unit", **options})


def trimap(place, name, size=32):
    """The class of the pixel in whose place each pixel of the square's centre falls."""
    with Image.open(place / "annotations" / "trimaps" / f"{name}.png") as picture:
        values = np.asarray(picture)
    rows, columns = (((np.arange(size) + 0.5) * side / size).astype(int) for side in values.shape)
    return values[rows[:, None], columns] - 1


def squares(place, name, size=32):
    """The photograph as Pillow resizes it, decoded whole, in [0, 1]."""
    with Image.open(place / "images" / f"{name}.jpg") as picture:
        see_through = "A" in picture.mode or "transparency" in picture.info
        whole = picture.convert("RGBA") if see_through else picture
        square = whole.convert("RGB").resize((size, size), Image.Resampling.BILINEAR)
    return np.asarray(square).transpose(2, 0, 1) / 255


def split_names(data, place, names):
    """Which names a split has, found by the trimaps, no two of which are alike."""
    known = {trimap(place, name).tobytes(): name for name in names}
    return [known[target.numpy().astype(np.uint8).tobytes()] for target in data.targets]


def test_split(place):
    """Every fifth line of trainval.txt validates; the others train, in a fixed shuffled order."""
    data = small()
    found = {name: split_names(getattr(data, name), place, ALL) for name in SPLITS}

    assert NAMES["test"] == found["test"]
    assert [NAMES["trainval"][i] for i in (4, 9, 14, 19)] == found["validation"]
    rest = [name for i, name in enumerate(NAMES["trainval"], 1) if i % 5]
    assert [rest[i] for i in np.random.RandomState(0).permutation(18)] == found["train"]
    assert (data.shape, data.classes, data.task) == ((3, 32, 32), 3, "segmentation")
    assert ("", False) == (data.remark, data.synthetic)


def test_published_numbers():
    """Every fifth of the published 3,680 leaves 2,944 to train and 736 to validate."""
    assert (3_680, 3_669) == (module.COUNTS["trainval"], module.COUNTS["test"])
    assert (2_944, 736) == (3_680 - 3_680 // module.FIFTH, 3_680 // module.FIFTH)


def test_trimaps(place):
    """Targets are the nearest pixels' classes, 0 to 2, one for each pixel."""
    test = small().test

    assert (torch.int64, (9, 32, 32)) == (test.targets.dtype, tuple(test.targets.shape))
    assert [0, 1, 2] == test.targets.unique().tolist()
    wanted = np.stack([trimap(place, name) for name in NAMES["test"]])
    np.testing.assert_array_equal(wanted, test.targets)


@pytest.mark.parametrize("size", [20, 32])
def test_squares(place, size):
    """Photographs are Pillow's bilinear squares, whatever format they have under their name."""
    data = small(size=size)
    names = [NAMES["trainval"][i] for i in (4, 9, 14, 19)]

    for split, chosen in {"validation": names, "test": NAMES["test"]}.items():
        wanted = np.stack([squares(place, name, size) for name in chosen])
        found = getattr(data, split).inputs.numpy()
        assert np.abs(found - wanted).max() < 0.06  # a JPEG may have been decoded smaller
        assert np.abs(found - wanted).mean() < 0.006
    train = split_names(data.train, place, ALL) if size == 32 else []
    for name, found in zip(train, data.train.inputs.numpy(), strict=False):
        assert np.abs(found - squares(place, name)).mean() < 0.006


def test_flip(place):
    """A mirrored photograph's trimap is mirrored with it; nothing else happens."""
    data = small(augmentation="flip")
    inputs, targets = next(data.train.batches(18, None, torch.Generator().manual_seed(0)))
    plain = data.train

    mirrored = [not found.equal(x) for found, x in zip(inputs, plain.inputs, strict=True)]
    assert 0 < sum(mirrored) < 18
    for i, flip in enumerate(mirrored):
        assert inputs[i].equal(plain.inputs[i].flip(-1) if flip else plain.inputs[i])
        assert targets[i].equal(plain.targets[i].flip(-1) if flip else plain.targets[i])


def test_first_of_train(place):
    """A short study takes the first training images, and fits to them alone."""
    whole, short = small(), small(train=5)
    standardized = small(train=5, preprocessing="standardized")

    assert short.train.inputs.equal(whole.train.inputs[:5])
    assert short.train.targets.equal(whole.train.targets[:5])
    assert ("", "trained on 5 of 18") == (whole.remark, short.remark)
    pixels = short.train.inputs.double().transpose(0, 1).flatten(1)
    mean, sd = pixels.mean(1).view(3, 1, 1), pixels.std(1, correction=0).view(3, 1, 1)
    wanted = (whole.test.inputs.double() - mean) / sd
    torch.testing.assert_close(standardized.test.inputs.double(), wanted, atol=1e-5, rtol=0)


def test_kept(place, monkeypatch):
    """A second time nothing is decoded; another size, or another file, is another result."""
    small()
    monkeypatch.setattr(module, "_unpack", None)

    small(train=7)
    with pytest.raises(TypeError):
        small(size=33)
    path = place / "images" / f"{NAMES['test'][0]}.jpg"
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(TypeError):
        small()


def test_space_that_is_asked_for(place, monkeypatch):
    """As much space must be left as the squares and their trimaps take."""
    sizes, kept = [], cache.kept

    def noted(identity, size, make):
        sizes.append(size)
        found = kept(identity, size, make)
        sizes.append(sum(array.nbytes for array in found.arrays.values()))
        return found

    monkeypatch.setattr(cache, "kept", noted)

    small()

    assert 31 * 32 * 32 * (3 + 8) == sizes[0] == sizes[1]


def test_any_number_of_threads(place, tmp_path, monkeypatch):
    """The result does not depend on how many threads decode."""
    found = []
    for count in (1, 5):
        monkeypatch.setattr("bnnbench_plugins.datasets.stream.threads", lambda count=count: count)
        monkeypatch.setenv("BNNBENCH_CACHE", str(tmp_path / f"cache{count}"))
        found.append(small())

    for name in SPLITS:
        assert getattr(found[0], name).fingerprint() == getattr(found[1], name).fingerprint()


def refused(match, **options):
    with pytest.raises(DataError, match=match) as raised:
        small(**options)
    assert "\n" not in str(raised.value)


def test_missing(place):
    """A missing photograph, trimap or list is named, with what to remove, and how to go without."""
    for name in ("images/Abyssinian_3.jpg", "annotations/trimaps/Abyssinian_4.png"):
        content = (place / name).read_bytes()
        (place / name).unlink()
        way = rf"or remove {place / name.partition('/')[0]} and run: {FETCH}, or set incomplete"
        refused(rf"{name} must be [^\n]+ missing; put it there, {way} = true to go without$")
        (place / name).write_bytes(content)
    (place / "annotations" / "test.txt").unlink()
    law, way = r"test\.txt must be [^\n]+ missing; put it there, or remove", f"and run: {FETCH}, or"
    refused(rf"{law} {place}/annotations {way} set incomplete = true to go without$")
    refused(rf"{law} {place}/annotations {way} remove both lists to go [^\n]+$", incomplete=True)


@pytest.mark.parametrize(
    ("change", "law"),
    [
        (lambda text: text.replace("\n", "\n\n", 1), "22 lines of a name and three numbers"),
        (lambda text: text.partition("\n")[2], "got 21 of 21"),
        (lambda text: text + "Bengal_1 6 1 2\n", "got 23 of 23"),
        (lambda text: text.replace("Abyssinian_1 ", "Abyssinian_0 "), "got 21 of 22"),
        (lambda text: text.replace("Abyssinian_1 ", "../Abyssinian_1 "), "got 21 of 22"),
        (lambda text: text.replace(" 1 1 1\n", " 1 3 1\n", 1), "got 21 of 22"),
    ],
    ids=["blank", "fewer", "more", "twice", "outside", "species"],
)
def test_wrong_lists(place, change, law):
    """A list that is not as published is named, with what is wrong."""
    path = place / "annotations" / "trainval.txt"
    path.write_text(change(path.read_text()))

    refused(rf"trainval\.txt must have [^\n]*{law}")


@pytest.mark.parametrize("incomplete", [True, False])
def test_lists_that_overlap(place, incomplete):
    """A photograph that would be trained on and tested on is named."""
    path = place / "annotations" / "test.txt"
    path.write_text(path.read_text().replace("Abyssinian_104 ", "great_pyrenees_3 "))

    refused(
        r"test\.txt must have no name of trainval\.txt, got great_pyrenees_3; put it there,"
        rf" or remove {place}/annotations and run: {FETCH}$",
        incomplete=incomplete,
    )


def png(array, size=None):
    """A trimap of these numbers, each enlarged to a rectangle where a size is given."""
    picture = Image.fromarray(np.uint8(array))
    file = io.BytesIO()
    (picture.resize(size, Image.Resampling.NEAREST) if size else picture).save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "law"),
    [
        (lambda size: png([[0, 1], [2, 3]], size), "pixels from 1 to 3, got 0 to 3"),
        (lambda size: png([[1, 1], [2, 4]], size), "pixels from 1 to 3, got 1 to 4"),
        (lambda size: png(np.ones((2, 2, 3)), size), "got: RGB where one byte"),
        (lambda size: b"no image", "got: no format that Pillow knows"),
        (lambda size: png(np.ones((9, 9)), size)[:-20], "must be a whole image file"),
    ],
    ids=["zero", "four", "channels", "garbage", "truncated"],
)
def test_wrong_trimap(place, tmp_path, content, law):
    """A trimap with other values, or damaged, is named, and nothing is left in the cache."""
    with Image.open(place / "images" / "Abyssinian_3.jpg") as picture:
        made = content(picture.size)
    (place / "annotations" / "trimaps" / "Abyssinian_3.png").write_bytes(made)

    refused(rf"Abyssinian_3\.png [^\n]*{law}")
    assert not [*(tmp_path / "cache").glob("*")]


@pytest.mark.parametrize("change", ["cut", "turned"])
def test_trimap_of_another_size(place, tmp_path, change):
    """A trimap that was cut from its photograph's, or lies on its side, is refused by name."""
    path = place / "annotations" / "trimaps" / "Abyssinian_3.png"
    with Image.open(path) as picture:
        width, height = picture.size
        cut, turned = (0, 0, width - 1, height), Image.Transpose.ROTATE_90
        other = picture.crop(cut) if change == "cut" else picture.transpose(turned)
    other.save(path)

    refused(
        f"a trimap must have its photo's size, got {other.width} x {other.height} instead of"
        f" {width} x {height} for Abyssinian_3; put it there, or remove {place}/annotations"
    )
    assert not [*(tmp_path / "cache").glob("*")]


def test_damaged_photograph(place):
    """A photograph that ends too early is named."""
    path = place / "images" / "great_pyrenees_2.jpg"
    path.write_bytes(path.read_bytes()[:-200])

    refused(r"great_pyrenees_2\.jpg must be a whole image file, got: ")


def test_incomplete_with_lists(place):
    """Where photographs lack, the lists still say what is which; the remark says how many."""
    for name in ("Abyssinian_3", "Abyssinian_4", "Abyssinian_100"):
        (place / "images" / f"{name}.jpg").unlink()

    data = small(incomplete=True)

    assert "28 of 31 images" == data.remark
    assert "28 of 31 images, trained on 15 of 16" == small(incomplete=True, train=15).remark
    left = [name for name in NAMES["trainval"] if name not in ("Abyssinian_3", "Abyssinian_4")]
    assert left[4::5] == split_names(data.validation, place, ALL)
    assert NAMES["test"][1:] == split_names(data.test, place, ALL)


def test_incomplete_without_lists(place):
    """Without lists every fifth name tests, and every fifth of the others validates."""
    for name in NAMES:
        (place / "annotations" / f"{name}.txt").unlink()
    (place / "annotations" / "trimaps" / "Abyssinian_108.png").unlink()
    refused(r"trainval\.txt")

    data = small(incomplete=True)

    names = sorted(set(ALL) - {"Abyssinian_108"})
    rest = [name for i, name in enumerate(names) if i % 5 != 4]
    assert "30 of 31 images" == data.remark
    assert names[4::5] == split_names(data.test, place, names)
    assert rest[4::5] == split_names(data.validation, place, names)
    assert 30 == sum(len(getattr(data, name)) for name in SPLITS)


def test_too_few(place):
    """With too few photographs for three splits there is one line, incomplete or not."""
    for name in ALL[5:]:
        (place / "images" / f"{name}.jpg").unlink()

    refused(
        r"must have photographs with trimaps to train, to validate and to test", incomplete=True
    )


def test_complete_needs_no_remark(place):
    """A whole folder has no remark, and the same result, even where it need not be whole."""
    assert "" == small(incomplete=True).remark
    assert small().train.fingerprint() == small(incomplete=True).train.fingerprint()


def test_unpacked_archives(place):
    """Where the harness unpacked the archives, its manifests are what a file must agree with."""
    for name, archive in SOURCE.archives.items():
        with tarfile.open(place / name, "w:gz") as tar:
            tar.add(place / archive.folder, archive.folder)
        shutil.rmtree(place / archive.folder)
        unpack(place / name, archive, place)
    assert 18 == len(small().train)

    path = place / "images" / "Abyssinian_3.jpg"
    path.write_bytes(path.read_bytes()[:-1] + b"\0")

    refused(r"Abyssinian_3\.jpg must be as it was unpacked, got: damaged; run: bnn", size=40)


def test_source_of_pets():
    """What to download is known from the factory, without torch, numpy or Pillow."""
    code = (
        "import sys; from bnnbench_plugins.datasets.pets import oxford_iiit_pet;"
        "print(oxford_iiit_pet.source.name, {'torch', 'numpy', 'PIL', 'pooch'} & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert SOURCE is oxford_iiit_pet.source
    assert "oxford-iiit-pet set()" == done.stdout.strip()


def real():
    return Path(folder(SOURCE)) / "images" if "BNNBENCH_DATA" in os.environ else None


@pytest.mark.skipif(
    not (real() and real().is_dir()), reason="BNNBENCH_DATA does not hold oxford-iiit-pet"
)
def test_real_pets(tmp_path, monkeypatch):
    """Real photographs give three splits with all three classes in each."""
    monkeypatch.setenv("BNNBENCH_CACHE", str(tmp_path))

    data = oxford_iiit_pet(incomplete=True, size=64)

    total = sum(len(getattr(data, name)) for name in SPLITS)
    assert data.remark == ("" if total == 7_349 else f"{total:,} of 7,349 images")
    for name in SPLITS:
        assert [0, 1, 2] == getattr(data, name).targets.unique().tolist()
        assert (-1, 1) == (data.test.inputs.min(), data.test.inputs.max())
