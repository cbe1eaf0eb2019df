"""A cell: one (task, method) of a study, and how it becomes runs.

A run that others build on is a cell too, with nothing to tune.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from bnnbench.errors import UsageError, suggestion
from bnnbench.experiments import check_teacher
from bnnbench.graph import START_FROM, TEACHER, bases
from bnnbench.runs import Part, Run
from bnnbench.spaces import Choice, Float, Int, Space
from bnnbench.studies import Range

if TYPE_CHECKING:
    from bnnbench.experiments import Workbench
    from bnnbench.studies import Component, MethodSpec, Study, Task

NAMED = 3  #: components that a message names


@dataclass(frozen=True)
class Cell:
    """One (task, method) of a study, and how it becomes runs.

    ``bases`` are the cells that it starts from ("start_from") and learns from ("teacher"). A cell
    with a ``seed`` has one run for all seeds.
    """

    name: str
    study: Study
    task: Task
    method: MethodSpec
    spaces: Mapping[str, Space]
    defaults: Mapping[str, Any]
    parts: Mapping[str, Part]
    code: Mapping[str, str]
    bases: Mapping[str, Cell]
    select: str
    seed: int | None = None
    probes: tuple[str | Part, ...] = ()

    @property
    def optuna_name(self) -> str:
        """The name of the cell's Optuna study."""
        return f"{self.name}/{self.task.name}/{self.method.name}"

    @property
    def place(self) -> tuple[str, str]:
        """The names of its task and its method."""
        return self.task.name, self.method.name

    def seed_of(self, seed: int) -> int:
        """Return the seed of the run that has, or is built on by one that has, this seed."""
        return seed if self.seed is None else self.seed

    def run(
        self,
        values: Mapping[str, Any],
        seed: int,
        *,
        test: bool,
        bases: Mapping[str, str] = MappingProxyType({}),
    ) -> Run:
        """Return the run with these hyperparameters instead of the defaults.

        ``bases`` are the keys of the runs that it starts from and learns from.

        A run that looks at ``test`` is a confirming one; only tuning runs are pruned.
        """
        protocol = self.study.protocol
        prunable = self.spaces and protocol.pruner != "none" and not test
        return Run(
            dataset=self.parts["datasets"],
            architecture=self.parts["architectures"],
            loss=self.parts["losses"],
            method=Part(self.method.component, {**self.defaults, **values}),
            seed=self.seed_of(seed),
            epochs=self.task.epochs,
            batch_size=self.task.batch_size,
            precision=self.task.precision,
            select=self.select,
            test=test,
            reestimate=protocol.reestimate,
            probes=self.probes,
            judged=self.method.judged,
            pruned_in=self.optuna_name if prunable else "",
            start_from=bases.get(START_FROM, ""),
            teacher=bases.get(TEACHER, ""),
            code=self.code,
        )


def cells(name: str, study: Study, workbench: Workbench) -> list[Cell]:
    """Return every (task, method) of a study, its names and hyperparameters checked.

    Raises:
        UsageError: an unknown component or hyperparameter, a value out of range.
    """
    for probe in study.probes:
        _probe(probe, workbench)
    found = [
        _cell(name, study, task.model_copy(update=bases(method, task)), method, workbench)
        for task in study.tasks
        for method in study.methods
    ]
    for run in study.runs:  # also those that nobody names
        _base(name, study, study.tasks[0].name, run, workbench)
    return found


def check(planned: Iterable[Cell], workbench: Workbench) -> None:
    """Load every data set, build every network and loss once, compare what is handed over.

    Raises:
        BnnbenchError: in one line, what would have failed in training.
    """
    for cell in planned:
        check(cell.bases.values(), workbench)
        seed = cell.study.protocol.seed
        runs = {key: base.run({}, seed, test=False) for key, base in cell.bases.items()}
        with _named(f"{cell.method.name!r} on {cell.task.name!r}"):
            run = cell.run({}, seed, test=False)
            workbench.check(run, runs.get(START_FROM), runs.get(TEACHER))


def built_on(cell: Cell) -> list[Cell]:
    """Return all that a cell builds on, directly or not."""
    return [each for base in cell.bases.values() for each in (base, *built_on(base))]


def _base(name: str, study: Study, task: str, run: str, workbench: Workbench) -> Cell:
    """The cell of one of the study's runs, as a task's methods build on it."""
    spec = study.runs[run]
    with _named(f"run {run!r}"):
        cell = _cell(name, study, spec.on(study.task(task)), spec.as_method(run), workbench)
    select = spec.select or study.protocol.select
    return replace(cell, spaces={}, select=select, seed=spec.seed)


def _cell(name: str, study: Study, task: Task, method: MethodSpec, workbench: Workbench) -> Cell:
    named = {"dataset": task.dataset, "architecture": task.architecture, "loss": task.loss}
    where = f"task {task.name!r}: " if len(study.tasks) > 1 else "task."
    parts: dict[str, Part] = {}
    for key, c in named.items():
        kind = "losses" if key == "loss" else f"{key}s"
        with _named(f"{where}{key}"), _elsewhere(workbench, kind, c):
            parts[kind] = Part(c.name, workbench.complete(kind, c.name, c.hyperparameters))
    with _named(f"task {task.name!r}"):
        check_teacher(workbench, task.loss.name, named=bool(task.teacher))
    with _named(f"method {method.name!r}"):
        cell = _with_method(name, study, task, method, parts, workbench)
    runs = bases(method, task).items()
    found = {key: _base(name, study, task.name, run, workbench) for key, run in runs}
    return replace(cell, bases=found)


@contextmanager
def _named(where: str) -> Iterator[None]:
    """Say where in the study an error is."""
    try:
        yield
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from error


@contextmanager
def _elsewhere(workbench: Workbench, kind: str, given: Component) -> Iterator[None]:
    """Say which others of its kind have a hyperparameter that this component does not have."""
    try:
        yield
    except UsageError as error:
        unknown = _unknown(workbench, kind, given)
        others = _owners(workbench, kind, unknown) if unknown else []
        if not others:
            raise
        more = " and others" if len(others) > NAMED else ""
        names = ", ".join(map(repr, others[:NAMED]))
        raise UsageError(f"{error} ({unknown!r} belongs to {names}{more})") from error


def _unknown(workbench: Workbench, kind: str, given: Component) -> str:
    """The first hyperparameter that a component is given and does not have."""
    if given.name not in workbench.plugins.names(kind):
        return ""
    known = workbench.hyperparameters(kind, given.name)
    return next((name for name in given.hyperparameters if name not in known), "")


def _owners(workbench: Workbench, kind: str, hyperparameter: str) -> list[str]:
    """The components of a kind that have a hyperparameter; one that cannot be loaded has none."""
    found = []
    for name in workbench.plugins.names(kind):
        with suppress(Exception):  # whatever a plugin that nobody asked for may raise
            if hyperparameter in workbench.hyperparameters(kind, name):
                found.append(name)
    return found


def _with_method(
    name: str,
    study: Study,
    task: Task,
    method: MethodSpec,
    parts: Mapping[str, Part],
    workbench: Workbench,
) -> Cell:
    defaults = workbench.complete("methods", method.component, method.hyperparameters)
    workbench.build("methods", Part(method.component, defaults))  # its own checks, early
    spaces = _spaces(method, workbench) if study.protocol.tunes else {}
    used = [(kind, part.name) for kind, part in parts.items()]
    used += [("probes", probe.name) for probe in study.probes]
    code = workbench.versions([*used, ("methods", method.component)])
    select, probes = study.protocol.select, tuple(_probe(p, workbench) for p in study.probes)
    return Cell(name, study, task, method, spaces, defaults, parts, code, {}, select, probes=probes)


def _probe(given: Component, workbench: Workbench) -> str | Part:
    """A probe as a run has it: its name alone, or with its hyperparameters where some are given."""
    workbench.plugins.component("probes", given.name)
    if not given.hyperparameters:
        return given.name
    with _named("probes"):
        values = workbench.complete("probes", given.name, given.hyperparameters)
    return Part(given.name, values)


def _spaces(method: MethodSpec, workbench: Workbench) -> dict[str, Space]:
    known = workbench.hyperparameters("methods", method.component)
    if method.search is None:
        return {
            name: h.space
            for name, h in known.items()
            if h.space and name not in method.hyperparameters
        }
    spaces: dict[str, Space] = {}
    for name, given in method.search.items():
        if name not in known:
            hint = suggestion(name, known)
            raise UsageError(f"{method.name} has no hyperparameter {name!r} to search{hint}")
        ends = [given.low, given.high] if isinstance(given, Range) else given
        for value in ends:
            known[name].check(value, method.name)
        spaces[name] = _space(given, whole=known[name].is_whole)
    return spaces


def _space(given: Range | list[Any], *, whole: bool) -> Space:
    if isinstance(given, list):
        return Choice(*given)
    if whole:
        return Int(int(given.low), int(given.high), given.log)
    return Float(given.low, given.high, given.log)
