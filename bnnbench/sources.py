"""What an installed plugin's code is: a few digits that change when any of its files does.

A package that is edited in place keeps its version, and so does one that is installed again
unchanged in name: its old runs would be taken for runs of the new code.
"""

from __future__ import annotations

import hashlib
import importlib.util
import re
from pathlib import Path

DIGITS = 12  #: of the SHA-256


def digits(module: str) -> str:
    """Return the digits of the Python files of a module's top package, "" where there are none.

    Nothing is imported. The same files have the same digits wherever they are installed.

    >>> digits("no_such_package.at_all"), digits("bnnbench.errors") == digits("bnnbench")
    ('', True)
    """
    try:
        spec = importlib.util.find_spec(re.split("[.:]", module)[0])
    except (ImportError, ValueError):
        return ""
    if spec is None:
        return ""
    folders = [Path(folder) for folder in spec.submodule_search_locations or ()]
    files = {p.relative_to(f).as_posix(): p for f in folders for p in f.rglob("*.py")}
    if not folders and spec.origin and spec.origin.endswith(".py"):
        files = {Path(spec.origin).name: Path(spec.origin)}
    return _digits(files) if files else ""


def _digits(files: dict[str, Path]) -> str:
    """The digits of some files, by their names and what they hold."""
    whole = hashlib.sha256()
    for name, path in sorted(files.items()):
        try:
            content = path.read_bytes()
        except OSError:
            continue
        whole.update(f"{name}\0{len(content)}\0".encode())
        whole.update(content)
    return whole.hexdigest()[:DIGITS]
