"""The names of all components, for the shell's completion, which waits for no plugin's imports.

Every command that loads the plugins leaves their names in the user's cache; completion reads them
there. A plugin that has not been loaded since it was installed is asked for its names only as far
as that goes without torch.
"""

from __future__ import annotations

import json
import sys
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from bnnbench.folders import cache_folder, write_whole

if TYPE_CHECKING:
    from collections.abc import Iterator
    from importlib.metadata import EntryPoint
    from pathlib import Path

    from bnnbench.plugins import Plugin, Plugins

FILE = "names.json"


def remember(plugins: Plugins) -> None:
    """Leave the names of the components in the user's cache, where they are not there already."""
    installed = [p for p in plugins.plugins if not p.distribution.endswith(".py")]
    found = {_key(p.name, p.distribution, p.version): p.components for p in installed}
    known = _known()
    if any(known.get(key) != components for key, components in found.items()):
        with suppress(OSError):  # a folder that cannot be written to costs completion alone
            write_whole(_path(), json.dumps(known | found, sort_keys=True))


def known_names(kind: str) -> list[str]:
    """Return the names of all components of a kind, sorted, without importing torch."""
    from importlib.metadata import entry_points

    from bnnbench.plugins import GROUP

    known = _known()
    found: set[str] = set()
    for entry_point in entry_points(group=GROUP):
        found.update(_components(entry_point, known).get(kind, ()))
    return sorted(found)


def _components(entry_point: EntryPoint, known: dict[str, Any]) -> dict[str, list[str]]:
    from bnnbench.plugins import Plugins

    dist = entry_point.dist
    key = _key(entry_point.name, dist.name if dist else "", dist.version if dist else "")
    if key in known:
        components: dict[str, list[str]] = known[key]
        return components
    with _without_torch():
        plugin: Plugin = Plugins([entry_point]).plugins[0]
    return plugin.components


@contextmanager
def _without_torch() -> Iterator[None]:
    """Let an import of torch fail at once."""
    before = sys.modules.get("torch")
    sys.modules["torch"] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules["torch"]
        if before is not None:
            sys.modules["torch"] = before


def _known() -> dict[str, Any]:
    try:
        found = json.loads(_path().read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _key(name: str, distribution: str, version: str) -> str:
    return f"{name} of {distribution} {version}"


def _path() -> Path:
    return cache_folder() / FILE
