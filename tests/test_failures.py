"""Failures have a kind, which says whether a run is tried again, and by whom."""

from __future__ import annotations

import time
from types import SimpleNamespace

import pytest
import torch
from safetensors import SafetensorError

from bnnbench import trainer
from bnnbench.checkpoints import Checkpoints
from bnnbench.cli import main
from bnnbench.errors import PluginError, UsageError
from bnnbench.experiments import Workbench
from bnnbench.failures import KINDS, LOST, OUT_OF_MEMORY, PLUGIN, TRANSIENT, kind_of
from bnnbench.leases import Leases
from bnnbench.plugins import load_plugins
from bnnbench.store import CONFIRM, DONE, FAILED, Store
from bnnbench.tuning import StudyRunner
from bnnbench_plugins.bop import Bop

from .small_study import enter, study
from .test_leases import AWAY
from .test_tuning import SILENT, fingerprint, study_with


@pytest.fixture
def workbench(tmp_path):
    return Workbench(load_plugins(), checkpoints=Checkpoints(tmp_path / "checkpoints"))


def raised(error, cause=None):
    """An exception that was raised from another."""
    try:
        raise error from cause
    except type(error) as caught:
        return caught


def too_large():
    """What torch itself says of a tensor that no memory holds."""
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60)
    return caught.value


@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (too_large, OUT_OF_MEMORY),
        (lambda: torch.cuda.OutOfMemoryError("CUDA out of memory. Tried"), OUT_OF_MEMORY),
        (lambda: RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when"), OUT_OF_MEMORY),
        (lambda: OSError(12, "Cannot allocate memory"), OUT_OF_MEMORY),
        (lambda: raised(UsageError("does not fit"), too_large()), OUT_OF_MEMORY),
        (lambda: OSError(28, "No space left on device"), TRANSIENT),
        (lambda: OSError(116, "Stale file handle"), TRANSIENT),
        (lambda: raised(PluginError("cannot be built"), OSError(5, "I/O error")), TRANSIENT),
        (lambda: ConnectionResetError(104, "reset"), TRANSIENT),
        (lambda: TimeoutError("timed out"), TRANSIENT),
        (lambda: SafetensorError("I/O error: No space left on device (os error 28)"), TRANSIENT),
        (lambda: SafetensorError("No such file or directory (os error 2)"), PLUGIN),
        (lambda: FileNotFoundError(2, "No such file or directory"), PLUGIN),
        (lambda: PermissionError(13, "Permission denied"), PLUGIN),
        (lambda: ValueError("it allocates badly"), PLUGIN),
        (lambda: SystemExit(3), PLUGIN),
        (lambda: ZeroDivisionError(), PLUGIN),
    ],
)
def test_kinds(make, kind):
    """Memory, what may pass by itself, and all else; also where it was raised from another."""
    assert kind == kind_of(make())


def begun(store, protocol=None):
    made = study_with(**({"trials": 0, "seeds": 1} | (protocol or {})))
    task = made.tasks[0].model_copy(update={"epochs": 4})
    store.create_study("s", made.model_copy(update={"tasks": (task,)}), "cmd", "0")


def failing(error, times, plain=Bop.step):
    """A step that fails so many times, each time in another epoch's first step but one."""
    calls = []

    def step(self, closure=None):
        calls.append(0)
        if len(calls) % 16 == 0 and len(calls) // 16 <= times:
            raise error
        return plain(self, closure)

    return step


@pytest.mark.parametrize(("every", "taken_up"), [(0, [0, 1, 2, 3]), (1e9, [0, 0, 0, 0])])
def test_what_may_pass_is_tried_again(store, workbench, monkeypatch, tmp_path, every, taken_up):
    """From the last checkpoint, if there is one, after a pause; the numbers are a calm run's."""
    slept, skipped = [], []
    monkeypatch.setattr(time, "sleep", slept.append)
    monkeypatch.setattr(trainer.Notebook, "LATE", 1e9)  # what is not handed in is forgotten
    watching = SimpleNamespace(**vars(SILENT))
    watching.epochs_skipped = lambda entry, epochs: skipped.append((entry.method, epochs))
    begun(store)
    with monkeypatch.context() as disk:
        disk.setattr(Bop, "step", failing(OSError(28, "No space left on device"), 3))
        StudyRunner(store, "s", workbench, watching, checkpoint_every=every).run()

    assert list(trainer.PAUSES) == slept
    assert [("real", 0), *(("bop", epochs) for epochs in taken_up)] == skipped
    assert {DONE} == {e.state for e in store.entries("s")}
    assert {""} == {e.failure for e in store.entries("s")}
    texts = [text for _, kind, text in store.events("s") if kind == TRANSIENT]
    assert len(trainer.PAUSES) == len(texts) == len(store.events("s"))
    told = "t bop confirm seed 1: OSError: [Errno 28] No space left on device; tried again in 1 s"
    assert told == texts[0]
    calm = Store(str(tmp_path / "calm.db"))
    begun(calm)
    StudyRunner(calm, "s", workbench, SILENT).run()
    assert fingerprint(calm, "s") == fingerprint(store, "s")
    calm.engine.dispose()


def test_what_does_not_pass_fails(store, workbench, monkeypatch):
    """After the last pause it is a failure, with its kind and its traceback."""
    slept = []
    monkeypatch.setattr(time, "sleep", slept.append)
    monkeypatch.setattr(Bop, "step", failing(OSError(28, "No space left on device"), 99))
    begun(store)
    StudyRunner(store, "s", workbench, SILENT).run()

    (failed,) = store.entries("s", method="bop")
    assert list(trainer.PAUSES) == slept
    assert (FAILED, TRANSIENT) == (failed.state, failed.failure)
    assert "Traceback" in failed.error
    assert "in step" in failed.error
    assert "failed" == store.events("s")[-1][1]
    assert "bop confirm seed 1: transient: OSError: [Errno 28]" in store.events("s")[-1][2]


@pytest.mark.parametrize("error", [ZeroDivisionError(), MemoryError()])
def test_others_are_not_tried_again_by_themselves(store, workbench, monkeypatch, error):
    """A bug stays a bug, and memory does not grow: no pause, one failure."""
    monkeypatch.setattr(time, "sleep", lambda seconds: pytest.fail("it waited"))
    monkeypatch.setattr(Bop, "step", failing(error, 99))
    begun(store)
    StudyRunner(store, "s", workbench, SILENT).run()

    (failed,) = store.entries("s", method="bop")
    assert (FAILED, kind_of(error)) == (failed.state, failed.failure)


def test_an_interrupt_in_a_pause_leaves_the_run_to_the_next(store, workbench, monkeypatch):
    """Ctrl-C while it is waited ends the command; the run is pending."""

    def interrupted(seconds):
        raise KeyboardInterrupt

    begun(store)
    with monkeypatch.context() as disk:
        disk.setattr(time, "sleep", interrupted)
        disk.setattr(Bop, "step", failing(OSError(28, "No space left on device"), 99))
        with pytest.raises(KeyboardInterrupt):
            StudyRunner(store, "s", workbench, SILENT).run()
    assert ["pending"] == [e.state for e in store.entries("s", method="bop")]

    StudyRunner(store, "s", workbench, SILENT).run()
    assert {DONE} == {e.state for e in store.entries("s")}


def test_a_run_that_loses_its_workers_is_lost(store, workbench):
    """The fourth worker that is lost at one place makes it a failure of that kind."""
    begun(store)
    runner = StudyRunner(store, "s", workbench, SILENT, leases=Leases(store, take_over=True))
    cell = next(c for c in runner.cells if c.method.name == "bop")
    entry = runner.places.enter(cell, CONFIRM, 1, runner.places.run(cell, {}, 1, test=True))
    for _ in range(4):
        gone = Leases(store, take_over=True)
        gone.holder = AWAY
        gone.take(f"run {entry.run.key}")
        with runner.leases.claimed(f"run {entry.run.key}") as claim:
            failure = runner.places._lost(entry, claim)
    assert failure is not None
    runner.places.trainer.fail(entry, failure)

    (failed,) = store.entries("s", method="bop")
    assert (FAILED, LOST) == (failed.state, failed.failure)
    assert "--retry lost tries it again" in failed.error


@pytest.fixture
def failed(tmp_path, monkeypatch):
    """A database in which a run has failed of each kind, one of an unknown one, one diverged."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BNNBENCH_STORAGE", "x.db")
    store = Store("x.db")
    store.create_study("s", study(), "cmd", "0")
    for number, kind in enumerate([*KINDS, ""], start=1):
        entry = enter(store, "bop", number)
        store.start_run(entry.run_id, {}, {})
        store.end_run(entry.run_id, FAILED, error=f"it is {kind}\nTraceback", failure=kind)
    entry = enter(store, "ste", 1)
    store.end_run(entry.run_id, "diverged", error="nan")
    yield store
    store.engine.dispose()


@pytest.mark.parametrize(("kinds", "count"), [([k], 1) for k in KINDS] + [(KINDS, 4), ((), 5)])
def test_only_what_is_asked_for_is_tried_again(failed, kinds, count):
    """Runs that failed so are pending; the others and the diverged one stay as they are."""
    assert count == failed.retry_failed("s", kinds)

    pending = [e for e in failed.entries("s") if e.state == "pending"]
    assert count == len(pending)
    assert set(kinds) <= {e.failure for e in pending}
    assert ["diverged"] == [e.state for e in failed.entries("s", method="ste")]


def test_a_new_beginning_forgets_the_failure(failed):
    """A run that is under way again has no failure."""
    entry = failed.entries("s")[0]

    failed.start_run(entry.run_id, {}, {})

    assert ("", "") == (failed.entries("s")[0].failure, failed.entries("s")[0].error)


def test_failures_are_shown_with_their_kinds(failed, capsys):
    """One heading each; of older failures the kind is not known."""
    assert 0 == main(["study", "show", "s", "--failed"])

    out = capsys.readouterr().out
    for number, kind in enumerate(KINDS, start=1):
        assert f"failed ({kind}): t bop confirm seed {number}\n" in out
    assert "failed: t bop confirm seed 5\n" in out
    assert "diverged: t ste confirm seed 1\n" in out
    assert 5 == out.count("Traceback")


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("diverged", "one that diverged is a result and stays"),
        ("oom", "'oom' is no kind of failure; known: all, lost, out-of-memory, plugin, transient"),
        ("plugins", "'plugins' is no kind of failure; did you mean 'plugin'?"),
    ],
)
def test_what_cannot_be_tried_again_is_refused(failed, capsys, word, said):
    """In one line, with the reason."""
    assert 2 == main(["study", "run", "s", "--retry", word])

    err = capsys.readouterr().err
    assert 1 == err.count("\n")
    assert said in err


def test_many_workers_on_sqlite_are_refused(failed, capsys):
    """In one line, with the way out, before anything begins."""
    assert 2 == main(["study", "run", "s", "--workers", "16"])

    said = capsys.readouterr()
    assert ("", 1) == (said.out, said.err.count("\n"))
    assert "8 workers at most, this would make 16; take fewer, or create it with" in said.err


def test_retry_on_the_command_line(tmp_path, monkeypatch, capsys):
    """--retry of another kind changes nothing; of its kind, or all, the run is trained."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BNNBENCH_STORAGE", "x.db")
    store = Store("x.db")
    begun(store)
    with monkeypatch.context() as bug:
        bug.setattr(Bop, "step", failing(ZeroDivisionError(), 99))
        assert 6 == main(["study", "run", "s", "--threads", "1"])

    assert 6 == main(["study", "run", "s", "--threads", "1", "--retry", "lost"])
    assert "runs to be trained again: 0" in capsys.readouterr().out
    retry = ["--retry", "lost", "--retry", "plugin"]
    assert 0 == main(["study", "run", "s", "--threads", "1", *retry])
    assert "runs to be trained again: 1" in capsys.readouterr().out
    assert {DONE} == {e.state for e in store.entries("s")}
    store.engine.dispose()
