"""Alembic's entry: run the migrations on the connection that the store hands over."""

from __future__ import annotations

from alembic import context

from bnnbench import schema

_OURS = set(schema.metadata.tables)


def _ours(name: str | None, kind: str, _parents: object) -> bool:
    """Leave Optuna's tables out of sight, or autogenerate would drop them."""
    return kind != "table" or name in _OURS


context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=schema.metadata,
    version_table=schema.VERSION_TABLE,
    include_name=_ours,
)
with context.begin_transaction():
    context.run_migrations()
