"""The processes that train a run beside the one that holds it: their start, their end, their loss.

The worker that holds a run's lease is the first of its processes. It alone knows the database,
writes checkpoints, judges and tells; the others (:mod:`bnnbench.parallel.helping`) build the same
run from its description, load the same checkpoint and follow in lockstep. They live as long as the
training.

What is told, in lines of JSON: to a helper, once, on its standard input, a :class:`Task`; by it,
on its standard output, that it is ready, or why it cannot go on. A helper whose standard input
closes is gone at once: so it is when the first process is, however that went.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bnnbench.errors import PluginError
from bnnbench.failures import OUT_OF_MEMORY, TRANSIENT
from bnnbench.plugins import describe
from bnnbench.workers import end, ended_how

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bnnbench.experiments import Experiment, Workbench
    from bnnbench.training import Training

SETTLING = 5.0  #: seconds in which the end of a helper is seen that explains a failure here


@dataclass(frozen=True)
class Team:
    """How many processes train a run, and the plugins that each of them leaves out or loads."""

    size: int = 1
    blocked: tuple[str, ...] = ()
    files: tuple[str, ...] = ()


@dataclass(frozen=True)
class Task:
    """What a helper is told of its run.

    ``run`` is its description, ``epoch`` the one that its checkpoint is of, 0 for the beginning.
    ``pace`` is that of the first process. They meet at the file ``place``.
    """

    rank: int
    team: Team
    run: str
    epoch: int
    device: str
    pace: dict[str, Any]
    checkpoints: str
    place: str

    def to_json(self) -> str:
        """Return the task in one line."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Task:
        """Return the task that :meth:`to_json` described."""
        values = json.loads(text)
        team = values.pop("team")
        blocked, files = tuple(team["blocked"]), tuple(team["files"])
        return cls(team=Team(team["size"], blocked, files), **values)


class LostProcessError(ConnectionError):
    """A process of a run is gone; the run can be taken up from its checkpoint."""


class Helper:
    """A helper process; what it says on its standard error is kept aside, in case it dies."""

    def __init__(self, task: Task, folder: Path) -> None:
        self.task = task
        self.told: dict[str, Any] = {}
        self.said = (folder / f"said-{task.rank}").open("w+", errors="replace")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "bnnbench.parallel.helping"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.said,
            text=True,
            errors="replace",
            start_new_session=True,  # Ctrl-C is the first process's
        )
        self._tell(f"{task.to_json()}\n")

    def wait_until_ready(self) -> None:
        """Return once the helper has built its run.

        Raises:
            Exception: what :meth:`fault` returns.
        """
        self._listen()
        if not self.told.get("ready"):
            self.process.wait()
            raise self.fault() or LostProcessError(self._sentence("went before it began"))

    def fault(self) -> Exception | None:
        """Return what ended the helper: nothing while it is alive, or if its work is done."""
        if not self.process.poll():
            return None
        if "error" not in self.told:
            self._listen()
        if "error" not in self.told:
            how = ended_how(self.process.returncode)
            return LostProcessError(self._sentence(f"died {how}{self._last_words()}"))
        kinds = {TRANSIENT: LostProcessError, OUT_OF_MEMORY: MemoryError}
        return kinds.get(self.told["kind"], PluginError)(self._sentence(self.told["error"]))

    def end(self) -> None:
        """Let the helper be gone: it holds nothing that the first process does not hold."""
        end(self.process)
        self.said.close()

    def _tell(self, line: str) -> None:
        """Write a line, past the buffer, which would be written again as the stream is closed."""
        if self.process.stdin is not None:
            with suppress(BrokenPipeError):  # it is found dead in a moment
                os.write(self.process.stdin.fileno(), line.encode())

    def _listen(self) -> None:
        """Take the next line that the helper tells; there is none if it is gone."""
        line = self.process.stdout.readline() if self.process.stdout else ""
        self.told = json.loads(line or "{}")

    def _sentence(self, what: str) -> str:
        return f"process {self.task.rank + 1} of {self.task.team.size} of the run {what}"

    def _last_words(self) -> str:
        self.said.seek(0)
        lines = self.said.read().split("\n")
        words = [line.strip() for line in lines if line.strip()]
        return f" ({words[-1]})" if words else ""


@contextmanager
def helped(
    workbench: Workbench, experiment: Experiment, training: Training, epoch: int
) -> Iterator[None]:
    """Let a training be the first of the team's processes until the block ends.

    ``epoch`` is the one after which it was taken up, 0 at the beginning.

    Raises:
        LostProcessError: a process died.
        Exception: what a helper could not do.
    """
    from bnnbench.parallel.lockstep import joined

    helpers: list[Helper] = []
    with tempfile.TemporaryDirectory(prefix="bnnbench-") as folder:
        first = _first_task(workbench, experiment, epoch, str(Path(folder) / "place"))
        try:
            for rank in range(1, first.team.size):
                device = device_of(first.device, rank)
                helpers.append(Helper(replace(first, rank=rank, device=device), Path(folder)))
            for helper in helpers:
                helper.wait_until_ready()
            with joined(training, 0, first.team.size, first.place):
                yield
        except RuntimeError as error:  # so a lost connection shows itself, among much else
            raise _explanation(helpers, error) from error
        finally:
            for helper in helpers:
                helper.end()


def _first_task(workbench: Workbench, experiment: Experiment, epoch: int, place: str) -> Task:
    """What a helper would be told that does the work of the first process."""
    return Task(
        rank=0,
        team=workbench.team,
        run=experiment.run.to_json(),
        epoch=epoch,
        device=workbench.device,
        pace=asdict(experiment.pace),
        checkpoints=str(workbench.checkpoints.folder.absolute()),
        place=place,
    )


def device_of(first: str, rank: int) -> str:
    """Return the device of a process, for that of the first one.

    >>> device_of("cuda:2", 1), device_of("cuda", 1), device_of("cpu", 1)
    ('cuda:3', 'cuda:1', 'cpu')
    """
    kind, _, number = first.partition(":")
    return f"{kind}:{int(number or 0) + rank}" if kind == "cuda" else first


def _explanation(helpers: list[Helper], error: RuntimeError) -> Exception:
    """What a failure here comes from: from itself, unless a helper has ended, too."""
    until = time.monotonic() + SETTLING
    while time.monotonic() < until and all(h.process.poll() is None for h in helpers):
        time.sleep(0.05)
    found = [fault for fault in (helper.fault() for helper in helpers) if fault is not None]
    lost = [fault for fault in found if isinstance(fault, LostProcessError)]
    same = any(describe(error) in str(fault) for fault in found)
    return error if same else next(iter(lost + found), error)
