"""Workers as Ray tasks: Ray chooses their machines, counts GPUs, and starts anew what was lost.

Each task is one worker's process (:mod:`bnnbench.workers`), on whatever machine Ray runs it, and
hands on what that process says. When Ray cancels a task its worker is asked to stop, as by SIGTERM;
when the task's own process is killed the worker's standard input closes, and it stops as well.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bnnbench.errors import INTERRUPTED, UsageError
from bnnbench.workers import REGULAR, end, ended_how, event_of, started

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bnnbench.workers import Audience

LOCAL = "local"  #: the address of a Ray that is started for this command, on this machine
FOUND = "auto"  #: the address of the Ray that this machine is part of
MOST_STARTS = 20  #: of a task until it is given up; a run that ends its workers fails before
GIVEN_UP = f"one was lost {MOST_STARTS} times; what it said is above"


class LostWorkerError(Exception):
    """A worker's process ended as it should not have; Ray starts its task anew."""


@dataclass(frozen=True)
class Share:
    """What each worker is given of the machines: threads, and of a GPU perhaps a part.

    ``workers`` are so many, or None for as many as there is room for.
    """

    threads: int = 1
    gpus: float = 0.0
    workers: int | None = None

    def count(self, found: dict[str, float]) -> int:
        """Return the number of workers, for what Ray has found.

        >>> Share(2).count({"CPU": 9.0}), Share(gpus=0.5).count({"CPU": 9.0, "GPU": 2.0})
        (4, 4)
        """
        room = found.get("CPU", 0.0) / self.threads
        if self.gpus:
            room = min(room, found.get("GPU", 0.0) / self.gpus)
        return self.workers or max(1, int(room))


class Cluster:
    """Workers on the machines of a Ray cluster; :meth:`run` returns when all is over.

    ``environment`` is what the workers are given beside that of their machine.
    """

    def __init__(
        self,
        address: str,
        share: Share,
        command: Sequence[str],
        environment: dict[str, str],
        audience: Audience,
    ) -> None:
        self.address, self.share, self.command = address, share, command
        self.environment, self.audience = environment, audience
        self.errors: dict[int, str] = {}
        self.tasks: dict[Any, int] = {}
        self.asked_to_stop = 0

    def run(self) -> tuple[int, str]:
        """Return the exit code, 0 if all is over, and the error of the worker that gave it.

        Raises:
            UsageError: there is no Ray at the address.
        """
        ray = joined(self.address)
        before = {each: signal.signal(each, self._stop) for each in (signal.SIGINT, signal.SIGTERM)}
        try:
            ear = _ear()
            self.tasks = self._begun(ear, self.share.count(ray.cluster_resources()))
            return self._watched(ear)
        finally:
            for each, handler in before.items():
                signal.signal(each, handler)
            ray.shutdown()

    def _begun(self, ear: Any, count: int) -> dict[Any, int]:
        """The number of each task."""
        import ray

        task = ray.remote(
            num_cpus=self.share.threads,
            num_gpus=self.share.gpus,
            max_retries=MOST_STARTS - 1,
            retry_exceptions=[LostWorkerError],
        )(work)
        # an argument: what is in a runtime environment is shown by Ray to everybody
        given = list(self.command), self.environment, ear
        return {task.options(name=f"worker {n + 1}").remote(n, *given): n for n in range(count)}

    def _watched(self, ear: Any) -> tuple[int, str]:
        """Wait for the tasks, and hand on what their workers say."""
        import ray

        code, error = 0, ""
        left = list(self.tasks)
        while left:
            over, left = ray.wait(left, timeout=0.1)
            self._listen(ear)
            for ended, said in map(self._ended, over):
                if ended and not (code or self.asked_to_stop):
                    code, error = ended, said
                    self._cancel(force=False)
        self._listen(ear)
        return (INTERRUPTED, "") if self.asked_to_stop else (code, error)

    def _ended(self, task: Any) -> tuple[int, str]:
        """The exit code of a task's worker, and its error; of what Ray has given up, why."""
        import ray

        try:
            code: int = ray.get(task)
        except ray.exceptions.TaskCancelledError:
            return INTERRUPTED, ""
        except LostWorkerError:  # as Ray hands it on
            return 1, GIVEN_UP
        except ray.exceptions.RayError as error:
            return 1, f"Ray cannot run it: {str(error).strip().splitlines()[-1]}"
        return code, self.errors.get(self.tasks[task], "")

    def _listen(self, ear: Any) -> None:
        for number, kind, text in _heard(ear):
            if kind == "event":
                self.audience.told(number, event_of(text))
            elif kind == "died":
                self.audience.died(number, text, again=True)
            else:
                self.errors[number] = text.removeprefix("error: ")
                self.audience.warned(number, text)

    def _stop(self, _number: int, _frame: object) -> None:
        self.asked_to_stop += 1
        self._cancel(force=self.asked_to_stop > 1)

    def _cancel(self, *, force: bool) -> None:
        import ray

        for task in self.tasks:
            with suppress(ray.exceptions.RayError, ValueError):
                ray.cancel(task, force=force)


def joined(address: str) -> Any:
    """Return Ray, joined to the cluster at an address.

    Raises:
        UsageError: there is none.
    """
    check_address(address)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    import ray

    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    if address == LOCAL:
        quiet["include_dashboard"] = False
    try:
        ray.init(address=address, **quiet)
    except (ConnectionError, ValueError, RuntimeError) as error:
        said = " ".join(str(error).split()) or type(error).__name__
        raise UsageError(f"there must be a Ray cluster at {address!r}, got: {said}") from None
    return ray


def check_address(address: str) -> None:
    """Refuse an address at which nobody listens: Ray itself waits there for minutes.

    Raises:
        UsageError: in one line.
    """
    if address in (LOCAL, FOUND):
        return
    host, _, port = address.rpartition(":")
    if not (host and port.isdigit()) or "/" in host:
        raise UsageError(f"a Ray cluster has the address HOST:PORT, or auto, got {address!r}")
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except (OSError, OverflowError) as error:
        raise UsageError(
            f"there must be a Ray cluster at {address!r}, got: {error}; 'ray status' finds it"
        ) from None


def _ear() -> Any:
    """What the tasks tell, wherever they are; it takes no processor's place from them."""
    from ray.util.queue import Queue

    return Queue(actor_options={"num_cpus": 0})


def _heard(ear: Any) -> list[tuple[int, str, str]]:
    count = ear.qsize()
    heard: list[tuple[int, str, str]] = ear.get_nowait_batch(count) if count else []
    return heard


def work(number: int, command: Sequence[str], environment: dict[str, str], ear: Any) -> int:
    """Be a task: run one worker, tell what it says, and return its exit code.

    Raises:
        LostWorkerError: it ended as it should not have.
    """
    process = started([sys.executable, *command], {**os.environ, **environment})

    def tell(kind: str, text: str) -> None:
        with suppress(Exception):  # nobody listens any more: we are about to be stopped
            ear.put((number, kind, text))

    readers = [
        threading.Thread(target=_read, args=(stream, kind, tell), daemon=True)
        for stream, kind in ((process.stdout, "event"), (process.stderr, "error"))
    ]
    for reader in readers:
        reader.start()
    try:
        code, cancelled = _waited(process)
        for reader in readers:
            reader.join()
    finally:
        end(process)
    if cancelled or code in REGULAR:
        return INTERRUPTED if cancelled else code
    tell("died", ended_how(code))
    raise LostWorkerError(ended_how(code))


def _read(stream: Any, kind: str, tell: Callable[[str, str], None]) -> None:
    with stream:
        for line in stream:
            tell(kind, line.rstrip("\n"))


def _waited(process: subprocess.Popen[str]) -> tuple[int, bool]:
    """The exit code of a worker, and whether its task was cancelled: then it is asked to stop."""
    try:
        while process.poll() is None:
            time.sleep(0.1)  # what Ray raises in us does not wake us up, as a signal would
        return process.returncode, False
    except KeyboardInterrupt:
        process.send_signal(signal.SIGTERM)
        return process.wait(), True
