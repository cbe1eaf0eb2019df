"""Signs in words: 64 of them in each, along the last axis.

    bit j of word i is 1 where entry 64 i + j is +1, and 0 where it is -1

The unused bits of the last word are 0. Images are (n, height, width, words), their channels along
the bits.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bnnbench.errors import DataError
from bnnbench.packed import vectors

Words = NDArray[np.uint64]

WORD = 64  #: signs in a word
LONGEST = 2**31 - 1  #: as many signs as can be summed in int32


def words(length: int) -> int:
    """Return how many words hold ``length`` signs.

    >>> words(64), words(65)
    (1, 2)
    """
    return -(-length // WORD)


def pack(signs: NDArray[Any]) -> Words:
    """Return the signs of numbers (..., length) as words (..., words(length)).

    True and all that is >= 0 become +1, as in :func:`bnnbench.binarization.sign`: so does -0.0,
    while NaN becomes -1.

    >>> pack(np.array([1.0, -1.0, 0.0, 1.0]))
    array([13], dtype=uint64)

    Raises:
        DataError: there is no axis of signs, or it is empty.
    """
    if signs.ndim == 0 or signs.shape[-1] == 0:
        raise DataError(
            f"signs are packed along the last axis, got shape {signs.shape}; give one sign or more"
        )
    if signs.dtype == np.float32 and vectors.COMPILED:
        rows, length = math.prod(signs.shape[:-1]), signs.shape[-1]
        packed = np.empty((rows, words(length)), np.uint64)
        vectors.pack_rows(np.ascontiguousarray(signs).reshape(rows, length), packed)
        return packed.reshape(*signs.shape[:-1], words(length))
    return _from_bits(signs if signs.dtype == np.bool_ else signs >= 0)


def _from_bits(bits: NDArray[np.bool_]) -> Words:
    count = words(bits.shape[-1])
    octets = np.zeros((*bits.shape[:-1], 8 * count), np.uint8)
    found = np.packbits(bits, axis=-1, bitorder="little")
    octets[..., : found.shape[-1]] = found
    return octets.view("<u8").astype(np.uint64, copy=False)


def unpack(packed: Words, length: int) -> NDArray[np.int8]:
    """Return the signs (..., length), +1 and -1, of words (..., words(length)).

    >>> unpack(np.array([13], np.uint64), 4)
    array([ 1, -1,  1,  1], dtype=int8)

    Raises:
        DataError: see :func:`check`.
    """
    check(packed, length)
    octets = np.ascontiguousarray(packed).astype("<u8", copy=False).view(np.uint8)
    bits = np.unpackbits(octets, axis=-1, count=length, bitorder="little")
    return (2 * bits).astype(np.int8) - np.int8(1)


def check(packed: Words, length: int) -> None:
    """Look whether an array holds ``length`` signs along its last axis.

    Raises:
        DataError: it holds no words, too few or too many of them, or bits beyond the last sign.
    """
    check_shape(packed, length)
    spare = words(length) * WORD - length
    if spare and (packed[..., -1] >> np.uint64(WORD - spare)).any():
        raise DataError(
            f"bits beyond the last of {length} signs are 0, and some here are 1; pack the signs"
            " with bnnbench.packed.bits.pack"
        )


def check_shape(packed: Words, length: int) -> None:
    """Look whether an array has as many words as ``length`` signs take, but not at its bits.

    Raises:
        DataError: it has not.
    """
    if not 0 < length <= LONGEST:
        raise DataError(f"a row has 1 to {LONGEST} signs, got {length}; give its true length")
    if packed.dtype != np.uint64 or packed.ndim == 0 or packed.shape[-1] != words(length):
        raise DataError(
            f"{length} signs are {words(length)} words of uint64 along the last axis, got"
            f" {packed.dtype} of shape {packed.shape}; pack the signs with"
            " bnnbench.packed.bits.pack"
        )


def joined(packed: Words, length: int) -> Words:
    """Return all signs of each example in one row, the bits closed up: (n, words(p length)).

    Args:
        packed: (n, ..., words(length)), for example images (n, height, width, words).
        length: signs in each row, for example the channels of an image.

    Raises:
        DataError: the array does not hold so many signs.
    """
    check_shape(packed, length)
    places = math.prod(packed.shape[1:-1])
    if length % WORD == 0 or places == 1:
        return np.ascontiguousarray(packed).reshape(len(packed), places * words(length))
    rows = np.ascontiguousarray(packed).reshape(len(packed), places, words(length))
    found = np.zeros((len(packed), words(places * length)), np.uint64)
    for place in range(places):
        _paste(rows[:, place], found, place * length, length)
    return found


def _paste(source: Words, target: Words, start: int, length: int) -> None:
    """Write the signs of each row of ``source`` at a bit of the rows of ``target``, all 0 there."""
    first, shift = divmod(start, WORD)
    for i in range(words(length)):
        target[:, first + i] |= source[:, i] << np.uint64(shift)
        if shift and first + i + 1 < target.shape[1]:
            target[:, first + i + 1] |= source[:, i] >> np.uint64(WORD - shift)


def pack_images(images: NDArray[np.float32]) -> Words:
    """Return the signs of images (n, channels, height, width) as words (n, height, width, words).

    Raises:
        DataError: the images have no such shape.
    """
    if images.ndim != 4 or 0 in images.shape[1:]:
        raise DataError(
            f"images are (n, channels, height, width), got shape {images.shape}; give one channel"
            " and one pixel or more"
        )
    last: NDArray[np.float32] = images.transpose(0, 2, 3, 1)
    if last.flags.c_contiguous or images.dtype != np.float32 or not vectors.COMPILED:
        return pack(last)
    n, channels, height, width = images.shape
    planes = np.ascontiguousarray(images).reshape(n, channels, height * width)
    packed = np.empty((n, height * width, words(channels)), np.uint64)
    vectors.pack_planes(planes, packed)
    return packed.reshape(n, height, width, words(channels))
