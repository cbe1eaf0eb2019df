"""What is said while a study runs: never more runs than there are, never less than no time."""

from __future__ import annotations

import json
import random
import re
import sys
from itertools import pairwise

import pytest

from bnnbench.cli import progress
from bnnbench.cli.progress import LiveProgress, PlainProgress, WorkerProgress
from bnnbench.entries import Entry
from bnnbench.measurements import Measurement
from bnnbench.needs import Need
from bnnbench.runs import Part, Run

LOSS = Measurement("loss", 0.1, 1, "train")


def entry(number, epochs=2):
    run = Run(Part("d"), Part("a"), Part("l"), Part("m"), number, epochs, 10)
    facts = {"judged": "binary"}
    return Entry("t", "m", "tune", number, number, run, "running", facts, "", False, "", 0, 0)


@pytest.fixture
def clock(monkeypatch):
    """Time that goes on by two seconds an epoch, when it is told to."""
    now = [1000.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(progress, "busy", lambda threads: "")
    return now


def train(observer, number, clock, epochs=2, seen=2, skipped=0):
    """A run of so many epochs of which some were trained before, and so many are trained."""
    mine = entry(number, epochs)
    observer.run_started(mine)
    observer.epochs_skipped(mine, skipped)
    for _ in range(seen):
        clock[0] += 2
        observer.epoch_ended(mine, [LOSS])
    observer.run_ended(mine, "done", "")


def told(out):
    """The places, the totals and the times left of the lines about runs that ended."""
    found = re.findall(r"\[(\d+)/(about )?(\d+)\].*; (-?\d+) s left", out)
    return [(int(done), bool(about), int(runs), int(left)) for done, about, runs, left in found]


def test_runs_that_were_foreseen(clock, capsys):
    """Of three equal runs there are two left, then one, then none, at the pace so far."""
    observer = PlainProgress()
    with observer.watching("s", [Need("t", "m", 1, 2, 2)]):
        for number in range(3):
            train(observer, number, clock)

    out = capsys.readouterr().out
    assert out.startswith("study s: 3 runs to do\n")
    assert [(1, False, 3, 8), (2, False, 3, 4), (3, False, 3, 0)] == told(out)


def test_more_runs_than_were_foreseen(clock, capsys):
    """A budget in seconds is a guess, and says so; each run beyond it makes one more of them."""
    observer = PlainProgress()
    with observer.watching("s", [Need("t", "m", 1, 1, 2, open=True)]):
        for number in range(4):
            train(observer, number, clock)

    out = capsys.readouterr().out
    assert out.startswith("study s: about 2 runs to do\n")
    assert [(1, True, 2, 4), (2, True, 2, 0), (3, True, 3, 0), (4, True, 4, 0)] == told(out)


def test_time_is_left_in_a_run_that_was_not_foreseen(clock):
    """Another best trial is confirmed: in the middle of such a run its other half is left."""
    observer = PlainProgress()
    with observer.watching("s", [Need("t", "m", 0, 1, 2)]):
        train(observer, 0, clock)
        more = entry(1, epochs=4)
        observer.run_started(more)
        for left in (6.0, 4.0, 2.0, 0.0):
            clock[0] += 2
            observer.epoch_ended(more, [LOSS])
            assert left == observer.time_left()


def test_whatever_happens_no_line_is_absurd(clock, capsys):
    """Runs that are cut short, taken up, longer or more than planned, at random."""
    for case in range(60):
        chance = random.Random(case)
        needs = [
            Need("t", "m", chance.randrange(3), chance.randrange(3), chance.randint(1, 4))
            for _ in range(2)
        ]
        observer = PlainProgress()
        with observer.watching("s", needs):
            for number in range(chance.randint(1, 9)):
                epochs = chance.randint(1, 5)
                skipped = chance.randint(0, epochs)
                train(observer, number, clock, epochs, chance.randint(0, epochs - skipped), skipped)

        lines = told(capsys.readouterr().out)
        assert all(done <= runs and left >= 0 for done, _, runs, left in lines), case
        assert all(b[0] == a[0] + 1 for a, b in pairwise(lines))


def test_the_bar_grows_with_them(clock, capsys):
    """The live display has the same total as the line."""
    observer = LiveProgress()
    with observer.watching("s", [Need("t", "m", 0, 1, 2)]):
        for number in range(3):
            train(observer, number, clock)
        (runs, _) = observer.bars.tasks

        assert (3, 3) == (runs.completed, runs.total)
    assert "[3/3]" in capsys.readouterr().out


class Closed:
    """A standard output that nobody reads any more."""

    def write(self, text):
        raise BrokenPipeError

    def flush(self):
        raise BrokenPipeError


def test_a_worker_without_a_supervisor_says_nothing(monkeypatch):
    """Once its output is closed a worker trains on in silence, until it is stopped."""
    worker = WorkerProgress()
    monkeypatch.setattr(sys, "stdout", Closed())

    worker.tell(line="one")
    worker.say("two")

    assert not worker.heard
    sys.stdout.close()


def test_what_a_worker_tells(capsys):
    """A line of JSON each, with the epochs since the last."""
    worker = WorkerProgress()
    worker.unsaid = 3
    worker.tell(line="one")
    worker.tell(skipped=2)

    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [{"epochs": 3, "line": "one"}, {"epochs": 0, "skipped": 2}] == told


def test_a_run_that_is_tried_again(clock, capsys):
    """Epochs that are trained twice are not done twice: at the end nothing is left to do."""
    plain, worker = PlainProgress(), WorkerProgress()
    for observer in (plain, worker):
        with observer.watching("s", [Need("t", "m", 0, 1, 4)]):
            mine = entry(1, epochs=4)
            observer.run_started(mine)
            for after, epochs in ((0, 3), (2, 2)):  # the third is lost
                observer.epochs_skipped(mine, after)
                for _ in range(epochs):
                    clock[0] += 2
                    observer.epoch_ended(mine, [LOSS])
            observer.run_ended(mine, "done", "")

    lines = capsys.readouterr().out.splitlines()
    told = [json.loads(line) for line in lines if line.startswith("{")]
    assert 0 == plain.epochs_left
    assert 4 == sum(each["epochs"] + each.get("skipped", 0) for each in told)
