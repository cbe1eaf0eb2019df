"""Photographs: files of any size, mode and format, made squares of RGB bytes by Pillow.

A JPEG is decoded at 1/2, 1/4 or 1/8 of its size where that still has all the pixels that are
asked for: its coefficients hold the smaller picture, and most of the time goes into decoding.
Whatever is resized is so by Pillow's bilinear filter, which averages where it shrinks. The
orientation that a camera noted is not looked at, as no source does.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from PIL import Image, UnidentifiedImageError

from bnnbench.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

BILINEAR = Image.Resampling.BILINEAR


class Box(NamedTuple):
    """A rectangle of an image, in pixels from its top left corner; whole numbers or not."""

    top: float
    left: float
    height: float
    width: float


class Photograph(NamedTuple):
    """A file's bytes, as yet undecoded, and the size in pixels that its header states."""

    path: Path
    content: bytes
    height: int
    width: int

    @property
    def whole(self) -> Box:
        """All of it."""
        return Box(0, 0, self.height, self.width)


def read_photograph(path: Path) -> Photograph:
    """Return a file's bytes and its size.

    Raises:
        DataError: the file cannot be read, or is no image.
    """
    try:
        content = path.read_bytes()
        with Image.open(io.BytesIO(content)) as image:
            return Photograph(path, content, image.height, image.width)
    except Exception as error:
        raise _refusal(path, error) from error


def extent(path: Path) -> tuple[int, int]:
    """Return the height and the width that a file's header states; no pixel is read.

    Raises:
        DataError: the file cannot be read, or is no image.
    """
    try:
        with Image.open(path) as image:
            return image.height, image.width
    except Exception as error:
        raise _refusal(path, error) from error


def square(photograph: Photograph, box: Box, size: int) -> NDArray[np.uint8]:
    """Return what is in the box as RGB bytes (``size``, ``size``, 3).

    Raises:
        DataError: the image is damaged.
    """
    shrink = max(1, int(min(box.height, box.width) / size))
    try:
        with Image.open(io.BytesIO(photograph.content)) as image:
            smaller = image.draft("RGB", (photograph.width // shrink, photograph.height // shrink))
            scale = smaller[1][2] / photograph.width if smaller else 1.0
            resized = _rgb(image).resize((size, size), BILINEAR, _corners(box, scale, image))
            return np.asarray(resized)
    except Exception as error:
        raise _refusal(photograph.path, error) from error


def nearest(path: Path, size: int) -> NDArray[np.uint8]:
    """Return an image of one channel as (``size``, ``size``), each pixel the nearest one's value.

    Raises:
        DataError: the file cannot be read, is damaged, or has several channels.
    """
    try:
        with Image.open(path) as image:
            if image.mode not in ("L", "P"):
                raise ValueError(f"{image.mode} where one byte for each pixel is due")
            return np.asarray(image.resize((size, size), Image.Resampling.NEAREST))
    except Exception as error:
        raise _refusal(path, error) from error


def _corners(box: Box, scale: float, image: Image.Image) -> tuple[float, float, float, float]:
    """The box as Pillow wants it, never a rounding error outside the image."""
    right = min((box.left + box.width) * scale, image.width)
    bottom = min((box.top + box.height) * scale, image.height)
    return box.left * scale, box.top * scale, right, bottom


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB":
        return image
    if "transparency" in image.info:
        image = image.convert("RGBA")
    return image.convert("RGB")


def _refusal(path: Path, error: Exception) -> DataError:
    """Pillow's readers raise almost anything on a damaged file, and name a buffer, not the file."""
    if isinstance(error, UnidentifiedImageError):
        reason = "no format that Pillow knows"
    else:
        reason = " ".join(str(error).split()) or type(error).__name__
    return DataError(f"{path} must be a whole image file, got: {reason}; put it there again")
