"""Files of data sets: fetched once, from the first mirror that has them, and always checked.

A data set's module states a :class:`Source`; a file is used only if its MD5 is the stated one.
MD5 is what the publishers print: it finds damage, not malice.

``BNNBENCH_DATA`` is the folder under which the files lie (else the user's cache), and
``BNNBENCH_MIRROR`` a base URL below which NAME/FILE lies, instead of the publishers' mirrors.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar
from urllib.parse import quote

from bnnbench.errors import DataError, PluginError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

State = Literal["present", "missing", "damaged"]
Factory = TypeVar("Factory", bound=Callable[..., Any])

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_MD5 = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True)
class Source:
    """Where a data set's files come from, and how they are known.

    ``name`` is the folder and what ``bnnbench data fetch`` is told; ``urls`` are base URLs, tried
    in order; ``files`` maps file names to MD5s in hexadecimal; ``size_bytes`` is that of all files.
    ``citation`` is shown by ``bnnbench data list``.

    Raises:
        PluginError: a name that could leave its folder, or something that is no MD5.
    """

    name: str
    urls: tuple[str, ...]
    files: Mapping[str, str]
    size_bytes: int
    citation: str = ""

    def __post_init__(self) -> None:
        for name in (self.name, *self.files):
            if not _NAME.fullmatch(name):
                raise PluginError(f"a data file's name must be a plain file name, got {name!r}")
        for name, md5 in self.files.items():
            if not _MD5.fullmatch(md5):
                raise PluginError(f"the MD5 of {name!r} must be 32 hexadecimal digits, got {md5!r}")


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
    """Return the state of each file, by reading all of them."""
    return {name: _state(source, name) for name in source.files}


def path_of(source: Source, filename: str) -> Path:
    """Return the path of a file whose checksum is right.

    Raises:
        DataError: the file is missing or damaged.
    """
    path, expected = folder(source) / filename, source.files[filename]
    found = _md5(path)
    if found != expected:
        raise DataError(
            f"{path} must have MD5 {expected}, got {found or 'missing'};"
            f" run: bnnbench data fetch {source.name}"
        )
    return path


def fetch(source: Source, *, progress: bool = True) -> list[str]:
    """Download what is missing or damaged, and return the names of those files.

    A file appears under its name only when it is whole and right. ``progress`` shows a bar for
    each file on standard error, or plain lines where that is no terminal.

    Raises:
        DataError: no mirror gave a file as it should be, or the folder cannot be written.
    """
    wanted = [name for name, state in verify(source).items() if state != "present"]
    if wanted:
        _prepare(folder(source))
    with _bars(source.name, progress) as bar:
        for name in wanted:
            _download(source, name, bar(name))
    return wanted


def _state(source: Source, filename: str) -> State:
    found = _md5(folder(source) / filename)
    if not found:
        return "missing"
    return "present" if found == source.files[filename] else "damaged"


def _md5(path: Path) -> str:
    """The file's MD5 in hexadecimal, empty where there is no file."""
    if not path.exists():
        return ""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, _new_md5).hexdigest()
    except OSError as error:
        raise DataError(f"{path} must be a readable file, got: {error.strerror}") from error


def _new_md5() -> Any:
    return hashlib.md5(usedforsecurity=False)


def _prepare(place: Path) -> None:
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(
            f"{place} must be a folder that can be written, got: {error.strerror};"
            " set BNNBENCH_DATA to another"
        ) from error


def _bases(source: Source) -> Iterator[str]:
    mirror = os.environ.get("BNNBENCH_MIRROR")
    bases = [f"{mirror.rstrip('/')}/{source.name}"] if mirror else source.urls
    return (base.rstrip("/") for base in bases)


def _download(source: Source, filename: str, bar: Any) -> None:
    reasons = []
    for base in _bases(source):
        url = f"{base}/{quote(filename)}"
        try:
            _retrieve(url, folder(source) / filename, source.files[filename], bar)
        except (OSError, ValueError) as error:  # requests' errors are OSErrors
            reasons.append(f"{url}: {_reason(error)}")
        else:
            return
    raise DataError(
        f"{source.name}/{filename} must come whole from one of its mirrors, but"
        f" {'; '.join(reasons) or 'it has none'}; try again, or set BNNBENCH_MIRROR to a URL"
        f" below which {source.name}/{filename} lies"
    )


def _retrieve(url: str, path: Path, md5: str, bar: Any) -> None:
    """Download to a temporary file beside ``path``, check it, and only then move it there."""
    import pooch

    pooch.get_logger().setLevel("WARNING")
    downloader = pooch.HTTPDownloader(progressbar=bar or False, timeout=30)
    pooch.retrieve(url, f"md5:{md5}", path.name, path.parent, downloader=downloader)
    path.chmod(0o644)  # the temporary file was its owner's alone


def _reason(error: Exception) -> str:
    if type(error) is ValueError:
        return "the checksum is wrong"
    response = getattr(error, "response", None)
    if response is not None:
        return f"{response.status_code} {response.reason}"
    return " ".join(str(error).split())[:120]


@contextmanager
def _bars(name: str, shown: bool) -> Iterator[Callable[[str], Any]]:
    """What makes a file's progress bar; the bars are in pooch's protocol."""
    from rich.console import Console

    console = Console(stderr=True, highlight=False)
    if not shown:
        yield lambda filename: None
    elif not console.is_terminal:
        yield lambda filename: _Line(console, f"{name}/{filename}")
    else:
        with _progress(console) as progress:
            yield lambda filename: _Bar(progress, f"{name}/{filename}")


def _progress(console: Console) -> Progress:
    from rich import progress as parts

    return parts.Progress(
        parts.TextColumn("{task.description}", markup=False),
        parts.BarColumn(),
        parts.DownloadColumn(),
        parts.TransferSpeedColumn(),
        console=console,
    )


class _Bar:
    """One file's bar. pooch sets ``total`` as a download begins, and fills the bar at its end."""

    def __init__(self, progress: Progress, label: str) -> None:
        self.progress = progress
        self.task = progress.add_task(label, total=None)

    @property
    def total(self) -> float | None:
        return self.progress.tasks[self.task].total

    @total.setter
    def total(self, total: int) -> None:
        self.progress.reset(self.task, total=total or None)

    def update(self, size: int) -> None:
        self.progress.advance(self.task, size)

    def reset(self) -> None:
        self.progress.reset(self.task)

    def close(self) -> None:
        self.progress.stop_task(self.task)


class _Line:
    """One line for a file, once it is there."""

    def __init__(self, console: Console, label: str) -> None:
        self.console, self.label, self.total = console, label, 0

    def update(self, size: int) -> None: ...

    def reset(self) -> None: ...

    def close(self) -> None:
        from rich.filesize import decimal

        size = f" ({decimal(self.total)})" if self.total else ""
        self.console.print(f"downloaded {self.label}{size}", markup=False, soft_wrap=True)
