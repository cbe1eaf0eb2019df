"""Several studies of a database as one: all their tasks, and what their methods have in common.

    tasks     as each study names them; "study/task" for all, where a study has more than one or two
              studies have a task of the same name
    methods   of equal names are one method if they are described alike, with the runs that they
              build on; else each is told apart, "bop (study)"
    asked     a method is asked for on the tasks of its own studies, with their numbers of seeds

The reference is that of the first study that has one. A run that two studies have counts in both:
it has a number of its own in each.
"""

from __future__ import annotations

from collections import Counter
from functools import cached_property
from typing import TYPE_CHECKING, Any

from bnnbench.entries import BASE, CONFIRM
from bnnbench.errors import UsageError
from bnnbench.results import Results

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from bnnbench.deployments import Deployment, Refusal
    from bnnbench.entries import Entry
    from bnnbench.outcomes import Outcome
    from bnnbench.series import Series
    from bnnbench.store import Store
    from bnnbench.studies import MethodSpec, Published, RunSpec, Study, Task


def results_of(store: Store, names: Sequence[str]) -> Results:
    """Return the results of a study, or of several as one.

    Raises:
        UsageError: there is no such study, or one is named twice.
    """
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise UsageError(f"a study is named once, got {twice[0]!r} twice; leave one out")
    parts = [Results(store, name) for name in names]
    return parts[0] if len(parts) == 1 else Together(parts)


def said(results: Results, tell: Callable[[Results], Any]) -> str:
    """Return what is told of each study: once where all agree, else with the studies' names.

    >>> from types import SimpleNamespace as Some
    >>> parts = [Some(name="a", seeds=3), Some(name="b", seeds=5), Some(name="c", seeds=3)]
    >>> said(Some(parts=parts), lambda part: part.seeds)
    '3 (a, c), 5 (b)'
    >>> said(Some(parts=parts[:1]), lambda part: part.seeds)
    '3'
    """
    found: dict[str, list[str]] = {}
    for part in results.parts:
        found.setdefault(str(tell(part)), []).append(part.name)
    if len(found) == 1:
        return next(iter(found))
    return ", ".join(f"{text or 'none'} ({', '.join(names)})" for text, names in found.items())


class Together(Results):
    """The results of several studies, with all that those of one have."""

    def __init__(self, parts: Sequence[Results]) -> None:
        self._parts = parts
        self._methods = told_apart([(part.name, part.study) for part in parts])
        self._tasks = _task_names(parts)
        self.name = " + ".join(part.name for part in parts)
        self.command = " && ".join(filter(None, (part.command for part in parts)))
        self.version = ", ".join(dict.fromkeys(part.version for part in parts))
        self.study = self._study()

    @property
    def parts(self) -> Sequence[Results]:
        """The results of each study by itself."""
        return self._parts

    def _study(self) -> Study:
        """A study that has what all of them have; names may have a slash and brackets."""
        studies = [part.study for part in self._parts]
        tasks = {t.name: t for part in self._parts for t in self._own_tasks(part)}
        methods = {m.name: m for part in self._parts for m in self._own_methods(part)}
        runs = {name: run for study in reversed(studies) for name, run in study.runs.items()}
        probes = {repr(probe): probe for study in studies for probe in study.probes}
        first = next((part for part in self._parts if part.study.reference), self._parts[0])
        reference = self._methods.get((first.name, first.study.reference), "")
        most = max(study.protocol.seeds for study in studies)
        return studies[0].model_copy(
            update={
                "title": " + ".join(part.study.title or part.name for part in self._parts),
                "source": "; ".join(dict.fromkeys(s.source for s in studies if s.source)),
                "departures": tuple(
                    f"{part.name}: {each}" for part in self._parts for each in part.study.departures
                ),
                "scale": min(study.scale for study in studies),
                "tasks": tuple(tasks.values()),
                "protocol": first.study.protocol.model_copy(
                    update={"reference": reference, "seeds": most}
                ),
                "methods": tuple(methods.values()),
                "runs": runs,
                "probes": tuple(probes.values()),
                "published": tuple(
                    each for part in self._parts for each in self._own_published(part)
                ),
            }
        )

    def _own_tasks(self, part: Results) -> list[Task]:
        names = ((task, self._tasks[part.name, task.name]) for task in part.study.tasks)
        return [task.model_copy(update={"name": name}) for task, name in names]

    def _own_methods(self, part: Results) -> list[MethodSpec]:
        names = ((method, self._methods[part.name, method.name]) for method in part.study.methods)
        return [method.model_copy(update={"name": name}) for method, name in names]

    def _own_published(self, part: Results) -> list[Published]:
        """The published values of a study, each for one of its tasks."""
        return [
            each.model_copy(
                update={
                    "task": self._tasks[part.name, task.name],
                    "method": self._methods[part.name, each.method],
                }
            )
            for each in part.study.published
            for task in part.study.tasks
            if each.task in ("", task.name)
        ]

    @cached_property
    def asked(self) -> Mapping[tuple[str, str], int]:
        """How many confirming runs are asked for, by those tasks and methods that belong together.

        They are in the order of the tasks and methods of :attr:`study`.
        """
        found = {
            (self._tasks[part.name, task], self._methods[part.name, method]): seeds
            for part in self._parts
            for (task, method), seeds in part.asked.items()
        }
        methods = [method.name for method in self.study.methods]
        cells = [(task.name, method) for task in self.study.tasks for method in methods]
        return {cell: found[cell] for cell in cells if cell in found}

    def scale(self, task: str) -> float:
        """Return what share of the published training a task's runs have: that of its study."""
        scales = {part.name: part.study.scale for part in self._parts}
        return next(scales[study] for (study, _), name in self._tasks.items() if name == task)

    @cached_property
    def events(self) -> list[tuple[float, str, str]]:
        """What happened to all studies, oldest first, with the studies' names."""
        found = [
            (at, kind, f"{part.name}: {text}")
            for part in self._parts
            for at, kind, text in part.events
        ]
        return sorted(found, key=lambda event: event[0])

    @cached_property
    def entries(self) -> list[Entry]:
        """All runs, study by study."""
        return [
            self._renamed(entry, part, place)
            for place, part in enumerate(self._parts)
            for entry in part.entries
        ]

    def _renamed(self, entry: Entry, part: Results, place: int) -> Entry:
        method = entry.method
        if entry.role != BASE:
            method = self._methods[part.name, method]
        task, number = self._tasks[part.name, entry.task], self._number(entry.run_id, place)
        return entry._replace(task=task, method=method, run_id=number)

    def _number(self, run_id: int, place: int) -> int:
        """A run's number here: another one in each study that has the run."""
        return run_id * len(self._parts) + place

    @cached_property
    def environments(self) -> dict[str, dict[str, Any]]:
        """Where the runs were trained, by key."""
        return {key: spec for part in self._parts for key, spec in part.environments.items()}

    @cached_property
    def outcomes(self) -> dict[int, Outcome]:
        """What the finished runs came to, by the runs' numbers here."""
        return {
            self._number(run_id, place): outcome
            for place, part in enumerate(self._parts)
            for run_id, outcome in part.outcomes.items()
        }

    @cached_property
    def deployments(self) -> dict[int, Deployment | Refusal]:
        """What the networks of runs are as they would be deployed, by the runs' numbers here."""
        return {
            self._number(run_id, place): found
            for place, part in enumerate(self._parts)
            for run_id, found in part.deployments.items()
        }

    def series(self, metrics: Iterable[str], role: str = CONFIRM, **place: Any) -> list[Series]:
        """Return some metrics of all finished runs, with the runs' numbers here."""
        wanted = list(metrics)
        return [
            series._replace(run_id=self._number(series.run_id, number))
            for number, part in enumerate(self._parts)
            for series in part.series(wanted, role, **place)
        ]


def _task_names(parts: Sequence[Results]) -> dict[tuple[str, str], str]:
    """What each study's task is called here."""
    own = [(part.name, task.name) for part in parts for task in part.study.tasks]
    plain = all(len(part.study.tasks) == 1 for part in parts)
    plain = plain and len({task for _, task in own}) == len(own)
    return {(study, task): task if plain else f"{study}/{task}" for study, task in own}


def told_apart(studies: Sequence[tuple[str, Study]]) -> dict[tuple[str, str], str]:
    """Return what each study's method is called among all, by (study, method).

    Methods of one name keep it where all of them are described alike.
    """
    described: dict[str, list[tuple[str, Any]]] = {}
    for name, study in studies:
        for method in study.methods:
            described.setdefault(method.name, []).append((name, _description(study, method)))
    return {
        (study, method): method if _all_alike(found) else f"{method} ({study})"
        for method, found in described.items()
        for study, _ in found
    }


def _all_alike(found: Sequence[tuple[str, Any]]) -> bool:
    return all(description == found[0][1] for _, description in found)


def _description(study: Study, method: MethodSpec) -> tuple[MethodSpec, dict[str, RunSpec]]:
    """How a method is described: its own table, and those of the runs that it names."""
    waiting = [method.start_from, method.teacher]
    runs: dict[str, RunSpec] = {}
    while waiting:
        name = waiting.pop()
        if name and name not in runs:
            runs[name] = study.runs[name]
            waiting += [runs[name].start_from, runs[name].teacher]
    return method, runs
