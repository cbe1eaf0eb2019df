"""A study that dies at one point after the other, and is run again each time.

``python crashing.py FOLDER PART PARTS``: every write to the database and of a checkpoint is a
point, before and after; each PARTS-th of them is tried. One process imports all there is, and every
death is that of a fork of it. What came of each is printed as JSON.
"""

from __future__ import annotations

import json
import math
import os
import sys
import tomllib
from pathlib import Path
from types import SimpleNamespace

import safetensors.torch
import sqlalchemy as sa
import torch
from sqlalchemy.engine import Engine
from sqlalchemy.engine.default import DefaultDialect

from bnnbench import trainer, updates
from bnnbench.checkpoints import Checkpoints
from bnnbench.consistency import look
from bnnbench.experiments import Workbench
from bnnbench.plugins import load_plugins
from bnnbench.store import Store
from bnnbench.studyfile import parse_study
from bnnbench.tuning import StudyRunner

DEAD = 9
METRICS = ["accuracy", "loss", "flip_step", "flip_init", "selected_epoch", "weight_bits"]
STUDY = """
[task]
name = "t"
dataset = "digits"
architecture = { name = "mlp", depth = 1, width = 8 }
epochs = 3
batch_size = 200
[protocol]
trials = 0
seeds = 1
[[methods]]
method = "bop"
"""


class Points:
    """Counts what is about to happen, and dies at one of them."""

    def __init__(self, last: int | None) -> None:
        self.last, self.names, self.written = last, [], False

    def begin(self) -> None:
        """Count from here on."""
        sa.event.listen(Engine, "before_cursor_execute", self._statement)
        self._around(DefaultDialect, "do_commit", "commit", lambda: self.written)
        self._around(os, "fsync", "fsync")
        self._around(Path, "replace", "rename")
        self._around(Path, "unlink", "unlink")
        plain = safetensors.torch.save_file
        safetensors.torch.save_file = lambda *a: self._save(plain, *a)

    def __call__(self, name: str) -> None:
        if len(self.names) == self.last:
            os._exit(DEAD)
        self.names.append(name)

    def _statement(self, _connection, _cursor, statement, *_) -> None:
        verb, _, rest = statement.partition(" ")
        if verb in ("INSERT", "UPDATE", "DELETE"):
            self(f"before {verb} {rest.removeprefix('INTO ').removeprefix('FROM ').split()[0]}")
            self.written = True

    def _around(self, owner, name: str, told: str, counts=lambda: True) -> None:
        plain = getattr(owner, name)

        def done(*values, **named):
            if not counts():
                return plain(*values, **named)
            self(f"before a {told}")
            made = plain(*values, **named)
            self(f"after a {told}")
            self.written = False
            return made

        setattr(owner, name, done)

    def _save(self, plain, tensors, path, header) -> None:
        self("before a checkpoint")
        half = self.last == len(self.names)
        plain(tensors, path, header)
        if half:
            os.truncate(path, Path(path).stat().st_size // 2)
        self("in the middle of a checkpoint")
        self("after a checkpoint")


def run(folder: Path, workbench: Workbench, points: Points | None = None) -> None:
    """Create the study and run it."""
    store = Store(str(folder / "x.db"))
    if not store.studies():
        store.create_study("s", parse_study(tomllib.loads(STUDY), "x"), "cmd", "0")
    skipped = []
    observer = SimpleNamespace(
        run_started=lambda entry: None,
        epochs_skipped=lambda entry, epochs: skipped.append(epochs),
        epoch_ended=lambda entry, measured: None,
        run_ended=lambda entry, state, message: None,
    )
    runner = StudyRunner(store, "s", workbench, observer, 0.0)
    if points:
        points.begin()
    runner.run()
    told = {"skipped": skipped, "points": points.names if points else []}
    (folder / "told.json").write_text(json.dumps(told | contents(folder, store)))
    store.engine.dispose()


def contents(folder: Path, store: Store) -> dict:
    """All that there is but times, and whether it is consistent."""
    rows = store.measured("s", METRICS)
    return {
        "states": [e.state for e in store.entries("s")],
        "measured": sorted([*r[1:5], r.epoch, r.phase, r.value] for r in rows),
        "faults": look(store, Checkpoints(folder)).faults,
        "files": sorted(p.name for p in folder.iterdir() if p.name.startswith("x.db") is False),
    }


def forked(folder: Path, workbench: Workbench, points: Points | None) -> int:
    """The exit status of a fork that runs."""
    child = os.fork()
    if not child:
        try:
            run(folder, workbench, points)
        except BaseException as error:
            print(repr(error), file=sys.stderr, flush=True)
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def main(folder: Path, part: int, parts: int) -> None:
    torch.set_num_threads(1)
    trainer.Notebook.LATE = 0.0  # each epoch is a transaction
    updates.WORTH = math.inf  # nothing is compiled
    workbench = Workbench(load_plugins(), "cpu", 1)

    def tried(name: str, last: int | None) -> tuple[int, dict]:
        place = folder / name
        place.mkdir()
        workbench.checkpoints = Checkpoints(place)
        status = forked(place, workbench, Points(last))
        if last is not None and forked(place, workbench, None):
            return status, {}
        return status, json.loads((place / "told.json").read_text())

    (folder / "warm").mkdir()
    run(folder / "warm", workbench)  # what it imports, the forks have
    calm = tried("calm", None)[1]
    deaths = {}
    for point in range(part, len(calm["points"]), parts):
        status, told = tried(str(point), point)
        deaths[point] = {**told, "status": status, "name": calm["points"][point]}
    print(json.dumps({"calm": calm, "deaths": deaths}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
