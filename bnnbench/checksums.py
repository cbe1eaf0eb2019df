"""MD5s of files: what the publishers of data sets print. They find damage, not malice."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Any

from bnnbench.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path

_MD5 = re.compile(r"[0-9a-f]{32}")


def is_md5(text: str) -> bool:
    """Whether a text is an MD5 in hexadecimal.

    >>> is_md5("d41d8cd98f00b204e9800998ecf8427e"), is_md5("d41d8")
    (True, False)
    """
    return _MD5.fullmatch(text) is not None


def md5(path: Path) -> str:
    """Return the file's MD5 in hexadecimal, empty where there is no file.

    Raises:
        DataError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, new_md5).hexdigest()
    except (FileNotFoundError, NotADirectoryError):
        return ""
    except OSError as error:
        raise DataError(
            f"{path} must be a readable file, got: {error.strerror}; remove it, or let it be read"
        ) from error


def new_md5() -> Any:
    """Return an empty digest, where MD5 is forbidden for secrets too."""
    return hashlib.md5(usedforsecurity=False)
