"""The cache: arrays that are made once, and mapped into memory from then on.

    CACHE/NAME/*.npy       the arrays, little-endian
    CACHE/NAME/meta.json   what they are, their shapes and types, facts, and its own checksum

NAME is a digest of what they are. A folder has its name only once it is whole. One that is not as
it should be is made anew, so the cache may be deleted, or broken, at any time. Looked at are all
sizes and types, and of each array pieces from its beginning to its end: a disk that lost a part of
it is found out, a single byte in gigabytes is not, since whoever reads all of them waits seconds.
It is BNNBENCH_CACHE, else the folder "prepared" in the user's cache; never BNNBENCH_DATA, which may
be read-only.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import platform
import shutil
import tempfile
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

import numpy as np
from numpy.lib import format as npy

from bnnbench.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from numpy.typing import DTypeLike, NDArray

META = "meta.json"
STALE = 86_400  #: seconds after which an unfinished folder that nobody writes to is rubbish
PIECES, PIECE = 256, 4096  #: of an array: how many are looked at, and how many bytes each has
ATTEMPTS = 9  #: to put a folder in its place, where others may do the same


class Kept(NamedTuple):
    """Arrays by name, mapped into memory, and what else was noted of them.

    What is written to the arrays is seen by this process alone.
    """

    arrays: dict[str, NDArray[Any]]
    facts: dict[str, Any]


class Draft:
    """A folder of the cache that is being filled; ``facts`` are kept with it, as JSON has them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.forms: dict[str, dict[str, Any]] = {}
        self.facts: dict[str, Any] = {}

    def write(
        self,
        name: str,
        parts: Iterable[NDArray[Any]],
        shape: Sequence[int],
        dtype: DTypeLike,
    ) -> None:
        """Write the parts, one after another, as one array of this shape.

        A part is held at a time.
        """
        kind = np.dtype(dtype).newbyteorder("<")
        with (self.folder / f"{name}.npy").open("wb") as file:
            file.write(_header(shape, kind.str))
            for part in parts:
                file.write(np.ascontiguousarray(part, kind).data)
            _flush(file)
        with (self.folder / f"{name}.npy").open("rb") as file:
            sample = _sample(file)
        self.forms[name] = {"shape": [*shape], "dtype": kind.str, "sample": sample}

    def close(self, identity: Mapping[str, Any]) -> None:
        """Write down what the arrays are."""
        meta = {"identity": identity, "arrays": self.forms, "facts": self.facts}
        with (self.folder / META).open("wb") as file:
            file.write(_canonical({**meta, "sha256": _digest(meta)}))
            _flush(file)
        self.folder.chmod(0o755)  # a temporary folder is its owner's alone


def cache_root() -> Path:
    """Return the folder of the cache; it need not exist."""
    chosen = os.environ.get("BNNBENCH_CACHE")
    if chosen:
        return Path(chosen).expanduser()
    import pooch

    return Path(pooch.os_cache("bnnbench")) / "prepared"


def kept(identity: Mapping[str, Any], size_bytes: int, make: Callable[[Draft], None]) -> Kept:
    """Return what the cache has of this identity; it is made where there is nothing yet.

    Args:
        identity: says in JSON's types what the arrays are, and differs where they do.
        size_bytes: how large they are, all together.
        make: writes them, and is called by one process at a time.

    Raises:
        DataError: the cache cannot be written, or is full.
    """
    root, known = cache_root(), json.loads(_canonical(identity))
    place = root / _digest(known)[:32]
    found = _load(place, known)
    if found is not None:
        return found
    try:
        root.mkdir(parents=True, exist_ok=True)
        with _turn(root) as alone:  # whoever waited finds what the other made
            found = _load(place, known)
            if found is None:
                _remove_stale(root, alone=alone)
                found = _made(place, known, size_bytes, make)
            return found
    except OSError as error:
        raise DataError(
            f"{root} must be a folder to which {math.ceil(size_bytes / 1e6):,} MB can be written,"
            f" got: {error.strerror or error}; set BNNBENCH_CACHE to another"
        ) from error


def _made(
    place: Path, identity: Mapping[str, Any], size_bytes: int, make: Callable[[Draft], None]
) -> Kept:
    """Make it in a folder beside ``place``, and give it that name when it is whole."""
    if shutil.disk_usage(place.parent).free < size_bytes:
        raise OSError("there is not so much space left")
    prefix = f"{place.name}.{_machine()}."
    work = Path(tempfile.mkdtemp(prefix=prefix, suffix=".part", dir=place.parent))
    try:
        draft = Draft(work)
        make(draft)
        draft.close(identity)
        made = _load(work, identity)  # mapped, it outlives its name and even its files
        if made is None:
            raise OSError(f"{work} is not what was written to it")
        return _publish(work, place, identity) or made
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _publish(work: Path, place: Path, identity: Mapping[str, Any]) -> Kept | None:
    """Rename a whole folder to its place, or return what another process has put there."""
    for _ in range(ATTEMPTS):
        try:
            work.rename(place)
            return None
        except OSError as error:  # something is there
            reason = error
        found = _load(place, identity)
        if found is not None:
            return found
        _discard(place)
    raise reason


def _discard(place: Path) -> None:
    """Remove a damaged folder, unless another process has just done so."""
    aside = Path(tempfile.mkdtemp(f".{_machine()}.part", dir=place.parent))
    with suppress(FileNotFoundError):
        place.rename(aside / "damaged")
    shutil.rmtree(aside, ignore_errors=True)


def _load(place: Path, identity: Mapping[str, Any]) -> Kept | None:
    """What lies there if it is whole, else None."""
    try:
        meta = json.loads((place / META).read_bytes())
        checksum = meta.pop("sha256")
        if meta["identity"] != identity or _digest(meta) != checksum:
            return None
        forms = meta["arrays"].items()
        return Kept({name: _mapped(place / f"{name}.npy", **f) for name, f in forms}, meta["facts"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _mapped(path: Path, shape: Sequence[int], dtype: str, sample: str) -> NDArray[Any]:
    """A file's array, if it begins as one of this shape and type, is as long, and has the sample.

    numpy's own reader would parse the header as Python, in which Python 3.11 fails now and then
    where several threads do so.
    """
    header, kind = _header(shape, dtype), np.dtype(dtype)
    size = len(header) + kind.itemsize * math.prod(shape)
    with path.open("rb") as file:
        begins, ends = file.read(len(header)) == header, file.seek(0, os.SEEK_END) == size
        objects = kind.hasobject  # whose bytes would be taken for addresses
        if objects or not (begins and ends) or _sample(file) != sample:
            raise ValueError(f"{path} is not whole")
        return np.memmap(file, kind, "c", len(header), tuple(shape))


def _header(shape: Sequence[int], dtype: str) -> bytes:
    """The beginning of a .npy file."""
    file = io.BytesIO()
    form = {"descr": dtype, "fortran_order": False, "shape": tuple(shape)}
    npy.write_array_header_1_0(file, form)
    return file.getvalue()


def _sample(file: BinaryIO) -> str:
    """A digest of pieces of a file, evenly from its first byte to its last; of all if it is small.

    They are a megabyte at most, and so take no time beside what is done with the array.
    """
    size, digest = file.seek(0, os.SEEK_END), hashlib.sha256()
    last, count = max(size - PIECE, 0), min(PIECES, size // PIECE + 1)
    for number in range(count):
        file.seek(last * number // max(count - 1, 1))
        digest.update(file.read(PIECE))
    return digest.hexdigest()


def _flush(file: io.BufferedWriter) -> None:
    file.flush()
    os.fsync(file.fileno())


def _digest(value: Any) -> str:
    return hashlib.sha256(_canonical(value)).hexdigest()


def _canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


@contextmanager
def _turn(root: Path) -> Iterator[bool]:
    """Wait until no other process writes to this cache: each would need the whole space.

    Where files cannot be locked all write at once, and the first to be ready has the place. Yields
    whether it could be locked, so that no other process of this machine is at work.
    """
    handle, alone = os.open(root, os.O_RDONLY), False
    try:
        with suppress(ImportError, OSError):
            import fcntl

            fcntl.flock(handle, fcntl.LOCK_EX)
            alone = True
        yield alone
    finally:
        os.close(handle)


def _remove_stale(root: Path, *, alone: bool) -> None:
    """Remove what processes that were killed have left half written.

    Whoever has the cache alone knows that nobody on this machine is still at it. Another machine's
    lock may not be seen from here, so that what is not this one's must have lain there for long.
    """
    for work in root.glob("*.part"):
        with suppress(OSError):
            latest = max(path.stat().st_mtime for path in (work, *work.iterdir()))
            ours = alone and f".{_machine()}." in work.name
            if ours or time.time() - latest > STALE:
                shutil.rmtree(work, ignore_errors=True)


def _machine() -> str:
    """This machine's name, as a part of a folder's."""
    return hashlib.sha256(platform.node().encode()).hexdigest()[:8]
