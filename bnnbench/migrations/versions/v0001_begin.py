"""The first tables: studies, entries, runs, measurements, environments, events."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "bnnbench_studies",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("name", sa.String(200), nullable=False, unique=True),
        sa.Column("spec", sa.Text, nullable=False),
        sa.Column("command", sa.Text, nullable=False),
        sa.Column("version", sa.String(40), nullable=False),
        sa.Column("created_at", sa.Float, nullable=False),
        sa.Column("holder", sa.String(200), nullable=False),
    )
    op.create_table(
        "bnnbench_environments",
        sa.Column("key", sa.String(20), primary_key=True),
        sa.Column("spec", sa.Text, nullable=False),
    )
    op.create_table(
        "bnnbench_runs",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("key", sa.String(20), nullable=False, unique=True),
        sa.Column("spec", sa.Text, nullable=False),
        sa.Column("state", sa.String(20), nullable=False),
        sa.Column("facts", sa.Text, nullable=False),
        sa.Column("error", sa.Text, nullable=False),
        sa.Column("shared", sa.Boolean, nullable=False),
        sa.Column("environment", sa.String(20), sa.ForeignKey("bnnbench_environments.key")),
        sa.Column("started_at", sa.Float),
        sa.Column("finished_at", sa.Float),
    )
    op.create_table(
        "bnnbench_entries",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("study_id", sa.Integer, sa.ForeignKey("bnnbench_studies.id"), nullable=False),
        sa.Column("task", sa.String(200), nullable=False),
        sa.Column("method", sa.String(200), nullable=False),
        sa.Column("role", sa.String(20), nullable=False),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column(
            "run_id", sa.Integer, sa.ForeignKey("bnnbench_runs.id"), nullable=False, index=True
        ),
        sa.UniqueConstraint("study_id", "task", "method", "role", "number"),
    )
    op.create_table(
        "bnnbench_measurements",
        sa.Column("run_id", sa.Integer, sa.ForeignKey("bnnbench_runs.id"), primary_key=True),
        sa.Column("metric", sa.String(60), primary_key=True),
        sa.Column("epoch", sa.Integer, primary_key=True),
        sa.Column("split", sa.String(20), primary_key=True),
        sa.Column("mode", sa.String(40), primary_key=True),
        sa.Column("layer", sa.String(200), primary_key=True),
        sa.Column("phase", sa.Integer, nullable=False),
        sa.Column("value", sa.Float),
    )
    op.create_index("bnnbench_measurements_metric", "bnnbench_measurements", ["metric", "run_id"])
    op.create_table(
        "bnnbench_events",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("at", sa.Float, nullable=False),
        sa.Column("study_id", sa.Integer, sa.ForeignKey("bnnbench_studies.id")),
        sa.Column("run_id", sa.Integer, sa.ForeignKey("bnnbench_runs.id")),
        sa.Column("kind", sa.String(40), nullable=False),
        sa.Column("text", sa.Text, nullable=False),
    )


def downgrade() -> None:
    """Drop them all."""
    for name in ("events", "measurements", "entries", "runs", "environments", "studies"):
        op.drop_table(f"bnnbench_{name}")
