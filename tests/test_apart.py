"""What sets a study apart from its source is said wherever its numbers are."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console

from bnnbench.cli import tables
from bnnbench.results import Results
from bnnbench.store import DIVERGED, DONE, FAILED
from bnnbench_reports import page, repeat
from bnnbench_reports.command import check_finished

from .small_study import enter, fill, record, study

DEPARTURES = ["Random crops have no padding.", "The last layer is real."]


@pytest.fixture
def shown(store, monkeypatch):
    """What ``study show`` or ``study run`` prints, in one line for each line."""

    def show(*, details=True):
        out = Console(file=io.StringIO(), width=200)
        monkeypatch.setattr(tables, "console", lambda: out)
        tables.print_results(Results(store, "s"), details=details)
        return out.file.getvalue()

    return show


def verdict(store):
    return page.facts(Results(store, "s"))["verdict"]


def test_a_study_as_published_says_nothing(store, shown):
    """At full scale, without departures."""
    fill(store)

    text = shown() + shown(details=False) + " ".join(verdict(store))

    assert not re.search("scale:|published training|departs", text)
    assert () == page.facts(Results(store, "s"))["departures"]


def test_a_study_in_small_says_so(store, shown):
    """The share of the published training stands below the table and in the verdict."""
    fill(store, scale=0.05)

    assert "scale: 0.05 of the published training\n" in shown()
    assert "scale: 0.05 of the published training\n" in shown(details=False)
    assert "The runs had 0.05 of the published training." == verdict(store)[-1]


def test_departures_are_counted_or_told(store, shown):
    """In full with details and in the report's study file; else their number."""
    fill(store, departures=DEPARTURES)

    for each in DEPARTURES:
        assert f"departs from its source: {each}\n" in shown()
        assert each not in shown(details=False)
        assert each in page.facts(Results(store, "s"))["file"]
    assert "in 2 points; 'bnnbench study show s' says in which\n" in shown(details=False)
    assert "The study departs from its source in 2 points, see below." == verdict(store)[-1]
    assert tuple(DEPARTURES) == page.facts(Results(store, "s"))["departures"]


@pytest.mark.parametrize(
    ("protocol", "terminal", "report"),
    [
        ({"trials": 4}, "tuned with 4 trials per method", "Trials per method: 4 (sampler tpe"),
        (
            {"seconds": 90.0},
            "tuned with 90 s of training per method",
            "Trials per method: as many as train for 90 s (sampler tpe",
        ),
        (
            {"seconds": 90.0, "trials": 4},
            "tuned with 4 trials or 90 s of training per method",
            "Trials per method: as many as train for 90 s, at most 4 (sampler tpe",
        ),
    ],
)
def test_the_budget_is_told_in_its_unit(store, shown, protocol, terminal, report):
    """Trials, seconds, or both."""
    fill(store, protocol={"seeds": 2} | protocol)

    assert terminal in shown()
    assert report in page.build(Results(store, "s"), [])


@pytest.mark.parametrize(
    ("seeds", "said"),
    [
        (2, "same seed; no p: so few pairs cannot reach 0.05\n"),
        (7, "same seed; p: Wilcoxon, two-sided, Holm over 2\n"),
    ],
)
def test_no_test_is_corrected_over_none(store, shown, seeds, said):
    """Where no comparison could be significant the footnote says that, not "over 0"."""
    store.create_study("s", study(protocol={"seeds": seeds}), "", "0")
    for seed in range(1, seeds + 1):
        record(store, "real", seed, {"real": 90.0 + seed}, judged="real")
        for method in ("ste", "bop"):
            record(store, method, seed, {"binary": 80.0 + seed / 2})

    text = shown()

    assert f"against real: test accuracy minus that of the {said}" in text
    assert "Holm over 0" not in text


def test_failures_of_a_former_best_are_not_listed(store, capsys):
    """They count nowhere: not among the failures, not as a reason why there is no report."""
    store.create_study("s", study(), "", "0")
    for seed, state in ((1, FAILED), (2, DIVERGED)):
        entry = enter(store, "ste", seed, role=f"former {seed}")
        store.end_run(entry.run_id, state, error="old")
    tables.failures(Results(store, "s"))
    assert "no run failed\n" == capsys.readouterr().out
    with pytest.raises(Exception, match="no finished confirming run yet; run"):
        check_finished(Results(store, "s"))

    store.end_run(enter(store, "ste", 1).run_id, FAILED, error="new")
    tables.failures(Results(store, "s"))

    out = capsys.readouterr().out
    assert "failed: t ste confirm seed 1\n" in out
    assert "old" not in out


def test_images_of_a_former_best_are_not_compared(store):
    """Files that changed before the present runs were trained do not set these apart."""
    fill(store)
    seen = {"splits": {"train": "a"}, "judged": "binary"}
    for seed, splits in ((1, "a"), (2, "b")):
        entry = enter(store, "ste", seed, role="former 1" if splits == "b" else "confirm")
        store.start_run(entry.run_id, seen | {"splits": {"train": splits}}, {})
        store.end_run(entry.run_id, DONE)

    assert {} == Results(store, "s").notes


def test_commands_of_the_page(store):
    """A study that was never created by a command has those that run and report it."""
    store.create_study("s", study(), "", "0")

    assert ["bnnbench study run s", "bnnbench report s"] == repeat.commands(Results(store, "s"))
