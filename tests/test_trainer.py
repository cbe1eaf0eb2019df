"""Training one run into the store: what goes wrong beside it costs as little as it can."""

from __future__ import annotations

import pytest

from bnnbench.checkpoints import Checkpoints
from bnnbench.errors import StoreError
from bnnbench.experiments import Workbench
from bnnbench.plugins import load_plugins
from bnnbench.store import DONE, Store
from bnnbench.tuning import StudyRunner

from .test_tuning import SILENT, fingerprint, study_with


@pytest.fixture
def workbench(tmp_path):
    return Workbench(load_plugins(), checkpoints=Checkpoints(tmp_path / "checkpoints"))


def runner(store, workbench):
    return StudyRunner(store, "s", workbench, SILENT, checkpoint_every=0)


def broken_off(store, workbench, monkeypatch):
    """A study whose first run lost its database after its first checkpoint; 4 epochs a run."""
    made = study_with(trials=0, seeds=1)
    task = made.tasks[0].model_copy(update={"epochs": 4})
    store.create_study("s", made.model_copy(update={"tasks": (task,)}), "cmd", "0")
    with monkeypatch.context() as cut:
        saved = workbench.checkpoints.save_training

        def save(run, state):
            saved(run, state)
            raise StoreError("the database is gone")

        cut.setattr(workbench.checkpoints, "save_training", save)
        cut.setattr("bnnbench.trainer.Trainer._keep", lambda self, e, r, t: save(r, t.state()))
        with pytest.raises(StoreError):
            runner(store, workbench).run()
    (first,) = [e for e in store.entries("s") if e.started_at]
    return first


def test_a_run_is_taken_up(store, workbench, monkeypatch):
    """From its checkpoint; its beginning stays, and its times are not trusted."""
    first = broken_off(store, workbench, monkeypatch)
    assert 1 == len(list(workbench.checkpoints.folder.glob("*.safetensors")))

    runner(store, workbench).run()

    (done,) = store.entries("s", method=first.method)
    assert (DONE, True, first.started_at) == (done.state, done.shared, done.started_at)
    assert not list(workbench.checkpoints.folder.glob("*.safetensors"))
    assert not store.events("s")


def test_a_checkpoint_that_does_not_fit_begins_anew(store, workbench, monkeypatch, tmp_path):
    """What a plugin made of its state since is no reason to fail; the numbers are the same."""
    first = broken_off(store, workbench, monkeypatch)
    state = workbench.checkpoints.training(first.run)
    del state["latents"]["dense1"]
    workbench.checkpoints.save_training(first.run, state)

    runner(store, workbench).run()

    assert {DONE} == {e.state for e in store.entries("s")}
    ((_, kind, text),) = store.events("s")
    assert "checkpoint" == kind
    assert "not taken up, begun anew: KeyError" in text
    calm = Store(str(tmp_path / "calm.db"))
    calm.create_study("s", store.study("s"), "cmd", "0")
    runner(calm, workbench).run()
    assert fingerprint(calm, "s") == fingerprint(store, "s")
    calm.engine.dispose()


def test_a_checkpoint_that_cannot_be_written_costs_nothing(store, workbench, monkeypatch):
    """A full disk is written down, and the run goes on."""

    def full(run, state):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(workbench.checkpoints, "save_training", full)
    store.create_study("s", study_with(trials=0, seeds=1), "cmd", "0")

    runner(store, workbench).run()

    assert {DONE} == {e.state for e in store.entries("s")}
    texts = [text for _, _, text in store.events("s")]
    assert 2 == len(texts)
    assert all("not written: OSError: [Errno 28] No space left" in text for text in texts)
