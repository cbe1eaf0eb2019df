"""A study as files: its tables, and a README with their dictionary and their checksums.

Files are replaced whole, once all are written. A file is ours if the README beside it has its
checksum, and a README is by its first line; no other is replaced unless that is forced.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from bnnbench.dictionary import TABLES, described
from bnnbench.errors import UsageError
from bnnbench.formats import writer
from bnnbench.tidy import Tidy

if TYPE_CHECKING:
    from collections.abc import Iterable

    from bnnbench.store import Store

README = "README.md"
TITLE = "# Tables of a bnnbench study"  #: the first line of a README of ours
READING = """\
`key` names a run in every table. In CSV files what is missing is empty, floats have all their
digits, and a text that begins with = + - @ ' a tab or a line break has an apostrophe before it, to
be removed. In JSON Lines and Parquet files what is missing is null and texts are as they are.
Columns of the type `json` are nested in JSON Lines files, and texts in the others.
"""


def export(
    store: Store, name: str, folder: Path, form: str = "csv", *, force: bool = False
) -> list[Path]:
    """Write the tables of a study and return the paths; same database, same bytes.

    Args:
        store: Where the study is.
        name: The study.
        folder: Where the files are written; made if it is not there.
        form: One of :data:`bnnbench.formats.FORMATS`.
        force: Replace files that are not ours, or were changed since.

    Raises:
        UsageError: there is no such study or format, a file may not be replaced or not be written.
    """
    write, tidy = writer(form), Tidy(store, name)
    names = [f"{table.name}.{form}" for table in TABLES]
    try:
        known = _known(folder / README)
        _check_files(folder, names)
        if not force:
            _check_ours(folder, names, known)
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=".bnnbench-export-", dir=folder) as place:
            drafts = Path(place)
            for table in TABLES:
                write(drafts / f"{table.name}.{form}", table, tidy.rows(table))
            sums = {file: sha256(drafts / file) for file in names}
            others = {file: digest for file, digest in known.items() if (folder / file).is_file()}
            _write_readme(drafts / README, name, others | sums)
            for file in (*names, README):
                _onto_disk(drafts / file)
            return [(drafts / file).replace(folder / file) for file in (*names, README)]
    except OSError as error:
        reason = error.strerror or error
        raise UsageError(f"{folder} cannot be written: {reason}; give -o another folder") from None


def _onto_disk(path: Path) -> None:
    """Wait until a file is on the disk: its name must not be there before what is in it."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def _known(readme: Path) -> dict[str, str]:
    """The checksums of an export's files; none where there is no export."""
    text = readme.read_text("utf-8", "replace") if readme.is_file() else ""
    if not text.startswith(f"{TITLE}\n"):
        return {}
    return {name: digest for digest, name in re.findall(r"^([0-9a-f]{64})  (.+)$", text, re.M)}


def _check_files(folder: Path, names: Iterable[str]) -> None:
    """Refuse to begin what cannot end: a name that a folder has.

    Raises:
        UsageError: something is there that is not a file.
    """
    for path in (folder / name for name in (*names, README)):
        if path.exists() and not path.is_file():
            raise UsageError(f"{path} must be a file, or not be there; -o names another folder")


def _check_ours(folder: Path, names: Iterable[str], known: Mapping[str, str]) -> None:
    """Refuse to replace what is not ours.

    Raises:
        UsageError: a file is not.
    """
    if (folder / README).exists() and not known:
        raise _refused(folder / README, "is no export's")
    for name in names:
        path = folder / name
        if path.exists() and name not in known:
            raise _refused(path, "is no export")
        if path.exists() and sha256(path) != known[name]:
            raise _refused(path, "was changed since it was exported")


def _refused(path: Path, why: str) -> UsageError:
    return UsageError(f"{path} {why}; --force replaces it, -o names another folder")


def sha256(path: Path) -> str:
    """Return a file's SHA-256 in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write_readme(path: Path, study: str, sums: Mapping[str, str]) -> None:
    lines = "".join(f"{sums[name]}  {name}\n" for name in sorted(sums))
    text = (
        f"{TITLE}\n\nStudy: {' '.join(study.split())}\n\n{READING}\n"
        f"## Columns\n\n{described()}\n"
        f"## Checksums\n\n`sha256sum --check README.md` compares them.\n\n```\n{lines}```\n"
    )
    path.write_text(text, encoding="utf-8", newline="\n")
