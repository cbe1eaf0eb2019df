"""One run of a database by what a user calls it: STUDY/TASK/METHOD/SEED, or how its key begins."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from bnnbench.entries import BASE, CONFIRM, DONE, Entry
from bnnbench.errors import UsageError, suggestion

if TYPE_CHECKING:
    import click

    from bnnbench.store import Store

LEAST = 4  #: digits of a key that are enough to be one
SHOWN = 6  #: runs that a message names


class Found(NamedTuple):
    """A run and a study that has it."""

    study: str
    entry: Entry

    @property
    def name(self) -> str:
        """How the run is called."""
        e = self.entry
        return f"{self.study}/{e.task}/{e.method}/{e.number}"


def find(store: Store, name: str) -> Found:
    """Return the finished run of a name.

    Raises:
        UsageError: there is no such run, or more than one, or it has not come to its end.
    """
    found = _by_key(store, name) if re.fullmatch(f"[0-9a-f]{{{LEAST},20}}", name) else []
    if not found or name in _studies(store):
        found = _by_place(store, name)
    keys = {each.entry.run.key for each in found}
    if len(keys) > 1:
        raise UsageError(f"{name!r} is how {len(keys)} keys begin; give more of its digits")
    if found[0].entry.state != DONE:
        study = found[0].study
        raise UsageError(
            f"only a run that is done can be exported, {found[0].name} is {found[0].entry.state};"
            f" see 'bnnbench study show {study}'"
        )
    return found[0]


def _studies(store: Store) -> list[str]:
    return [study.name for study in store.studies()]


def _by_key(store: Store, digits: str) -> list[Found]:
    return [
        Found(study, entry)
        for study in _studies(store)
        for entry in store.entries(study)
        if entry.run.key.startswith(digits)
    ]


def _by_place(store: Store, name: str) -> list[Found]:
    """The run of STUDY/TASK/METHOD/SEED; what is wrong or missing is answered with what there is.

    Raises:
        UsageError: in one line.
    """
    study, *place = name.split("/")
    known = _studies(store)
    if study not in known:
        raise UsageError(f"no study or key is named {study!r}{suggestion(study, known)}")
    runs = [Found(study, e) for e in store.entries(study) if e.role in (CONFIRM, BASE)]
    for level, said in enumerate(place):
        choices = {_levels(found)[level]: None for found in runs} if level < 3 else {}
        fitting = [found for found in runs if level < 3 and _levels(found)[level] == said]
        if not fitting:
            word = ("task", "method", "seed", "further part")[min(level, 3)]
            hint = suggestion(said, choices)
            raise UsageError(f"{'/'.join([study, *place[:level]])} has no {word} {said!r}{hint}")
        runs = fitting
    if len(place) < 3:
        raise UsageError(
            f"a run is named STUDY/TASK/METHOD/SEED, got {name!r}; there {_there(runs)}"
        )
    return runs


def _levels(found: Found) -> tuple[str, str, str]:
    return found.entry.task, found.entry.method, str(found.entry.number)


def _there(runs: list[Found]) -> str:
    names = [found.name for found in runs if found.entry.state == DONE]
    if not names:
        return "is none yet that is done"
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"{'are' if len(names) > 1 else 'is'} {', '.join(names[:SHOWN])}{more}"


def complete(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[str]:
    """Complete the name of a run of the database."""
    import os

    from bnnbench.cli.options import DEFAULT_STORAGE, open_store
    from bnnbench.errors import BnnbenchError

    url = ctx.params.get("storage") or os.environ.get("BNNBENCH_STORAGE") or DEFAULT_STORAGE
    try:
        store = open_store(str(url))
        entries = [Found(s, e) for s in _studies(store) for e in store.entries(s)]
    except BnnbenchError:
        return []
    done = (f.name for f in entries if f.entry.role in (CONFIRM, BASE) and f.entry.state == DONE)
    return [name for name in done if name.startswith(incomplete)]
