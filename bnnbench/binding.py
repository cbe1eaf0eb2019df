"""The measurements of runs in the database: one by one while a run is under way, bound at its end.

Readers need not know which; they are given series of both.
"""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from bnnbench import schema
from bnnbench.outcomes import outcome
from bnnbench.series import Measured, Series, bound

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy.engine import Connection


def read(connection: Connection, runs: Any, **wanted: Sequence[Any]) -> list[Series]:
    """Return series of some runs, by run; ``wanted`` are the values that a column may have."""
    packed = _rows(connection, schema.series, Series, runs, wanted)
    return sorted([*map(Series._make, packed), *_loose(connection, runs, wanted)])


def bind(connection: Connection, run_id: int) -> None:
    """Make series of a run's measurements, and find what it came to."""
    m, r = schema.measurements, schema.runs
    if loose := _loose(connection, [run_id], {}):
        connection.execute(schema.series.insert(), [each._asdict() for each in loose])
        connection.execute(sa.delete(m).where(m.c.run_id == run_id))
    text = outcome(read(connection, [run_id])).to_json()
    connection.execute(sa.update(r).where(r.c.id == run_id).values(outcome=text))


def cut(connection: Connection, run_id: int, after: int | None) -> None:
    """Remove what was measured after an epoch, or all; what stays lies one by one again."""
    found = read(connection, [run_id]) if after is not None else []
    kept = [m for series in found for m in series.measured() if m.epoch <= (after or 0)]
    for table in (schema.measurements, schema.series):
        connection.execute(sa.delete(table).where(table.c.run_id == run_id))
    if kept:
        connection.execute(schema.measurements.insert(), [each._asdict() for each in kept])


def _loose(connection: Connection, runs: Any, wanted: Mapping[str, Sequence[Any]]) -> list[Series]:
    """What would be series of some runs, and is not bound yet."""
    rows = _rows(connection, schema.measurements, Measured, runs, wanted)
    return bound(sorted(rows, key=attrgetter("epoch")))


def _rows(
    connection: Connection,
    table: sa.Table,
    kind: type[Series | Measured],
    runs: Any,
    wanted: Mapping[str, Sequence[Any]],
) -> Sequence[Any]:
    """The rows of a table with the fields of a kind of tuple."""
    query = sa.select(*(table.c[name] for name in kind._fields)).where(table.c.run_id.in_(runs))
    chosen = (table.c[name].in_(values) for name, values in wanted.items())
    return connection.execute(query.where(*chosen)).all()
