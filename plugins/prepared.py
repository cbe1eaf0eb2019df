"""Preprocessed images: made once, kept in a cache, and mapped into memory from there.

What costs a pass over the bytes and no more (:func:`_is_cheap`) is done in memory each time. All
else goes to CACHE/NAME/, NAME a digest of what the pixels are and of what is done to them:

    train.npy  validation.npy  test.npy    float32 (n, C, H, W)
    meta.json                              what they are, and its own checksum

A folder has its name only once it is whole. One that is not as it should be is made anew, so the
cache may be deleted, or broken, at any time. The cache is BNNBENCH_CACHE, else the folder
"prepared" in the user's cache; never BNNBENCH_DATA, which may be read-only.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import shutil
import sys
import tempfile
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from bnnbench.errors import DataError
from bnnbench_plugins.preprocessing import VERSION, recipe

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from bnnbench_plugins.datasets.images import Images
    from bnnbench_plugins.preprocessing import Recipe, Transform

IN_MEMORY = 2**30  #: bytes of float32 up to which a pass over the bytes is as quick as a file
STALE = 3600  #: seconds after which an unfinished folder that nobody writes to is rubbish
ATTEMPTS = 9  #: to put a result in its place, where others may do the same
PATIENCE, PAUSE = 2, 10  #: seconds before the first line of progress, and between lines


@dataclass(frozen=True, eq=False)
class Prepared:
    """The splits as the network is to see them.

    ``inputs`` are float32 (n, C, H, W), by split; what is written to them is seen by this process
    alone. ``fill`` (C,) is what a black pixel becomes where that depends on its channel alone, and
    zero elsewhere: what a border is filled with that is added to images.
    """

    inputs: dict[str, Tensor]
    fill: Tensor


class _Job(NamedTuple):
    """What is to be done, and what names it."""

    name: str
    recipe: Recipe
    splits: Mapping[str, Images]
    key: Mapping[str, Any]

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {name: (len(images), *images.shape) for name, images in self.splits.items()}

    @property
    def size_bytes(self) -> int:
        return sum(4 * math.prod(shape) for shape in self.shapes.values())

    @property
    def identity(self) -> dict[str, Any]:
        """All that decides about the result, as JSON has it."""
        parameters = {"kind": type(self.recipe).__name__, **vars(self.recipe)}
        facts = {
            "key": self.key,
            "preprocessing": self.name,
            "parameters": parameters,
            "version": VERSION,
            "shapes": self.shapes,
        }
        return dict(json.loads(_canonical(facts)))


def cache_root() -> Path:
    """Return the folder of the cache; it need not exist."""
    chosen = os.environ.get("BNNBENCH_CACHE")
    if chosen:
        return Path(chosen).expanduser()
    import pooch

    return Path(pooch.os_cache("bnnbench")) / "prepared"


def prepare(preprocessing: str, splits: Mapping[str, Images], key: Mapping[str, Any]) -> Prepared:
    """Return the preprocessed splits, from the cache if they are there.

    Args:
        preprocessing: its name; it is fitted to ``splits["train"]`` alone.
        splits: the images of "train", "validation" and "test".
        key: says in JSON's types what the pixels are, and differs where they do: the checksums of
            the files, how the rows were picked.

    Raises:
        UsageError: no preprocessing has that name, or it is for other images.
        DataError: the cache cannot be written, or is full.
    """
    job = _Job(preprocessing, recipe(preprocessing), splits, key)
    if _is_cheap(job):
        return _in_memory(job)
    root, identity = cache_root(), job.identity
    place = root / hashlib.sha256(_canonical(identity)).hexdigest()[:32]
    found = _load(place, identity)
    if found is not None:
        return found
    try:
        root.mkdir(parents=True, exist_ok=True)
        with _turn(root):  # whoever waited finds what the other made
            return _load(place, identity) or _make(job, place, identity)
    except OSError as error:
        gigabytes = job.size_bytes / 1e9
        raise DataError(
            f"{root} must be a folder to which {gigabytes:.1f} GB can be written, got:"
            f" {error.strerror or error}; set BNNBENCH_CACHE to another"
        ) from error


def _is_cheap(job: _Job) -> bool:
    """Whether making it takes no longer than reading it from a file that is not in memory."""
    pointwise = job.recipe.pointwise and not job.recipe.fits
    return pointwise and job.size_bytes <= IN_MEMORY


def _in_memory(job: _Job) -> Prepared:
    import numpy as np
    import torch

    transform, inputs = job.recipe.fit(()), {}
    for name, images in job.splits.items():
        made = np.empty(job.shapes[name], np.float32)
        start = 0
        for chunk in images.chunks():
            made[start : start + len(chunk)] = transform(chunk)
            start += len(chunk)
        inputs[name] = torch.from_numpy(made)
    return Prepared(inputs, torch.tensor(_fill(job, transform)))


def _make(job: _Job, place: Path, identity: Mapping[str, Any]) -> Prepared:
    """Prepare into a folder beside ``place``, and give it that name when it is whole."""
    _remove_stale(place.parent)
    if shutil.disk_usage(place.parent).free < job.size_bytes:
        raise OSError("there is not so much space left")
    work = Path(tempfile.mkdtemp(prefix=f"{place.name}.", suffix=".part", dir=place.parent))
    try:
        _write(job, work, identity)
        made = _load(work, identity)  # mapped, it outlives its name and even its files
        if made is None:
            raise OSError(f"{work} is not what was written to it")
        return _publish(work, place, identity) or made
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _publish(work: Path, place: Path, identity: Mapping[str, Any]) -> Prepared | None:
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
    aside = Path(tempfile.mkdtemp(suffix=".part", dir=place.parent))
    with suppress(FileNotFoundError):
        place.rename(aside / "damaged")
    shutil.rmtree(aside, ignore_errors=True)


def _write(job: _Job, work: Path, identity: Mapping[str, Any]) -> None:
    total = sum(len(images) for images in job.splits.values())
    progress = _Progress(
        f"preparing {job.name}", total + job.recipe.fits * len(job.splits["train"])
    )
    transform = job.recipe.fit(progress.chunks(job.splits["train"]))
    for name, images in job.splits.items():
        with (work / f"{name}.npy").open("wb") as file:
            file.write(_header(job.shapes[name]))
            for chunk in progress.chunks(images):
                file.write(_bytes(transform(chunk)))
            _flush(file)
    meta = {"identity": identity, "fill": _fill(job, transform)}
    with (work / "meta.json").open("wb") as file:
        file.write(_canonical({**meta, "sha256": hashlib.sha256(_canonical(meta)).hexdigest()}))
        _flush(file)
    work.chmod(0o755)  # a temporary folder is its owner's alone
    progress.close()


def _load(place: Path, identity: Mapping[str, Any]) -> Prepared | None:
    """What lies there if it is whole, else None."""
    import numpy as np
    import torch

    try:
        meta = json.loads((place / "meta.json").read_bytes())
        checksum = meta.pop("sha256")
        if meta["identity"] != identity or hashlib.sha256(_canonical(meta)).hexdigest() != checksum:
            return None
        inputs = {}
        for name, shape in identity["shapes"].items():
            path = place / f"{name}.npy"
            if not _is_whole(path, shape):
                return None
            inputs[name] = torch.from_numpy(np.load(path, mmap_mode="c", allow_pickle=False))
        return Prepared(inputs, torch.tensor(meta["fill"]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _is_whole(path: Path, shape: list[int]) -> bool:
    """Whether a file begins as an array of this shape does, and is as long as it."""
    header = _header(tuple(shape))
    with path.open("rb") as file:
        begins = file.read(len(header)) == header
        return begins and file.seek(0, os.SEEK_END) == len(header) + 4 * math.prod(shape)


def _header(shape: tuple[int, ...]) -> bytes:
    """The beginning of a .npy file of little-endian float32."""
    from numpy.lib import format as npy

    file = io.BytesIO()
    npy.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": shape})
    return file.getvalue()


def _bytes(array: NDArray[np.float32]) -> memoryview:
    import numpy as np

    return np.ascontiguousarray(array, "<f4").data.cast("B")


def _flush(file: io.BufferedWriter) -> None:
    file.flush()
    os.fsync(file.fileno())


def _fill(job: _Job, transform: Transform) -> list[float]:
    """What a black pixel becomes in each channel; zeros where that depends on more."""
    import numpy as np

    channels = job.splits["train"].shape[0]
    if not job.recipe.pointwise:
        return [0.0] * channels
    return [float(x) for x in transform(np.zeros((1, channels, 1, 1), np.uint8)).ravel()]


def _canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


@contextmanager
def _turn(root: Path) -> Iterator[None]:
    """Wait until no other process prepares in this cache: each would need the whole space.

    Where files cannot be locked all prepare at once, and the first to be ready has the place.
    """
    handle = os.open(root, os.O_RDONLY)
    try:
        with suppress(ImportError, OSError):
            import fcntl

            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _remove_stale(root: Path) -> None:
    """Remove what processes that were killed have left half written."""
    for work in root.glob("*.part"):
        with suppress(OSError):
            latest = max(path.stat().st_mtime for path in (work, *work.iterdir()))
            if time.time() - latest > STALE:
                shutil.rmtree(work, ignore_errors=True)


class _Progress:
    """Lines on standard error that say how far it is, for what takes more than a moment."""

    def __init__(self, label: str, total: int) -> None:
        self.label, self.total, self.count = label, total, 0
        self.began, self.said = time.monotonic(), 0.0

    def chunks(self, images: Images) -> Iterator[NDArray[np.uint8]]:
        """Yield the images' chunks, and count each when the next is asked for."""
        for chunk in images.chunks():
            yield chunk
            self.count += len(chunk)
            past = time.monotonic() - self.began
            if past >= (self.said + PAUSE if self.said else PATIENCE):
                self.said = past
                self._say(f"{100 * self.count // self.total} % after {past:.0f} s")

    def close(self) -> None:
        """Say that it is done, if anything was said."""
        if self.said:
            self._say(f"done after {time.monotonic() - self.began:.0f} s")

    def _say(self, text: str) -> None:
        print(f"{self.label}: {text}", file=sys.stderr, flush=True)
