"""The package that a new plugin begins as: what it is called, and the files that it is made of.

NAME is the name of the plugin, of its distribution and of what it registers. The module is NAME
with underscores, and in it is a class of the same name in capitals, or a function, as the kind has
it. The texts of the files are the templates beside this module: ``package`` for all kinds, then a
folder for each.
"""

from __future__ import annotations

import builtins
import datetime
import importlib.util
import json
import keyword
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bnnbench.errors import UsageError, suggestion

if TYPE_CHECKING:
    from collections.abc import Mapping

#: kinds of components, with the names that the plugin's registry has for them
KINDS = {
    "optimizer": "optimizers",
    "binarizer": "binarizers",
    "method": "methods",
    "architecture": "architectures",
    "dataset": "datasets",
    "loss": "losses",
    "probe": "probes",
    "figure": "figures",
}
CLASSES = ("optimizer", "binarizer", "probe")  #: the others are functions
NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
LONGEST = 40  #: characters of a name, so that lines with two of them are no longer than 100
ANYBODY = "The authors"  #: where git knows no name

_FILES = {
    "pyproject.toml": "package/pyproject.toml",
    "README.md": "package/README.md",
    "LICENSE": "package/LICENSE",
    "CITATION.cff": "package/CITATION.cff",
    ".gitignore": "package/gitignore",
    ".github/workflows/tests.yml": "package/tests.yml",
    "{module}.py": "{kind}/module.py",
    "tests/test_{module}.py": "{kind}/tests.py",
    "study.toml": "{kind}/study.toml",
}


@dataclass(frozen=True)
class Package:
    """A plugin's package that is not there yet.

    Raises:
        UsageError: there is no such kind, or a package cannot be called so.
    """

    name: str
    kind: str
    author: str = ANYBODY

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            hint = suggestion(self.kind, KINDS)
            raise UsageError(f"there is no kind of plugin called {self.kind!r}{hint}")
        if not NAME.fullmatch(self.name) or len(self.name) > LONGEST:
            raise UsageError(
                "a plugin's name must be lower-case letters and digits, with single hyphens between"
                f" them, begin with a letter and have at most {LONGEST} characters, got"
                f" {self.name!r}{_instead(self.name)}"
            )
        if why := self._taken():
            raise UsageError(
                f"a plugin's name must be free for a module and for its {self.kind}, but {why};"
                f" take another, such as 'my-{self.name}'"
            )

    def _taken(self) -> str:
        """Why the names that are made of this one cannot be, if they cannot."""
        if keyword.iskeyword(self.module) or keyword.iskeyword(self.attribute):
            return f"{self.name!r} is a word of Python"
        if _is_module(self.module):
            return f"there is a module {self.module!r} already"
        texts = _source(f"{self.kind}/module.py") + _source(f"{self.kind}/tests.py")
        used = {*vars(builtins), *re.findall(r"\w+", texts)}
        if self.attribute in used:
            return f"{self.attribute!r} means something else in it"
        return ""

    @property
    def module(self) -> str:
        """The name of the module."""
        return self.name.replace("-", "_")

    @property
    def attribute(self) -> str:
        """The name of what is registered, in the module.

        >>> Package("sign-descent", "optimizer").attribute
        'SignDescent'
        >>> Package("sign-descent", "method").attribute
        'sign_descent'
        """
        if self.kind not in CLASSES:
            return self.module
        return "".join(word[:1].upper() + word[1:] for word in self.name.split("-"))

    @cached_property
    def files(self) -> Mapping[str, str]:
        """The text of each file, by its path in the package."""
        values = self._values
        return {
            path.format_map(values): _rendered(template.format_map(values), values)
            for path, template in _FILES.items()
        }

    @property
    def _values(self) -> dict[str, Any]:
        from bnnbench import API_VERSION, __version__

        today = datetime.date.today()
        return {
            "name": self.name,
            "kind": self.kind,
            "kinds": KINDS[self.kind],
            "author": self.author,
            "quoted": json.dumps(self.author, ensure_ascii=False),  # TOML and YAML read it
            "module": self.module,
            "attribute": self.attribute,
            "suite": self.kind.capitalize() + "Suite",
            "test": "Test" + "".join(map(str.capitalize, self.name.split("-"))),
            "api": API_VERSION,
            "bnnbench": __version__,
            "today": today.isoformat(),
            "year": today.year,
        }

    def write(self, folder: Path) -> None:
        """Write the files into a folder, which is made.

        Raises:
            UsageError: the folder has something in it, or cannot be written to.
        """
        try:
            if folder.exists() and any(folder.iterdir()):
                raise UsageError(
                    f"a new plugin's folder must be empty, {folder} is not; take another with"
                    " --path, or another name"
                )
            for path, text in self.files.items():
                (folder / path).parent.mkdir(parents=True, exist_ok=True)
                (folder / path).write_text(text, encoding="utf-8")
        except OSError as error:
            raise UsageError(
                f"{folder} must be a folder that can be written to, it cannot ({error.strerror});"
                " take another with --path"
            ) from None


def _instead(name: str) -> str:
    """A name that could be, made of one that cannot."""
    words = re.findall(r"[a-z0-9]+", re.sub(r"([a-z0-9])([A-Z])", r"\1-\2", name).lower())
    near = "-".join(words).lstrip("0123456789-")[:LONGEST].rstrip("-")
    return f"; did you mean {near!r}?" if near else "; an example is 'sign-descent'"


def _is_module(name: str) -> bool:
    """Whether Python finds a module of this name; a mere folder is none."""
    spec = importlib.util.find_spec(name)
    return spec is not None and spec.origin is not None


def _source(template: str) -> str:
    return (Path(__file__).parent / f"{template}.jinja").read_text(encoding="utf-8")


def _rendered(template: str, values: Mapping[str, Any]) -> str:
    from jinja2 import Environment, StrictUndefined

    environment = Environment(  # noqa: S701  # text, no HTML
        undefined=StrictUndefined, keep_trailing_newline=True, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(_source(template)).render(values)
