"""Worker processes and who supervises them: one that dies is replaced, what it was at is not lost.

A worker is a ``bnnbench study run`` of its own, which shares the study through its leases. It tells
what it does in lines of JSON on its standard output, and stops when its standard input closes: so
it does when its supervisor is gone, however that went.
"""

from __future__ import annotations

import json
import math
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from bnnbench.errors import INTERRUPTED

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

MOST_DEATHS = 6  #: of a worker in a row, without a word of progress between, until it is given up
GRACE = 30.0  #: seconds until workers that are stopped, or have nothing left to do, are killed
GIVEN_UP = f"one died {MOST_DEATHS} times in a row; what it said is above"
REGULAR = range(7)  #: exit codes with which bnnbench ends on purpose


class Audience(Protocol):
    """Who is told what the workers do."""

    def told(self, worker: int, event: dict[str, Any]) -> None:
        """Take what a worker tells, as it tells it."""

    def warned(self, worker: int, line: str) -> None:
        """Take a line of a worker's standard error."""

    def died(self, worker: int, how: str, *, again: bool) -> None:
        """Take note that a worker died, and whether another takes its place."""


@dataclass
class Worker:
    """One place among the workers, and the process that has it now."""

    number: int
    process: subprocess.Popen[str]
    deaths: int = 0
    last_error: str = ""


class Crew:
    """A number of workers; :meth:`run` starts them and returns when all is over."""

    def __init__(
        self, commands: Sequence[Sequence[str]], environment: dict[str, str], audience: Audience
    ) -> None:
        self.commands, self.environment, self.audience = commands, environment, audience
        self.heard: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self.workers: list[Worker] = []
        self.asked_to_stop = 0

    def run(self) -> tuple[int, str]:
        """Return the exit code, 0 if all is over, and the error of the worker that gave it."""
        before = {each: signal.signal(each, self._stop) for each in (signal.SIGINT, signal.SIGTERM)}
        try:
            self.workers = [Worker(n, self._start(n)) for n in range(len(self.commands))]
            return self._watched()
        finally:
            for worker in self.workers:
                end(worker.process)
            for each, handler in before.items():
                signal.signal(each, handler)

    def _watched(self) -> tuple[int, str]:
        """Wait for the workers; replace those that die."""
        code, error, until = 0, "", math.inf
        while self.workers:
            self._listen()
            if time.monotonic() > until:  # one that has been stopped (SIGSTOP) ends no other way
                self._tell_all(signal.SIGKILL)
            for worker in [w for w in self.workers if w.process.poll() is not None]:
                ended = worker.process.returncode
                if ended not in REGULAR and not self.asked_to_stop and self._replaced(worker):
                    continue
                self.workers.remove(worker)
                if ended and not code:
                    code, error = (ended, worker.last_error) if ended in REGULAR else (1, GIVEN_UP)
                    self._tell_all(signal.SIGTERM)
                until = min(until, time.monotonic() + GRACE)  # there is nothing left to do
        self._listen()
        return (INTERRUPTED, "") if self.asked_to_stop else (code, error)

    def _replaced(self, worker: Worker) -> bool:
        """Start another process in the place of one that died, unless it is no use."""
        how = ended_how(worker.process.returncode)
        worker.deaths += 1
        again = worker.deaths < MOST_DEATHS
        self.audience.died(worker.number, how, again=again)
        if again:
            worker.process = self._start(worker.number)
        return again

    def _start(self, number: int) -> subprocess.Popen[str]:
        process = started(self.commands[number], self.environment)
        for stream, take in ((process.stdout, self._event), (process.stderr, self._error)):
            reading = threading.Thread(target=self._read, args=(stream, take, number), daemon=True)
            reading.start()
        return process

    def _read(self, stream: Any, take: Callable[[int, str], None], number: int) -> None:
        for line in stream:
            self.heard.put(lambda line=line: take(number, line.rstrip("\n")))  # type: ignore[misc]

    def _listen(self) -> None:
        """Take what was heard; wait a little where nothing was."""
        try:
            self.heard.get(timeout=0.1)()
            while True:
                self.heard.get_nowait()()
        except queue.Empty:
            pass

    def _event(self, number: int, line: str) -> None:
        event = event_of(line)
        for worker in self.workers:
            if worker.number == number and event.get("epochs"):
                worker.deaths = 0
        self.audience.told(number, event)

    def _error(self, number: int, line: str) -> None:
        for worker in self.workers:
            if worker.number == number:
                worker.last_error = line.removeprefix("error: ")
        self.audience.warned(number, line)

    def _stop(self, _number: int, _frame: object) -> None:
        self.asked_to_stop += 1
        self._tell_all(signal.SIGTERM if self.asked_to_stop < 3 else signal.SIGKILL)

    def _tell_all(self, what: signal.Signals) -> None:
        for worker in self.workers:
            if worker.process.poll() is None:
                worker.process.send_signal(what)


def started(command: Sequence[str], environment: dict[str, str]) -> subprocess.Popen[str]:
    """Return a worker's process, which its supervisor is tied to by its three streams."""
    return subprocess.Popen(  # noqa: S603  # this very program
        command,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=True,  # Ctrl-C is the supervisor's, who hands it on
    )


def event_of(line: str) -> dict[str, Any]:
    """Return what a worker tells by a line; one that a plugin prints is a line to be shown.

    >>> event_of('{"epochs": 2}'), event_of("hello")
    ({'epochs': 2}, {'line': 'hello'})
    """
    try:
        event = json.loads(line)
    except ValueError:
        event = None
    return event if isinstance(event, dict) else {"line": line}


def stop_with_supervisor() -> None:
    """Let this worker stop, as by SIGTERM, once its standard input closes."""

    def wait() -> None:
        sys.stdin.read()
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, name="bnnbench supervisor", daemon=True).start()


def ended_how(code: int) -> str:
    """Return in words how a process ended that should not have.

    >>> ended_how(-9), ended_how(70)
    ('by SIGKILL', 'with exit code 70')
    """
    if code < 0:
        return f"by {signal.Signals(-code).name}"
    return f"with exit code {code}"


def end(process: subprocess.Popen[str]) -> None:
    """Let a worker's process be gone."""
    if process.poll() is None:
        process.kill()
    process.wait()
    for stream in (process.stdin, process.stdout, process.stderr):
        if stream is not None:
            stream.close()
