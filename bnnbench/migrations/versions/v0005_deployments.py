"""What networks are as they would be deployed; see bnnbench.deployments."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Create the table; nothing was measured yet."""
    run = sa.ForeignKey("bnnbench_runs.id")
    op.create_table(
        "bnnbench_deployments",
        sa.Column("run_id", sa.Integer, run, primary_key=True),
        sa.Column("spec", sa.Text, nullable=False),
    )


def downgrade() -> None:
    """Know of none."""
    op.drop_table("bnnbench_deployments")
