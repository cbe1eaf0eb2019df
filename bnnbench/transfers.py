"""One file over HTTP, taken up where it was broken off.

::

    Range: bytes=N-  ->  206  what comes after the first N bytes
                         200  all of it again: this server knows no ranges
                         416  there are no more than N bytes: what is here is of another file

What has come stays in a file of its own until its checksum is the stated one. What was taken up
and came out wrong is begun again from nothing, once: the file may have changed in between.

source: RFC 9110, HTTP Semantics, section 14
"""

from __future__ import annotations

from functools import partial
from textwrap import shorten
from typing import TYPE_CHECKING, Any, BinaryIO

from bnnbench.checksums import md5
from bnnbench.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

TIMEOUT = 30  #: seconds without a byte
PIECE = 1 << 16  #: bytes written at once
OK, PARTIAL, UNSATISFIABLE = 200, 206, 416


def download_first(urls: Iterable[str], part: Path, expected: str, bar: Any = None) -> None:
    """Complete ``part`` from the first of ``urls`` that has the file; see :func:`download`.

    Raises:
        DataError: none has it; the message ends with the reason of each.
    """
    reasons = []
    for url in urls:
        try:
            download(url, part, expected, bar)
        except (OSError, ValueError) as error:  # requests' errors are OSErrors
            reasons.append(f"{url}: {_reason(error)}")
        else:
            return
    raise DataError("; ".join(reasons) or "it has none")


def download(url: str, part: Path, expected: str, bar: Any = None) -> None:
    """Complete ``part``, the file at ``url`` as far as it has come.

    Args:
        url: of the whole file.
        part: where it is collected; it need not exist.
        expected: the whole file's MD5.
        bar: in pooch's protocol, with ``start`` for the bytes that were here before.

    Raises:
        OSError: the server or the connection failed; what has come stays in ``part``.
        ValueError: the whole file came, and its checksum is wrong.
    """
    if md5(part) == expected:
        return
    begun = part.exists()
    _go_on(url, part, bar)
    if md5(part) == expected:
        return
    part.unlink(missing_ok=True)
    if not begun:
        raise ValueError("the checksum is wrong")
    download(url, part, expected, bar)


def _go_on(url: str, part: Path, bar: Any) -> None:
    try:
        with part.open("ab") as file:
            _receive(url, file, bar)
    except OSError as error:  # requests' errors are OSErrors
        if _status(error) != UNSATISFIABLE:
            raise
    finally:
        if part.exists() and not part.stat().st_size:
            part.unlink()


def _receive(url: str, file: BinaryIO, bar: Any) -> None:
    import pooch

    offset = file.tell()
    downloader = pooch.HTTPDownloader(
        progressbar=bar or False,
        chunk_size=PIECE,
        timeout=TIMEOUT,
        headers={"Accept-Encoding": "identity"} | ({"Range": f"bytes={offset}-"} if offset else {}),
        hooks={"response": partial(_answered, file=file, bar=bar, offset=offset)},
    )
    downloader(url, file, None)


def _answered(response: Any, *, file: BinaryIO, bar: Any, offset: int, **kwargs: Any) -> None:
    """Before the first byte comes: keep what is here only if the answer goes on from it."""
    if response.status_code == OK:
        file.truncate(0)
    if bar:
        bar.start = offset if response.status_code == PARTIAL else 0


def _status(error: Exception) -> int:
    """The HTTP status of a failed request, 0 where there was no answer."""
    status: int = getattr(getattr(error, "response", None), "status_code", 0)
    return status


def _reason(error: Exception) -> str:
    if type(error) is ValueError:
        return "the checksum is wrong"
    response = getattr(error, "response", None)
    if response is not None:
        return f"{response.status_code} {response.reason}"
    cause = _innermost(error)
    told = getattr(cause, "strerror", None) or str(cause) or type(cause).__name__
    return shorten(str(told), 200, placeholder=" ...")


def _innermost(error: BaseException) -> BaseException:
    """The error that the others are wrapped around: theirs are long and name the URL again."""
    inner = (getattr(error, "reason", None), *error.args, error.__cause__)
    found = next((each for each in inner if isinstance(each, BaseException)), None)
    return error if found is None else _innermost(found)
