"""The kind of failure of a run that failed; see bnnbench.failures."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Make room; of what kind older failures were is not known."""
    kind = sa.Column("failure", sa.String(20), nullable=False, server_default="")
    op.add_column("bnnbench_runs", kind)


def downgrade() -> None:
    """Know of no kinds."""
    op.drop_column("bnnbench_runs", "failure")
