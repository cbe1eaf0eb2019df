"""The studies of a database: how they are added, listed, logged and deleted."""

from __future__ import annotations

import itertools
import json
import time
from abc import ABC, abstractmethod
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, NamedTuple

import sqlalchemy as sa

from bnnbench import schema
from bnnbench.entries import CONFIRM, ENDED
from bnnbench.errors import StoreError, UsageError, suggestion
from bnnbench.studies import Study

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager

    from sqlalchemy.engine import Connection

    from bnnbench.entries import Entry

FORMER = "former"  #: how the roles of confirming runs begin that a better trial has replaced


class StudySummary(NamedTuple):
    """A line of ``study list``.

    ``planned`` are the trials and confirming runs that the study asks for, as far as they can be
    counted without its plugins: ``at_most`` so many where some of its methods may have nothing to
    tune; 0 where it tunes for so many seconds.
    """

    name: str
    title: str
    methods: int
    runs: int
    ended: int
    created_at: float
    planned: int = 0
    at_most: bool = False


class Catalogue(ABC):
    """The studies of a database."""

    @abstractmethod
    def begin(self) -> AbstractContextManager[Connection]:
        """Return a transaction."""

    def create_study(self, name: str, study: Study, command: str, version: str) -> None:
        """Add a study.

        Raises:
            UsageError: there is one of this name.
        """
        row = {
            "name": name,
            "spec": study.model_dump_json(),
            "command": command,
            "version": version,
            "created_at": time.time(),
        }
        try:
            with self.begin() as connection:
                connection.execute(schema.studies.insert(), row)
        except StoreError as error:
            if not isinstance(error.__cause__, sa.exc.IntegrityError):
                raise
            raise UsageError(
                f"a study named {name!r} exists; run it with 'bnnbench study run {name}',"
                f" or remove it with 'bnnbench study delete {name}'"
            ) from None

    def study(self, name: str) -> Study:
        """Return a study's specification."""
        return Study.model_validate_json(self._study_row(name).spec)

    def command(self, name: str) -> str:
        """Return the command that created the study."""
        return str(self._study_row(name).command)

    def version(self, name: str) -> str:
        """Return the version of bnnbench that created the study."""
        return str(self._study_row(name).version)

    def extend_study(self, name: str, study: Study, command: str, told: str) -> None:
        """Let a study be described so from now on; ``command`` is added to what created it."""
        row = self._study_row(name)
        s, v = schema.studies, schema.events
        commands = " && ".join(filter(None, (row.command, command)))
        values = {"spec": study.model_dump_json(), "command": commands}
        with self.begin() as connection:
            connection.execute(sa.update(s).where(s.c.id == row.id).values(**values))
            connection.execute(v.insert(), _event(row.id, "extended", told))

    def set_aside(
        self,
        name: str,
        cell: tuple[str, str],
        gone: Sequence[Entry],
        back: Sequence[Entry],
        told: str,
    ) -> None:
        """Take confirming runs of a (task, method) out of the results, and former ones back in.

        ``gone`` that have ended are kept as former ones of the next generation, others leave their
        place. ``told`` is written down as what happened to them.
        """
        study_id = self._study_row(name).id
        e, v = schema.entries, schema.events
        with self.begin() as connection:
            aside = _next_former(connection, study_id, *cell)
            for entry in gone:
                here = _place(entry, study_id)
                moved = sa.update(e).where(*here).values(role=aside)
                connection.execute(moved if entry.state in ENDED else sa.delete(e).where(*here))
            for entry in back:
                here = _place(entry, study_id)
                connection.execute(sa.update(e).where(*here).values(role=CONFIRM))
            connection.execute(v.insert(), _event(study_id, "set aside", told))

    def studies(self) -> list[StudySummary]:
        """Return a line for each study, newest first."""
        s, e, r = schema.studies, schema.entries, schema.runs
        ended = sa.func.sum(sa.case((r.c.state.in_(ENDED), 1), else_=0))
        counts = (
            sa.select(e.c.study_id, sa.func.count().label("runs"), ended.label("ended"))
            .join(r, r.c.id == e.c.run_id)
            .where(e.c.role.not_like(f"{FORMER}%"))
            .group_by(e.c.study_id)
            .subquery()
        )
        query = (
            sa.select(s.c.name, s.c.spec, s.c.created_at, counts.c.runs, counts.c.ended)
            .outerjoin(counts, counts.c.study_id == s.c.id)
            .order_by(s.c.created_at.desc())
        )
        with self.begin() as connection:
            rows = connection.execute(query).all()
        specs = [json.loads(row.spec) for row in rows]
        return [
            StudySummary(
                row.name,
                spec["title"],
                len(spec["methods"]),
                row.runs or 0,
                row.ended or 0,
                row.created_at,
                *_planned(spec),
            )
            for row, spec in zip(rows, specs, strict=True)
        ]

    def delete_study(self, name: str) -> list[str]:
        """Remove a study and the runs that no other study has; return the keys of these."""
        study_id = self._study_row(name).id
        e, r, v = schema.entries, schema.runs, schema.events
        with self.begin() as connection:
            mine = sa.select(e.c.run_id).where(e.c.study_id == study_id)
            others = sa.select(e.c.run_id).where(e.c.study_id != study_id)
            orphans = [
                row.run_id
                for row in connection.execute(mine.where(e.c.run_id.not_in(others)).distinct())
            ]
            connection.execute(sa.delete(v).where(v.c.study_id == study_id))
            connection.execute(sa.delete(e).where(e.c.study_id == study_id))
            keys: list[str] = []
            for some in chunks(orphans, 500):
                keys += connection.execute(sa.select(r.c.key).where(r.c.id.in_(some))).scalars()
                for table in (v, schema.measurements, schema.series, schema.deployments):
                    connection.execute(sa.delete(table).where(table.c.run_id.in_(some)))
                connection.execute(sa.delete(r).where(r.c.id.in_(some)))
            connection.execute(sa.delete(schema.studies).where(schema.studies.c.id == study_id))
        return keys

    def events(self, study: str) -> list[tuple[float, str, str]]:
        """Return (seconds since 1970, kind, text) of all that was written down, oldest first."""
        v = schema.events
        query = sa.select(v.c.at, v.c.kind, v.c.text).order_by(v.c.id)
        query = query.where(v.c.study_id == self._study_row(study).id)
        with self.begin() as connection:
            return [(row.at, row.kind, row.text) for row in connection.execute(query)]

    def logged(self, run_id: int, kind: str) -> list[str]:
        """Return what was written down of a kind about a run, oldest first."""
        v = schema.events.c
        query = sa.select(v.text).where(v.run_id == run_id, v.kind == kind).order_by(v.id)
        with self.begin() as connection:
            return list(connection.execute(query).scalars())

    def log(self, study: str, kind: str, text: str, run_id: int | None = None) -> None:
        """Write down something that happened."""
        row = _event(self._study_row(study).id, kind, text, run_id)
        with self.begin() as connection:
            connection.execute(schema.events.insert(), row)

    def _study_row(self, name: str) -> Any:
        with self.begin() as connection:
            query = sa.select(schema.studies).where(schema.studies.c.name == name)
            row = connection.execute(query).first()
            if row is None:
                known = connection.execute(sa.select(schema.studies.c.name)).scalars().all()
                rest = "list' names them all" if known else "create' makes one"
                near = get_close_matches(name, known, n=1)
                hint = suggestion(name, near) or f"; 'bnnbench study {rest}"
                raise UsageError(f"there is no study named {name!r} in this database{hint}")
        return row


def _planned(spec: Mapping[str, Any]) -> tuple[int, bool]:
    """The runs that a study asks for, and whether they may be fewer."""
    protocol, cells = spec["protocol"], len(spec["tasks"]) * len(spec["methods"])
    if protocol.get("seconds"):
        return 0, False
    return cells * (protocol["seeds"] + protocol["trials"]), bool(protocol["trials"])


def _event(study_id: int, kind: str, text: str, run_id: int | None = None) -> dict[str, Any]:
    event = {"study_id": study_id, "run_id": run_id, "kind": kind, "text": text}
    return event | {"at": time.time()}


def _place(entry: Entry, study_id: int) -> list[Any]:
    """What is true of an entry's row and of no other."""
    e = schema.entries.c
    place = ("task", "method", "role", "number")
    return [e.study_id == study_id, *(e[key] == getattr(entry, key) for key in place)]


def _next_former(connection: Connection, study_id: int, task: str, method: str) -> str:
    """The role of the next generation of former confirming runs."""
    e = schema.entries.c
    here = (e.study_id == study_id, e.task == task, e.method == method)
    query = sa.select(e.role).where(*here)
    taken = set(connection.execute(query).scalars())
    return next(r for r in (f"{FORMER} {n}" for n in itertools.count(1)) if r not in taken)


def chunks(values: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    """Return the values in pieces of ``size``: a statement takes so many and no more."""
    for first in range(0, len(values), size):
        yield values[first : first + size]
