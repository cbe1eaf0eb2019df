"""Measurements of runs that have ended become series, and what such runs came to is kept.

A series is one row in place of one for each epoch; see bnnbench.series and bnnbench.outcomes, of
which this file has what they were when it was written.
"""

from __future__ import annotations

import json
import math
import statistics
import struct
from typing import Any

import sqlalchemy as sa
from alembic import op

from bnnbench.backup import Progress, quiet

revision = "0002"
down_revision = "0001"

ENDED = ("done", "pruned", "diverged", "failed")
KIND = ("run_id", "metric", "split", "mode", "layer")
POINT = struct.Struct("<iid")

runs = sa.table("bnnbench_runs", *map(sa.column, ("id", "state", "outcome")))
measurements = sa.table(
    "bnnbench_measurements", *map(sa.column, (*KIND, "epoch", "phase", "value"))
)
series = sa.table("bnnbench_series", *map(sa.column, (*KIND, "points")))


def upgrade() -> None:
    """Make room, and bind run after run, so that no more than one is in memory."""
    op.create_table(
        "bnnbench_series",
        sa.Column("run_id", sa.Integer, sa.ForeignKey("bnnbench_runs.id"), primary_key=True),
        sa.Column("metric", sa.String(60), primary_key=True),
        sa.Column("split", sa.String(20), primary_key=True),
        sa.Column("mode", sa.String(40), primary_key=True),
        sa.Column("layer", sa.String(200), primary_key=True),
        sa.Column("points", sa.LargeBinary, nullable=False),
    )
    op.add_column("bnnbench_runs", sa.Column("outcome", sa.Text))
    op.create_index("ix_bnnbench_entries_study_id", "bnnbench_entries", ["study_id"])
    op.drop_index("bnnbench_measurements_metric", "bnnbench_measurements")
    ended = sa.select(runs.c.id).where(runs.c.state.in_(ENDED))
    found = op.get_bind().execute(ended).scalars().all()
    config = op.get_context().config
    progress = Progress("runs bound", config.attributes.get("told", quiet) if config else quiet)
    for count, run_id in enumerate(found):
        progress(count, len(found))
        _bind(run_id)


def _bind(run_id: int) -> None:
    connection, mine = op.get_bind(), measurements.c.run_id == run_id
    query = sa.select(measurements).where(mine).order_by(measurements.c.epoch)
    found: dict[tuple[Any, ...], list[tuple[int, int, float]]] = {}
    for *kind, epoch, phase, value in connection.execute(query).all():
        point = (epoch, phase, math.nan if value is None else value)
        found.setdefault(tuple(kind), []).append(point)
    rows = [
        dict(zip(KIND, kind, strict=True), points=b"".join(POINT.pack(*p) for p in points))
        for kind, points in found.items()
    ]
    if rows:
        connection.execute(series.insert(), rows)
        connection.execute(sa.delete(measurements).where(mine))
    known = {tuple(kind[1:4]): points for kind, points in found.items() if not kind[4]}
    change = sa.update(runs).where(runs.c.id == run_id)
    connection.execute(change.values(outcome=json.dumps(_outcome(known))))


def _outcome(known: dict[tuple[Any, ...], list[tuple[int, int, float]]]) -> list[Any]:
    flips, seconds, epochs = (
        [value for _, _, value in known.get((metric, "", ""), [])]
        for metric in ("flip_step", "seconds.train", "selected_epoch")
    )
    selected: dict[str, float] = {}
    test: dict[str, dict[str, float]] = {}
    bits: dict[str, dict[str, float]] = {}
    for (metric, split, mode), points in known.items():
        if (metric, split) == ("accuracy", "validation"):
            for _, _, value in (point for point in points if [point[0]] == epochs):
                selected[mode] = value
        elif split == "test":
            test.setdefault(metric, {})[mode] = points[-1][-1]
        elif metric in ("weight_bits", "activation_bits"):
            bits.setdefault(metric, {})[mode] = points[-1][-1]
    return [
        statistics.fmean(flips) if flips else None,
        statistics.median(seconds) if seconds else None,
        selected,
        test,
        bits,
    ]


def downgrade() -> None:
    """Take the series apart again."""
    connection = op.get_bind()
    for run_id in connection.execute(sa.select(series.c.run_id).distinct()).scalars().all():
        found = connection.execute(sa.select(series).where(series.c.run_id == run_id))
        rows = [
            dict(zip(KIND, kind, strict=True), epoch=epoch, phase=phase, value=_known(value))
            for *kind, points in found
            for epoch, phase, value in POINT.iter_unpack(points)
        ]
        connection.execute(measurements.insert(), rows)
    op.drop_table("bnnbench_series")
    op.drop_column("bnnbench_runs", "outcome")
    op.drop_index("ix_bnnbench_entries_study_id", "bnnbench_entries")
    op.create_index("bnnbench_measurements_metric", "bnnbench_measurements", ["metric", "run_id"])


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value
