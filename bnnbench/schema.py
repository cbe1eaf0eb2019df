"""Our tables, beside Optuna's in the same database. Optuna's are never referred to by key."""

from __future__ import annotations

from sqlalchemy import (
    Boolean,
    Column,
    Float,
    ForeignKey,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)

VERSION_TABLE = "bnnbench_alembic_version"
HEAD = "0005"  #: the newest migration, which a test compares with the folder

metadata = MetaData()

studies = Table(
    "bnnbench_studies",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", String(200), nullable=False, unique=True),
    Column("spec", Text, nullable=False),
    Column("command", Text, nullable=False),
    Column("version", String(40), nullable=False),
    Column("created_at", Float, nullable=False),
)

# who works at what; see bnnbench.leases
leases = Table(
    "bnnbench_leases",
    metadata,
    Column("name", String(600), primary_key=True),
    Column("holder", String(300), nullable=False),
    Column("beats", Integer, nullable=False),
)

environments = Table(
    "bnnbench_environments",
    metadata,
    Column("key", String(20), primary_key=True),
    Column("spec", Text, nullable=False),
)

runs = Table(
    "bnnbench_runs",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("key", String(20), nullable=False, unique=True),
    Column("spec", Text, nullable=False),
    Column("state", String(20), nullable=False),
    Column("facts", Text, nullable=False, default="{}"),
    Column("error", Text, nullable=False, default=""),
    Column("shared", Boolean, nullable=False, default=False),
    Column("environment", String(20), ForeignKey(environments.c.key)),
    Column("started_at", Float),
    Column("finished_at", Float),
    Column("outcome", Text),  # of a run that has ended; see bnnbench.outcomes
    Column("failure", String(20), nullable=False, server_default=""),  # see bnnbench.failures
)

entries = Table(
    "bnnbench_entries",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("study_id", Integer, ForeignKey(studies.c.id), nullable=False, index=True),
    Column("task", String(200), nullable=False),
    Column("method", String(200), nullable=False),
    Column("role", String(20), nullable=False),
    Column("number", Integer, nullable=False),
    Column("run_id", Integer, ForeignKey(runs.c.id), nullable=False, index=True),
    UniqueConstraint("study_id", "task", "method", "role", "number"),
)

# those of a run under way, as they come
measurements = Table(
    "bnnbench_measurements",
    metadata,
    Column("run_id", Integer, ForeignKey(runs.c.id), primary_key=True),
    Column("metric", String(60), primary_key=True),
    Column("epoch", Integer, primary_key=True),
    Column("split", String(20), primary_key=True),
    Column("mode", String(40), primary_key=True),
    Column("layer", String(200), primary_key=True),
    Column("phase", Integer, nullable=False),
    Column("value", Float),  # NULL is not a number
)

# those of a run that has ended; see bnnbench.series
series = Table(
    "bnnbench_series",
    metadata,
    Column("run_id", Integer, ForeignKey(runs.c.id), primary_key=True),
    Column("metric", String(60), primary_key=True),
    Column("split", String(20), primary_key=True),
    Column("mode", String(40), primary_key=True),
    Column("layer", String(200), primary_key=True),
    Column("points", LargeBinary, nullable=False),
)

# of runs whose networks were packed; see bnnbench.deployments
deployments = Table(
    "bnnbench_deployments",
    metadata,
    Column("run_id", Integer, ForeignKey(runs.c.id), primary_key=True),
    Column("spec", Text, nullable=False),
)

events = Table(
    "bnnbench_events",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("at", Float, nullable=False),
    Column("study_id", Integer, ForeignKey(studies.c.id)),
    Column("run_id", Integer, ForeignKey(runs.c.id)),
    Column("kind", String(40), nullable=False),
    Column("text", Text, nullable=False),
)
