"""Fetching a data set's files: from the first mirror that has them, and into place when right.

    mirror/FILE     ->  FILE.part  ->  FILE
    mirror/ARCHIVE  ->  ARCHIVE.part  ->  its folder (:mod:`bnnbench.archives`)

What has come stays in the part, so that a fetch that was broken off goes on. ``BNNBENCH_MIRROR``
is a base URL below which NAME/FILE lies, instead of the publishers' mirrors. Where there is no
network, FILE or ARCHIVE may be put in its place by hand: it is checked and unpacked from there.
"""

from __future__ import annotations

import os
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from bnnbench.archives import filled, states, unpack
from bnnbench.bars import bars
from bnnbench.checksums import md5
from bnnbench.downloads import check_by_hand, folder, state
from bnnbench.errors import DataError
from bnnbench.transfers import download_first

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from bnnbench.downloads import Source


def fetch(source: Source, *, progress: bool = True) -> list[str]:
    """Download what is missing or damaged, and return the names of those files and archives.

    A file appears under its name, and an archive's folder under its own, only when it is whole and
    right; until then what has come lies in NAME.part, and the next call goes on from there.
    ``progress`` shows a bar for each file on standard error, or plain lines where that is no
    terminal. A folder that was put there by hand is left alone.

    Raises:
        DataError: no mirror gave a file as it should be, the folder cannot be written or is being
            fetched by another process, what was put there by hand lacks files, or the licence
            forbids to download it.
    """
    _ask_for(source)
    check_by_hand(source)
    files = [name for name in source.files if state(source, name) != "present"]
    archives = [name for name in source.archives if _lacks(source, name)]
    if not files + archives:
        return []
    place = folder(source)
    _prepare(place)
    with _alone(place), bars(source.name, progress) as bar:
        for name in files:
            _download(source, name, source.files[name], bar(name)).replace(place / name)
        for name in archives:
            _unpack(source, name, bar)
    return files + archives


def _ask_for(source: Source) -> None:
    if source.by_hand and not filled(folder(source)):
        raise DataError(f"{folder(source)} must be made by hand: {source.by_hand}")


def _lacks(source: Source, name: str) -> bool:
    return bool({"missing", "damaged"} & {*states(folder(source), source.archives[name]).values()})


def _prepare(place: Path) -> None:
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(
            f"{place} must be a folder that can be written, got: {error.strerror};"
            " set BNNBENCH_DATA to another"
        ) from error


@contextmanager
def _alone(place: Path) -> Iterator[None]:
    """Hold a folder: two that download at once would write to the same files.

    One in which nothing has come to lie is removed.
    """
    handle = _lock(place)
    try:
        yield
    finally:
        with suppress(OSError):  # there is something in it
            place.rmdir()
        if handle is not None:
            os.close(handle)


def _lock(place: Path) -> int | None:
    """A handle that holds the folder until it is closed, None where folders cannot be locked."""
    try:
        import fcntl
    except ImportError:
        return None
    try:
        handle = os.open(place, os.O_RDONLY)
    except OSError as error:  # not to be read, or removed by another that had nothing to put there
        raise DataError(
            f"{place} must be a folder that can be read, got: {error.strerror}; try again"
        ) from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(handle)
        raise DataError(
            f"{place} must be fetched by one process at a time; wait for the other"
        ) from error
    except OSError:  # a file system without locks
        pass
    return handle


def _bases(source: Source) -> Iterator[str]:
    mirror = os.environ.get("BNNBENCH_MIRROR")
    bases = [f"{mirror.rstrip('/')}/{source.name}"] if mirror else source.urls
    return (base.rstrip("/") for base in bases)


def _download(source: Source, filename: str, expected: str, bar: Any) -> Path:
    """Return the path of the downloaded file, which has not its name yet."""
    part = folder(source) / f"{filename}.part"
    urls = (f"{base}/{quote(filename)}" for base in _bases(source))
    try:
        download_first(urls, part, expected, bar)
    except DataError as reasons:
        raise DataError(
            f"{source.name}/{filename} must come whole from one of its mirrors, but {reasons};"
            " try again (it goes on where it was broken off), set BNNBENCH_MIRROR to a URL below"
            f" which {source.name}/{filename} lies, or put the file at"
            f" {folder(source) / filename} by hand and fetch again"
        ) from None
    return part


def _unpack(source: Source, name: str, bar: Callable[[str], Any]) -> None:
    """Unpack an archive, and keep it only where it was here before."""
    place, archive = folder(source), source.archives[name]
    if md5(place / name) == archive.md5:
        unpack(place / name, archive, place)
        return
    part = _download(source, name, archive.md5, bar(name))
    unpack(part, archive, place)
    part.unlink()
