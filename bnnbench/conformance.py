"""How far a component came when it was last checked, kept in the user's cache by its version.

    loads      it is imported, and its hyperparameters can be read
    works      it does its part in the harness, once
    conforms   it keeps what its interface promises: equal seeds give equal bits, a state goes on
               where it was, nothing outside is touched
    strict     and what is asked of it with --strict: it is explained, bounded and compiles

A level is reached with those below it, by passing at least one of its checks and failing none.
What does not even load "fails"; what nobody checked here, in this version, is "not checked".
"""

from __future__ import annotations

import json
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from bnnbench import __version__
from bnnbench.folders import cache_folder, write_whole
from bnnbench.hookspecs import API_VERSION

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from bnnbench.plugins import Component

FILE = "conformance.json"
LEVELS = ("loads", "works", "conforms", "strict")
FAILS, UNCHECKED = "fails", "not checked"
OK, FAILED, SKIPPED = "ok", "failed", "skipped"


class Outcome(NamedTuple):
    """How a check ended: ``state`` is "ok", "failed" or "skipped", ``why`` the fault or reason.

    ``advice`` is what the author can do about a fault.
    """

    check: str
    level: str
    state: str
    why: str = ""
    advice: str = ""


class Checked(NamedTuple):
    """A component as it was checked: its kind and name, and whose it is."""

    kind: str
    name: str
    distribution: str
    version: str

    @classmethod
    def of(cls, component: Component) -> Checked:
        """Return what stands for a registered component."""
        plugin = component.plugin
        return cls(component.kind, component.name, plugin.distribution, plugin.version)

    def __str__(self) -> str:
        """Name the component: "optimizers/bop"."""
        return f"{self.kind}/{self.name}"


def reached(outcomes: Iterable[Outcome]) -> str:
    """Return the highest level that was reached.

    >>> loads, works = Outcome("a", "loads", "ok"), Outcome("b", "works", "failed")
    >>> reached([loads, works]), reached([works]), reached([loads, Outcome("b", "works", "ok")])
    ('loads', 'fails', 'works')
    """
    found, states = FAILS, [(outcome.level, outcome.state) for outcome in outcomes]
    for level in LEVELS:
        if (level, FAILED) in states or (level, OK) not in states:
            return found
        found = level
    return found


def keep(levels: Mapping[Checked, str]) -> None:
    """Remember the levels of some components, in place of what was known of them."""
    known = _known() | {_key(checked): level for checked, level in levels.items()}
    with suppress(OSError):  # a folder that cannot be written to costs the memory alone
        write_whole(_path(), json.dumps(known, indent=1, sort_keys=True))


def known_levels(components: Iterable[Component]) -> dict[str, str]:
    """Return what is known of some components, by "kind/name"."""
    known = _known()
    found = [Checked.of(component) for component in components]
    return {str(checked): str(known.get(_key(checked), UNCHECKED)) for checked in found}


def _known() -> dict[str, Any]:
    try:
        found = json.loads(_path().read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _key(checked: Checked) -> str:
    whose = f"{checked} of {checked.distribution} {checked.version}"
    return f"{whose}, bnnbench {__version__}, API {API_VERSION}"


def _path() -> Path:
    return cache_folder() / FILE
