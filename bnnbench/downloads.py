"""Files of data sets: fetched once, from the first mirror that has them, and always checked.

A data set's module states a :class:`Source`; a file is used only if its MD5 is the stated one.
MD5 is what the publishers print: it finds damage, not malice. An archive is unpacked as soon as it
is here and not kept; its members are checked against what came out of it.

``BNNBENCH_DATA`` is the folder under which the files lie, else the user's cache.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from bnnbench.archives import Archive, State, filled, lacking, manifest, member_state, states
from bnnbench.checksums import is_md5, md5
from bnnbench.errors import DataError, PluginError

Factory = TypeVar("Factory", bound=Callable[..., Any])

NAMED = 3  #: missing files that a message names

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True)
class Source:
    """Where a data set's files come from, and how they are known.

    ``name`` is the folder and what ``bnnbench data fetch`` is told; ``urls`` are base URLs, tried
    in order; ``files`` maps file names to MD5s in hexadecimal; ``archives`` maps the names of
    archives to what is wanted of them; ``size_bytes`` is that of all that is downloaded.
    ``citation`` is shown by ``bnnbench data list``. ``by_hand`` says, for what a licence forbids
    to download, in one line where to get it and how the folder must look.

    Raises:
        PluginError: a name that could leave its folder, two archives that unpack to one folder,
            or something that is no MD5.
    """

    name: str
    urls: tuple[str, ...]
    files: Mapping[str, str]
    size_bytes: int
    citation: str = ""
    archives: Mapping[str, Archive] = field(default_factory=dict)
    by_hand: str = ""

    def __post_init__(self) -> None:
        folders = (archive.folder for archive in self.archives.values())
        names = (*self.files, *self.archives, *folders)
        for name in (self.name, *names):
            if not _NAME.fullmatch(name):
                raise PluginError(f"a data file's name must be a plain file name, got {name!r}")
        for name, expected in self.files.items():
            if not is_md5(expected):
                raise PluginError(
                    f"the MD5 of {name!r} must be 32 hexadecimal digits, got {expected!r}"
                )
        if len({*names}) < len(names):
            raise PluginError(f"{self.name!r} must have a name for each file and folder of its own")


def downloads(source: Source) -> Callable[[Factory], Factory]:
    """Return a decorator that says which files a data set's factory needs, as its ``source``."""

    def mark(factory: Factory) -> Factory:
        factory.source = source  # type: ignore[attr-defined]
        return factory

    return mark


def data_root() -> Path:
    """Return the folder under which all data sets lie; it need not exist."""
    chosen = os.environ.get("BNNBENCH_DATA")
    if chosen:
        return Path(chosen).expanduser()
    import pooch

    return Path(pooch.os_cache("bnnbench"))


def folder(source: Source) -> Path:
    """Return the folder of a source's files; it need not exist."""
    return data_root() / source.name


def verify(source: Source) -> dict[str, State]:
    """Return the state of each file and each archive's members, by reading all of them.

    Where there is nothing to go by, it is that of a folder: an archive's, or the source's.
    """
    if source.by_hand:
        return {source.name: "by hand" if filled(folder(source)) else "missing"}
    found = {name: state(source, name) for name in source.files}
    for archive in source.archives.values():
        found |= states(folder(source), archive)
    return found


def path_of(source: Source, filename: str) -> Path:
    """Return the path of a file whose checksum is right.

    Raises:
        DataError: the file is missing or damaged.
    """
    path, expected = folder(source) / filename, source.files[filename]
    found = md5(path)
    if found != expected:
        raise DataError(
            f"{path} must have MD5 {expected}, got {found or 'missing'};"
            f" run: bnnbench data fetch {source.name}"
        )
    return path


def member_of(source: Source, member: str, otherwise: str = "") -> Path:
    """Return the path of a file that was unpacked from an archive, as FOLDER/.../FILE.

    It is checked against its archive's manifest. Where there is none, the folder was put there by
    hand, and it is enough that the file exists: what is in it is for its reader to check. A data
    set that can do without the file says how in ``otherwise``.

    Raises:
        DataError: the file is missing or damaged.
    """
    root, path = folder(source), folder(source) / member
    found = manifest(root, _archive_of(source, member))
    if found is None:
        now: State = "present" if path.is_file() else "missing"
    elif found.archive != _archive_of(source, member).md5 or member not in found.members:
        now = "damaged" if path.exists() else "missing"
    else:
        now = member_state(root, member, found.members[member])
    if now != "present":
        way = again(source, member) + (otherwise if now == "missing" else "")
        raise DataError(f"{path} must be as it was unpacked, got: {now}; {way}")
    return path


def again(source: Source, member: str) -> str:
    """Return how a member that is not as it should be is had anew, as the end of a message.

    What was put there by hand is never replaced: it must be removed first.
    """
    archive = _archive_of(source, member)
    command = f"run: bnnbench data fetch {source.name}"
    if manifest(folder(source), archive) is not None or not filled(folder(source) / archive.folder):
        return command
    return f"put it there, or remove {folder(source) / archive.folder} and {command}"


def _archive_of(source: Source, member: str) -> Archive:
    (archive,) = (archive for archive in source.archives.values() if archive.holds(member))
    return archive


def checksum_of(source: Source, member: str) -> str:
    """Return the MD5 of a file that :func:`member_of` has let pass; only one put by hand is read.

    Raises:
        DataError: it cannot be read.
    """
    for archive in source.archives.values():
        found = manifest(folder(source), archive)
        if found is not None and member in found.members:
            return found.members[member].md5
    return md5(folder(source) / member)


def by_hand(source: Source) -> list[Path]:
    """Return the folders that are not as this module made them: it leaves them as they are."""
    root = folder(source)
    if source.by_hand:
        return [root]
    places = (
        (root / archive.folder, manifest(root, archive)) for archive in source.archives.values()
    )
    return [place for place, found in places if found is None and place.is_dir()]


def check_by_hand(source: Source) -> None:
    """Refuse a folder that was put there by hand and lacks files.

    Raises:
        DataError: it does; nothing that is fetched would be put beside what is there.
    """
    for archive in source.archives.values():
        missing = lacking(folder(source), archive)
        if missing and "incomplete" in states(folder(source), archive).values():
            more = f" and {len(missing) - NAMED} more" if len(missing) > NAMED else ""
            raise DataError(
                f"{folder(source) / archive.folder} must be whole, but lacks"
                f" {', '.join(missing[:NAMED])}{more}; it was put there by hand and is left as it"
                " is: put there what is missing, or remove it and fetch again"
            )


def state(source: Source, filename: str) -> State:
    """Return the state of a plain file, by reading it."""
    found = md5(folder(source) / filename)
    if not found:
        return "missing"
    return "present" if found == source.files[filename] else "damaged"
