"""The database: our tables through SQLAlchemy Core, on SQLite or PostgreSQL.

Every method is one transaction, or says so. Measurements are written once an epoch.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import sqlalchemy as sa

from bnnbench import schema
from bnnbench.database import check_file, make_engine, migrate, parse_url
from bnnbench.errors import StoreError, UsageError, suggestion
from bnnbench.runs import Run
from bnnbench.studies import Study

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy.engine import Connection

    from bnnbench.measurements import Measurement

TUNE, CONFIRM = "tune", "confirm"
BASE = "base"  #: a run that others start from or learn from
PENDING, RUNNING, DONE = "pending", "running", "done"
PRUNED, DIVERGED, FAILED = "pruned", "diverged", "failed"
ENDED = (DONE, PRUNED, DIVERGED, FAILED)
_AGAIN = ((CONFIRM, FAILED), (BASE, FAILED))


class Entry(NamedTuple):
    """A run in its place in a study: ``number`` is the trial of a tuning run, else the seed."""

    task: str
    method: str
    role: str
    number: int
    run_id: int
    run: Run
    state: str
    facts: Mapping[str, Any]
    error: str
    shared: bool
    environment: str
    started_at: float | None
    finished_at: float | None

    @property
    def label(self) -> str:
        """What the run is, in a few words."""
        number = f"{'trial' if self.role == TUNE else 'seed'} {self.number}"
        return f"{self.task} {self.method} {self.role} {number}"


class StudySummary(NamedTuple):
    """A line of ``study list``."""

    name: str
    title: str
    methods: int
    runs: int
    ended: int
    created_at: float


class Store:
    """A database that holds studies."""

    def __init__(self, url: str, *, create: bool = True) -> None:
        self.url = parse_url(url)
        check_file(self.url, create=create)
        with self._explained():
            self.engine = make_engine(self.url)
            migrate(self.engine)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except sa.exc.SQLAlchemyError as error:
            cause = str(getattr(error, "orig", None) or error).strip().splitlines()[0]
            shown = self.url.render_as_string(hide_password=True)
            raise StoreError(f"the database {shown} cannot be used: {cause}") from error
        except ModuleNotFoundError as error:
            raise StoreError(
                f"{self.url.get_backend_name()} needs the Python package {error.name!r}: SQLite is"
                " built in, PostgreSQL comes with pip install 'bnnbench[postgres]', others are not"
                " supported"
            ) from error

    @contextmanager
    def begin(self) -> Iterator[Connection]:
        """A transaction; database errors come out as one line."""
        with self._explained(), self.engine.begin() as connection:
            yield connection

    # -- studies ---------------------------------------------------------------------------------

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
            "holder": "",
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

    def studies(self) -> list[StudySummary]:
        """Return a line for each study, newest first."""
        s, e, r = schema.studies, schema.entries, schema.runs
        ended = sa.func.sum(sa.case((r.c.state.in_(ENDED), 1), else_=0))
        counts = (
            sa.select(e.c.study_id, sa.func.count().label("runs"), ended.label("ended"))
            .join(r, r.c.id == e.c.run_id)
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
            )
            for row, spec in zip(rows, specs, strict=True)
        ]

    def delete_study(self, name: str) -> list[str]:
        """Remove a study and the runs that no other study has; return the keys of these."""
        study_id = self._study_row(name).id
        e, r, m, v = schema.entries, schema.runs, schema.measurements, schema.events
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
            for some in _chunks(orphans, 500):
                keys += connection.execute(sa.select(r.c.key).where(r.c.id.in_(some))).scalars()
                connection.execute(sa.delete(v).where(v.c.run_id.in_(some)))
                connection.execute(sa.delete(m).where(m.c.run_id.in_(some)))
                connection.execute(sa.delete(r).where(r.c.id.in_(some)))
            connection.execute(sa.delete(schema.studies).where(schema.studies.c.id == study_id))
        return keys

    def hold(self, name: str, holder: str, expected: str) -> bool:
        """Make ``holder`` the one process that runs the study, if ``expected`` still is."""
        s = schema.studies
        change = sa.update(s).where(s.c.name == name, s.c.holder == expected)
        with self.begin() as connection:
            return connection.execute(change.values(holder=holder)).rowcount == 1

    def holder(self, name: str) -> str:
        """Return who runs the study; empty for nobody."""
        return str(self._study_row(name).holder)

    def _study_row(self, name: str) -> Any:
        with self.begin() as connection:
            query = sa.select(schema.studies).where(schema.studies.c.name == name)
            row = connection.execute(query).first()
            if row is None:
                known = connection.execute(sa.select(schema.studies.c.name)).scalars().all()
                hint = suggestion(name, known) or "; 'bnnbench study create' makes one"
                raise UsageError(f"there is no study named {name!r} in this database{hint}")
        return row

    # -- runs ------------------------------------------------------------------------------------

    def enter(self, study: str, task: str, method: str, role: str, number: int, run: Run) -> Entry:
        """Give a run its place in a study and return what stands there.

        A run that has ended keeps its place. One that has not gives way to a run of another
        description. A run that failed for another study is tried again for this one.
        """
        study_id = self._study_row(study).id
        e, r = schema.entries, schema.runs
        place = {"task": task, "method": method, "role": role, "number": number}
        with self.begin() as connection:
            run_id = connection.execute(sa.select(r.c.id).where(r.c.key == run.key)).scalar()
            if run_id is None:
                row = {"key": run.key, "spec": run.to_json(), "state": PENDING, "facts": "{}"}
                inserted = connection.execute(r.insert(), row | {"error": "", "shared": False})
                run_id = inserted.inserted_primary_key[0]  # type: ignore[index]
            here = [e.c.study_id == study_id, *(e.c[k] == v for k, v in place.items())]
            query = sa.select(e.c.id, e.c.run_id, r.c.state).join(r, r.c.id == e.c.run_id)
            found = connection.execute(query.where(*here)).first()
            if found is None:
                connection.execute(e.insert(), place | {"study_id": study_id, "run_id": run_id})
                failed = sa.update(r).where(r.c.id == run_id, r.c.state == FAILED)
                connection.execute(failed.values(state=PENDING))
            elif found.run_id != run_id and found.state not in ENDED:
                connection.execute(sa.update(e).where(e.c.id == found.id).values(run_id=run_id))
        return self.entries(study, **place)[0]

    def retry_failed(self, study: str) -> int:
        """Let the runs that failed, but for trials, be trained again; return how many."""
        failed = [e.run_id for e in self.entries(study) if (e.role, e.state) in _AGAIN]
        r = schema.runs
        with self.begin() as connection:
            for some in _chunks(failed, 500):
                connection.execute(sa.update(r).where(r.c.id.in_(some)).values(state=PENDING))
        return len(failed)

    def entries(self, study: str, **place: Any) -> list[Entry]:
        """Return a study's runs, of one place or of all."""
        e, r = schema.entries, schema.runs
        query = (
            sa.select(e.c.task, e.c.method, e.c.role, e.c.number, r)
            .join(r, r.c.id == e.c.run_id)
            .where(
                e.c.study_id == self._study_row(study).id, *(e.c[k] == v for k, v in place.items())
            )
            .order_by(e.c.id)
        )
        with self.begin() as connection:
            return [_entry(row) for row in connection.execute(query)]

    def states(self, keys: Iterable[str]) -> dict[str, str]:
        """Return the states of those of the runs, named by content key, that are known."""
        r = schema.runs
        with self.begin() as connection:
            query = sa.select(r.c.key, r.c.state).where(r.c.key.in_(list(keys)))
            return {row.key: row.state for row in connection.execute(query)}

    def start_run(
        self,
        run_id: int,
        facts: Mapping[str, Any],
        environment: Mapping[str, Any],
        after: int | None = None,
    ) -> None:
        """Begin a run anew, or go on ``after`` an epoch; what was measured later is removed."""
        key = self._environment(environment)
        m, r = schema.measurements, schema.runs
        values: dict[str, Any] = {
            "state": RUNNING,
            "facts": json.dumps(facts, sort_keys=True),
            "environment": key,
            "finished_at": None,
            "error": "",
        }
        if after is None:
            values["started_at"] = time.time()
        with self.begin() as connection:
            later = [m.c.epoch > after] if after is not None else []
            connection.execute(sa.delete(m).where(m.c.run_id == run_id, *later))
            connection.execute(sa.update(r).where(r.c.id == run_id).values(**values))

    def write(self, run_id: int, measured: Sequence[Measurement]) -> None:
        """Add the measurements of an epoch."""
        rows = [m._asdict() | {"run_id": run_id} for m in measured]
        for row in rows:
            if not math.isfinite(row["value"]):
                row["value"] = None
        if rows:
            with self.begin() as connection:
                connection.execute(schema.measurements.insert(), rows)

    def end_run(self, run_id: int, state: str, *, error: str = "", shared: bool = False) -> None:
        """Set the state in which a run ended; ``shared`` says that its times are not its own."""
        values = {"state": state, "finished_at": time.time(), "error": error, "shared": shared}
        r = schema.runs
        with self.begin() as connection:
            connection.execute(sa.update(r).where(r.c.id == run_id).values(**values))

    def value(self, run_id: int, metric: str, **place: Any) -> float | None:
        """Return one measurement of a run, or None; of several, the latest epoch's."""
        m = schema.measurements
        query = (
            sa.select(m.c.value)
            .where(m.c.run_id == run_id, m.c.metric == metric)
            .where(*(m.c[k] == v for k, v in place.items()))
            .order_by(m.c.epoch.desc())
        )
        with self.begin() as connection:
            found: float | None = connection.execute(query).scalar()
        return found

    def measured(self, study: str, metrics: Iterable[str], **place: Any) -> list[Any]:
        """Return (run_id, metric, epoch, split, mode, layer, phase, value) of a study's runs."""
        m, e = schema.measurements, schema.entries
        mine = sa.select(e.c.run_id).where(e.c.study_id == self._study_row(study).id)
        query = (
            sa.select(m)
            .where(m.c.run_id.in_(mine), m.c.metric.in_(list(metrics)))
            .where(*(m.c[k] == v for k, v in place.items()))
            .order_by(m.c.run_id, m.c.metric, m.c.split, m.c.mode, m.c.layer, m.c.epoch)
        )
        with self.begin() as connection:
            return list(connection.execute(query))

    def environments(self, study: str) -> dict[str, dict[str, Any]]:
        """Return the environments in which a study's runs were trained, by key."""
        keys = {entry.environment for entry in self.entries(study)}
        env = schema.environments
        with self.begin() as connection:
            rows = connection.execute(sa.select(env).where(env.c.key.in_(keys))).all()
        return {row.key: json.loads(row.spec) for row in rows}

    def events(self, study: str) -> list[tuple[float, str, str]]:
        """Return (seconds since 1970, kind, text) of all that was written down, oldest first."""
        v = schema.events
        query = sa.select(v.c.at, v.c.kind, v.c.text).order_by(v.c.id)
        query = query.where(v.c.study_id == self._study_row(study).id)
        with self.begin() as connection:
            return [(row.at, row.kind, row.text) for row in connection.execute(query)]

    def log(self, study: str, kind: str, text: str, run_id: int | None = None) -> None:
        """Write down something that happened."""
        row = {
            "at": time.time(),
            "study_id": self._study_row(study).id,
            "run_id": run_id,
            "kind": kind,
            "text": text,
        }
        with self.begin() as connection:
            connection.execute(schema.events.insert(), row)

    def _environment(self, spec: Mapping[str, Any]) -> str:
        import hashlib

        text = json.dumps(spec, sort_keys=True)
        key = hashlib.sha256(text.encode()).hexdigest()[:20]
        env = schema.environments
        with self.begin() as connection:
            if connection.execute(sa.select(env.c.key).where(env.c.key == key)).first() is None:
                connection.execute(env.insert(), {"key": key, "spec": text})
        return key


def _entry(row: Any) -> Entry:
    return Entry(
        row.task,
        row.method,
        row.role,
        row.number,
        row.id,
        Run.from_json(row.spec),
        row.state,
        json.loads(row.facts),
        row.error,
        row.shared,
        row.environment or "",
        row.started_at,
        row.finished_at,
    )


def _chunks(values: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    for first in range(0, len(values), size):
        yield values[first : first + size]
