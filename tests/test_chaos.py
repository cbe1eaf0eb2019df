"""Signals fall on workers and supervisor; what is left is what an undisturbed crew leaves."""

from __future__ import annotations

import pytest

from .calm import Calm
from .chaos import weather
from .postgres import postgres

__all__ = ["postgres"]  # a fixture
SECONDS = 45.0  #: ``tox -e chaos`` goes on for an hour


@pytest.fixture(scope="module")
def calm():
    """What the study holds when nothing falls."""
    made = Calm(epochs=40, seeds=1)
    made.wanted(1)
    return made


@pytest.mark.slow
def test_nothing_is_lost_or_doubled_on_sqlite(calm):
    """SIGKILL, SIGTERM and SIGSTOP of each kind: every run once, every bit the same."""
    assert weather(SECONDS, calm, seed=1)


@pytest.mark.slow
def test_nothing_is_lost_or_doubled_on_postgresql(calm, postgres):
    """The same on a real server, whose results are SQLite's, bit for bit."""
    assert weather(SECONDS, calm, postgres.database(), seed=2)
