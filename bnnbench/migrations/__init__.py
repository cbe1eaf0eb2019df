"""Alembic migrations of our own tables, under our own version table."""
