"""Archives of data sets: unpacked whole or not at all, with a manifest of what came out.

What is wanted of an archive lies in one folder. That folder is filled under another name, given
its manifest, and only then put in its place, so that it is never there by halves::

    NAME.tar.gz  ->  .unpacking-*/FOLDER/...  ->  .unpacking-*/FOLDER/.manifest.json  ->  FOLDER

A folder without a manifest was put there by hand: its reader must find out what is in it. That
files are missing from it is seen here, by their names alone.
"""

from __future__ import annotations

import gzip
import json
import shutil
import tarfile
import tempfile
import zlib
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, BinaryIO, Literal, NamedTuple, cast

from bnnbench.checksums import is_md5, md5, new_md5
from bnnbench.errors import DataError, PluginError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

State = Literal["present", "missing", "damaged", "by hand", "incomplete"]

MANIFEST = ".manifest.json"
UNPACKING = ".unpacking-"  #: prefix of folders that are being filled
PIECE = 1 << 20  #: bytes copied at once


@dataclass(frozen=True)
class Archive:
    """A gzipped tar file, and what of it is wanted.

    ``md5`` is that of the archive. ``members`` are the wanted files, all below one folder, as
    FOLDER/.../FILE; a star stands for any characters but "/", and for no leading dot. They may
    have ``limit_bytes`` together, unpacked. All else in the archive is passed over.

    Raises:
        PluginError: something that is no MD5, or members that do not share a folder.
    """

    md5: str
    members: tuple[str, ...]
    limit_bytes: int

    def __post_init__(self) -> None:
        if not is_md5(self.md5):
            raise PluginError(f"an archive's MD5 must be 32 hexadecimal digits, got {self.md5!r}")
        paths = [_parts(member) for member in self.members]
        if not paths or not all(len(parts) > 1 and parts[0] == self.folder for parts in paths):
            raise PluginError(
                f"an archive's members must be files below one folder, got {list(self.members)}"
            )

    @property
    def folder(self) -> str:
        """The name of the folder that it unpacks to."""
        folder = self.members[0].partition("/")[0] if self.members else ""
        return "" if "*" in folder else folder

    def holds(self, member: str) -> bool:
        """Whether a member of this name is wanted."""
        return any(matches(member, pattern) for pattern in self.members)


def matches(member: str, pattern: str) -> bool:
    """Whether a member's name fits a pattern.

    >>> matches("images/cat_1.jpg", "images/*.jpg"), matches("images/a/cat_1.jpg", "images/*.jpg")
    (True, False)
    >>> matches("images/._cat_1.jpg", "images/*.jpg")
    False
    """
    names, laws = member.split("/"), pattern.split("/")
    return len(names) == len(laws) and all(
        fnmatchcase(name, law) and (law[0] == "." or name[:1] != ".")
        for name, law in zip(names, laws, strict=True)
    )


class Member(NamedTuple):
    """A file as it came out of an archive."""

    size: int
    md5: str


class Manifest(NamedTuple):
    """What came out of an archive, and which archive that was, by its MD5."""

    archive: str
    members: Mapping[str, Member]


def manifest(root: Path, archive: Archive) -> Manifest | None:
    """Return the manifest of an archive's folder below ``root``, None where it has none.

    One that cannot be read is that of no archive, and has no members.
    """
    path = root / archive.folder / MANIFEST
    try:
        return _manifest(path, path.stat().st_mtime_ns)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return Manifest("", {})


@lru_cache(maxsize=8)
def _manifest(path: Path, changed: int) -> Manifest:
    """Read it once for all its members."""
    content = json.loads(path.read_text(encoding="utf-8"))
    members = {
        name: Member(int(size), str(md5)) for name, (size, md5) in content["members"].items()
    }
    return Manifest(content["archive"], members)


def member_state(root: Path, name: str, member: Member) -> State:
    """Return the state of an unpacked file, by reading it."""
    path = root / name
    if not path.is_file():
        return "missing"
    right = path.stat().st_size == member.size and md5(path) == member.md5
    return "present" if right else "damaged"


def states(root: Path, archive: Archive) -> dict[str, State]:
    """Return the state of each member, or of the folder where there is no manifest to go by.

    One that was put there by hand is "incomplete" where it lacks files.
    """
    if not filled(root / archive.folder):
        return {archive.folder: "missing"}
    found = manifest(root, archive)
    if found is None:
        return {archive.folder: "incomplete" if lacking(root, archive) else "by hand"}
    if found.archive != archive.md5:
        return {archive.folder: "damaged"}
    return {name: member_state(root, name, member) for name, member in found.members.items()}


def lacking(root: Path, archive: Archive) -> list[str]:
    """Return the members, as they are wanted, of which there is no file below ``root``."""
    return [wanted for wanted in archive.members if not _any(root, wanted)]


def _any(root: Path, wanted: str) -> bool:
    found = (path for path in root.glob(wanted) if path.is_file())
    return any(matches(path.relative_to(root).as_posix(), wanted) for path in found)


def filled(folder: Path) -> bool:
    """Whether there is a folder with something in it.

    Raises:
        DataError: it cannot be read.
    """
    try:
        return folder.is_dir() and any(folder.iterdir())
    except OSError as error:
        raise DataError(
            f"{folder} must be a readable folder, got: {error.strerror}; let it be read"
        ) from error


def unpack(path: Path, archive: Archive, root: Path) -> None:
    """Unpack the archive at ``path`` to its folder below ``root``, in the place of what is there.

    Raises:
        DataError: it is no whole tar.gz, holds something that is not as it should be, or there is
            no place to write to.
    """
    clear(root)
    try:
        with tempfile.TemporaryDirectory(
            prefix=UNPACKING, dir=root, ignore_cleanup_errors=True
        ) as place:
            _unpack(path, archive, root, Path(place))
    except (tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise DataError(f"{path} must be a whole tar.gz file, got: {error}") from error
    except OSError as error:
        raise DataError(f"{path} must be unpacked in {root}, got: {error.strerror}") from error


def _unpack(path: Path, archive: Archive, root: Path, place: Path) -> None:
    filled = place / archive.folder
    filled.mkdir()
    made = Manifest(archive.md5, _extract(path, archive, place))
    (filled / MANIFEST).write_text(json.dumps(made._asdict(), indent=0), encoding="utf-8")
    _replace(filled, root / archive.folder, place / "former")


def clear(root: Path) -> None:
    """Remove what was left behind by an unpacking that was killed."""
    for left in root.glob(f"{UNPACKING}*"):
        shutil.rmtree(left, ignore_errors=True)


def _extract(path: Path, archive: Archive, place: Path) -> dict[str, Member]:
    """Write the wanted members below ``place``.

    Only bytes are taken: names, kinds and sizes are checked first, modes and owners are not used.
    Nothing is flushed to the disk, because a file that a power failure empties has another MD5.
    """
    members: dict[str, Member] = {}
    room = archive.limit_bytes
    with gzip.open(path) as packed, tarfile.open(fileobj=packed, mode="r:") as tar:
        for name, info in _wanted(tar, path, archive):
            room -= info.size
            if room < 0:
                raise DataError(
                    f"{path} must unpack to at most {archive.limit_bytes} bytes, got more at {name}"
                )
            members[name] = _copy(cast("BinaryIO", tar.extractfile(info)), place / name)
        while packed.read(PIECE):  # tar files end before their packing does, with its checksum
            pass
    _check_whole(path, archive, members)
    return members


def _check_whole(path: Path, archive: Archive, members: Mapping[str, Member]) -> None:
    for law in archive.members:
        if not any(matches(name, law) for name in members):
            raise DataError(f"{path} must hold {law}, got {len(members)} other files")


def _wanted(
    tar: tarfile.TarFile, path: Path, archive: Archive
) -> Iterator[tuple[str, tarfile.TarInfo]]:
    seen = set()
    for info in tar:
        parts = PurePosixPath(info.name).parts
        if info.name.startswith("/") or ".." in parts or "\\" in info.name:
            raise DataError(f"{path} must stay in its own folder, got a member {info.name!r}")
        name = "/".join(parts)
        if archive.holds(name):
            if not info.isreg():
                raise DataError(f"{path} must hold {name} as a regular file, got another kind")
            if name in seen:
                raise DataError(f"{path} must hold {name} once, got it again")
            seen.add(name)
            yield name, info


def _copy(file: BinaryIO, target: Path) -> Member:
    target.parent.mkdir(parents=True, exist_ok=True)
    digest, size = new_md5(), 0
    with target.open("xb") as out:
        while piece := file.read(PIECE):
            digest.update(piece)
            size += out.write(piece)
    return Member(size, digest.hexdigest())


def _replace(new: Path, there: Path, former: Path) -> None:
    """Two renames: what is killed in between leaves no folder, and never a part of one."""
    if there.exists():
        there.rename(former)
    new.rename(there)


def _parts(member: str) -> tuple[str, ...]:
    """The parts of a member's name or pattern, none where it could lead elsewhere."""
    parts = tuple(member.split("/"))
    bad = any(part in ("", ".", "..") or "\\" in part for part in parts)
    return () if bad else parts
