"""ImageNet: folders of classes, read by threads as they are needed, the same bits each time."""

from __future__ import annotations

import gc
import os
import shutil
import subprocess
import sys
import threading
import time
import tracemalloc

import numpy as np
import pytest
import torch
from PIL import Image

from bnnbench.downloads import folder
from bnnbench.errors import DataError
from bnnbench.training import Settings, train
from bnnbench_plugins.architectures.mlp import mlp
from bnnbench_plugins.augmentations import boxes
from bnnbench_plugins.datasets import imagenet as module
from bnnbench_plugins.datasets import stream
from bnnbench_plugins.datasets.imagenet import SOURCE, imagenet
from bnnbench_plugins.datasets.photographs import Photograph
from bnnbench_plugins.losses import cross_entropy
from bnnbench_plugins.ste import ste

SPLITS = ("train", "validation", "test")
NAMES = ["n01440764", "n02123045", "n03000001"]
SIZE, HELD = 16, 2
PER_CLASS = {"train": (7, 5, 6), "val": (3, 2, 2)}
MEAN, SD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])


def picture(rng, size=None):
    """A smooth random photograph, so that JPEG changes it little."""
    size = size or tuple(rng.integers(20, 90, 2).tolist())
    coarse = Image.fromarray(rng.integers(0, 256, (3, 3, 3), dtype=np.uint8))
    return coarse.resize(size, Image.Resampling.BICUBIC)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Three classes in the canonical layout; as in the real set, not every file is an RGB JPEG."""
    root, rng = tmp_path_factory.mktemp("imagenet"), np.random.default_rng(0)
    odd = iter([("PNG", "RGBA"), ("JPEG", "CMYK"), ("JPEG", "L"), ("PNG", "P")])
    for part, counts in PER_CLASS.items():
        for name, count in zip(NAMES, counts, strict=True):
            (root / part / name).mkdir(parents=True)
            for i in reversed(range(count)):  # not in the order of their names
                kind, mode = next(odd, ("JPEG", "RGB")) if part == "val" else ("JPEG", "RGB")
                path = root / part / name / f"{name}_{i}.JPEG"
                options = {"quality": 95} if kind == "JPEG" else {}
                picture(rng).convert(mode).save(path, kind, **options)
    (root / "train" / "README").write_text("no class")
    (root / "val" / NAMES[0] / "list.txt").write_text("no image")
    return root


@pytest.fixture
def place(written, tmp_path, monkeypatch):
    """A copy of that folder that a test may change."""
    monkeypatch.setenv("BNNBENCH_DATA", str(tmp_path))
    return shutil.copytree(written, tmp_path / "imagenet")


def small(**options):
    return imagenet(**{"size": SIZE, "validation": HELD, "preprocessing": "unit", **options})


def names(split):
    return [os.fsdecode(name) for name in split.names]


def opened(path):
    with Image.open(path) as image:
        return image.convert("RGBA").convert("RGB")


def cut(path, box, size=SIZE):
    """What Pillow makes of a box, decoded whole: left, top, right, bottom."""
    made = opened(path).crop(box).resize((size, size), Image.Resampling.BILINEAR)
    return np.asarray(made).transpose(2, 0, 1) / 255


def whole(split, **options):
    inputs, targets = zip(*split.batches(4, **options), strict=True)
    return torch.cat(inputs), torch.cat(targets)


def test_splits(place):
    """The first training images of each class validate; val tests; classes come in turn."""
    data = small()

    wanted = {"train": [], "validation": [], "test": []}
    for i in range(7):
        for label, name in enumerate(NAMES):
            for part, count in ((p, PER_CLASS[p][label]) for p in PER_CLASS):
                split = "test" if part == "val" else "validation" if i < HELD else "train"
                if i < count:
                    wanted[split].append((f"{part}/{name}/{name}_{i}.JPEG", label))
    for split, pairs in wanted.items():
        found = getattr(data, split)
        assert [name for name, _ in pairs] == names(found)
        assert [label for _, label in pairs] == whole(found)[1].tolist()
        assert len(pairs) == len(found)
    assert (3, SIZE, SIZE) == data.shape == tuple(whole(data.test)[0].shape[1:])
    assert (3, False, "classification") == (data.classes, data.synthetic, data.task)


def test_order_of_the_file_system(place, monkeypatch):
    """The order in which the file system names the files changes nothing."""
    before, listdir = small(), os.listdir
    monkeypatch.setattr(module.os, "listdir", lambda path: sorted(listdir(path))[::-1])

    after = small()

    for name in SPLITS:
        assert names(getattr(before, name)) == names(getattr(after, name))
        assert getattr(before, name).fingerprint() == getattr(after, name).fingerprint()


@pytest.mark.parametrize("preprocessing", ["unit", "signed", "imagenet-standardized"])
def test_judged(place, preprocessing):
    """The middle is what is left of a resize of the shorter side to 256 and a crop of 224."""
    data = small(preprocessing=preprocessing, size=28)
    inputs = whole(data.test)[0].double().numpy()

    for name, found in zip(names(data.test), inputs, strict=True):
        image = opened(place / name)
        factor = 32 / min(image.size)
        image = image.resize([round(side * factor) for side in image.size], 2)
        left, top = ((side - 28) // 2 for side in image.size)
        cropped = np.asarray(image.crop((left, top, left + 28, top + 28))) / 255
        if preprocessing == "signed":
            cropped = 2 * cropped - 1
        elif preprocessing == "imagenet-standardized":
            cropped = (cropped - MEAN) / SD
        scale = {"unit": 1, "signed": 2}.get(preprocessing, 1 / 0.225)
        assert np.abs(cropped.transpose(2, 0, 1) - found).mean() < 0.03 * scale


def test_affine_preprocessings(place):
    """Preprocessings are exactly their formula of the bytes."""
    unit = whole(small().test)[0].double()

    signed = whole(small(preprocessing="signed").test)[0].double()
    torch.testing.assert_close(signed, 2 * unit - 1, atol=1e-6, rtol=0)
    standardized = whole(small(preprocessing="imagenet-standardized").test)[0].double()
    mean, sd = (torch.tensor(values).view(3, 1, 1) for values in (MEAN, SD))
    torch.testing.assert_close(standardized, (unit - mean) / sd, atol=1e-6, rtol=0)
    assert unit.mul(255).sub(unit.mul(255).round()).abs().max() < 1e-4


def test_trained(place):
    """Trained on are the boxes that the generator gives for the true sizes, mirrored or not."""
    data = small().train
    paths = [place / name for name in names(data)]
    with_sizes = [opened(path).size for path in paths]
    generator = torch.Generator().manual_seed(3)
    widths, heights = torch.tensor(with_sizes).T
    expected = boxes(len(paths), heights, widths, generator).tolist()
    mirrored = (torch.rand(len(paths), generator=generator) < 0.5).tolist()

    inputs, _ = next(data.batches(len(data), None, torch.Generator().manual_seed(3)))

    assert {True, False} == {*mirrored}
    for path, (top, left, height, width), flip, found in zip(
        paths, expected, mirrored, inputs.numpy(), strict=True
    ):
        wanted = cut(path, (left, top, left + width, top + height))
        wanted = wanted[:, :, ::-1] if flip else wanted
        assert np.abs(wanted - found).mean() < 0.015


def test_halves(tmp_path):
    """A box lies where its pixels do: its halves have their colours, but where they meet."""
    values = np.zeros((64, 96, 3), np.uint8)
    values[:32, :, 0], values[:, 48:, 1] = 255, 255
    Image.fromarray(values).save(tmp_path / "halves.png")
    photograph = stream.read_photograph(tmp_path / "halves.png")

    found = stream.square(photograph, stream.Box(16, 24, 32, 48), 8)

    assert (64, 96) == (photograph.height, photograph.width)
    assert [255, 0] == [found[:3, :, 0].min(), found[5:, :, 0].max()]
    assert [255, 0] == [found[:, 5:, 1].min(), found[:, :3, 1].max()]
    assert 0 == found[:, :, 2].max()


@pytest.mark.parametrize("size", [(500, 375), (501, 377), (333, 1000)])
@pytest.mark.parametrize("side", [10, 31, 60])
def test_decoded_smaller(tmp_path, size, side):
    """A JPEG that is decoded at a smaller size gives the picture of the whole one."""
    picture(np.random.default_rng(2), size).save(tmp_path / "large.JPEG", quality=95)
    photograph = stream.read_photograph(tmp_path / "large.JPEG")

    found = stream.square(photograph, stream.Box(13, 7, 301, 322), side).transpose(2, 0, 1) / 255

    wanted = cut(tmp_path / "large.JPEG", (7, 13, 329, 314), side)
    assert np.abs(found - wanted).mean() < 0.006


@pytest.mark.parametrize("turned", [False, True])
def test_decoded_no_smaller_than_the_short_side(tmp_path, turned):
    """A long box is decoded so large that its short side keeps what the square can show."""
    stripes = np.tile(np.repeat([40, 215], 4).astype(np.uint8), 8)  # of 4 pixels, in 64
    values = np.repeat(stripes[:, None], 512, 1)
    Image.fromarray(values.T if turned else values).save(tmp_path / "long.JPEG", quality=95)
    photograph = stream.read_photograph(tmp_path / "long.JPEG")

    found = stream.square(photograph, photograph.whole, 32)[..., 0].astype(float)

    across = found.T if turned else found
    assert np.abs(across - stripes[::2, None]).max() < 40


@pytest.mark.parametrize("width", [333, 401])
def test_place_in_a_smaller_jpeg(tmp_path, width):
    """Also at 1/8 of its size a box lies where its pixels do: a slope has the right mean there."""
    slope = np.linspace(20, 230, width)
    values = np.broadcast_to(slope[None, :, None], (300, width, 3)).round().astype(np.uint8)
    Image.fromarray(values).save(tmp_path / "slope.JPEG", quality=100)
    photograph = stream.read_photograph(tmp_path / "slope.JPEG")

    found = stream.square(photograph, stream.Box(0, width - 100, 300, 100), 10)

    assert abs(found.mean() - slope[-100:].mean()) < 0.6


def test_same_generator_same_batches(place, monkeypatch):
    """Order and generator decide, at any number of threads and of batches ahead."""
    data, order = small(lighting=0.1).train, torch.tensor([5, 0, 3, 3, 9, 1, 7])

    def found(seed, threads, ahead):
        monkeypatch.setattr(stream, "threads", lambda: threads)
        monkeypatch.setattr(stream, "AHEAD", ahead)
        return whole(data, order=order, generator=torch.Generator().manual_seed(seed))

    first, targets = found(0, 1, 0)
    for threads, ahead in [(1, 2), (7, 1), (3, 9)]:
        again, same = found(0, threads, ahead)
        assert again.equal(first)
        assert same.equal(targets)
    assert not found(1, 1, 0)[0].equal(first)
    assert not first[2].equal(first[3])  # the same photograph, other chances
    assert [data.targets[i] for i in order] == targets.tolist()


def test_without_chances(place):
    """Nothing is drawn without a generator, without an augmentation, or where one judges."""
    data, plain = small(), small(augmentation="none")

    def found(split, **options):
        return whole(split, **options)[0]

    seen = found(plain.train)
    assert found(data.train).equal(seen)
    assert found(plain.train, generator=torch.Generator()).equal(seen)
    assert not found(data.train, generator=torch.Generator()).equal(seen)
    assert found(data.test, generator=torch.Generator()).equal(found(plain.test))


def test_batches(place):
    """Batches are of the asked size, the last one smaller, in order; no order, no batch."""
    data = small().test
    inputs, targets = whole(data)

    found = list(data.batches(3))
    assert [3, 3, 1] == [len(x) for x, _ in found]
    assert torch.cat([x for x, _ in found]).equal(inputs)
    order = torch.tensor([6, 2, 2])
    for x, y in data.batches(5, order):
        assert x.equal(inputs[order])
        assert y.equal(targets[order])
        assert x.is_contiguous()
    assert [] == list(data.batches(5, torch.tensor([], dtype=torch.int64)))
    assert next(data.to("cpu").batches(7))[0].equal(inputs)


def test_lighting():
    """What is added has the covariance that AlexNet's formula gives, the same for all pixels."""
    photographs = [Photograph(None, b"", 20, 30)] * 20_000
    made = stream.Stream(
        None, np.array([b""]), torch.zeros(1), 4, (1 / 255,) * 3, (0.0,) * 3, lighting=0.1
    )

    drawn = made.draw(photographs, torch.Generator().manual_seed(0))

    values, vectors = np.diag(stream.VALUES), np.array(stream.VECTORS)
    wanted = vectors @ (0.1 * values) @ (0.1 * values) @ vectors.T
    found = np.cov(drawn.light.double().numpy().T / 255)
    assert np.abs(found - wanted).max() < 0.05 * wanted.max()
    assert np.abs(vectors.T @ vectors - np.eye(3)).max() < 1e-3
    squares = torch.zeros(20_000, 1, 1, 3, dtype=torch.uint8)
    added = made.inputs(squares, drawn)[:, :, 0, 0]
    torch.testing.assert_close(added, drawn.light / 255)


def test_lighting_of_batches(place):
    """Light changes each channel of an image by one number, and nothing else."""
    plain, lit = (
        whole(small(lighting=lighting).train, generator=torch.Generator().manual_seed(0))[0]
        for lighting in (0.0, 1.0)
    )

    change = (lit - plain).flatten(2)
    assert (change.amax(2) - change.amin(2)).max() < 1e-5
    assert change.abs().mean() > 0.05


def alive():
    gc.collect()
    return threading.active_count()


def test_threads_end(place):
    """No thread is left after the last batch, a dropped iterator, or an error."""
    before, data = alive(), small()

    whole(data.train)
    assert before == alive()
    batches = data.train.batches(2)
    next(batches)
    assert before < threading.active_count()
    del batches
    assert before == alive()
    (place / "train" / NAMES[0] / f"{NAMES[0]}_4.JPEG").write_bytes(b"damaged")
    with pytest.raises(DataError):
        whole(data.train)
    assert before == alive()


def test_nothing_is_read_afterwards(place, monkeypatch):
    """What was begun ahead is given up when the iterator is: nothing goes on behind its back."""
    count, made = [0], stream.square

    def slow(*args):
        count[0] += 1
        time.sleep(0.01)
        return made(*args)

    monkeypatch.setattr(stream, "square", slow)
    monkeypatch.setattr(stream, "threads", lambda: 1)
    batches = small().train.batches(3, torch.arange(10).repeat(9))
    next(batches)

    batches.close()

    done = count[0]
    time.sleep(0.1)
    assert done == count[0] < 9


def test_only_some_batches_ahead(place, monkeypatch):
    """However long the epoch, only so many batches are read before they are asked for."""
    count, read = [0], stream.read_photograph

    def counted(path):
        count[0] += 1
        return read(path)

    monkeypatch.setattr(stream, "read_photograph", counted)
    data = small().train
    batches = data.batches(5, torch.arange(10).repeat(20))
    for taken in range(1, 10):
        next(batches)
        assert count[0] <= 5 * (taken + stream.AHEAD + 1)
    batches.close()


def test_decoding_goes_on_meanwhile(place, monkeypatch):
    """While a batch is used the next ones are decoded, without being asked for."""
    decoded, square = [0], stream.square

    def counted(*args):
        made = square(*args)
        decoded[0] += 1
        return made

    monkeypatch.setattr(stream, "square", counted)
    monkeypatch.setattr(stream, "threads", lambda: 1)
    batches = small().train.batches(5, torch.arange(10).repeat(20))
    for taken in range(1, 5):
        next(batches)
        due, until = 5 * (taken + stream.AHEAD), time.monotonic() + 20
        while decoded[0] < due and time.monotonic() < until:
            time.sleep(0.005)
        assert due == decoded[0]
    batches.close()


def test_memory_is_flat(place):
    """However many batches are read, there is memory for a few of them only."""
    data, order = small(size=64).train, torch.arange(10).repeat(40)
    list(data.batches(10))

    tracemalloc.start()
    for _ in data.batches(10, order, torch.Generator().manual_seed(0)):
        pass
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert peak < 10 * (10 * 64 * 64 * 3)


@pytest.mark.parametrize(
    ("damage", "law"),
    [
        (lambda content: content[: len(content) // 2], "image file is truncated"),
        (lambda content: b"", "no format that Pillow knows"),
        (lambda content: b"P6 99 99 255\n", "not enough image data|truncated"),
        (lambda content: b"P6 9999 9999 255\n", "exceeds limit of 89478485 pixels"),
        (lambda content: None, "No such file or directory"),
    ],
    ids=["truncated", "empty", "short", "huge", "gone"],
)
def test_damaged(place, damage, law):
    """A damaged photograph is named in one line, whatever is wrong, when its turn has come."""
    data = small()
    path = place / "val" / NAMES[2] / f"{NAMES[2]}_1.JPEG"
    content = damage(path.read_bytes())
    path.unlink()
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(DataError, match=rf"n03000001_1\.JPEG must be [^\n]*{law}") as raised:
        whole(data.test)
    assert "\n" not in str(raised.value)


def test_fingerprint(place, tmp_path):
    """It is that of names, targets, sizes and shape, wherever the folder lies."""
    data = small()
    found = {name: getattr(data, name).fingerprint() for name in SPLITS}

    assert 3 == len({*found.values()})
    assert found["test"] == small().test.fingerprint() != small(size=17).test.fingerprint()
    assert found["test"] != small(preprocessing="signed").test.fingerprint()
    assert found["train"] != small(validation=3).train.fingerprint()
    path = place / "val" / NAMES[2] / f"{NAMES[2]}_1.JPEG"
    path.write_bytes(path.read_bytes() + b"\0")
    assert found["test"] != small().test.fingerprint()
    assert found["train"] == small().train.fingerprint()
    path.rename(path.with_name("n03000001_2.JPEG"))
    assert found["test"] != small().test.fingerprint()


def test_first_of_classes_and_of_train(place):
    """A short study takes the first classes, and the first images, of each class in turn."""
    data = small(classes=2, train=5)

    assert 2 == data.classes
    assert [0, 1, 0, 1, 0] == data.train.targets.tolist()
    assert [0, 1, 0, 1] == data.validation.targets.tolist()
    assert names(small(classes=2).train)[:5] == names(data.train)
    assert {"val/n01440764", "val/n02123045"} == {n.rpartition("/")[0] for n in names(data.test)}


def test_remarks(place, monkeypatch):
    """What is not the published set is remarked, what is has no remark."""
    assert "3 of 1,000 classes" == small().remark == small(train=12).remark
    assert "3 of 1,000 classes, trained on 11 of 12" == small(train=11).remark
    monkeypatch.setattr(module, "CLASSES", 3)
    assert "18 of 1,281,167 and 7 of 50,000 images" == small().remark
    monkeypatch.setattr(module, "TRAIN", 18)
    monkeypatch.setattr(module, "TEST", 7)
    assert "" == small().remark
    assert "trained on 1 of 12" == small(train=1).remark


def test_published_numbers():
    """Ten of each class held out leave 1,271,167 of the published images to train."""
    assert (1_000, 1_281_167, 50_000) == (module.CLASSES, module.TRAIN, module.TEST)
    assert 147_897_477_120 + 6_744_924_160 == SOURCE.size_bytes


@pytest.mark.parametrize(
    ("gone", "law"),
    [
        ("", r"imagenet/train must be as published, got: No such file"),
        ("train", r"imagenet/train must be as published, got: No such file"),
        ("val", r"val/n01440764 must be as published, got: No such file"),
        (f"val/{NAMES[1]}", r"val/n02123045 must be as published, got: No such file"),
        (f"train/{NAMES[1]}/*", r"train/n02123045 must [^\n]+ got: 0 images where at least 3"),
        (f"train/{NAMES[1]}/*_[34]*", r"train/n02123045 must [^\n]+ got: 3 images"),
        (f"val/{NAMES[0]}/*.JPEG", r"val/n01440764 must [^\n]+ got: 0 images where at least 1"),
        ("train/n0[12]*", r"imagenet/train must [^\n]+ got: 1 folders named nXXXXXXXX"),
    ],
)
def test_folders_that_are_not_as_published(place, gone, law):
    """A folder that is missing or too empty is named, with where to register and how it looks."""
    for path in [*place.glob(gone)] if gone else [place]:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    if "[34]" in gone:
        assert 3 == len(small().train.names[small().train.targets == 1]) + HELD
        return

    with pytest.raises(DataError, match=law) as raised:
        small()

    assert "\n" not in str(raised.value)
    assert "register at https://image-net.org/" in str(raised.value)
    assert "val/nXXXXXXXX/" in str(raised.value)


def test_training(place):
    """A network trains on it, and again to the same bit."""
    data = small(lighting=0.1)
    settings = Settings(epochs=2, batch_size=4, seed=0, test=True)

    def measured():
        torch.manual_seed(0)
        network = mlp(shape=data.shape, classes=data.classes, depth=1, width=8)
        epochs = list(train(network, ste(lr=1e-2), data, cross_entropy(), settings))
        return [m for epoch in epochs for m in epoch if not m.metric.startswith("seconds")]

    first = measured()

    assert first == measured()
    assert {"train", "validation", "test"} <= {m.split for m in first}


def test_source_of_imagenet():
    """Where to register is known from the factory, without torch, numpy or Pillow."""
    code = (
        "import sys; from bnnbench_plugins.datasets.imagenet import imagenet;"
        "print(imagenet.source.by_hand, {'torch', 'numpy', 'PIL', 'pooch'} & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert SOURCE is imagenet.source
    assert done.stdout.startswith("register at https://image-net.org/")
    assert done.stdout.strip().endswith(" set()")


def has_imagenet():
    return "BNNBENCH_DATA" in os.environ and (folder(SOURCE) / "train").is_dir()


@pytest.mark.skipif(not has_imagenet(), reason="BNNBENCH_DATA does not hold ImageNet")
def test_real_imagenet():
    """The real folders give batches of the right shape."""
    data = imagenet()
    generator = torch.Generator().manual_seed(0)

    inputs, targets = next(data.train.batches(8, torch.arange(8), generator))

    assert ((8, 3, 224, 224), list(range(8))) == (tuple(inputs.shape), targets.tolist())
    assert 10 * data.classes == len(data.validation)
