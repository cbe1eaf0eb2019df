"""A small study that has really been trained, for figures to be drawn of, and one not begun."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch.optim import SGD, Adam

from bnnbench.probes import FlipProbe
from bnnbench.roles import roles
from bnnbench.runs import Part, Run
from bnnbench.schedules import Linear, Scheduled
from bnnbench.store import CONFIRM, DONE, TUNE, Store
from bnnbench.studies import Study
from bnnbench.studyfile import parse_study
from bnnbench.testing.stage import BATCH, data, method_of, network, training

if TYPE_CHECKING:
    from bnnbench.methods import Method

SMALL, EMPTY = "small", "not-begun"
EPOCHS, SEEDS, TRIALS = 5, 3, 3
TASKS = {"four-corners": 2, "deeper": 3}  #: and their numbers of binary layers
METHODS = ("adam", "momentum")


def _method(name: str, lr: float) -> Method:
    kind, more = (Adam, {}) if name == METHODS[0] else (SGD, {"momentum": 0.9})
    return method_of(binary=Scheduled(kind, lr=Linear(lr, 0.0), **more))


def study() -> Study:
    """Return two tasks and two methods."""
    task = {"dataset": "four-corners", "architecture": "dense", "epochs": EPOCHS}
    values: dict[str, Any] = {
        "title": "A small study",
        "source": "the checks of bnnbench",
        "tasks": [task | {"name": name} for name in TASKS],
        "protocol": {"seeds": SEEDS, "trials": TRIALS},
        "methods": [{"method": name} for name in METHODS],
    }
    return parse_study(values, "the checks' study")


def database() -> Store:
    """Return a new database with both studies; it goes when Python does."""
    folder = tempfile.mkdtemp(prefix="bnnbench-checks-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    store = Store(str(Path(folder) / "study.db"))
    for name in (SMALL, EMPTY):
        store.create_study(name, study(), f"bnnbench study create {name}", "0")
    for task in TASKS:
        for method in METHODS:
            for number in range(TRIALS):
                _record(store, task, method, TUNE, number, lr=0.003 * 3**number)
            for seed in range(1, SEEDS + 1):
                _record(store, task, method, CONFIRM, seed, lr=0.01)
    atexit.register(store.engine.dispose)
    return store


def _record(store: Store, task: str, name: str, role: str, number: int, lr: float) -> None:
    """Train a run into the database."""
    part, dense = Part(name, {"lr": lr}), Part("dense", {"depth": TASKS[task]})
    corners, loss = Part("four-corners"), Part("cross-entropy")
    run = Run(corners, dense, loss, part, number, EPOCHS, BATCH, test=role == CONFIRM)
    entry = store.enter(SMALL, task, name, role, number, run)
    method, model = _method(name, lr), network(TASKS[task], seed=number)
    facts = {
        "judged": method.judged,
        "task": "classification",
        "synthetic": True,
        "remark": "",
        "examples": {"train": len(data().train)},
        "phases": [{"name": "", "first": 1, "last": EPOCHS, "selectable": True}],
        "roles": roles(model),
    }
    store.start_run(entry.run_id, facts, {"cores": 1, "packages": {}})
    chosen: dict[str, Any] = {"seed": number, "test": run.test, "probes": [FlipProbe()]}
    for measured in training(method, EPOCHS, model, **chosen):
        store.write(entry.run_id, measured)
    store.end_run(entry.run_id, DONE)
