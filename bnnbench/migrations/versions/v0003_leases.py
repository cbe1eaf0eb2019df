"""Leases: who works at what, by name, in place of one process that held a whole study."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Create the table; nobody holds anything yet."""
    op.create_table(
        "bnnbench_leases",
        sa.Column("name", sa.String(600), primary_key=True),
        sa.Column("holder", sa.String(300), nullable=False),
        sa.Column("beats", sa.Integer, nullable=False),
    )
    op.drop_column("bnnbench_studies", "holder")


def downgrade() -> None:
    """Let a process hold a whole study again."""
    op.drop_table("bnnbench_leases")
    holder = sa.Column("holder", sa.String(200), nullable=False, server_default="")
    op.add_column("bnnbench_studies", holder)
