"""Who supervises workers: what they are told, how often, and when they are killed."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time

import pytest

from bnnbench import waits, workers
from bnnbench.cli import Settings
from bnnbench.cli.crew import commands, slots
from bnnbench.errors import INTERRUPTED, UsageError
from bnnbench.workers import GIVEN_UP, KILLED, MOST_DEATHS, Crew

#: a worker that tells how often it was asked to stop, and goes a while after the first time
POLITE = """
import json, signal, sys, time
asked = []
signal.signal(signal.SIGTERM, lambda *_: asked.append(0))
print(json.dumps({"line": "ready"}), flush=True)
until = time.monotonic() + 60
while not asked and time.monotonic() < until: time.sleep(0.01)
time.sleep(float(sys.argv[1]))
print(json.dumps({"line": f"asked {len(asked)}"}), flush=True)
sys.exit(130)
"""
#: a worker that is in native code, where no signal is looked at, and lets no other thread run
HUNG = """
import collections, itertools, json, signal
signal.signal(signal.SIGTERM, lambda *_: None)
print(json.dumps({"line": "ready"}), flush=True)
collections.deque(itertools.repeat(None, 10**10), maxlen=0)
"""
#: a worker that dies six times, and says something the third time
DIES = """
import json, os, pathlib, signal, sys
times = pathlib.Path(sys.argv[1])
times.write_text(times.read_text() + "x")
if len(times.read_text()) == 3:
    print(sys.argv[2], flush=True)
if len(times.read_text()) == 7:
    sys.exit(0)
os.kill(os.getpid(), signal.SIGSEGV)
"""
FAILS = """
import sys, time
time.sleep(0.5)
sys.exit("error: the disk is full")
"""


class Heard:
    """What a crew's workers say and how they die; told to stop once so many are ready."""

    def __init__(self, ready: int, asks: tuple[float, ...] = ()) -> None:
        self.ready, self.asks = ready, asks
        self.timers: list[threading.Timer] = []
        self.lines: list[str] = []
        self.warnings: list[str] = []
        self.deaths: list[str] = []

    def told(self, worker, event):
        self.lines.append(event.get("line", ""))
        if self.lines.count("ready") == self.ready and self.asks:
            ask = (os.getpid(), signal.SIGINT)
            self.timers = [threading.Timer(after, os.kill, ask) for after in self.asks]
            self.asks = ()
            for timer in self.timers:
                timer.start()

    def warned(self, worker, line):
        self.warnings.append(line)

    def died(self, worker, how, *, again):
        self.deaths.append(how)


def ran(heard, *scripts, kind=Crew):
    """The exit code and the error of a crew of such workers, and how long it took."""
    commands = [[sys.executable, "-c", *words] for words in scripts]
    begun, before = time.monotonic(), signal.signal(signal.SIGINT, lambda *_: None)
    result = kind(commands, dict(os.environ), heard).run()
    took = time.monotonic() - begun
    for timer in heard.timers:  # one that comes too late is no business of the next test
        timer.join()
    signal.signal(signal.SIGINT, before)
    return result, took


def test_everybody_may_finish_an_epoch():
    """One Ctrl-C is one SIGTERM for each, also for who is not done when the first one goes."""
    heard = Heard(2, asks=(0,))
    result, _ = ran(heard, (POLITE, "0"), (POLITE, "1"))

    assert (INTERRUPTED, "") == result
    assert ["ready", "ready", "asked 1", "asked 1"] == heard.lines
    assert ([], []) == (heard.warnings, heard.deaths)


def test_one_that_is_done_earlier_with_an_error_stops_the_others():
    """They are asked once, too; the command ends with that error."""
    heard = Heard(1)
    result, _ = ran(heard, (POLITE, "1"), (FAILS,))

    assert (1, "the disk is full") == result
    assert ["ready", "asked 1"] == heard.lines


@pytest.mark.parametrize(
    ("asks", "stopping", "at_once"),
    [
        ((0, 0.7), "60", 0.5),  # a second Ctrl-C
        ((0, 0.7, 1.4), "60", 60.0),  # a third
        ((0,), "0.5", 60.0),  # none, but the time is up
    ],
)
def test_a_worker_that_hangs_is_killed(monkeypatch, asks, stopping, at_once):
    """A worker that no signal reaches does not hold its supervisor, and it is said."""
    monkeypatch.setattr(workers, "AT_ONCE", at_once)
    monkeypatch.setenv("BNNBENCH_STOP_SECONDS", stopping)
    heard = Heard(1, asks)
    result, seconds = ran(heard, (HUNG,))

    assert (INTERRUPTED, "") == result
    assert KILLED in heard.warnings
    assert [] == heard.deaths  # and nobody takes its place
    assert seconds < 30


def test_one_ctrl_c_kills_nobody(monkeypatch):
    """Before the time is up an epoch may take as long as it takes."""
    monkeypatch.setattr(workers, "AT_ONCE", 0.1)
    heard = Heard(1, asks=(0,))
    ran(heard, (POLITE, "1"))

    assert (["ready", "asked 1"], []) == (heard.lines, heard.warnings)


class Slow(Crew):
    """One whose machine is so busy that a signal takes longer than it listens."""

    def _stop(self, number, frame):
        time.sleep(0.3)
        super()._stop(number, frame)
        waker = threading.Timer(20, self.heard.put, [lambda: None])
        waker.daemon = True
        waker.start()


def test_a_signal_while_it_listens():
    """Where nobody says anything it goes on at once, not when somebody does."""
    result, seconds = ran(Heard(1, asks=(0.2,)), (POLITE, "0"), kind=Slow)

    assert (INTERRUPTED, "") == result
    assert seconds < 15


def test_one_that_has_nothing_left_to_do_is_killed(monkeypatch):
    """Where another says that all is over, whoever is stopped (SIGSTOP) or hangs does not count."""
    monkeypatch.setattr(workers, "GRACE", 0.3)
    heard = Heard(1)

    assert (0, "") == ran(heard, (HUNG,), ("import time; time.sleep(0.3)",))[0]
    assert [KILLED] == list(dict.fromkeys(heard.warnings))


@pytest.mark.parametrize(
    ("said", "result"),
    [
        ("hello", (1, GIVEN_UP)),
        ('{"epochs": 0, "line": "hello"}', (1, GIVEN_UP)),
        ('{"epochs": 2}', (0, "")),
        ('{"epochs": 0, "ended": "a run that ended its workers"}', (0, "")),
    ],
)
def test_deaths_in_a_row(tmp_path, said, result):
    """The sixth is the last one, unless there was progress: an epoch, or a run that is over."""
    times = tmp_path / "times"
    times.write_text("")
    heard = Heard(0)

    assert result == ran(heard, (DIES, str(times), said))[0]
    assert [MOST_DEATHS * ["by SIGSEGV"]] == [heard.deaths]


@pytest.mark.parametrize("given", ["abc", "0", "-1", "nan", "1 s"])
def test_what_are_no_seconds(monkeypatch, given):
    """One line names the variable and what it is set to."""
    monkeypatch.setenv("BNNBENCH_STOP_SECONDS", given)
    with pytest.raises(UsageError, match=f"^BNNBENCH_STOP_SECONDS must be .* got '{given}'; .*$"):
        Crew([], {}, Heard(0))


@pytest.mark.parametrize(("given", "found"), [("", 7.0), (None, 7.0), ("0.5", 0.5), ("1e3", 1e3)])
def test_seconds(monkeypatch, given, found):
    """What is set counts, nothing and an empty text are the default."""
    monkeypatch.delenv("BNNBENCH_STOP_SECONDS", raising=False)
    if given is not None:
        monkeypatch.setenv("BNNBENCH_STOP_SECONDS", given)
    assert found == waits.seconds("BNNBENCH_STOP_SECONDS", 7.0)


@pytest.mark.parametrize(
    ("device", "count", "gpus", "processes", "found"),
    [
        ("cuda", 5, 2, 1, ["cuda:0", "cuda:1", "cuda:0", "cuda:1", "cuda:0"]),
        ("cuda", 2, 4, 1, ["cuda:0", "cuda:1"]),
        ("cuda", 3, 1, 1, ["cuda:0", "cuda:0", "cuda:0"]),
        ("cuda", 3, 5, 2, ["cuda:0", "cuda:2", "cuda:0"]),
        ("cuda:1", 2, 4, 1, ["cuda:1", "cuda:1"]),
        ("cpu", 3, 4, 1, ["cpu", "cpu", "cpu"]),
    ],
)
def test_workers_take_the_next_gpu_in_turn(monkeypatch, device, count, gpus, processes, found):
    """Each command names its worker's GPU; one that was asked for by its number is everybody's."""
    monkeypatch.setattr("torch.cuda.device_count", lambda: gpus)
    placed = slots(device, count, processes)
    begun = commands(Settings(), "s", placed, None, [])

    assert found == placed == [command[command.index("--device") + 1] for command in begun]
