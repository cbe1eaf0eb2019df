"""The methods' colours are seen on both themes, and told apart by the colour-blind."""

from __future__ import annotations

import itertools
import re
from importlib.resources import files

import numpy as np
import pytest

from bnnbench_reports.colours import COLOURS, GREY
from bnnbench_reports.figures.deployment import OURS

ALL = (*COLOURS, GREY, OURS)
CONTRAST = 3.0  # WCAG 2.1, 1.4.11: graphics
APART = 15.0  # in CIE Lab; one differs from another at a glance from about 10 on

# Machado, Oliveira and Fernandes (2009), severity 1: what a dichromat sees, in linear RGB
SEEN = {
    "usual": np.eye(3),
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "tritanopia": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}
XYZ = np.array(
    [
        [0.4124564, 0.3575761, 0.1804375],
        [0.2126729, 0.7151522, 0.0721750],
        [0.0193339, 0.1191920, 0.9503041],
    ]
)  # of sRGB, D65


def linear(colour):
    """Linear RGB from 0 to 1."""
    values = np.array([int(colour[place : place + 2], 16) for place in (1, 3, 5)]) / 255
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def contrast(one, other):
    """WCAG's ratio, from 1 to 21."""
    dark, light = sorted(float(linear(each) @ [0.2126, 0.7152, 0.0722]) for each in (one, other))
    return (light + 0.05) / (dark + 0.05)


def lab(rgb):
    """CIE Lab of linear RGB."""
    ratio = XYZ @ np.clip(rgb, 0, 1) / XYZ.sum(axis=1)
    x, y, z = np.where(ratio > (6 / 29) ** 3, np.cbrt(ratio), ratio * (29 / 6) ** 2 / 3 + 4 / 29)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def backgrounds():
    """What figures stand on, in light and in dark: the page's paper and its cards."""
    css = files("bnnbench_reports").joinpath("page.css").read_text(encoding="utf-8")
    pairs = [re.search(rf"--{name}: light-dark\((.+?), (.+?)\)", css) for name in ("paper", "card")]
    return [colour for pair in pairs for colour in pair.groups()]


def test_the_yardsticks():
    """Black on white has 21, a colour on itself 1; white and black are 100 apart in Lab."""
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#0072B2", "#0072B2") == pytest.approx(1)
    assert np.linalg.norm(lab(linear("#ffffff")) - lab(linear("#000000"))) == pytest.approx(100)
    for matrix in SEEN.values():
        np.testing.assert_allclose(np.asarray(matrix) @ np.ones(3), 1, atol=1e-5)  # grey stays


@pytest.mark.parametrize("colour", ALL)
def test_contrast(colour):
    """Lines and marks have at least 3:1 on paper and on cards, in light and in dark."""
    found = backgrounds()

    assert 4 == len(set(found))
    for background in found:
        assert contrast(colour, background) >= CONTRAST, background


@pytest.mark.parametrize("name", SEEN)
def test_methods_are_told_apart(name):
    """No two of the colours come near each other, however they are seen."""
    seen = {colour: lab(np.asarray(SEEN[name]) @ linear(colour)) for colour in ALL}

    for one, other in itertools.combinations(ALL, 2):
        assert np.linalg.norm(seen[one] - seen[other]) >= APART, (one, other)
