"""A reader for IDX, the format of MNIST: a header, then bytes.

    0 0 | type | number of dimensions | each dimension, 4 bytes, big-endian | the values

Only type 8, unsigned bytes, is read; files are gzipped.

source: http://yann.lecun.com/exdb/mnist/, "The IDX file format"
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from typing import TYPE_CHECKING, BinaryIO

from bnnbench.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

UNSIGNED_BYTE = 8


def read_idx(path: Path, dimensions: int) -> NDArray[np.uint8]:
    """Return the array in a gzipped IDX file of unsigned bytes with so many dimensions.

    Raises:
        DataError: not gzip, another format, or not exactly as long as its header says.
    """
    import numpy as np

    try:
        with gzip.open(path) as file:
            shape = _header(file, path, dimensions)
            values = file.read()
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} must be a whole gzip file, got: {error}") from error
    size = math.prod(shape)
    if len(values) != size:
        raise DataError(f"{path} must hold {size} values, got {len(values)}; fetch it again")
    return np.frombuffer(values, np.uint8).reshape(shape)


def _header(file: BinaryIO | gzip.GzipFile, path: Path, dimensions: int) -> tuple[int, ...]:
    law = bytes([0, 0, UNSIGNED_BYTE, dimensions])
    magic, sizes = file.read(4), file.read(4 * dimensions)
    if magic != law:
        raise DataError(f"{path} must begin with {law.hex(' ')}, got {magic.hex(' ') or 'nothing'}")
    if len(sizes) != 4 * dimensions:
        raise DataError(f"{path} must have {dimensions} dimensions, but ends in its header")
    return struct.unpack(f">{dimensions}I", sizes)
