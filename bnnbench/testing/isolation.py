"""Checking in a process of its own, which may hang, exit or crash: that too is an outcome."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple

from bnnbench.conformance import FAILED, Checked, Outcome
from bnnbench.errors import PluginError, UsageError
from bnnbench.testing.child import START, Job

if TYPE_CHECKING:
    from collections.abc import Iterator

GRACE = 10.0  #: seconds beyond its limit that a process has to end by itself
HUNG = "Timeout ("  #: how faulthandler begins


class Begun(NamedTuple):
    """A component whose checks begin: the plugin it is of, and where its code is."""

    component: Checked
    plugin: str
    code: str


class Ended(NamedTuple):
    """A check that has ended."""

    component: Checked
    outcome: Outcome


def checked(job: Job) -> Iterator[Begun | Ended]:
    """Yield what happens, as it happens.

    A component whose check kills the process has no more checks; another process goes on with the
    components after it.

    Raises:
        UsageError: there is nothing of a name.
        PluginError: a plugin does not load.
    """
    known: dict[tuple[str, str], Checked] = {}
    over = False
    while not over:
        process = _Process(job)
        over = True
        for line in process.lines():
            if "error" in line:
                raise (UsageError if line["usage"] else PluginError)(line["error"])
            if "component" in line:
                component = Checked(*line["component"])
                if component[:2] not in known:
                    known[component[:2]] = component
                    yield Begun(component, line["plugin"], line["code"])
            elif "begin" in line:
                process.begun = tuple(line["begin"])
            elif "end" in line:
                process.begun = None
                yield Ended(known[tuple(line["end"])], Outcome(*line["outcome"]))
        if process.fault:
            if process.begun is None:
                raise PluginError(
                    f"the plugins cannot be checked, for as they load {process.fault}"
                )
            kind, name, check, level = process.begun
            yield Ended(known[kind, name], Outcome(check, level, FAILED, process.fault, ADVICE))
            job, over = replace(job, done=tuple(known)), False


ADVICE = "A plugin neither ends the process nor keeps it for ever: raise an exception."


class _Process:
    """A process that checks, and how it died if it did."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.begun: tuple[str, ...] | None = None
        self.fault = ""

    def lines(self) -> Iterator[dict[str, Any]]:
        """Yield what the process tells, until it is over or dead."""
        with tempfile.TemporaryFile() as said, _started(self.job, said) as process:
            told: queue.Queue[str | None] = queue.Queue()
            threading.Thread(target=_read, args=(process.stdout, told), daemon=True).start()
            limit, since = max(START, self.job.limit) + GRACE, time.monotonic()
            try:
                while (text := _next(told, limit)) is not None:
                    line: dict[str, Any] = json.loads(text)
                    if "over" in line:
                        return
                    limit = self.job.limit if "begin" in line else max(START, self.job.limit)
                    limit, since = limit + GRACE, time.monotonic()
                    yield line
            except queue.Empty:
                process.kill()
            process.wait()
            said.seek(0)
            words = said.read().decode("utf-8", "replace")
            hung = HUNG in words or time.monotonic() - since >= limit
            self.fault = _hung(self.job) if hung else _death(process.returncode)
            self.fault += _place(words)


@contextlib.contextmanager
def _started(job: Job, said: IO[bytes]) -> Iterator[subprocess.Popen[str]]:
    """A process with our own search path; it and what it has started go when the block ends."""
    path = os.pathsep.join(str(Path(each or ".").absolute()) for each in sys.path)
    process = subprocess.Popen(  # noqa: S603  # our own Python
        [sys.executable, "-P", "-m", "bnnbench.testing.child", job.to_json()],
        stdout=subprocess.PIPE,
        stderr=said,
        stdin=subprocess.DEVNULL,
        text=True,
        encoding="utf-8",
        env=os.environ | {"PYTHONPATH": path},
        start_new_session=True,
    )
    try:
        yield process
    finally:
        _end(process)
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def _end(process: subprocess.Popen[str]) -> None:
    """Let a process end within seconds of being over, with all that it has started."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(timeout=0.5)
    process.kill()
    if hasattr(os, "killpg"):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)


def _read(lines: Any, told: queue.Queue[str | None]) -> None:
    with contextlib.suppress(ValueError):  # it is closed while we wait for more
        for line in lines:
            told.put(line)
    told.put(None)


def _next(told: queue.Queue[str | None], limit: float) -> str | None:
    return told.get(timeout=limit)


def _hung(job: Job) -> str:
    return f"it does not end within {job.limit:g} seconds"


def _death(code: int | None) -> str:
    if code is not None and code < 0:
        return f"it kills the process ({signal.Signals(-code).name})"
    return f"it ends the process (exit code {code})"


def _place(words: str) -> str:
    """The innermost line of a dump of where the process was that is neither torch's nor ours."""
    ours = str(Path(__file__).parents[1])
    frames = re.findall(r'^  File "(.+?)", line (\d+) in (.+)$', words, re.MULTILINE)
    for file, line, function in frames:
        if "site-packages" not in file and not file.startswith((ours, *_PYTHON)):
            return f" ({Path(file).name}, line {line}, in {function})"
    return ""


_PYTHON = (str(Path(os.__file__).parent), "<")
