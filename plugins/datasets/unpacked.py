"""Arrays unpacked from a data set's files once, kept in the cache, and mapped into memory.

    CACHE/NAME/*.npy  meta.json

NAME is a digest of what the arrays are. A folder has its name only once it is whole, and one that
is not as it should be is made anew. The cache is that of :mod:`bnnbench_plugins.prepared`, which
removes from it what a killed process has left half written.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.lib import format as npy

from bnnbench.errors import DataError
from bnnbench_plugins.prepared import cache_root

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from numpy.typing import DTypeLike, NDArray

META = "meta.json"
VERSION = 1  #: to be raised when the same key comes to mean other arrays


def unpacked(key: Mapping[str, Any], make: Callable[[Path], None]) -> dict[str, NDArray[Any]]:
    """Return arrays by name, mapped into memory; what is written to them is not kept.

    Args:
        key: says in JSON's types what the arrays are, and differs where they do.
        make: is given a folder, in which it leaves each as NAME.npy (see :func:`write`); called
            only where they are not in the cache.

    Raises:
        DataError: the cache cannot be written, or is full.
    """
    text = json.dumps({"unpacked": key, "version": VERSION}, sort_keys=True)
    place = cache_root() / hashlib.sha256(text.encode()).hexdigest()[:32]
    found = _load(place)
    if found is not None:
        return found
    try:
        return _make(place, make)
    except OSError as error:
        raise DataError(
            f"{place.parent} must be a folder with space that can be written, got:"
            f" {error.strerror or error}; set BNNBENCH_CACHE to another"
        ) from error


def write(
    path: Path, parts: Iterable[NDArray[Any]], shape: tuple[int, ...], dtype: DTypeLike
) -> None:
    """Write the parts, one after another, as one array of this shape; a part is held at a time."""
    kind = np.dtype(dtype).newbyteorder("<")
    header = {"descr": npy.dtype_to_descr(kind), "fortran_order": False, "shape": shape}
    with path.open("wb") as file:
        npy.write_array_header_1_0(file, header)
        for part in parts:
            file.write(np.ascontiguousarray(part, kind).data)
        file.flush()
        os.fsync(file.fileno())


def _make(place: Path, make: Callable[[Path], None]) -> dict[str, NDArray[Any]]:
    place.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f"{place.name}.", suffix=".part", dir=place.parent))
    try:
        make(work)
        names = sorted(path.stem for path in work.glob("*.npy"))
        (work / META).write_text(json.dumps(names), encoding="utf-8")
        work.chmod(0o755)  # a temporary folder is its owner's alone
        return _publish(work, place)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _publish(work: Path, place: Path) -> dict[str, NDArray[Any]]:
    """Give the folder its name, unless another process was there first and left it whole."""
    try:
        work.rename(place)
    except OSError:
        found = _load(place)
        if found is not None:
            return found
        place.rename(work / "damaged")  # it goes when the working folder does
        work.rename(place)
        shutil.rmtree(place / "damaged", ignore_errors=True)
    made = _load(place)
    if made is None:
        raise OSError(f"{place} is not what was written to it")
    return made


def _load(place: Path) -> dict[str, NDArray[Any]] | None:
    """The arrays there if all are whole, else None."""
    try:
        names = json.loads((place / META).read_text(encoding="utf-8"))
        return {
            name: np.load(place / f"{name}.npy", mmap_mode="c", allow_pickle=False)
            for name in names
        }
    except (OSError, ValueError, TypeError):  # a file that is too short cannot be mapped
        return None
