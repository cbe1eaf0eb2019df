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
from bnnbench.waits import seconds

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

MOST_DEATHS = 6  #: of a worker in a row, without a word of progress between, until it is given up
GRACE = 30.0  #: seconds until workers that have nothing left to do are killed
STOPPING = 600.0  #: seconds until workers that finish their epoch, as they were asked, are killed
AT_ONCE = 2.0  #: seconds in which those that were asked twice may give back what they have
KILLED = "does not stop and is killed"
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
        # no SimpleQueue: a signal that comes while its time runs out lets it wait for ever
        self.heard: queue.Queue[Callable[[], None]] = queue.Queue()
        self.stopping = seconds("BNNBENCH_STOP_SECONDS", STOPPING)
        self.workers: list[Worker] = []
        self.readers: dict[int, list[threading.Thread]] = {}
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
        code, error, until, heeded = 0, "", math.inf, 0
        while self.workers:
            self._listen()
            if self.asked_to_stop > heeded:  # here, so that none is started behind our back
                heeded = self.asked_to_stop
                until = min(until, time.monotonic() + self._grace(heeded))
                self._tell_all(signal.SIGTERM)
            if time.monotonic() > until:  # one that has been stopped (SIGSTOP) ends no other way
                self._kill()
            for worker in [w for w in self.workers if w.process.poll() is not None]:
                self._hear_out(worker)
                ended, goes_on = worker.process.returncode, until == math.inf
                if ended not in REGULAR and goes_on and self._replaced(worker):
                    continue
                self.workers.remove(worker)
                hang_up(worker.process)
                if goes_on and ended:
                    code, error = (ended, worker.last_error) if ended in REGULAR else (1, GIVEN_UP)
                    self._tell_all(signal.SIGTERM)  # once: told twice they leave their epoch
                if goes_on:
                    until = time.monotonic() + (self.stopping if ended else GRACE)
        self._listen()
        return (INTERRUPTED, "") if self.asked_to_stop else (code, error)

    def _grace(self, times: int) -> float:
        """Seconds until workers are killed that were asked to stop so many times."""
        return {1: self.stopping, 2: AT_ONCE}.get(times, 0.0)

    def _replaced(self, worker: Worker) -> bool:
        """Start another process in the place of one that died, unless it is no use."""
        how = ended_how(worker.process.returncode)
        worker.deaths += 1
        again = worker.deaths < MOST_DEATHS
        self.audience.died(worker.number, how, again=again)
        if again:
            hang_up(worker.process)
            worker.process = self._start(worker.number)
        return again

    def _start(self, number: int) -> subprocess.Popen[str]:
        process = started(self.commands[number], self.environment)
        self.readers[number] = [
            threading.Thread(target=self._read, args=(stream, take, number), daemon=True)
            for stream, take in ((process.stdout, self._event), (process.stderr, self._error))
        ]
        for reader in self.readers[number]:
            reader.start()
        return process

    def _read(self, stream: Any, take: Callable[[int, str], None], number: int) -> None:
        with stream:
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

    def _hear_out(self, worker: Worker) -> None:
        """Take the last words of a process that has ended: its error is among them."""
        for reader in self.readers[worker.number]:
            reader.join(timeout=1.0)  # a child of its own may keep the streams open
        self._listen()

    def _event(self, number: int, line: str) -> None:
        event = event_of(line)
        for worker in self.workers:
            if worker.number == number and (event.get("epochs") or "ended" in event):
                worker.deaths = 0
        self.audience.told(number, event)

    def _error(self, number: int, line: str) -> None:
        for worker in self.workers:
            if worker.number == number:
                worker.last_error = line.removeprefix("error: ")
        self.audience.warned(number, line)

    def _stop(self, _number: int, _frame: object) -> None:
        self.asked_to_stop += 1

    def _kill(self) -> None:
        for worker in self.workers:
            if worker.process.poll() is None:
                self.audience.warned(worker.number, KILLED)
                worker.process.kill()

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


def hang_up(process: subprocess.Popen[str]) -> None:
    """Tell a process that has ended no more; what it said is closed by who reads it to its end."""
    if process.stdin is not None:
        process.stdin.close()


def end(process: subprocess.Popen[str]) -> None:
    """Let a worker's process be gone."""
    if process.poll() is None:
        process.kill()
    process.wait()
    for stream in (process.stdin, process.stdout, process.stderr):
        if stream is not None:
            stream.close()
