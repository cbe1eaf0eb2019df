"""Preprocessings, against the same arithmetic one image and one number at a time."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
from scipy import ndimage

from bnnbench.errors import UsageError
from bnnbench_plugins.preprocessing import Preprocessing, contrast, recipe, whitening

PUBLISHED = {
    "bnew-standardized": [(125.3, 63.0), (123.0, 62.1), (113.9, 66.7)],
    "md-bnn-standardized": [
        (255 * 0.4914, 255 * 0.2023),
        (255 * 0.4822, 255 * 0.1994),
        (255 * 0.4465, 255 * 0.2010),
    ],
    "imagenet-standardized": [
        (255 * 0.485, 255 * 0.229),
        (255 * 0.456, 255 * 0.224),
        (255 * 0.406, 255 * 0.225),
    ],
}
BYTES = np.arange(256, dtype=np.uint8).reshape(4, 1, 8, 8)


def images(n=23, shape=(3, 9, 10), seed=0):
    """Random images whose pixels and channels have means and contrasts of their own."""
    rng = np.random.default_rng(seed)
    peak = rng.uniform(20, 200, (1, *shape))
    drawn = rng.normal(peak, 10 + peak / 4, (n, *shape)) * rng.uniform(0.3, 1.2, (n, 1, 1, 1))
    return drawn.clip(0, 255).astype(np.uint8)


def chunked(array, size):
    return [array[start : start + size] for start in range(0, len(array), size)]


def fitted(name, array, size=5):
    return recipe(name).fit(chunked(array, size))


def gcn(image, scale):
    """One image (C, H, W), by the definition."""
    x = image.astype(np.float64) - image.mean(dtype=np.float64)
    return x * scale / np.linalg.norm(x)


def lcn(x):
    """One channel (H, W), with scipy's correlation and a Gaussian in two dimensions."""
    i, j = np.mgrid[-3:4, -3:4]
    kernel = np.exp(-(i**2 + j**2) / 8.0)
    kernel /= kernel.sum()
    spread = np.sqrt(ndimage.correlate(x**2, kernel, mode="constant"))
    divisor = np.maximum(np.maximum(spread, spread.mean()), 1e-4)
    return (x - ndimage.correlate(x, kernel, mode="constant")) / divisor


@pytest.mark.parametrize("name", get_args(Preprocessing))
def test_every_name(name):
    """Every name gives float32 of the same shape, for chunks of any size, an image alone too."""
    array = images(shape=(3, 5, 6))

    transform = fitted(name, array)
    whole = transform(array)

    assert (np.float32, array.shape) == (whole.dtype, whole.shape)
    assert np.isfinite(whole).all()
    parts = np.concatenate([transform(part) for part in chunked(array, 1)])
    assert np.allclose(whole, parts, rtol=0, atol=1e-5)


def test_unknown_name():
    """A name that there is not is answered with the nearest."""
    with pytest.raises(UsageError, match="did you mean 'gcn-zca'"):
        recipe("gcn-zac")


@pytest.mark.parametrize("name", get_args(Preprocessing))
def test_pointwise(name):
    """What is said to be pointwise gives equal bytes of a channel equal values; all else not."""
    array = images(n=40, shape=(3, 4, 5))
    found = fitted(name, array)(array)

    values = [
        len(np.unique(found[:, c][array[:, c] == byte]))
        for c in range(3)
        for byte in np.unique(array[:, c])
    ]

    assert recipe(name).pointwise == (max(values) == 1)


@pytest.mark.parametrize("name", get_args(Preprocessing))
def test_fits(name):
    """What is said to be fitted depends on the training images; all else does not."""
    array = images(shape=(3, 4, 5))

    one, other = (fitted(name, images(shape=(3, 4, 5), seed=s))(array) for s in (1, 2))

    assert recipe(name).fits == (not np.array_equal(one, other))


def test_scaled():
    """unit is x/255 and signed x/127.5 - 1, each byte rounded as float32 rounds it."""
    unit, signed = (fitted(name, BYTES)(BYTES).ravel() for name in ("unit", "signed"))

    assert [np.float32(x / 255) for x in range(256)] == unit.tolist()
    assert [np.float32(x / 127.5) - np.float32(1) for x in range(256)] == signed.tolist()
    assert (0, 1, -1, 1) == (unit[0], unit[-1], signed[0], signed[-1])


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_standardizations(name):
    """The published means and deviations, channel by channel."""
    array = images()

    found = fitted(name, images(seed=1))(array)

    for channel, (mean, sd) in enumerate(PUBLISHED[name]):
        expected = (array[:, channel] - mean) / sd
        assert np.allclose(expected, found[:, channel], rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_standardizations_are_for_three_channels(name):
    """One channel is not standardized as if it were three."""
    with pytest.raises(UsageError, match="3 channels, got 1"):
        fitted(name, BYTES)(BYTES)


def test_standardized():
    """Each channel of the training images gets mean 0 and deviation 1, others the same numbers."""
    array, others = images(n=50), images(seed=1)
    transform = fitted("standardized", array, size=7)

    train, rest = transform(array), transform(others)

    assert np.allclose(0, train.mean((0, 2, 3), dtype=np.float64), atol=1e-6)
    assert np.allclose(1, train.std((0, 2, 3), dtype=np.float64), atol=1e-6)
    mean, sd = (f(array / 255, (0, 2, 3)).reshape(-1, 1, 1) for f in (np.mean, np.std))
    assert np.allclose((others / 255 - mean) / sd, rest, rtol=0, atol=1e-5)


def test_constant_channel():
    """A channel without any deviation becomes zero, not something that is no number."""
    array = images()
    array[:, 1] = 77

    found = fitted("standardized", array)(array)

    assert np.allclose(0, found[:, 1], atol=1e-7)
    assert np.allclose(1, found[:, 0].std(), atol=1e-5)


def test_centered():
    """Each pixel loses its mean over the training images, whatever is centred with it."""
    array, others = images(n=50), images(seed=1)
    expected = others / 255 - array.mean(0, dtype=np.float64) / 255

    found = fitted("centered", array, size=7)(others)

    assert np.allclose(expected, found, rtol=0, atol=1e-7)


def test_scalar_centered():
    """All pixels of all channels lose one mean, that of the training images."""
    array, others = images(n=50), images(seed=1)
    expected = others / 255 - array.mean(dtype=np.float64) / 255

    found = fitted("scalar-centered", array, size=7)(others)

    assert np.allclose(expected, found, rtol=0, atol=1e-7)


@pytest.mark.parametrize("name", ["centered", "scalar-centered", "standardized"])
def test_sums_are_exact(name):
    """However the training images are divided into chunks, the bits are the same."""
    array = images(n=50)

    found = [fitted(name, array, size)(array) for size in (1, 7, 50)]

    assert all(np.array_equal(found[0], each) for each in found[1:])


@pytest.mark.parametrize("scale", [1.0, 55.0])
def test_global_contrast(scale):
    """Each image by itself: its mean taken away, its length made the scale."""
    array = images(seed=3)

    found = contrast.global_contrast(array, scale)

    assert np.allclose([gcn(x, scale).ravel() for x in array], found, rtol=0, atol=1e-12)


def test_image_of_one_colour():
    """An image without contrast becomes zero in all preprocessings by contrast."""
    array = images()
    array[4] = 200

    assert np.all(contrast.global_contrast(array, 55)[4] == 0)
    assert np.all(fitted("gcn-lcn", array)(array)[4] == 0)


@pytest.mark.parametrize("shape", [(3, 32, 32), (3, 9, 12), (1, 5, 4)])
def test_local_contrast(shape, monkeypatch):
    """GCN with scale 1, then LCN of every channel by itself, one image at a time."""
    monkeypatch.setattr(contrast, "BLOCK", 4)
    array = images(n=6, shape=shape, seed=4)
    expected = [[lcn(channel) for channel in gcn(image, 1)] for image in array]

    found = fitted("gcn-lcn", array)(array)

    assert np.allclose(expected, found, rtol=0, atol=2e-6)


@pytest.mark.parametrize("size", [1.0, 1e-4, 1e-6])
def test_local_contrast_has_a_floor(size):
    """The divisor is never under 1e-4: what is tiny is not blown up."""
    x = size * np.random.default_rng(0).standard_normal((2, 3, 11, 12))
    x[0, 0, :6] *= 1e-3  # a dark half, whose divisor is the mean of the whole

    found = contrast.local_contrast(x)

    assert np.float64 == found.dtype
    assert np.allclose([[lcn(channel) for channel in image] for image in x], found, atol=1e-12)


def test_red_alone():
    """gcn-lcn-red normalizes red as gcn-lcn does; green and blue have been through GCN alone."""
    array = images(shape=(3, 12, 11))

    red, every = (fitted(name, array)(array) for name in ("gcn-lcn-red", "gcn-lcn"))

    assert np.array_equal(every[:, 0], red[:, 0])
    expected = np.stack([gcn(image, 1) for image in array])
    assert np.allclose(expected[:, 1:], red[:, 1:], rtol=0, atol=1e-7)


def rows(array):
    return np.stack([gcn(image, 55).ravel() for image in array])


@pytest.mark.parametrize("n", [200, 20])
def test_whitening(n):
    """Whitening agrees with a singular value decomposition, also of fewer images than pixels."""
    array, others = images(n=n, shape=(3, 4, 5)), images(shape=(3, 4, 5), seed=1)
    mean = rows(array).mean(0)
    _, s, vt = np.linalg.svd(rows(array) - mean, full_matrices=True)
    eigenvalues = np.zeros(60)
    eigenvalues[: len(s)] = s**2 / n
    P = vt.T @ np.diag((eigenvalues + 0.1) ** -0.5) @ vt

    found = fitted("gcn-zca", array)(others)

    expected = ((rows(others) - mean) @ P).reshape(others.shape)
    assert np.allclose(expected, found, rtol=0, atol=1e-4)  # of up to 50


def test_covariance_after_whitening():
    """Where there was variance c along an axis, there is c/(c + 0.1) along the same axis."""
    array = images(n=300, shape=(3, 4, 4))
    c, axes = np.linalg.eigh(np.cov(rows(array).T, bias=True))

    white = fitted("gcn-zca", array)(array).reshape(300, -1).astype(np.float64)

    expected = axes @ np.diag(c / (c + 0.1)) @ axes.T
    assert np.allclose(0, white.mean(0), atol=1e-5)
    assert np.allclose(expected, np.cov(white.T, bias=True), rtol=0, atol=1e-5)


@pytest.mark.parametrize("size", [1, 7, 64])
def test_moments_of_chunks(size):
    """Mean and covariance come out of chunks as out of the whole, up to float64's rounding."""
    x = np.random.default_rng(0).normal(3, 2, (64, 10)) @ np.diag(np.arange(1, 11))

    mean, covariance = whitening.moments(chunked(x, size))

    assert np.allclose(x.mean(0), mean, rtol=1e-14, atol=0)
    assert np.allclose(np.cov(x.T, bias=True), covariance, rtol=0, atol=1e-12 * 400)


def test_whitening_of_chunks():
    """However the training images are divided into chunks, they are whitened the same way."""
    array = images(n=60, shape=(3, 4, 5))

    found = [fitted("gcn-zca", array, size)(array) for size in (1, 7, 60)]

    assert all(np.allclose(found[0], each, rtol=0, atol=1e-5) for each in found[1:])
