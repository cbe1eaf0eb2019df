"""Searching hyperparameters with Optuna: one Optuna study for each cell, in our own database."""

from __future__ import annotations

import itertools
import time
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any

from bnnbench.leases import ElsewhereError
from bnnbench.points import first_points
from bnnbench.spaces import Choice, Int

if TYPE_CHECKING:
    import optuna

    from bnnbench.cells import Cell
    from bnnbench.store import Store
    from bnnbench.studies import Protocol


@cache
def optuna_storage(store: Store) -> Any:
    """Return Optuna's storage in the store's own database."""
    import optuna
    import sqlalchemy as sa

    from bnnbench.database import make_lasting, on_sqlite_connect, server_settings
    from bnnbench.outages import let_persevere

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    url = store.url.render_as_string(hide_password=False)
    if store.url.get_backend_name() == "sqlite":
        storage = _opened(url, connect_args={"timeout": 120})
        sa.event.listen(storage.engine, "connect", on_sqlite_connect)
        return storage
    storage = _opened(url, **server_settings(store.url))
    make_lasting(storage.engine)
    names = [name for name in dir(optuna.storages.BaseStorage) if name[0] != "_"]
    let_persevere(storage, [*names, *_USED_BY_ITS_CACHE], store.place)
    return storage


#: methods of Optuna's storage that what keeps trials in memory calls beside the public ones
_USED_BY_ITS_CACHE = (
    "_create_new_trial",
    "_get_best_trial_id",
    "_get_trials",
    "_set_trial_param",
)


def _opened(url: str, **settings: Any) -> Any:
    """Open Optuna's storage; who comes first makes its tables, and others may come meanwhile."""
    import optuna
    import sqlalchemy as sa

    for attempt in itertools.count(1):
        try:
            return optuna.storages.RDBStorage(url, engine_kwargs=settings)
        except sa.exc.DBAPIError:
            if attempt == 5:
                raise
            time.sleep(attempt / 10)
    raise AssertionError


def optuna_study(store: Store, cell: Cell) -> optuna.Study:
    """Return the cell's Optuna study, made if it is new, its first trials waiting in it."""
    import optuna

    study = optuna.create_study(
        storage=optuna_storage(store),
        study_name=cell.optuna_name,
        direction="maximize",
        load_if_exists=True,
        sampler=sampler(cell, 0),
        pruner=pruner(cell.study.protocol.pruner, cell.task.epochs),
    )
    if "sampler" not in study.user_attrs:
        kind, settings = SAMPLERS[cell.study.protocol.sampler]
        study.set_user_attr("sampler", {"kind": kind, **settings, "optuna": optuna.__version__})
    for point in first_points(_counted(cell)):
        study.enqueue_trial(point, skip_if_exists=True)
    return study


def _counted(cell: Cell) -> Cell:
    """The cell with the number of trials whose points are known beforehand, if there is none: 1."""
    protocol = cell.study.protocol
    known = protocol.model_copy(update={"trials": protocol.trials or 1})
    return replace(cell, study=cell.study.model_copy(update={"protocol": known}))


def delete_optuna_studies(store: Store, name: str) -> None:
    """Remove the Optuna studies of a study of ours."""
    import optuna

    storage = optuna_storage(store)
    for found in optuna.get_all_study_names(storage):
        if found.startswith(f"{name}/"):
            optuna.delete_study(study_name=found, storage=storage)


def take(study: optuna.Study, number: int, cell: Cell) -> tuple[optuna.Trial, Any]:
    """Return the trial of this number and its state: an old one if there is one, else a new one.

    The sampler is seeded by the number, so that a study that was broken off asks the same.

    Raises:
        ElsewhereError: another worker has not yet asked for one of the trials before.
    """
    import optuna

    study.sampler = sampler(cell, number)
    asked = {t.number: t for t in study.get_trials(deepcopy=False) if t.state.name != "WAITING"}
    if number in asked:
        return optuna.Trial(study, asked[number]._trial_id), asked[number].state
    if len(asked) < number:
        raise ElsewhereError(f"trial {number} of {cell.optuna_name} waits for those before it")
    trial = study.ask()
    return trial, optuna.trial.TrialState.RUNNING


def are_independent(protocol: Protocol) -> bool:
    """Whether trials do not know of each other, so that several workers may be at a cell's."""
    knows = SAMPLERS[protocol.sampler][0] != "RandomSampler" or protocol.pruner != "none"
    return not knows and protocol.seconds is None


def suggest(trial: optuna.Trial, cell: Cell) -> dict[str, Any]:
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


#: every choice that a sampler makes, written down: Optuna's defaults change between its versions
SAMPLERS: dict[str, tuple[str, dict[str, Any]]] = {
    "tpe": ("TPESampler", {"n_startup_trials": 10, "multivariate": True, "constant_liar": True}),
    "gp": ("GPSampler", {"n_startup_trials": 10, "deterministic_objective": False}),
    "random": ("RandomSampler", {}),
    "qmc": ("RandomSampler", {}),  # the points of these two are waiting already
    "grid": ("RandomSampler", {}),
}


def sampler(cell: Cell, number: int) -> optuna.samplers.BaseSampler:
    """Return the protocol's sampler for the trial of this number."""
    from optuna import samplers

    from bnnbench.seeds import derive

    kind, settings = SAMPLERS[cell.study.protocol.sampler]
    seed = derive(cell.study.protocol.seed, cell.optuna_name, number) % 2**32
    made: optuna.samplers.BaseSampler = getattr(samplers, kind)(seed=seed, **settings)
    return made


def pruner(name: str, epochs: int) -> optuna.pruners.BasePruner:
    """Return the protocol's pruner; ``epochs`` is the most that a run can have."""
    from optuna import pruners

    if name == "median":
        return pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=max(1, epochs // 10))
    if name == "hyperband":
        return pruners.HyperbandPruner(min_resource=1, max_resource=epochs, reduction_factor=3)
    return pruners.NopPruner()
