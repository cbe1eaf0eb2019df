"""A report that is written again: when something has changed, until there is nothing to come."""

from __future__ import annotations

import itertools
import re
import subprocess
import sys

import pytest
from click.testing import CliRunner

from bnnbench.cli import main
from bnnbench.errors import UsageError
from bnnbench.leases import Leases
from bnnbench.measurements import Measurement
from bnnbench.results import Results
from bnnbench.store import DIVERGED, DONE, FAILED, TUNE
from bnnbench.watching import changes, is_complete, mark
from bnnbench_reports import watch
from bnnbench_reports.command import report

from .conftest import TINY
from .small_study import enter, record, study


@pytest.fixture
def begun(store):
    """A study with one of its six runs done."""
    store.create_study("s", study(), "", "0")
    record(store, "ste", 1, {"binary": 80.0})
    return store


def started(store):
    store.start_run(enter(store, "bop", 1).run_id, {}, {})


def failed(store):
    store.end_run(enter(store, "bop", 1).run_id, FAILED, error="no")


def grown(store):
    more = study(protocol={"seeds": 3})
    store.extend_study("s", more, "bnnbench study extend s", "seeds 2 -> 3")


CHANGES = {
    "entered": lambda store: enter(store, "bop", 1),
    "started": started,
    "failed": failed,
    "done": lambda store: record(store, "bop", 1, {"binary": 70.0}),
    "a base": lambda store: enter(store, "before", 1, role="base"),
    "again": lambda store: store.start_run(store.entries("s")[0].run_id, {}, {}),
    "extended": grown,
    "event": lambda store: store.log("s", "odd", "text"),
    "taken": lambda store: Leases(store).take("worker s/somebody"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_whatever_a_report_shows_changes_the_mark(begun, change):
    """The mark is another one afterwards, and stays so."""
    before = mark(begun, ["s"])
    assert before == mark(begun, ["s"])

    CHANGES[change](begun)

    assert before != mark(begun, ["s"])
    assert mark(begun, ["s"]) == mark(begun, ["s"])


def test_what_a_report_does_not_show_changes_nothing(begun):
    """Other studies, and the epochs of a run under way."""
    entry = enter(begun, "bop", 1)
    begun.start_run(entry.run_id, {}, {})
    before = mark(begun, ["s"])

    begun.create_study("other", study(), "", "0")
    record(begun, "real", 9, {"real": 1.0}, judged="real", name="other")
    begun.write(entry.run_id, [Measurement("loss", 1.0, 1, "train")])

    assert before == mark(begun, ["s"])
    assert mark(begun, ["s"]) != mark(begun, ["s", "other"]) != mark(begun, ["other"])


def test_a_change_is_told_once(begun):
    """Between two looks there is always the same pause, and what stays is not told again."""
    pauses = []
    happens = {2: lambda: failed(begun), 5: lambda: begun.log("s", "odd", "text")}

    def sleep(seconds):
        pauses.append(seconds)
        happens.get(len(pauses), lambda: None)()

    told = changes(begun, ["s"], 7.5, sleep)
    at = [len(pauses) for _ in itertools.islice(told, 3)]

    assert [0, 2, 5] == at
    assert {7.5} == set(pauses)


def test_what_is_complete(store):
    """All that is asked for has ended; or nothing can come of it, and nobody tries."""
    store.create_study("s", study(methods=[{"method": "ste"}], protocol={"seeds": 1}), "", "0")

    def complete():
        return [is_complete(Results(store, "s"), held=held) for held in (False, True)]

    assert [False, False] == complete()
    trial = enter(store, "ste", 0, role=TUNE)
    assert [False, False] == complete()
    store.end_run(trial.run_id, DIVERGED)
    assert [True, False] == complete()
    store.end_run(enter(store, "ste", 1, role=TUNE).run_id, DONE)
    assert [False, False] == complete()
    confirming = enter(store, "ste", 1)
    assert [False, False] == complete()
    store.end_run(confirming.run_id, FAILED, error="no")
    assert [True, True] == complete()


@pytest.fixture
def watched(begun, tmp_path, monkeypatch):
    """``bnnbench report s --watch``; what happens at each pause is in the list."""
    monkeypatch.chdir(tmp_path)
    happens = []

    def sleep(seconds):
        happens.pop(0)()

    monkeypatch.setattr("bnnbench.watching.changes.__defaults__", (sleep,))

    def invoke(*arguments):
        options = ["--storage", str(tmp_path / "bnnbench.db"), "--watch"]
        return CliRunner().invoke(report, [*arguments, *options])

    return happens, invoke


def lines(result):
    """What was printed, without the time of the day."""
    found = [re.fullmatch(r"\d\d:\d\d:\d\d  (.*)", line) for line in result.output.splitlines()]
    return [match[1] for match in found]


def test_the_page_is_written_until_the_study_is_complete(begun, watched, tmp_path, monkeypatch):
    """One line for each page, which is opened once; the last has no word of what is missing."""
    happens, invoke = watched
    opened = []
    monkeypatch.setattr(watch, "browse", opened.append)
    page = tmp_path / "s.html"
    seen = []

    def more(*runs):
        seen.append(page.read_text())
        for method, seed in runs:
            record(begun, method, seed, {"binary": 70.0})

    happens += [
        lambda: more(("ste", 2), ("bop", 1)),
        lambda: None,
        lambda: more(("bop", 2), ("real", 1), ("real", 2)),
    ]

    result = invoke("s", "--open")

    assert 0 == result.exit_code
    assert ["s.html"] == [path.name for path in opened]
    wanted = ["unfinished: 1 of 6 runs", "unfinished: 3 of 6 runs", "complete: 6 runs"]
    assert [f"{page}: {status}" for status in wanted] == lines(result)
    assert ["unfinished: 1 of 6 runs" in seen[0], "unfinished: 3 of 6 runs" in seen[1]] == [1, 1]
    last = page.read_text()
    assert "unfinished" not in last[: last.index("<main>")]
    assert "refresh" not in last[: last.index("<style>")]
    assert [] == happens == list(tmp_path.glob(".*"))


def test_ctrl_c_ends_it_well(begun, watched, tmp_path):
    """One line, exit code 0, and the page that was there."""
    happens, invoke = watched

    def interrupt():
        raise KeyboardInterrupt

    happens += [interrupt]

    result = invoke("s")

    assert 0 == result.exit_code
    assert "stopped; the report stays as it is" == lines(result)[-1]
    assert 2 == len(lines(result))
    assert (tmp_path / "s.html").exists()


def test_it_waits_for_the_first_run(store, watched, tmp_path, monkeypatch):
    """A study without a finished run has no page yet; one that ends without any has an error."""
    happens, invoke = watched
    opened = []
    monkeypatch.setattr(watch, "browse", opened.append)
    small = study(methods=[{"method": "ste"}], protocol={"seeds": 1})
    store.create_study("new", small, "", "0")
    store.create_study("lost", small, "", "0")
    happens += [lambda: record(store, "ste", 1, {"binary": 70.0}, name="new")]

    result = invoke("new", "--open")

    assert "no confirming run is finished" in lines(result)[0]
    assert "complete: 1 runs" in lines(result)[1]
    assert ["new.html"] == [path.name for path in opened]
    happens += [lambda: store.end_run(enter(store, "ste", 1, name="lost").run_id, FAILED)]
    lost = invoke("lost")
    assert isinstance(lost.exception, UsageError)
    assert "(1 of its runs failed or diverged)" in str(lost.exception)
    assert not (tmp_path / "lost.html").exists()


def test_several_studies_are_watched_together(begun, watched, tmp_path):
    """What changes in either writes the page anew, and both must be complete."""
    happens, invoke = watched
    begun.create_study("u", study(methods=[{"method": "ste"}], protocol={"seeds": 1}), "", "0")
    happens += [
        lambda: record(begun, "ste", 1, {"binary": 70.0}, name="u"),
        lambda: [
            record(begun, m, n, {"binary": 1.0})
            for m, n in [("ste", 2), ("bop", 1), ("bop", 2), ("real", 1), ("real", 2)]
        ],
    ]

    result = invoke("s", "u")

    ends = [line.partition(": ")[2] for line in lines(result)]
    assert ["unfinished: 1 of 7 runs", "unfinished: 2 of 7 runs", "complete: 7 runs"] == ends
    assert (tmp_path / "s+u.html").exists()


@pytest.mark.parametrize("every", ["0", "-1", "x"])
def test_pauses_are_above_zero(begun, watched, every):
    """A pause of nothing would never let the database rest."""
    assert 2 == watched[1]("s", "--every", every).exit_code


def test_a_study_that_is_really_run_is_watched_to_its_end(tmp_path, monkeypatch, capsys):
    """The two commands side by side; the one that watches has a process of its own."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.toml").write_text(TINY)
    assert 0 == main(["study", "create", "s", "--from", "tiny.toml", "--storage", "x.db"])
    command = [sys.executable, "-m", "bnnbench", "report", "s", "--watch", "--every", "0.2"]

    with subprocess.Popen([*command, "--storage", "x.db"], stdout=subprocess.PIPE) as watching:
        ran = main(["study", "run", "s", "--threads", "1", "--storage", "x.db"])
        out, _ = watching.communicate(timeout=60)

    assert (0, 0) == (ran, watching.returncode)
    assert out.decode().splitlines()[-1].endswith("complete: 4 runs")
    assert "complete: 4 runs" in (tmp_path / "s.html").read_text()
    assert not list(tmp_path.glob(".bnnbench-report*"))
