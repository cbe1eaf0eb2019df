"""Signals fall on workers and supervisor; what is left is what an undisturbed crew leaves."""

from __future__ import annotations

import pytest

from .chaos import weather
from .postgres import postgres

__all__ = ["postgres"]  # a fixture
SECONDS = 40.0  #: ``python -m tests.chaos --seconds 3600`` goes on for an hour


@pytest.fixture(autouse=True)
def restored(monkeypatch):
    """The environment is this test's own."""
    monkeypatch.setenv("BNNBENCH_STORAGE", "")


@pytest.mark.slow
def test_nothing_is_lost_or_doubled_on_sqlite():
    """Four workers, SIGKILL, SIGTERM and SIGSTOP at random: every run once, every bit the same."""
    fallen = weather(SECONDS, seed=1)

    assert sum(fallen.values()) > 3


@pytest.mark.slow
def test_nothing_is_lost_or_doubled_on_postgresql(postgres):
    """The same on a real server, whose results are SQLite's, bit for bit."""
    fallen = weather(SECONDS, postgres.database(), seed=2)

    assert sum(fallen.values()) > 3
