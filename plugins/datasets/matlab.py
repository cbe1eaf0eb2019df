"""A reader for what SVHN uses of MATLAB's format, level 5: a header, then elements.

    header      text, 124 bytes | version, 0x0100 | "IM": little-endian
    element     type, 4 bytes | size, 4 bytes | data, filled up to a multiple of 8 bytes
                type, 2 bytes | size, 2 bytes | data, 4 bytes: the short form
    compressed  an element whose data are one other element, deflated and not filled up
    array       an element whose data are four others: flags, dimensions, name, values

The values lie with the first axis the fastest. They are inflated as they are asked for, so that a
file of any size needs little memory.

source: The MathWorks, MAT-File Format, "Level 5 MAT-File Format"
departs from it: arrays of plain real numbers are read and nothing else, neither big-endian files
nor those of version 7.3, which are HDF5.
"""

from __future__ import annotations

import math
import struct
import zlib
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol

import numpy as np

from bnnbench.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

HEADER = 128  #: bytes of the file's header; the last four are
VERSION = bytes([0, 1]) + b"IM"
INT8, INT32, UINT32, ARRAY, COMPRESSED = 1, 5, 6, 14, 15  #: types of elements, and of values:
VALUES = {1: "i1", 2: "u1", 3: "<i2", 4: "<u2", 5: "<i4", 6: "<u4", 7: "<f4", 9: "<f8"}
NUMBERS, COMPLEX = range(6, 14), 0x08  #: classes of arrays, double to uint32, and a flag
MOST = 64  #: bytes of an array's name or dimensions
PIECE = 2**18  #: packed bytes that are inflated at a time


@dataclass(frozen=True)
class Array:
    """One array of a file. Its values are to be read once, before the next array is asked for.

    ``shape`` is MATLAB's, and ``dtype`` what the values are stored as.
    """

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    content: Content

    def stretches(self, size: int) -> Iterator[NDArray[Any]]:
        """Yield arrays (n, ``*shape[:-1]``): ``size`` at a time of the last axis, moved to front.

        Raises:
            DataError: the file is damaged or ends too early.
        """
        for start in range(0, self.shape[-1], size):
            yield self._next(min(size, self.shape[-1] - start))
        self.content.end()

    def whole(self) -> NDArray[Any]:
        """Return all values, an array of ``shape``.

        Raises:
            DataError: the file is damaged or ends too early.
        """
        values = np.moveaxis(self._next(self.shape[-1]), 0, -1)
        self.content.end()
        return values

    def _next(self, count: int) -> NDArray[Any]:
        inner = self.shape[:-1]
        read = self.content.read(count * math.prod(inner) * self.dtype.itemsize)
        values = np.frombuffer(read, self.dtype).reshape(count, *reversed(inner))
        return values.transpose(0, *range(len(inner), 0, -1))


def arrays(path: Path) -> Iterator[Array]:
    """Yield the arrays of a MATLAB file in its order.

    Raises:
        DataError: missing, of another format, damaged or cut off; in one line.
    """
    try:
        with path.open("rb") as file:
            _check_version(file.read(HEADER)[-4:], path)
            while tag := file.read(8):
                content = _content(file, tag, path)
                yield _array(content)
                content.end()
    except OSError as error:
        raise DataError(f"{path} must be a readable file, got: {error.strerror}") from error


def _check_version(found: bytes, path: Path) -> None:
    if found[2:] == VERSION[:1:-1]:
        raise DataError(f"{path} must be little-endian, got a big-endian file; fetch it again")
    if found != VERSION:
        raise DataError(
            f"{path} must be a MATLAB file of level 5, with {VERSION.hex(' ')} at byte 124,"
            f" got {found.hex(' ') or 'nothing'}"
        )


def _content(file: BinaryIO, tag: bytes, path: Path) -> Content:
    """What is in the array whose element begins with the tag, inflated if need be."""
    content = Content(path, Plain(file), 0)
    content.check(len(tag) == 8, "it ends within an element's tag")
    kind, size = struct.unpack("<II", tag)
    if kind == COMPRESSED:
        content = Content(path, Inflated(file, size), 8)
        kind, size = content.tag()
    content.check(kind == ARRAY, f"it has an element of type {kind}, not an array ({ARRAY})")
    content.left = size
    return content


def _array(content: Content) -> Array:
    flags = content.part(UINT32)
    sizes = content.part(INT32)
    content.check(len(sizes) % 4 == 0, f"it has dimensions of {len(sizes)} bytes, not of 4 each")
    shape = tuple(np.frombuffer(sizes, "<i4").tolist())
    name = content.part(INT8).decode("latin-1")
    kind, size = content.tag()
    plain = len(flags) == 8 and flags[0] in NUMBERS and not flags[1] & COMPLEX and kind in VALUES
    content.check(plain, f"its array {name!r} is not one of plain numbers")
    dtype = np.dtype(VALUES[kind])
    fits = len(shape) > 1 and min(shape) >= 0 and math.prod(shape) * dtype.itemsize == size
    content.check(fits, f"its array {name!r} of shape {shape} has {size} bytes")
    return Array(name, shape, dtype, content)


class Source(Protocol):
    """What an array's bytes come from."""

    def read(self, size: int) -> bytes:
        """Return the next ``size`` bytes, or as many as there are."""
        ...

    def ended(self) -> bool:
        """Whether nothing is left of it that should be looked at."""
        ...


class Plain:
    """The bytes of the file itself; whatever follows is another element."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file

    def read(self, size: int) -> bytes:
        """Return the next ``size`` bytes, or as many as there are."""
        return self.file.read(size)

    def ended(self) -> bool:
        """Return true."""
        return True


class Inflated:
    """What is inflated from the next ``packed`` bytes of the file."""

    def __init__(self, file: BinaryIO, packed: int) -> None:
        self.file, self.packed, self.engine = file, packed, zlib.decompressobj()

    def read(self, size: int) -> bytes:
        """Return the next ``size`` bytes, or as many as there are."""
        parts = []
        while size and not self.engine.eof:
            piece = self.engine.unconsumed_tail or self._piece()
            if not piece:
                break  # all output comes before the checksum, the last to be consumed
            parts.append(self.engine.decompress(piece, size))
            size -= len(parts[-1])
        return b"".join(parts)

    def ended(self) -> bool:
        """Whether the packed bytes are used up, their checksum at the very end among them."""
        return not self.read(1) and self.engine.eof and not self.engine.unused_data + self._piece()

    def _piece(self) -> bytes:
        piece = self.file.read(min(self.packed, PIECE))
        self.packed -= len(piece)
        return piece


class Content:
    """The bytes of one array's element: its parts, one after another, and nothing beyond."""

    def __init__(self, path: Path, source: Source, left: int) -> None:
        self.path, self.source, self.left = path, source, left
        self.short = b""  # data in the short form, which came with their tag

    def check(self, law: bool, fault: str) -> None:
        """Refuse the file for its fault unless the law holds."""
        if not law:
            raise DataError(f"{self.path} must be a whole MATLAB file, but {fault}; fetch it again")

    def read(self, size: int) -> bytes:
        """Return exactly the next ``size`` bytes."""
        if self.short:
            found, self.short = self.short[:size], b""
        else:
            self.check(size <= self.left, "it has more in an array than in the array's element")
            self.left -= size
            found = self._pull(size)
        self.check(len(found) == size, "it ends too early")
        return found

    def tag(self) -> tuple[int, int]:
        """Return the type and size of the next part; its data are what is read next."""
        head, body = self.read(4), self.read(4)
        kind, size = struct.unpack("<HH", head)
        if not size:
            return kind, int.from_bytes(body, "little")
        self.short = body[:size]
        return kind, size

    def part(self, wanted: int) -> bytes:
        """Return the data of the next part, a few bytes of the wanted type."""
        kind, size = self.tag()
        law = kind == wanted and size <= MOST
        self.check(law, f"it has {size} bytes of type {kind} where some of type {wanted} are due")
        filled = 0 if self.short else -size % 8
        return self.read(size + filled)[:size]

    def end(self) -> None:
        """Skip what is left; where the bytes were packed, this is what finds most damage."""
        while self.left >= 8:  # less is what fills up the last part, and could be missing
            self.read(min(self.left, PIECE))
        self._pull(self.left)
        self.left = 0
        with self._readable():
            self.check(self.source.ended(), "its packed bytes do not end where they should")

    def _pull(self, size: int) -> bytes:
        with self._readable():
            return self.source.read(size)

    @contextmanager
    def _readable(self) -> Iterator[None]:
        try:
            yield
        except (OSError, zlib.error) as error:
            self.check(False, str(error))
