"""A plugin in one file, for trying an idea: its hooks are called as those of an installed one.

What the file holds is its version: the first digits of its SHA-256, which go into the content key
of every run that uses it. An idea that was changed is another idea.
"""

from __future__ import annotations

import hashlib
import importlib.util
import sys
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, NamedTuple

from bnnbench.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable

DIGITS = 12  #: of the SHA-256 that stand for a file's version


class File(NamedTuple):
    """What stands for a distribution: the file's name, and the digits of its content."""

    name: str
    version: str


@dataclass(frozen=True)
class PluginFile:
    """A Python file with hooks in it, to be loaded as an entry point is."""

    path: Path

    @property
    def name(self) -> str:
        """The plugin's name: that of the file, with hyphens."""
        return self.path.stem.replace("_", "-")

    @property
    def value(self) -> str:
        """Where it comes from, in words: the path."""
        return str(self.path)

    @cached_property
    def content(self) -> bytes:
        """What the file holds, read once: what is hashed is what is executed."""
        try:
            return self.path.read_bytes()
        except OSError as error:
            raise UsageError(
                f"a plugin file must be a Python file that can be read, {self.path} cannot"
                f" ({error.strerror}); say where it is with --plugin .../{self.path.name}, or with"
                " [plugins] files in the study file"
            ) from None

    @property
    def dist(self) -> File:
        """The file's name and version."""
        return File(self.path.name, hashlib.sha256(self.content).hexdigest()[:DIGITS])

    def load(self) -> ModuleType:
        """Return the module; what was loaded before is not executed again."""
        return _executed(self.path, self.content)


@cache
def _executed(path: Path, content: bytes) -> ModuleType:
    """The module of a file's content, under the file's own name where nothing else has it."""
    name = path.stem
    if name in sys.modules or importlib.util.find_spec(name) is not None:
        name = f"bnnbench_plugin_file_{name}"
    module = ModuleType(name)
    module.__file__ = str(path)
    sys.modules[name] = module
    try:
        exec(compile(content, str(path), "exec"), vars(module))  # noqa: S102  # its purpose
    except BaseException:
        del sys.modules[name]
        raise
    return module


def plugin_files(paths: Iterable[str | Path]) -> list[PluginFile]:
    """Return the plugin files at some paths, each once.

    Raises:
        UsageError: one is no Python file, or two have one name.
    """
    found: dict[str, PluginFile] = {}
    for path in dict.fromkeys(Path(path).expanduser().resolve() for path in paths):
        if path.suffix != ".py" or not path.stem.isidentifier():
            raise UsageError(
                f"a plugin file must be named like a Python module, my_idea.py, got {path.name!r}"
            )
        file = PluginFile(path)
        if file.name in found:
            raise UsageError(
                f"plugin files must have different names, {found[file.name].path} and {path} have"
                " one; rename one of them"
            )
        found[file.name] = file
    return list(found.values())
