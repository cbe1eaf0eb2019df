"""A study as the text of a study file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bnnbench.studies import Study


def study_file(study: Study) -> str:
    """Return TOML that reads as the same study; what is as by default is left out."""
    values = study.model_dump(mode="json", exclude_defaults=True)
    if len(tasks := values.pop("tasks")) == 1:
        values["task"] = tasks[0]
    else:
        values["tasks"] = tasks
    order = ("task", "tasks", "protocol", "runs", "methods", "published")
    plain = {key: value for key, value in values.items() if key not in order}
    tables = [(key, values[key]) for key in order if key in values]
    return "\n\n".join(["\n".join(_lines(plain)), *(_table(*table) for table in tables)]).strip()


def _table(key: str, value: Any) -> str:
    if isinstance(value, Mapping) and all(isinstance(named, Mapping) for named in value.values()):
        return "\n\n".join(_table(f"{key}.{_key(name)}", named) for name, named in value.items())
    if isinstance(value, Mapping):
        return "\n".join([f"[{key}]", *_lines(value)])
    return "\n\n".join("\n".join([f"[[{key}]]", *_lines(row)]) for row in value)


def _lines(values: Mapping[str, Any]) -> list[str]:
    return [f"{_key(k)} = {_value(v)}" for k, v in values.items() if v is not None]


def _key(key: str) -> str:
    bare = key.isascii() and key.replace("-", "").replace("_", "").isalnum()
    return key if bare else _text(key)


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{ " + ", ".join(_lines(value)) + " }" if value else "{}"
    if isinstance(value, list):
        return "[" + ", ".join(_value(item) for item in value) + "]"
    if isinstance(value, bool):
        return "true" if value else "false"
    return _text(value) if isinstance(value, str) else repr(value)


def _text(text: str) -> str:
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
