"""Running a study: tune on validation with an equal budget, confirm with paired seeds, test once.

The one place where torch, Optuna and the database meet. Each (task, method) is one Optuna study
called ``<study>/<task>/<method>`` in the same database. Whatever is finished is never run again;
whatever was broken off is taken up: a trial that Optuna still calls running keeps its number and
its hyperparameters.
"""

from __future__ import annotations

import traceback
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from bnnbench.environment import FOREIGN, Neighbours, describe_environment
from bnnbench.errors import BnnbenchError, UsageError, suggestion
from bnnbench.plugins import describe
from bnnbench.runs import Part, Run
from bnnbench.spaces import Choice, Float, Int, Space
from bnnbench.store import (
    CONFIRM,
    DIVERGED,
    DONE,
    ENDED,
    FAILED,
    PENDING,
    PRUNED,
    TUNE,
    Entry,
    Store,
)
from bnnbench.studies import Range

if TYPE_CHECKING:
    import optuna

    from bnnbench.experiments import Workbench
    from bnnbench.measurements import Measurement
    from bnnbench.studies import MethodSpec, Study, Task


class Observer(Protocol):
    """Who watches a study run; see :mod:`bnnbench.cli.progress`."""

    def run_started(self, entry: Entry) -> None:
        """A run begins."""

    def epoch_ended(self, entry: Entry, measured: list[Measurement]) -> None:
        """An epoch's measurements are in the database."""

    def run_ended(self, entry: Entry, state: str, message: str) -> None:
        """A run is over."""


class Need(NamedTuple):
    """What a study still needs of one (task, method)."""

    task: str
    method: str
    trials: int
    confirmations: int
    epochs: int


@dataclass(frozen=True)
class Cell:
    """One (task, method) of a study, and how it becomes runs."""

    name: str
    study: Study
    task: Task
    method: MethodSpec
    spaces: Mapping[str, Space]
    defaults: Mapping[str, Any]
    parts: Mapping[str, Part]

    @property
    def optuna_name(self) -> str:
        """The name of the cell's Optuna study."""
        return f"{self.name}/{self.task.name}/{self.method.name}"

    def run(self, values: Mapping[str, Any], seed: int, *, test: bool) -> Run:
        """Return the run with these hyperparameters instead of the defaults."""
        protocol = self.study.protocol
        return Run(
            dataset=self.parts["datasets"],
            architecture=self.parts["architectures"],
            loss=self.parts["losses"],
            method=Part(self.method.component, {**self.defaults, **values}),
            seed=seed,
            epochs=self.task.epochs,
            batch_size=self.task.batch_size,
            select=protocol.select,
            test=test,
            reestimate=protocol.reestimate,
            probes=self.study.probes,
        )


def cells(name: str, study: Study, workbench: Workbench) -> list[Cell]:
    """Return every (task, method) of a study, its names and hyperparameters checked.

    Raises:
        UsageError: an unknown component or hyperparameter, a value out of range.
    """
    for probe in study.probes:
        workbench.plugins.component("probes", probe)
    return [_cell(name, study, task, m, workbench) for task in study.tasks for m in study.methods]


def _cell(name: str, study: Study, task: Task, method: MethodSpec, workbench: Workbench) -> Cell:
    named = {"datasets": task.dataset, "architectures": task.architecture, "losses": task.loss}
    parts = {
        kind: Part(c.name, workbench.complete(kind, c.name, c.hyperparameters))
        for kind, c in named.items()
    }
    defaults = workbench.complete("methods", method.component, method.hyperparameters)
    workbench.build("methods", Part(method.component, defaults))  # its own checks, early
    spaces = _spaces(method, workbench) if study.protocol.trials else {}
    return Cell(name, study, task, method, spaces, defaults, parts)


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
    if given.low > given.high:
        raise UsageError(f"low <= high must hold in a search, got {given.low} > {given.high}")
    if whole:
        return Int(int(given.low), int(given.high), given.log)
    return Float(given.low, given.high, given.log)


class StudyRunner:
    """Finishes what is missing of a study; safe to repeat, safe to kill."""

    def __init__(self, store: Store, name: str, workbench: Workbench, observer: Observer) -> None:
        self.store, self.name, self.workbench, self.observer = store, name, workbench, observer
        self.study = store.study(name)
        self.cells = cells(name, self.study, workbench)
        self.protocol = self.study.protocol

    def needs(self) -> list[Need]:
        """Return what is missing, by (task, method)."""
        ended = [e for e in self.store.entries(self.name) if e.state in ENDED]
        found = [(e.task, e.method, e.role) for e in ended]
        return [
            Need(
                cell.task.name,
                cell.method.name,
                self._budget(cell) - found.count((cell.task.name, cell.method.name, TUNE)),
                self.protocol.seeds - found.count((cell.task.name, cell.method.name, CONFIRM)),
                cell.task.epochs,
            )
            for cell in self.cells
        ]

    def check(self) -> None:
        """Load every data set and build every network and loss once, before anything is trained.

        Raises:
            BnnbenchError: in one line, what would have failed later.
        """
        for cell in self.cells:
            run = cell.run({}, self.protocol.seed, test=False)
            self.workbench.prepare(run)

    def run(self) -> None:
        """Tune, then confirm. A run that fails is stored with its traceback; the others go on."""
        for number in range(self.protocol.trials):
            for cell in self.cells:
                if number < self._budget(cell):
                    self._trial(cell, number)
        best = {cell.optuna_name: self._best(cell) for cell in self.cells}
        for seed in self.seeds:
            for cell in self.cells:
                values = best[cell.optuna_name]
                if values is not None:
                    self._confirm(cell, values, seed)

    @property
    def seeds(self) -> range:
        """The seeds of the confirming runs, the same for every method."""
        first = self.protocol.seed + 1
        return range(first, first + self.protocol.seeds)

    def _budget(self, cell: Cell) -> int:
        """Trials of a cell; a method with nothing to tune needs none."""
        return self.protocol.trials if cell.spaces else 0

    def _trial(self, cell: Cell, number: int) -> None:
        study = optuna_study(self.store, cell)
        done = self.store.entries(
            self.name, task=cell.task.name, method=cell.method.name, role=TUNE, number=number
        )
        trial, state = _take(study, number, cell)
        if state.is_finished():
            return
        values = done[0].run.method.hyperparameters if done else _suggest(trial, cell)
        run = cell.run(values, self.protocol.seed, test=False)
        entry = self._enter(cell, TUNE, number, run)
        if entry.state not in (DONE, DIVERGED, FAILED, PRUNED):
            self._train(entry, run, trial if self.protocol.pruner != "none" else None)
        self._tell(study, trial, entry)

    def _tell(self, study: optuna.Study, trial: optuna.Trial, entry: Entry) -> None:
        from optuna.trial import TrialState

        state = self._state(entry)
        if state == DONE:
            study.tell(trial.number, self._objective(entry))
        else:
            ended = TrialState.PRUNED if state == PRUNED else TrialState.FAIL
            study.tell(trial.number, state=ended)

    def _objective(self, entry: Entry) -> float:
        """The accuracy on validation, in the judged mode, at the selected epoch."""
        epoch = self.store.value(entry.run_id, "selected_epoch")
        judged = self._entry(entry).facts["judged"]
        value = self.store.value(
            entry.run_id, "accuracy", split="validation", mode=judged, epoch=int(epoch or 0)
        )
        if value is None:
            raise BnnbenchError(f"run {entry.run.key} has no accuracy on validation")
        return value

    def _best(self, cell: Cell) -> Mapping[str, Any] | None:
        """The hyperparameters to confirm: the best trial's, or the defaults where none was asked."""
        if not self._budget(cell):
            return {}
        trials = [t for t in optuna_study(self.store, cell).trials if t.state.name == "COMPLETE"]
        if not trials:
            self.store.log(self.name, "no-best", f"{cell.optuna_name}: no trial was completed")
            return None
        best = max(trials, key=lambda trial: (trial.value, -trial.number))
        entry = self.store.entries(
            self.name, task=cell.task.name, method=cell.method.name, role=TUNE, number=best.number
        )[0]
        return entry.run.method.hyperparameters

    def _confirm(self, cell: Cell, values: Mapping[str, Any], seed: int) -> None:
        run = cell.run(values, seed, test=True)
        entry = self._enter(cell, CONFIRM, seed, run)
        if entry.state not in (DONE, DIVERGED, FAILED):
            self._train(entry, run, None)

    def _enter(self, cell: Cell, role: str, number: int, run: Run) -> Entry:
        return self.store.enter(self.name, cell.task.name, cell.method.name, role, number, run)

    def _entry(self, entry: Entry) -> Entry:
        place = {"task": entry.task, "method": entry.method, "role": entry.role}
        return self.store.entries(self.name, number=entry.number, **place)[0]

    def _state(self, entry: Entry) -> str:
        return self._entry(entry).state

    def _train(self, entry: Entry, run: Run, trial: optuna.Trial | None) -> None:
        """Train one run into the store, whatever happens on the way."""
        from bnnbench.training import DivergedError

        self.observer.run_started(entry)
        neighbours = Neighbours()
        state, message, error = DONE, "", ""
        last: list[Measurement] = []
        try:
            last = self._written(entry, run, trial)
        except KeyboardInterrupt:
            self.store.end_run(entry.run_id, PENDING)
            raise
        except DivergedError as diverged:
            state, message = DIVERGED, str(diverged)
        except _PrunedError:
            state = PRUNED
        except Exception as failure:  # a plugin may raise anything; the study goes on
            state, message, error = FAILED, describe(failure), traceback.format_exc()
        share = neighbours.foreign_share()
        shared = share is not None and share > FOREIGN
        self.store.end_run(entry.run_id, state, last, error=error or message, shared=shared)
        self.observer.run_ended(entry, state, message)

    def _written(self, entry: Entry, run: Run, trial: optuna.Trial | None) -> list[Measurement]:
        """Train and write each epoch as it comes; return what comes last, still to be written."""
        experiment = self.workbench.prepare(run)
        environment = describe_environment(self.workbench.plugins, self.workbench.device)
        self.store.start_run(entry.run_id, experiment.facts, environment)
        judged = experiment.facts["judged"]
        pending: list[Measurement] | None = None
        for measured in experiment.measurements():
            if pending is not None:
                self.store.write(entry.run_id, pending)
                self.observer.epoch_ended(entry, pending)
                if trial is not None:
                    _prune(trial, pending, judged)
            pending = measured
        return pending or []


class _PrunedError(Exception):
    pass


def _prune(trial: optuna.Trial, measured: list[Measurement], judged: str) -> None:
    """Tell the pruner the accuracy on validation; stop the run if it says so."""
    for m in measured:
        if (m.metric, m.split, m.mode) == ("accuracy", "validation", judged):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # a resumed trial reports its epochs again
                trial.report(m.value, m.epoch)
            if trial.should_prune():
                raise _PrunedError


@cache
def optuna_storage(store: Store) -> Any:
    """Return Optuna's storage in the store's own database."""
    import optuna
    import sqlalchemy as sa

    from bnnbench.database import on_sqlite_connect

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    url = store.url.render_as_string(hide_password=False)
    if store.url.get_backend_name() != "sqlite":
        return optuna.storages.RDBStorage(url)
    storage = optuna.storages.RDBStorage(url, engine_kwargs={"connect_args": {"timeout": 120}})
    sa.event.listen(storage.engine, "connect", on_sqlite_connect)
    return storage


def optuna_study(store: Store, cell: Cell) -> optuna.Study:
    """Return the cell's Optuna study, made if it is new; the defaults are its first trial."""
    import optuna

    study = optuna.create_study(
        storage=optuna_storage(store),
        study_name=cell.optuna_name,
        direction="maximize",
        load_if_exists=True,
        sampler=sampler(cell, 0),
        pruner=_pruner(cell.study.protocol.pruner, cell.task.epochs),
    )
    if cell.study.protocol.sampler != "grid":
        first = {name: cell.defaults[name] for name in cell.spaces}
        study.enqueue_trial(first, skip_if_exists=True)
    return study


def delete_optuna_studies(store: Store, name: str) -> None:
    """Remove the Optuna studies of a study of ours."""
    import optuna

    storage = optuna_storage(store)
    for found in optuna.get_all_study_names(storage):
        if found.startswith(f"{name}/"):
            optuna.delete_study(study_name=found, storage=storage)


def _take(study: optuna.Study, number: int, cell: Cell) -> tuple[optuna.Trial, Any]:
    """Return the trial of this number and its state: an old one if there is one, else a new one.

    The sampler is seeded by the number, so that a study that was broken off asks the same.
    """
    import optuna

    study.sampler = sampler(cell, number)
    old = [t for t in study.get_trials(deepcopy=False) if t.number == number]
    if old and old[0].state.name != "WAITING":
        return optuna.Trial(study, old[0]._trial_id), old[0].state
    trial = study.ask()
    return trial, optuna.trial.TrialState.RUNNING


def _suggest(trial: optuna.Trial, cell: Cell) -> dict[str, Any]:
    """Return a value for each searched hyperparameter; those that the trial has already stay."""
    values: dict[str, Any] = {}
    for name, space in cell.spaces.items():
        if isinstance(space, Choice):
            values[name] = trial.suggest_categorical(name, space.options)
        elif isinstance(space, Int):
            values[name] = trial.suggest_int(name, space.low, space.high, log=space.log)
        else:
            values[name] = trial.suggest_float(name, space.low, space.high, log=space.log)
    return values


def sampler(cell: Cell, number: int) -> optuna.samplers.BaseSampler:
    """Return the protocol's sampler, every choice of it explicit: Optuna's defaults change."""
    from optuna import samplers

    from bnnbench.seeds import derive

    protocol = cell.study.protocol
    seed = derive(protocol.seed, cell.optuna_name, number) % 2**32
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # qmc is marked experimental in Optuna
        if protocol.sampler == "random":
            return samplers.RandomSampler(seed=seed)
        if protocol.sampler == "qmc":
            fixed = derive(protocol.seed, cell.optuna_name) % 2**32
            return samplers.QMCSampler(qmc_type="sobol", scramble=True, seed=fixed)
        if protocol.sampler == "gp":
            return samplers.GPSampler(seed=seed, n_startup_trials=10)
        if protocol.sampler == "grid":
            fixed = derive(protocol.seed, cell.optuna_name) % 2**32
            return samplers.GridSampler(grid(cell.spaces, protocol.trials), seed=fixed)
        return samplers.TPESampler(
            seed=seed, n_startup_trials=10, multivariate=True, constant_liar=True
        )


def grid(spaces: Mapping[str, Space], trials: int) -> dict[str, list[Any]]:
    """Return equal levels of every hyperparameter, as few as give at least ``trials`` points.

    >>> grid({"lr": Float(1e-4, 1e-2, log=True), "n": Int(1, 9)}, 9)
    {'lr': [0.0001, 0.001, 0.01], 'n': [1, 5, 9]}
    """
    levels = 1
    while trials > _points(spaces, levels) < _points(spaces, levels + 1):
        levels += 1
    return {name: _levels(space, levels) for name, space in spaces.items()}


def _points(spaces: Mapping[str, Space], levels: int) -> int:
    points = 1
    for space in spaces.values():
        points *= len(_levels(space, levels))
    return points


def _levels(space: Space, levels: int) -> list[Any]:
    if isinstance(space, Choice):
        return list(space.options)
    shares = [i / (levels - 1) for i in range(levels)] if levels > 1 else [0.5]
    low, high = space.low, space.high
    values: Iterator[float]
    if space.log:
        values = (float(f"{low * (high / low) ** share:.12g}") for share in shares)
    else:
        values = (low + (high - low) * share for share in shares)
    if isinstance(space, Int):
        return sorted({round(value) for value in values})
    return list(values)


def _pruner(name: str, epochs: int) -> optuna.pruners.BasePruner:
    from optuna import pruners

    if name == "median":
        return pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=max(1, epochs // 10))
    if name == "hyperband":
        return pruners.HyperbandPruner(min_resource=1, max_resource=epochs, reduction_factor=3)
    return pruners.NopPruner()
