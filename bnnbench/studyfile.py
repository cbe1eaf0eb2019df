"""Study files: TOML, read and checked; what is wrong is said in one line, with the nearest key."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ValidationError

from bnnbench.errors import UsageError, suggestion
from bnnbench.studies import (
    MethodSpec,
    PluginFiles,
    Protocol,
    Published,
    Range,
    RunSpec,
    Study,
    Task,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

_TABLES: dict[str, type[BaseModel]] = {
    "task": Task,
    "tasks": Task,
    "protocol": Protocol,
    "methods": MethodSpec,
    "published": Published,
    "search": Range,
    "runs": RunSpec,
    "plugins": PluginFiles,
}


def parse_study(values: Mapping[str, Any], where: str) -> Study:
    """Return the study that plain values describe.

    Raises:
        UsageError: in one line, the key, what is wrong with it and the nearest known key.
    """
    try:
        return Study.model_validate(values)
    except ValidationError as error:
        found = sorted(error.errors(), key=lambda e: e["type"] != "extra_forbidden")
        after = ("too_short", "list_type")  # what follows from others
        found = [e for e in found if e["type"] not in after] or found
        more = f" (and {len(found) - 3} more)" if len(found) > 3 else ""
        line = "; ".join(dict.fromkeys(_explain(dict(error)) for error in found[:3]))
        if "tasks" not in values:  # the key as it stands in the file
            line = line.replace("tasks[0]", "task").replace("tasks:", "task:")
        raise UsageError(f"{where}: {line}{more}") from None


def read_study(file: Any, where: str = "") -> Study:
    """Return the study of a TOML file (a path, or anything with ``read_text``).

    The plugin files that it names lie beside it: their paths become absolute.
    """
    where = where or str(file)
    file = Path(file) if isinstance(file, str) else file
    try:
        values = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{where}: cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise UsageError(f"{where}: a study file is UTF-8 text, this is not") from None
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{where}: not TOML: {error}") from None
    study = parse_study(values, where)
    beside = file.resolve().parent if isinstance(file, Path) else Path.cwd()
    return study.with_plugin_files(
        str(beside / Path(path).expanduser()) for path in study.plugins.files
    )


def _explain(error: dict[str, Any]) -> str:
    location, message = error["loc"], error["msg"].removeprefix("Value error, ")
    key = _path(location)
    if error["type"] == "extra_forbidden":
        known = _known_keys(location[:-1])
        return f"{key}: unknown key{suggestion(str(location[-1]), known)}"
    if error["type"] == "missing":
        return f"{key}: this key is needed"
    got = error.get("input")
    shown = f", got {got!r}" if isinstance(got, str | int | float | bool) else ""
    return f"{key}: {message[:1].lower()}{message[1:]}{shown}" if key else message


def _path(location: tuple[str | int, ...]) -> str:
    path = ""
    for part in location:
        if re.search(r"[\[(]|^Range$", str(part)):  # pydantic's name of a union's member
            continue
        name = str(part) if str(part).isprintable() else repr(part)  # an error is one line
        path += f"[{part}]" if isinstance(part, int) else f".{name}" if path else name
    return path


def _known_keys(location: tuple[str | int, ...]) -> list[str]:
    table = next((_TABLES[str(p)] for p in reversed(location) if str(p) in _TABLES), Study)
    keys = list(table.model_fields)
    return [*keys, "task"] if table is Study else keys
