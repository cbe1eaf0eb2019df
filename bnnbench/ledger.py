"""The runs of a database: their places in studies, their states, and what was measured in them.

Measurements are written once an epoch, and bound into series when their run has ended.
"""

from __future__ import annotations

import json
import math
import time
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from bnnbench import binding, schema
from bnnbench.catalogue import Catalogue, chunks
from bnnbench.database import many_made
from bnnbench.entries import BASE, CONFIRM, ENDED, FAILED, PENDING, RUNNING, Entry, entry_of
from bnnbench.errors import StoreError
from bnnbench.leases import Claim, confirm
from bnnbench.outcomes import Outcome, outcome

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

    from sqlalchemy.engine import Connection

    from bnnbench.measurements import Measurement
    from bnnbench.runs import Run
    from bnnbench.series import Measured, Series

_AGAIN = ((CONFIRM, FAILED), (BASE, FAILED))
_STORED = {"run": "spec"}  #: the columns of an entry's fields that have another name


class Ledger(Catalogue):
    """The runs of a database, each in its place in a study of the catalogue."""

    def enter(self, study: str, task: str, method: str, role: str, number: int, run: Run) -> Entry:
        """Give a run its place in a study and return what stands there.

        A run that has ended keeps its place. One that has not gives way to a run of another
        description. A run that failed for another study is tried again for this one.
        """
        place = {"task": task, "method": method, "role": role, "number": number}
        self._unless_first(lambda: self._enter(self._study_row(study).id, place, run))
        return self.entries(study, **place)[0]

    def _enter(self, study_id: int, place: Mapping[str, Any], run: Run) -> None:
        e, r = schema.entries, schema.runs
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
                connection.execute(e.insert(), {**place, "study_id": study_id, "run_id": run_id})
                failed = sa.update(r).where(r.c.id == run_id, r.c.state == FAILED)
                connection.execute(failed.values(state=PENDING))
            elif found.run_id != run_id and found.state not in ENDED:
                connection.execute(sa.update(e).where(e.c.id == found.id).values(run_id=run_id))

    def _unless_first(self, write: Callable[[], None]) -> None:
        """Write what another worker may write at the same moment; it is then there already."""
        try:
            write()
        except StoreError as error:
            if not isinstance(error.__cause__, sa.exc.IntegrityError):
                raise
            write()

    def retry_failed(self, study: str, kinds: Collection[str] = ()) -> int:
        """Let the runs that failed, but for trials, be trained again; return how many.

        ``kinds`` are the kinds of failure, none for all of them.
        """
        again = [e for e in self.entries(study) if (e.role, e.state) in _AGAIN]
        failed = [e.run_id for e in again if not kinds or e.failure in kinds]
        r = schema.runs
        with self.begin() as connection:
            for some in chunks(failed, 500):
                connection.execute(sa.update(r).where(r.c.id.in_(some)).values(state=PENDING))
        return len(failed)

    def entries(self, study: str, **place: Any) -> list[Entry]:
        """Return a study's runs, of one place or of all."""
        e, r = schema.entries, schema.runs
        wanted = {"study_id": self._study_row(study).id, **place}
        fields = [(e if name in e.c else r, _STORED.get(name, name)) for name in Entry._fields]
        query = (
            sa.select(*(table.c[name] for table, name in fields))
            .join(r, r.c.id == e.c.run_id)
            .where(*(e.c[name] == value for name, value in wanted.items()))
            .order_by(e.c.id)
        )
        with self.begin() as connection, many_made():
            return [entry_of(row) for row in connection.execute(query).all()]

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
        claim: Claim | None = None,
    ) -> None:
        """Begin a run anew, or go on ``after`` an epoch; what was measured later is removed.

        Raises:
            LostLeaseError: the claim no longer stands; so do the next two methods.
        """
        key = self._environment(environment)
        r = schema.runs
        values: dict[str, Any] = {
            "state": RUNNING,
            "facts": json.dumps(facts, sort_keys=True),
            "environment": key,
            "finished_at": None,
            "outcome": None,
            "error": "",
            "failure": "",
        }
        if after is None:
            values["started_at"] = time.time()
        with self.begin() as connection:
            confirm(connection, claim)
            binding.cut(connection, run_id, after)
            connection.execute(sa.update(r).where(r.c.id == run_id).values(**values))

    def write(
        self, run_id: int, measured: Sequence[Measurement], claim: Claim | None = None
    ) -> None:
        """Add the measurements of an epoch."""
        if measured:
            with self.begin() as connection:
                confirm(connection, claim)
                _insert(connection, run_id, measured)

    def end_run(
        self,
        run_id: int,
        state: str,
        *,
        error: str = "",
        failure: str = "",
        shared: bool = False,
        measured: Sequence[Measurement] = (),
        claim: Claim | None = None,
    ) -> None:
        """Set the state in which a run ended; ``shared`` says that its times are not its own.

        What was last ``measured`` is there with the end or not at all, so that a run that is taken
        up never finds the one without the other.
        """
        values = {"state": state, "finished_at": time.time(), "error": error, "shared": shared}
        values["failure"] = failure
        r = schema.runs
        with self.begin() as connection:
            confirm(connection, claim)
            _insert(connection, run_id, measured)
            connection.execute(sa.update(r).where(r.c.id == run_id).values(**values))
            if state in ENDED:
                binding.bind(connection, run_id)

    def value(
        self, run_id: int, metric: str, *, epoch: int | None = None, **place: Any
    ) -> float | None:
        """Return one measurement of a run, or None; of several, the latest epoch's."""
        with self.begin() as connection:
            found = binding.read(connection, [run_id], metric=[metric], **_listed(place))
        measured = (m for series in found for m in series.measured())
        fitting = [m for m in measured if epoch in (None, m.epoch)]
        return max(fitting, key=lambda m: m.epoch).value if fitting else None

    def reached(self, run_id: int) -> int:
        """Return the last epoch of a run that is in the database, 0 if there is none."""
        with self.begin() as connection:
            found = binding.read(connection, [run_id], metric=["loss"], split=["train"])
        return max((m.epoch for series in found for m in series.measured()), default=0)

    def measured(self, study: str, metrics: Iterable[str], **place: Any) -> list[Measured]:
        """Return some measurements of a study's runs: by run, kind and epoch."""
        return [m for series in self.series(study, metrics, **place) for m in series.measured()]

    def series(
        self,
        study: str,
        metrics: Iterable[str],
        *,
        role: str | None = None,
        state: str | None = None,
        **place: Any,
    ) -> list[Series]:
        """Return some series of a study's runs, or of those of one role or state, by run."""
        e, r = schema.entries, schema.runs
        wanted = {e.c.study_id: self._study_row(study).id, e.c.role: role, r.c.state: state}
        runs = sa.select(e.c.run_id).join(r, r.c.id == e.c.run_id)
        runs = runs.where(*(column == v for column, v in wanted.items() if v is not None))
        with self.begin() as connection, many_made():
            return binding.read(connection, runs, metric=list(metrics), **_listed(place))

    def outcomes(self, study: str, state: str) -> dict[int, Outcome]:
        """Return what those of a study's runs came to that ended so, by run."""
        e, r, m = schema.entries, schema.runs, schema.measurements
        ended = (
            e.c.study_id == self._study_row(study).id,
            r.c.state == state,
            r.c.outcome.is_not(None),
        )
        query = sa.select(r.c.id, r.c.outcome).join(e, r.c.id == e.c.run_id).where(*ended)
        with self.begin() as connection, many_made():
            found = dict(connection.execute(query).all())
            loose = connection.execute(sa.select(m.c.run_id).distinct()).scalars().all()
            anew = {run_id: binding.read(connection, [run_id]) for run_id in found.keys() & loose}
            outcomes = {run_id: Outcome.from_json(text) for run_id, text in found.items()}
            return outcomes | {run_id: outcome(series) for run_id, series in anew.items()}

    def environments(self, study: str) -> dict[str, dict[str, Any]]:
        """Return the environments in which a study's runs were trained, by key."""
        e, r, env = schema.entries, schema.runs, schema.environments
        keys = sa.select(r.c.environment).join(e, r.c.id == e.c.run_id)
        keys = keys.where(e.c.study_id == self._study_row(study).id)
        with self.begin() as connection:
            rows = connection.execute(sa.select(env).where(env.c.key.in_(keys))).all()
        return {row.key: json.loads(row.spec) for row in rows}

    def _environment(self, spec: Mapping[str, Any]) -> str:
        import hashlib

        text = json.dumps(spec, sort_keys=True)
        key = hashlib.sha256(text.encode()).hexdigest()[:20]
        self._unless_first(lambda: self._add_environment(key, text))
        return key

    def _add_environment(self, key: str, text: str) -> None:
        env = schema.environments
        with self.begin() as connection:
            if connection.execute(sa.select(env.c.key).where(env.c.key == key)).first() is None:
                connection.execute(env.insert(), {"key": key, "spec": text})


def _insert(connection: Connection, run_id: int, measured: Sequence[Measurement]) -> None:
    rows = [m._asdict() | {"run_id": run_id} for m in measured]
    for row in rows:
        if not math.isfinite(row["value"]):
            row["value"] = None
    if rows:
        connection.execute(schema.measurements.insert(), rows)


def _listed(place: Mapping[str, Any]) -> dict[str, list[Any]]:
    return {name: [value] for name, value in place.items()}
