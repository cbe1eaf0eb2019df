"""Live progress on a terminal, plain lines elsewhere."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from bnnbench.measurements import Measurement
    from bnnbench.needs import Need
    from bnnbench.store import Entry


def observer(threads: int | None = None) -> PlainProgress:
    """Return the observer that fits the output; ``threads`` are those that the user asked for."""
    return (LiveProgress if sys.stdout.isatty() else PlainProgress)(threads)


def duration(seconds: float) -> str:
    """Return seconds as people say them.

    >>> duration(7.4), duration(75), duration(7300)
    ('7 s', '1 min 15 s', '2 h 01 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def busy(threads: int | None) -> str:
    """Return a warning where other processes use this machine, else nothing."""
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    if load < 0.5:
        return ""
    faster = ", and --threads 1 may be many times as fast" if threads is None else ""
    return f"; this machine is busy (load {load:.1f}), so times may not count{faster}"


QUIET = 30.0  #: seconds after which plain progress says something in the middle of a run


class PlainProgress:
    """One line for each run that ends, and one now and then in a long run or a long epoch."""

    def __init__(self, threads: int | None = None) -> None:
        self.threads = threads
        self.entry: Entry | None = None
        self.runs = self.done = 0
        self.guessed = ""
        self.epochs = self.epochs_left = self.epochs_seen = 0
        self.began = self.run_began = self.said = 0.0
        self.latest: dict[str, float] = {}

    @contextmanager
    def watching(self, name: str, needs: Sequence[Need]) -> Iterator[None]:
        """Watch a study that needs so much."""
        self.runs = sum(need.runs for need in needs)
        self.guessed = "about " if any(need.open for need in needs) else ""
        self.epochs = sum(need.runs * need.epochs for need in needs)
        self.epochs_left = self.epochs
        self.began = time.monotonic()
        warning = busy(self.threads) if self.runs else ""
        click.echo(
            f"study {name}: {self.guessed}{self.runs} {'run' if self.runs == 1 else 'runs'} to do"
            f"{warning}"
        )
        sys.stdout.flush()
        with self.heartbeat():
            yield

    @contextmanager
    def heartbeat(self) -> Iterator[None]:
        """Say that a long epoch is still going on, where nothing else says so; in a thread."""
        over = threading.Event()

        def beat() -> None:
            while not over.wait(QUIET / 3):
                entry = self.entry
                if entry is not None:
                    self.still_here(entry)

        thread = threading.Thread(target=beat, daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def run_started(self, entry: Entry) -> None:
        """Begin a run, perhaps one more than was foreseen."""
        if self.done >= self.runs:  # seconds are left to tune, or there is another best trial
            self.runs = self.done + 1
            self.epochs += entry.run.epochs
            self.epochs_left = max(self.epochs_left, 0) + entry.run.epochs
        self.latest, self.run_began, self.epochs_seen = {}, time.monotonic(), 0
        self.entry = entry

    def epochs_skipped(self, entry: Entry, epochs: int) -> None:
        """Take up a run that was broken off after so many epochs, also one that is under way."""
        self.epochs_left -= epochs - self.epochs_seen
        self.epochs_seen = epochs
        if epochs:
            self.say(f"{entry.label}: taken up after epoch {epochs} of {entry.run.epochs}")

    def epoch_ended(self, entry: Entry, measured: list[Measurement]) -> None:
        """Take the latest accuracy, flip rate and time from an epoch's measurements."""
        for m in measured:
            if (m.metric, m.split, m.mode) == ("accuracy", "validation", entry.facts["judged"]):
                self.latest["accuracy"] = m.value
            if m.metric in ("seconds.train", "seconds.warmup"):
                self.latest["seconds"] = m.value
            if m.metric == "flip_step" and not m.layer:
                self.latest["flips"] = m.value
        if any((m.metric, m.split) == ("loss", "train") for m in measured):
            self.epochs_left -= 1
            self.epochs_seen += 1
            self.still_here(entry)

    def still_here(self, entry: Entry) -> None:
        """Say where a long run stands."""
        if time.monotonic() - max(self.said, self.run_began) > QUIET:
            where = f"{self.epochs_seen} of {entry.run.epochs} epochs done"
            self.say(", ".join(filter(None, (f"{entry.label}: {where}", self.last_epoch()))))

    def run_ended(self, entry: Entry, state: str, message: str) -> None:
        """End a run with a line."""
        self.done, self.entry = self.done + 1, None
        self.epochs_left -= max(0, entry.run.epochs - self.epochs_seen)
        self.say(self.counted(self.ending(entry, state, message)))

    def ending(self, entry: Entry, state: str, message: str) -> str:
        """Return how a run ended, in a line."""
        seconds = duration(time.monotonic() - self.run_began)
        return f"{entry.label}: {message or self.last_epoch()}, {state} in {seconds}"

    def counted(self, line: str) -> str:
        """Return a line with how many runs are done before it, and the time left after it."""
        return f"[{self.done}/{self.guessed}{self.runs}] {line}; {duration(self.time_left())} left"

    def last_epoch(self) -> str:
        """Return the latest figures and whose they are: tables show the selected epoch's."""
        status = self.status()
        return f"last epoch {status}" if status else ""

    def say(self, line: str) -> None:
        """Print a line."""
        self.said = time.monotonic()
        click.echo(line)
        sys.stdout.flush()

    def status(self) -> str:
        """Return the latest figures in a few words."""
        words = []
        if "accuracy" in self.latest:
            words.append(f"accuracy {self.latest['accuracy']:.2f} %")
        if "flips" in self.latest:
            words.append(f"flips {self.latest['flips']:.1e}/step")
        if "seconds" in self.latest:
            words.append(f"{self.latest['seconds']:.2g} s/epoch")
        return ", ".join(words)

    def time_left(self) -> float:
        """Return the seconds that the rest takes at the pace so far."""
        spent = time.monotonic() - self.began
        left = max(self.epochs_left, 0)
        return spent * left / max(self.epochs - left, 1)


class WorkerProgress(PlainProgress):
    """What a worker tells its supervisor, a line of JSON each: see :mod:`bnnbench.workers`.

    ``epochs`` are those since the last word, ``ended`` how a run ended, ``line`` is anything else.
    """

    OFTEN = 0.25  #: seconds between two words about epochs

    unsaid, heard = 0, True

    @contextmanager
    def watching(self, name: str, needs: Sequence[Need]) -> Iterator[None]:
        """Watch a study; how much it needs is its supervisor's to say."""
        self.began = time.monotonic()
        with self.heartbeat():
            yield

    def epochs_skipped(self, entry: Entry, epochs: int) -> None:
        """Take up a run that was broken off after so many epochs."""
        before = self.epochs_seen
        super().epochs_skipped(entry, epochs)
        self.tell(skipped=epochs - before)

    def epoch_ended(self, entry: Entry, measured: list[Measurement]) -> None:
        """Tell of epochs now and then."""
        before = self.epochs_seen
        super().epoch_ended(entry, measured)
        self.unsaid += self.epochs_seen - before
        if self.unsaid and time.monotonic() - self.said > self.OFTEN:
            self.said = time.monotonic()
            self.tell()

    def run_ended(self, entry: Entry, state: str, message: str) -> None:
        """Tell how a run ended, and how many of its epochs there will not be."""
        self.entry = None
        never = max(0, entry.run.epochs - self.epochs_seen)
        self.tell(ended=self.ending(entry, state, message), skipped=never)

    def say(self, line: str) -> None:
        """Tell a line."""
        self.said = time.monotonic()
        self.tell(line=line)

    def tell(self, **event: object) -> None:
        """Print what is told, and the epochs since the last word.

        Where nobody listens any more nothing is told: the worker is about to be stopped.
        """
        if self.heard:
            try:
                print(json.dumps({"epochs": self.unsaid, **event}), flush=True)
            except BrokenPipeError:
                self.heard = False
                sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115
        self.unsaid = 0


class LiveProgress(PlainProgress):
    """A line for each run that ended, and below them a bar of epochs and the figures of the run."""

    @contextmanager
    def watching(self, name: str, needs: Sequence[Need]) -> Iterator[None]:
        """Watch a study that needs so much, in a live display."""
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            SpinnerColumn,
            TextColumn,
        )

        with super().watching(name, needs):
            bars = Progress(
                SpinnerColumn(),  # moves in an epoch, however long it is
                TextColumn("{task.description}"),
                BarColumn(bar_width=24),
                MofNCompleteColumn(),
                TextColumn("{task.fields[figures]}"),
            )
            self.bars: Any = bars
            with bars:
                self.all = bars.add_task("runs", total=self.runs, figures="")
                self.one = bars.add_task("epochs", total=1, figures="", visible=False)
                yield

    def run_started(self, entry: Entry) -> None:
        """Begin a run."""
        super().run_started(entry)
        self.bars.update(self.all, total=self.runs)
        self.bars.update(
            self.one, description=entry.label, total=entry.run.epochs, visible=True, figures=""
        )
        self.bars.update(self.one, completed=0)

    def epoch_ended(self, entry: Entry, measured: list[Measurement]) -> None:
        """Move the bars."""
        super().epoch_ended(entry, measured)
        self.bars.update(self.one, completed=self.epochs_seen, figures=self.last_epoch())
        self.bars.update(self.all, figures=f"{duration(self.time_left())} left")

    def run_ended(self, entry: Entry, state: str, message: str) -> None:
        """End a run with a line above the bars."""
        super().run_ended(entry, state, message)
        self.bars.update(self.all, completed=self.done)

    def still_here(self, entry: Entry) -> None:
        """Say nothing: the bars move."""

    def say(self, line: str) -> None:
        """Print a line above the bars."""
        self.bars.console.print(line, markup=False, highlight=False)
