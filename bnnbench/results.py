"""A study's results, read in bulk: runs, curves, outcomes.

Knows no torch and no plot, so a laptop that only holds the database can read them.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from bnnbench.catalogue import FORMER
from bnnbench.deployments import kept
from bnnbench.graph import START_FROM, TEACHER
from bnnbench.rows import Row, Table
from bnnbench.store import BASE, CONFIRM, DONE, Entry, Store

if TYPE_CHECKING:
    from bnnbench.deployments import Deployment, Refusal
    from bnnbench.interfaces import Task as Kind
    from bnnbench.outcomes import Outcome
    from bnnbench.series import Series
    from bnnbench.studies import Study


#: how numpy reads the points of a series
POINT = np.dtype([("epoch", "<i4"), ("phase", "<i4"), ("value", "<f8")])


class Curve(NamedTuple):
    """One metric of one run over its epochs."""

    entry: Entry
    split: str
    mode: str
    layer: str
    epochs: np.ndarray[Any, Any]
    values: np.ndarray[Any, Any]


class Base(NamedTuple):
    """A run that others start from or learn from: ``used_by`` says which and as what.

    ``validation`` is its accuracy in percent, at the selected epoch in the judged mode; a run of
    this kind never looks at the test split.
    """

    entry: Entry
    validation: float | None
    used_by: Sequence[str]


def points(series: Series) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Return the epochs and the values of a series.

    >>> from bnnbench.series import Measured, bound
    >>> points(bound([Measured(1, "loss", "train", "", "", 2, 0, 0.5)])[0])
    (array([2]), array([0.5]))
    """
    found = np.frombuffer(series.points, POINT)
    return found["epoch"].astype(np.int64), found["value"].astype(np.float64)


class Results:
    """The runs of a study and what was measured in them."""

    def __init__(self, store: Store, name: str) -> None:
        self.name, self._store = name, store
        self.study: Study = store.study(name)
        self.command, self.version = store.command(name), store.version(name)

    @property
    def parts(self) -> Sequence[Results]:
        """The results of each study by itself: here of the only one."""
        return [self]

    @cached_property
    def asked(self) -> Mapping[tuple[str, str], int]:
        """How many confirming runs are asked for, by task and method, in the order of the study."""
        study = self.study
        cells = itertools.product(study.tasks, study.methods)
        return {(task.name, method.name): study.protocol.seeds for task, method in cells}

    def scale(self, task: str) -> float:
        """Return what share of the published training a task's runs have."""
        return self.study.scale

    @cached_property
    def events(self) -> list[tuple[float, str, str]]:
        """What happened, oldest first: seconds since 1970, kind and text."""
        return self._store.events(self.name)

    @cached_property
    def entries(self) -> list[Entry]:
        """All runs, tuning and confirming."""
        return self._store.entries(self.name)

    @cached_property
    def environments(self) -> dict[str, dict[str, Any]]:
        """Where the runs were trained, by key."""
        return self._store.environments(self.name)

    @cached_property
    def outcomes(self) -> dict[int, Outcome]:
        """What the finished runs came to, by the runs' numbers."""
        return self._store.outcomes(self.name, DONE)

    @cached_property
    def deployments(self) -> dict[int, Deployment | Refusal]:
        """What the networks of runs are as they would be deployed, by the runs' numbers."""
        return kept(self._store, self.name)

    def kind(self, task: str) -> Kind:
        """Return what a task is, by its data."""
        return self._kinds.get(task, "classification")

    @cached_property
    def _kinds(self) -> dict[str, Kind]:
        return {e.task: e.facts["task"] for e in self.entries if "task" in e.facts}

    @cached_property
    def notes(self) -> dict[str, str]:
        """What sets the data of a task apart from published ones, for the tasks that have it."""
        found: dict[str, dict[str, None]] = {}
        for entry in self.entries:
            synthetic = "synthetic data" if entry.facts.get("synthetic") else ""
            for said in filter(None, (synthetic, entry.facts.get("remark"))):
                found.setdefault(entry.task, {})[said] = None
        for task in self._mixed:
            found.setdefault(task, {})["runs on different images"] = None
        return {task: ", ".join(said) for task, said in found.items()}

    @property
    def _mixed(self) -> list[str]:
        """The tasks whose finished runs saw different splits: files came, went or changed."""
        seen: dict[str, set[str]] = {}
        for entry in self.entries:
            if entry.role.startswith(FORMER):
                continue
            if entry.state == DONE and "splits" in entry.facts:
                splits = sorted(entry.facts["splits"].items())
                seen.setdefault(entry.task, set()).add(repr(splits))
        return [task for task, splits in seen.items() if len(splits) > 1]

    def confirmed(self, task: str = "", method: str = "") -> list[Entry]:
        """Return the finished confirming runs, of one task and method or of all."""
        among = self.cell(task, method) if task and method else self.entries
        return [
            e
            for e in among
            if (e.role, e.state) == (CONFIRM, DONE)
            and task in ("", e.task)
            and method in ("", e.method)
        ]

    def cell(self, task: str, method: str) -> list[Entry]:
        """Return all runs of a task and method."""
        return self._cells.get((task, method), [])

    @cached_property
    def _cells(self) -> dict[tuple[str, str], list[Entry]]:
        cells: dict[tuple[str, str], list[Entry]] = {}
        for entry in self.entries:
            cells.setdefault((entry.task, entry.method), []).append(entry)
        return cells

    def curves(self, metric: str, role: str = CONFIRM, **place: Any) -> list[Curve]:
        """Return a metric of all finished runs over the epochs; ``place``: split, mode, layer."""
        by_run: dict[int, list[Series]] = {}
        for series in self.series([metric], role, **place):
            by_run.setdefault(series.run_id, []).append(series)
        return [
            Curve(entry, series.split, series.mode, series.layer, *points(series))
            for entry in self.entries
            if (entry.role, entry.state) == (role, DONE)
            for series in by_run.get(entry.run_id, [])
        ]

    def series(self, metrics: Iterable[str], role: str = CONFIRM, **place: Any) -> list[Series]:
        """Return some metrics of all finished runs as they are stored."""
        return self._store.series(self.name, metrics, role=role, state=DONE, **place)

    def bases(self) -> list[Base]:
        """Return the runs that others build on, in the order in which they were made."""
        return [
            Base(entry, self._selected(entry), self._used_by(entry))
            for entry in self.entries
            if entry.role == BASE
        ]

    def _selected(self, entry: Entry) -> float | None:
        """The accuracy on validation of a finished run, in its judged mode."""
        found = self.outcomes.get(entry.run_id)
        return found.selected.get(entry.facts.get("judged", "")) if found else None

    def _used_by(self, base: Entry) -> list[str]:
        used = {key: self._users.get((key, base.run.key)) for key in (START_FROM, TEACHER)}
        return [f"{key} of {', '.join(methods)}" for key, methods in used.items() if methods]

    @cached_property
    def _users(self) -> dict[tuple[str, str], dict[str, None]]:
        """The methods whose runs start from or learn from a run, by how and by its key."""
        users: dict[tuple[str, str], dict[str, None]] = {}
        for entry in self.entries:
            for key in (START_FROM, TEACHER):
                users.setdefault((key, getattr(entry.run, key)), {})[entry.method] = None
        return users

    def rows(self) -> list[Row]:
        """Return the table of results: for each task and method, a line for each inference mode."""
        table = Table(self)
        return [row for task, method in self.asked for row in table.rows(task, method)]
