"""Signals fall on workers and supervisor; what is left is what an undisturbed crew leaves."""

from __future__ import annotations

import pytest

from .chaos import undisturbed, weather
from .postgres import postgres

__all__ = ["postgres"]  # a fixture
SECONDS = 40.0  #: ``tox -e chaos`` goes on for an hour
STUDY = {"epochs": 40, "seeds": 1}


@pytest.fixture(scope="module")
def wanted():
    """What the study holds when nothing falls."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("BNNBENCH_STORAGE", "")  # which a study sets
        yield undisturbed(**STUDY)


@pytest.mark.slow
def test_nothing_is_lost_or_doubled_on_sqlite(wanted):
    """SIGKILL, SIGTERM and SIGSTOP at random: every run once, every bit the same."""
    assert weather(SECONDS, wanted, workers=3, seed=1, **STUDY)


@pytest.mark.slow
def test_nothing_is_lost_or_doubled_on_postgresql(wanted, postgres):
    """The same on a real server, whose results are SQLite's, bit for bit."""
    storage = postgres.database()

    assert weather(SECONDS, wanted, storage, workers=3, seed=2, **STUDY)
