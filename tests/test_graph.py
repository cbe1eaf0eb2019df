"""Runs that build on runs: each trained once, in order, its weights handed over whole."""

from __future__ import annotations

import tomllib

import pytest
import torch

from bnnbench import trainer
from bnnbench.cells import cells
from bnnbench.checkpoints import Checkpoints, Weights
from bnnbench.errors import UsageError
from bnnbench.experiments import Workbench
from bnnbench.handover import as_teacher, check_places, hand_over
from bnnbench.plugins import load_plugins
from bnnbench.results import Results
from bnnbench.runs import Part, Run
from bnnbench.store import BASE, CONFIRM, DONE, FAILED
from bnnbench.studyfile import parse_study
from bnnbench.tuning import StudyRunner
from bnnbench_plugins.architectures.mlp import mlp

from .test_tuning import SILENT, fingerprint

GRAPH = """
[[tasks]]
name = "plain"
dataset = "digits"
architecture = { name = "mlp", depth = 1, width = 16 }
loss = "cross-entropy"
epochs = 2
[protocol]
seeds = 2
[runs.before]
method = "real"
epochs = 3
select = "last"
[[methods]]
method = "real"
[[methods]]
method = "ste"
start_from = "before"
[[methods]]
method = "bop"
start_from = "before"
"""
TAUGHT = """
[[tasks]]
name = "taught"
dataset = "digits"
architecture = { name = "mlp", depth = 1, width = 16 }
loss = "distribution"
teacher = "teacher"
epochs = 2
[runs.teacher]
method = "real"
architecture = { name = "mlp", depth = 1, width = 32 }
loss = "cross-entropy"
seed = 7
"""


def study(*texts, **changes):
    merged = {}
    for text in texts:
        for key, value in tomllib.loads(text).items():
            old = merged.get(key)
            joined = (
                old + value
                if isinstance(old, list)
                else {**(old or {}), **value}
                if isinstance(value, dict)
                else value
            )
            merged[key] = joined
    return parse_study(merged | changes, "graph.toml")


@pytest.fixture
def workbench(tmp_path):
    return Workbench(load_plugins(), checkpoints=Checkpoints(tmp_path / "checkpoints"))


class Recorder:
    """An observer that keeps the order in which runs begin."""

    def __init__(self):
        self.order = []

    def run_started(self, entry):
        self.order.append((entry.task, entry.method, entry.role, entry.number))

    def epochs_skipped(self, entry, epochs):
        pass

    def epoch_ended(self, entry, measured):
        pass

    def run_ended(self, entry, state, message):
        pass


def run(store, made, workbench, name="g"):
    store.create_study(name, made, "cmd", "0")
    watching = Recorder()
    runner = StudyRunner(store, name, workbench, watching)
    runner.check()
    runner.run()
    return runner, watching.order


def test_bases_are_trained_once_and_first(store, workbench):
    """One base for each seed, before the first run that needs it, shared by all that do."""
    _, order = run(store, study(GRAPH), workbench)

    assert [
        ("plain", "real", CONFIRM, 1),
        ("plain", "before", BASE, 1),
        ("plain", "ste", CONFIRM, 1),
        ("plain", "bop", CONFIRM, 1),
        ("plain", "real", CONFIRM, 2),
        ("plain", "before", BASE, 2),
        ("plain", "ste", CONFIRM, 2),
        ("plain", "bop", CONFIRM, 2),
    ] == order
    by_key = {e.run.key: e for e in store.entries("g")}
    for entry in store.entries("g", role=CONFIRM):
        expected = "before" if entry.method != "real" else ""
        base = by_key.get(entry.run.start_from)
        assert expected == (base.method if base else "")
        assert base is None or base.number == entry.number


def test_a_run_begins_with_its_bases_latents(store, workbench):
    """Latents, batch normalization and all: it begins with what the base ended with."""
    run(store, study(GRAPH), workbench)
    (entry,) = store.entries("g", role=CONFIRM, method="ste", number=1)
    weights = workbench.checkpoints.weights(entry.run.start_from)

    experiment = workbench.prepare(entry.run)
    training = experiment.training()

    state = experiment.network.state_dict()
    assert {"dense1.weight", "dense2.weight"} == set(weights.latents)
    for name, tensor in {**weights.network, **weights.latents}.items():
        assert torch.equal(tensor, state[name]), name
    for name, latent in training.latents.tensors.items():
        assert torch.equal(weights.latents[f"{name}.weight"], latent)
    fresh = workbench.network(entry.run).state_dict()
    assert not torch.equal(fresh["dense1.weight"], state["dense1.weight"])


def test_another_study_reuses_what_is_there(store, workbench):
    """The plan says so, nothing is trained twice, and the numbers are those of a study alone."""
    run(store, study(GRAPH), workbench)
    more = study(GRAPH, methods=[{"method": "binaryconnect", "start_from": "before"}])
    store.create_study("more", more, "cmd", "0")
    watching = Recorder()
    runner = StudyRunner(store, "more", workbench, watching)

    plan = {need.method: need for need in runner.needs()}
    runner.run()
    store.create_study("same", study(GRAPH), "cmd", "0")
    same = StudyRunner(store, "same", workbench, SILENT).needs()

    assert [("real", 0, 2), ("ste", 0, 2), ("bop", 0, 2)] == [
        (need.method, need.runs, need.reused) for need in same
    ]
    assert (0, 2, 0) == (plan["before"].bases, plan["before"].reused, plan["before"].runs)
    assert ("start_from = before",) == plan["binaryconnect"].builds_on
    assert [("binaryconnect", 1), ("binaryconnect", 2)] == [(m, n) for _, m, _, n in watching.order]
    assert {DONE} == {e.state for e in store.entries("more")}


def test_the_plan_counts_bases(store, workbench):
    """Before, between and after."""
    store.create_study("g", study(GRAPH), "cmd", "0")
    runner = StudyRunner(store, "g", workbench, SILENT)

    before = runner.needs()
    runner.run()

    assert [("before", 2), ("real", 2), ("ste", 2), ("bop", 2)] == [
        (need.method, need.runs) for need in before
    ]
    assert 3 == before[0].epochs
    assert 0 == sum(need.runs for need in runner.needs())


def test_lost_weights_are_trained_again(store, workbench):
    """A base whose file is gone is trained again, to the same numbers."""
    run(store, study(GRAPH), workbench)
    measured = fingerprint(store, "g")
    keys = [e.run.key for e in store.entries("g", role=BASE)]
    for key in keys:
        workbench.checkpoints.forget(key)
    more = study(GRAPH, methods=[{"method": "binaryconnect", "start_from": "before"}])

    _, order = run(store, more, workbench, "more")

    assert 2 == sum(role == BASE for _, _, role, _ in order)
    assert measured == fingerprint(store, "g")
    assert all(map(workbench.checkpoints.has_weights, keys))


def test_a_base_that_fails_fails_what_builds_on_it(store, workbench):
    """Each says why; the others are trained."""
    made = study(GRAPH)
    broken = made.model_dump()
    broken["runs"]["before"]["hyperparameters"] = {"lr": 1e30}

    run(store, parse_study(broken, "x"), workbench)

    states = {e.method: (e.state, e.error) for e in store.entries("g", role=CONFIRM)}
    assert DONE == states["real"][0]
    assert FAILED == states["ste"][0]
    assert states["ste"][1].startswith("the run 'before' that it builds on diverged: ")


def test_a_teacher_teaches(store, workbench):
    """One teacher for all seeds, judged as its method is, fixed; what it says is what counts."""
    made = study(GRAPH, TAUGHT)

    run(store, made, workbench)

    teachers = store.entries("g", method="teacher")
    assert [(BASE, 7, DONE)] == [(e.role, e.number, e.state) for e in teachers]
    taught = store.entries("g", task="taught", role=CONFIRM)
    assert 6 == len(taught)
    assert {teachers[0].run.key} == {e.run.teacher for e in taught}
    plain = store.entries("g", task="plain", role=CONFIRM)
    assert {""} == {e.run.teacher for e in plain}
    distilled = store.entries("g", task="taught", method="before")
    assert {teachers[0].run.key} == {e.run.teacher for e in distilled}


@pytest.mark.filterwarnings("ignore:a budget of")
@pytest.mark.parametrize("method", load_plugins().names("methods"))
def test_every_method_can_be_taught_and_started(store, workbench, method):
    """Distillation and warm starts cross with every method; the warm start is not drawn anew."""
    values = tomllib.loads(GRAPH) | tomllib.loads(TAUGHT)
    values["runs"] |= tomllib.loads(GRAPH)["runs"]
    values["methods"] = [{"name": "it", "method": method, "start_from": "before"}]
    values["protocol"]["seeds"] = 1
    values["tasks"][0]["epochs"] = 3

    run(store, parse_study(values, "x"), workbench)

    (entry,) = store.entries("g", role=CONFIRM)
    assert (DONE, "") == (entry.state, entry.error)
    assert entry.run.teacher
    training = workbench.prepare(entry.run).training()
    base = workbench.checkpoints.weights(entry.run.start_from)
    for name, latent in training.latents.tensors.items():
        assert torch.equal(base.latents[f"{name}.weight"], latent)


def test_the_teacher_is_fixed_and_answers_as_it_is_judged(store, workbench):
    """Eval mode, no gradients, the weights of its judged mode."""
    run(store, study(GRAPH), workbench)
    (entry,) = store.entries("g", role=BASE, number=1)
    weights = workbench.checkpoints.weights(entry.run.key)
    binary = weights._replace(
        network=weights.network
        | {name: torch.sign(latent) for name, latent in weights.latents.items()}
    )

    fixed = as_teacher(binary, workbench.network(entry.run))

    assert not fixed.training
    assert not any(p.requires_grad for p in fixed.parameters())
    assert {-1.0, 1.0} == set(fixed.get_parameter("dense1.weight").unique().tolist())
    with pytest.raises(UsageError, match="a teacher is one network"):
        as_teacher(weights._replace(draws=10, judged="ensemble"), workbench.network(entry.run))


def test_bases_are_shown(store, workbench):
    """Which run, its validation accuracy as it is judged, who builds on it; no test accuracy."""
    run(store, study(GRAPH), workbench)

    found = Results(store, "g").bases()

    assert [("before", 1), ("before", 2)] == [(b.entry.method, b.entry.number) for b in found]
    for base in found:
        assert ["start_from of ste, bop"] == base.used_by
        last = store.value(base.entry.run_id, "accuracy", split="validation", mode="real", epoch=3)
        assert last == base.validation
        assert store.value(base.entry.run_id, "accuracy", split="test", mode="real") is None


WRONG = {
    "methods.1.start_from": ("befor", "names the run 'befor', which is not among .*'before'"),
    "tasks.0.teacher": ("nobody", "names the run 'nobody', which is not among"),
    "runs.before.start_from": ("before", "runs must not build on themselves, got before -> before"),
    "runs.before.teacher": ("nobody", "run 'before' names the run 'nobody'"),
    "methods.1.name": ("before", "the name 'before' is that of a run and of a method"),
    "runs.before.epohs": (3, r"runs.before.epohs: unknown key; did you mean 'epochs'"),
    "runs.before.method": ("", "name either a method, or a binarizer and an optimizer"),
}


@pytest.mark.parametrize("key", WRONG)
def test_wrong_graphs_are_refused_with_one_line(key):
    """Missing names, circles, names given twice."""
    value, message = WRONG[key]
    values = tomllib.loads(GRAPH)
    *path, last = key.split(".")
    table = values
    for part in path:
        table = table[int(part)] if part.isdigit() else table[part]
    table[last] = value

    with pytest.raises(UsageError, match=message) as error:
        parse_study(values, "graph.toml")
    assert "\n" not in str(error.value)


def test_longer_circles_are_told_in_order():
    """Through a teacher as well."""
    values = tomllib.loads(GRAPH)
    values["runs"]["before"]["start_from"] = "earlier"
    values["runs"]["earlier"] = {"method": "real", "teacher": "before"}

    with pytest.raises(UsageError, match=r"got before -> earlier -> before"):
        parse_study(values, "graph.toml")


def test_a_loss_and_its_teacher_come_together(workbench):
    """A loss that learns from a teacher needs one; another has no use for it."""
    lonely, useless = tomllib.loads(GRAPH), tomllib.loads(GRAPH)
    lonely["tasks"][0]["loss"] = "distribution"
    useless["tasks"][0]["teacher"] = "before"
    useless["runs"]["before"]["loss"] = "cross-entropy"

    with pytest.raises(UsageError, match="the loss 'distribution' learns from a teacher; name one"):
        cells("g", parse_study(lonely, "x"), workbench)
    with pytest.raises(UsageError, match="the loss 'cross-entropy' learns from no teacher; leave"):
        cells("g", parse_study(useless, "x"), workbench)


@pytest.mark.parametrize(
    ("architecture", "message"),
    [
        ({"depth": 1, "width": 8}, r"'dense1.weight' of shape \(8, 64\) does not fit the place of"),
        ({"depth": 2, "width": 16}, r"'dense2.weight' of shape \(16, 16\) does not fit"),
        ({"depth": 1, "width": 16, "activation": "sign"}, None),
    ],
)
def test_misfits_are_told_before_anything_is_trained(store, workbench, architecture, message):
    """Shapes are compared on fresh networks; another activation has the same weights."""
    values = tomllib.loads(GRAPH)
    values["runs"]["before"]["architecture"] = {"name": "mlp", **architecture}
    store.create_study("g", parse_study(values, "x"), "cmd", "0")
    runner = StudyRunner(store, "g", workbench, SILENT)

    if message is None:
        runner.check()
    else:
        with pytest.raises(UsageError, match=message):
            runner.check()
    assert not store.entries("g")


def test_no_weight_is_dropped():
    """A weight without a place and a place without a weight are both errors."""
    small, deep = (mlp(shape=(4,), classes=3, depth=d, width=4) for d in (1, 2))

    with pytest.raises(UsageError, match=r"'dense3.weight' of shape \(3, 4\) finds no place"):
        check_places({k: v for k, v in deep.state_dict().items() if "3" in k}, small, "x")
    with pytest.raises(UsageError, match=r"there is none for 'norm1\.bias'"):
        check_places({k: v for k, v in small.state_dict().items() if k != "norm1.bias"}, small, "x")
    source = Run(Part("d"), Part("a"), Part("l"), Part("m"), 1, 2, 10)
    with pytest.raises(UsageError, match="give both runs the same architecture"):
        hand_over(Weights(source, deep.state_dict(), {}, "real", 1, None), small, "run x")


class Stop(Recorder):
    """An observer that breaks the study off after so many runs."""

    def __init__(self, after):
        super().__init__()
        self.after = after

    def run_started(self, entry):
        if len(self.order) == self.after:
            raise KeyboardInterrupt
        super().run_started(entry)


def test_a_new_version_goes_on_with_the_bases_that_are_there(store, workbench, monkeypatch):
    """A study that was begun with an older version keeps its bases, finished or broken off."""
    store.create_study("g", study(GRAPH), "cmd", "0")
    with pytest.raises(KeyboardInterrupt):
        StudyRunner(store, "g", workbench, Stop(after=3)).run()
    (old,) = store.entries("g", role=BASE)
    monkeypatch.setattr(workbench, "versions", lambda used: {"bnnbench": "99"})

    for expected in (5, 0):
        watching = Recorder()
        runner = StudyRunner(store, "g", workbench, watching)
        assert expected == sum(need.runs for need in runner.needs())
        runner.run()
        assert expected == len(watching.order)

    (bop,) = store.entries("g", method="bop", number=1)
    assert (DONE, old.run.key, "99") == (bop.state, bop.run.start_from, bop.run.code["bnnbench"])
    later = [e.run.code["bnnbench"] for e in store.entries("g", role=BASE, number=2)]
    assert ["99"] == later


def test_a_base_that_failed_can_be_tried_again(store, workbench, monkeypatch):
    """A full disk fails the base and what builds on it; both are of one kind, and tried again."""

    def full(weights):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as disk:
        disk.setattr(workbench.checkpoints, "save_weights", full)
        disk.setattr(trainer, "PAUSES", ())
        run(store, study(GRAPH), workbench)
    failed = [e for e in store.entries("g") if e.state == FAILED]
    assert 6 == len(failed)
    assert all("No space left on device" in e.error for e in failed)

    assert {"transient"} == {e.failure for e in failed}
    assert 0 == store.retry_failed("g", ["plugin", "lost"])
    assert 6 == store.retry_failed("g", ["transient"])
    StudyRunner(store, "g", workbench, SILENT).run()

    assert {DONE} == {e.state for e in store.entries("g")}


def test_inherited_runs_have_their_bases(store, workbench):
    """A study that finds its runs finished still shows what they were built on."""
    run(store, study(GRAPH), workbench)

    _, order = run(store, study(GRAPH), workbench, "again")

    results = Results(store, "again")
    assert not order
    assert [1, 2] == [base.entry.number for base in results.bases()]
    assert {"real": 0, "ste": 3, "bop": 3} == {r.method: r.epochs_before for r in results.rows()}


def test_a_teacher_is_the_network_that_was_judged(store, workbench):
    """Also where batch normalization is re-estimated for the weights of the judged mode."""
    values = tomllib.loads(GRAPH)
    values["protocol"] |= {"reestimate": 5, "seeds": 1}
    values["runs"]["before"] = {
        "method": "binaryconnect",
        "hyperparameters": {"binarization": "stochastic"},
    }
    run(store, parse_study(values, "x"), workbench)
    (entry,) = store.entries("g", role=BASE)
    epoch = int(store.value(entry.run_id, "selected_epoch"))
    judged = {"split": "validation", "mode": "real", "epoch": epoch}
    recorded = store.value(entry.run_id, "accuracy", **judged)

    teacher, other = (workbench._teacher(entry.run.key) for _ in range(2))

    ((inputs, targets),) = workbench.dataset(entry.run.dataset).validation.batches(1000)
    right = (teacher(inputs).argmax(1) == targets).float().mean().item()
    assert recorded == pytest.approx(100 * right, abs=1e-3)
    assert teacher is not other, "a loss hooks the layers of its teacher"


def test_a_teacher_of_many_networks_is_refused_early(store, workbench):
    """Before anything is trained."""
    values = tomllib.loads(GRAPH) | tomllib.loads(TAUGHT)
    stochastic = {"binarization": "stochastic"}
    values["runs"]["teacher"] |= {
        "method": "binaryconnect",
        "hyperparameters": stochastic,
        "judged": "ensemble",
    }
    values["methods"] = [{"method": "ste"}]
    store.create_study("g", parse_study(values, "x"), "cmd", "0")

    with pytest.raises(UsageError, match="a teacher is one network, but binaryconnect-stochastic"):
        StudyRunner(store, "g", workbench, SILENT).check()


def test_runs_that_nobody_names_are_checked_too(workbench):
    """A misspelt method is an error, used or not."""
    values = tomllib.loads(GRAPH)
    values["runs"]["spare"] = {"method": "steh"}

    with pytest.raises(UsageError, match=r"run 'spare': .*'steh'"):
        cells("g", parse_study(values, "x"), workbench)
