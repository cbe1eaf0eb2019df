"""A study in small: the cuts are the shares that were asked for, and methods keep their meaning."""

from __future__ import annotations

import math
import sys
import warnings
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bnnbench.cli import main
from bnnbench.errors import UsageError
from bnnbench.experiments import Workbench
from bnnbench.plugins import load_plugins
from bnnbench.scaling import cut, images, scaled, told
from bnnbench.schedules import Progress, resolve
from bnnbench.store import Store
from bnnbench.studies import Component
from bnnbench.studyfile import parse_study
from bnnbench_plugins.binaryconnect import binaryconnect
from bnnbench_plugins.bmd import bmd
from bnnbench_plugins.bnew import bnew
from bnnbench_plugins.bop import bop
from bnnbench_plugins.bop2 import bop2
from bnnbench_plugins.proxquant import proxquant
from bnnbench_plugins.real import real

from .conftest import TINY

WORKBENCH = Workbench(load_plugins())
SCALES = (1.0, 0.1, 0.01)


def study_of(epochs, *, train=None, batch=100, method="real", dataset="mnist", **more):
    data = {"name": dataset} | ({"train": train} if train else {})
    task = {"name": "t", "dataset": data, "architecture": "mlp", "epochs": epochs}
    values = {"task": task | {"batch_size": batch}, "methods": [{"method": method}]}
    return parse_study(values | more, "x")


def trained_images(study, task=0):
    """Images that all epochs of a task see together."""
    task = study.tasks[task]
    return task.epochs * images(WORKBENCH, task.dataset)


@given(
    epochs=st.integers(1, 2000),
    train=st.integers(1, 50_000),
    batch=st.integers(1, 200),
    thousandths=st.integers(1, 1000),
)
@settings(max_examples=200, deadline=None)
def test_a_task_is_as_long_as_asked(epochs, train, batch, thousandths):
    """Epochs are within a half of s E, or one epoch has s E of the images, and at least a batch."""
    before = study_of(epochs, train=train, batch=batch)

    after = scaled(before, thousandths / 1000, WORKBENCH)

    (task,), asked = after.tasks, Fraction(thousandths * epochs, 1000)
    left = images(WORKBENCH, task.dataset)
    assert thousandths / 1000 == after.scale
    if asked >= 1:
        assert abs(task.epochs - asked) <= Fraction(1, 2)
        assert train == left
    else:
        assert 1 == task.epochs
        assert abs(left - max(asked * train, min(batch, train))) <= Fraction(1, 2)
    unchanged = {"scale", "tasks"}
    assert before.model_dump(exclude=unchanged) == after.model_dump(exclude=unchanged)
    assert before.tasks[0].model_copy(update={"epochs": 1, "dataset": None}) == task.model_copy(
        update={"epochs": 1, "dataset": None}
    )


@given(epochs=st.integers(1, 2000), a=st.integers(1, 1000), b=st.integers(1, 1000))
@settings(max_examples=100, deadline=None)
def test_a_larger_scale_is_no_shorter(epochs, a, b):
    """Of two scales the larger trains on at least as many images in all, but for a half epoch."""
    study = study_of(epochs)
    small, large = (scaled(study, s / 1000, WORKBENCH) for s in sorted((a, b)))

    assert small.tasks[0].epochs <= large.tasks[0].epochs
    one = small.tasks[0].epochs == large.tasks[0].epochs == 1
    assert not one or trained_images(small) <= trained_images(large)


def test_scale_of_one_changes_nothing():
    """All of the training is the study itself."""
    study = study_of(7, protocol={"seconds": 60})

    assert study == scaled(study, 1.0, WORKBENCH)


@pytest.mark.parametrize(
    ("epochs", "scale", "left"),
    [(50, 0.29, 15), (50, 0.03, 2), (500, 0.01, 5), (5, 0.5, 3), (150, 0.01, 2), (149, 0.01, 1)],
)
def test_a_half_epoch_counts(epochs, scale, left):
    """Products are exact and halves round up: 0.29 * 50 is 14.5, though not in binary."""
    assert left == scaled(study_of(epochs), scale, WORKBENCH).tasks[0].epochs


def test_cut_of_less_than_an_epoch():
    """What is less than an epoch is one epoch of that share."""
    assert (1, Fraction(1, 3)) == cut(Fraction(1, 3))
    assert (1, 1) == cut(Fraction(1))


GRAPH = {
    "tasks": [
        {"name": n, "dataset": "mnist", "architecture": "mlp", "epochs": e, "start_from": "first"}
        for n, e in (("long", 100), ("longer", 200))
    ],
    "methods": [{"method": "ste"}],
    "runs": {
        "first": {"method": "real", "epochs": 20, "start_from": "own"},
        "own": {"method": "real", "architecture": "mlp"},
    },
}


@pytest.mark.parametrize(
    ("scale", "tasks", "first"),
    [(0.1, [(10, 50_000), (20, 50_000)], 2), (0.004, [(1, 20_000), (1, 40_000)], 1)],
)
def test_runs_that_others_build_on(scale, tasks, first):
    """Epochs of their own are scaled, the task's are not written into them."""
    after = scaled(parse_study(GRAPH, "x"), scale, WORKBENCH)

    assert tasks == [(t.epochs, images(WORKBENCH, t.dataset)) for t in after.tasks]
    assert (first, None) == (after.runs["first"].epochs, after.runs["own"].epochs)


def test_a_run_on_fewer_images_has_more_epochs_of_them():
    """A run of 20 epochs on a task of 5, at a tenth: 4 epochs of half the images are 2 of all."""
    task = GRAPH["tasks"][0] | {"epochs": 5}
    unused = GRAPH["tasks"][0] | {"name": "other", "epochs": 50, "start_from": ""}
    study = parse_study(GRAPH | {"tasks": [task, unused]}, "x")

    after = scaled(study, 0.1, WORKBENCH)

    assert [(1, 25_000), (5, 50_000)] == [
        (t.epochs, images(WORKBENCH, t.dataset)) for t in after.tasks
    ]
    assert 4 == after.runs["first"].epochs


def test_seconds_are_scaled_and_trials_are_not():
    """A budget in seconds buys as many of the shorter trials; a number of trials is one."""
    study = study_of(100, protocol={"seconds": 600, "trials": 8, "seeds": 3})

    protocol = scaled(study, 0.1, WORKBENCH).protocol

    assert (60, 8, 3) == (protocol.seconds, protocol.trials, protocol.seeds)


def test_scaling_twice_is_refused():
    """Rounded epochs cannot be scaled as exactly as the study that they were made from."""
    once = scaled(study_of(100), 0.5, WORKBENCH)

    with pytest.raises(UsageError, match=r"scaled once, this one has scale = 0\.5"):
        scaled(once, 0.5, WORKBENCH)


@pytest.mark.parametrize("epochs", [3, 7, 100, 1200])
@pytest.mark.parametrize(("method", "phases"), [("bnew", 3), ("two-step", 2)])
def test_smallest_scale_is_named_and_is_the_smallest(epochs, method, phases):
    """At the scale that the refusal names every phase has an epoch; at a little less it has not."""
    study = study_of(epochs, method=method)
    with pytest.raises(UsageError, match="the scale must be") as refused:
        scaled(study, 0.0005, WORKBENCH)
    words = str(refused.value).split()
    least = float(words[words.index("be") + 1])

    assert phases == scaled(study, least, WORKBENCH).tasks[0].epochs
    assert f"'{method}' on 't' has {phases} phases" in str(refused.value)
    with pytest.raises(UsageError, match="the scale must be"):
        scaled(study, least * 0.98, WORKBENCH)


def test_the_smallest_scale_serves_all_methods():
    """Of several that have too few epochs the one that needs most is named."""
    methods = [{"method": "two-step"}, {"method": "bnew"}, {"method": "two-step", "name": "b"}]
    study = study_of(100, methods=methods)

    with pytest.raises(UsageError, match=r"0\.025 or more: 'bnew' on 't'"):
        scaled(study, 0.001, WORKBENCH)
    assert 3 == scaled(study, 0.025, WORKBENCH).tasks[0].epochs


def test_a_base_run_needs_its_phases_too():
    """A run that others build on is refused like a method."""
    runs = {"first": {"method": "bnew", "epochs": 30}}
    study = study_of(100, runs=runs, methods=[{"method": "ste", "start_from": "first"}])

    with pytest.raises(UsageError, match=r"0\.0834 or more: run 'first' has 3 phases"):
        scaled(study, 0.05, WORKBENCH)
    assert 3 == scaled(study, 0.0834, WORKBENCH).runs["first"].epochs


def test_what_was_cut_is_told():
    """Epochs, images, and where a cut could not be made."""
    lines = told(small := parse_study(GRAPH, "x"), scaled(small, 0.004, WORKBENCH), WORKBENCH)
    digits = study_of(15, dataset="digits", protocol={"seconds": 50})

    assert [
        "task 'long': 100 -> 1 epochs, 50,000 -> 20,000 images",
        "task 'longer': 200 -> 1 epochs, 50,000 -> 40,000 images",
        "run 'first': 20 -> 1 epochs (0.08 epochs would be to scale, but its images are its"
        " task's)",
    ] == lines
    assert [
        "task 't': 15 -> 1 epochs (0.15 epochs would be to scale, but 'digits' has no 'train' to"
        " cut)",
        "tuning: 50 -> 0.5 seconds",
    ] == told(digits, scaled(digits, 0.01, WORKBENCH), WORKBENCH)
    tiny = study_of(1, train=120)
    (line,) = told(tiny, scaled(tiny, 0.1, WORKBENCH), WORKBENCH)
    assert line.endswith(
        "120 -> 100 images (0.1 epochs would be to scale, but a batch is the least)"
    )


def test_which_data_sets_can_be_cut():
    """All bundled data sets but the digits have ``train``, a whole number."""
    names = WORKBENCH.plugins.names("datasets")
    found = {name: images(WORKBENCH, Component(name=name)) for name in names}

    assert {"digits"} == {name for name, count in found.items() if count is None}
    assert (50_000, 45_000) == (found["mnist"], found["cifar10"])


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Call bnnbench in an empty folder; returns the exit code, standard output and error."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("BNNBENCH_STORAGE", raising=False)
    (tmp_path / "tiny.toml").write_text(TINY.replace("epochs = 2", "epochs = 20"))

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["bnnbench", *arguments])
        code = main(list(arguments))
        return code, *capsys.readouterr()

    return call


def test_create_scaled(run):
    """The study that is stored is the small one, with its scale; what was cut is printed."""
    create = ("study", "create", "s", "--from", "tiny.toml", "--scale", "0.1")
    code, out, err = run(*create, "--budget-seconds", "5", "--trials", "0")

    store = Store("bnnbench.db", create=False)
    study = store.study("s")
    store.engine.dispose()
    assert (0, "") == (code, err)
    assert "scaled by 0.1:\n  task 't': 20 -> 2 epochs\n" in out
    assert (0.1, 2, 5) == (study.scale, study.tasks[0].epochs, study.protocol.seconds)
    assert "tuning 2 times 5 s of training, seeds 2, confirming runs 4" in out


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--scale", "0"), "0.0 is not in the range 0<x<=1"),
        (("--scale", "2"), "2.0 is not in the range 0<x<=1"),
        (("--scale", "0.5", "--epochs", "3"), "give either --epochs or --scale"),
    ],
)
def test_scale_that_cannot_be(run, more, message):
    """One line, and nothing is created."""
    code, _, err = run("study", "create", "s", "--from", "tiny.toml", *more)

    assert (2, 1, True) == (code, len(err.strip().splitlines()), message in err)


# What methods make of a shorter training, in plain numbers. E epochs of ``steps`` steps.


def stage_of(method, epochs, steps, number=-1):
    """The phase, its first step and the steps of its stage."""
    first, _ = method.spans(epochs)[number]
    begun, end = method.stages(epochs)[number]
    return method.phases[number], (first - begun) * steps, (end - begun) * steps


def course(scheduled, name, epochs, steps):
    """A hyperparameter at every step of a training of one phase."""
    return [
        resolve(scheduled.hyper[name], Progress(t, epochs * steps, t // steps, epochs))
        for t in range(epochs * steps)
    ]


@pytest.mark.parametrize("scale", SCALES)
def test_bop_renews_its_average_as_often(scale):
    """Gamma times the steps of each fifth is 10, 1, 0.1, 0.01, 0.001; tau/sqrt(gamma) stays."""
    epochs, steps = round(500 * scale), 1000
    binary = bop().phases[0].binary
    gamma, tau = (course(binary, name, epochs, steps) for name in ("gamma", "tau"))
    fifth = len(gamma) // 5

    sums = [sum(gamma[k * fifth : (k + 1) * fifth]) for k in range(5)]

    assert [10, 1, 0.1, 0.01, 0.001] == pytest.approx(sums)
    assert tau[0] / math.sqrt(gamma[0]) == pytest.approx(1e-8 / math.sqrt(1e-4))


def test_bop_unfitted_is_not_to_scale():
    """With ``rescale = false``, and in a cross, gamma is what it is: the average hardly moves."""
    gamma = course(bop(rescale=False).phases[0].binary, "gamma", 5, 1000)

    assert sum(gamma[:1000]) == pytest.approx(0.1)


@pytest.mark.parametrize("scale", SCALES)
def test_bmd_hardens_as_far(scale):
    """By steps beta ends where it was tuned to; by epochs with a lock, a factor or two short."""
    epochs, steps = round(284 * scale), 352
    by_step = course(bmd().phases[0].binarizer, "beta", epochs, steps)
    assert by_step[-1] == pytest.approx(2e4)

    method = bmd(ramp="epoch", lock=0.02, beta_final=1.01**998)
    epochs = round(1000 * scale)
    _, locked_at = method.spans(epochs)[0]
    last = resolve(
        method.phases[0].binarizer.hyper["beta"],
        Progress((locked_at - 1) * steps, epochs * steps, locked_at - 1, epochs),
    )
    assert {1.0: 0.81, 0.1: 0.82, 0.01: 0.29}[scale] == pytest.approx(last / 1.01**998, rel=0.02)


@pytest.mark.parametrize("scale", SCALES)
def test_bnew_keeps_its_budget_and_its_lock(scale):
    """lambda_0 T is 35 whatever T is; the lock has its share and never less than an epoch.

    What falls to the lock is not spent: of ten epochs, with one of them locked, a quarter.
    """
    epochs, steps = round(1200 * scale), 352
    method = bnew()
    relax, harden, lock = (end - first for first, end in method.spans(epochs))

    stage = harden + lock
    lam = method.phases[1].binary.hyper["lam"]
    at_end = Progress(0, stage * steps, stage - 1, stage)
    lambda_0 = lam(at_end) * stage / (stage - 1)

    assert pytest.approx(35) == lambda_0 * stage * steps
    assert (epochs / 6, max(1, round(epochs / 60))) == (relax, lock)
    spent = sum(2 * lam(Progress(0, stage * steps, e, stage)) * steps for e in range(harden))
    assert {1.0: 33.6, 0.1: 33.3, 0.01: 25.9}[scale] == pytest.approx(spent, abs=0.1)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("method", [binaryconnect, real])
def test_geometric_rates_end_where_they_did(method, scale):
    """From 1e-3 the last epoch is one factor short of 3e-6, which a short training feels."""
    epochs = round(250 * scale)
    (phase,) = method().phases
    rates = course(phase.real, "lr", epochs, 2)

    assert (1e-3, (3e-6 / 1e-3) ** (1 / epochs)) == pytest.approx((rates[0], 3e-6 / rates[-1]))


@pytest.mark.parametrize("scale", SCALES)
def test_bop2_and_proxquant_reach_their_ends(scale):
    """Linear schedules end where they did; the prox pushes 7.8 in all."""
    epochs, steps = round(500 * scale), 20
    binary = bop2().phases[0].binary
    ends = [course(binary, name, epochs, steps)[-1] for name in ("gamma", "sigma", "tau")]
    assert [1e-5, 1e-2, 1e-8] == pytest.approx(ends)

    method = proxquant()
    epochs = round(300 * scale)
    phase, _, total = stage_of(method, epochs, steps, number=0)
    (first, end) = method.spans(epochs)[0]
    r = [
        resolve(phase.binary.hyper["r"], Progress(t, total, t // steps, epochs))
        for t in range((end - first) * steps)
    ]
    assert sum(r) == pytest.approx(7.8)


@pytest.mark.parametrize("scale", [0.1, 0.01])
@pytest.mark.parametrize("name", WORKBENCH.plugins.names("studies"))
def test_bundled_studies(name, scale):
    """Each can be made small, or says from which scale on; the small one is a study."""
    from bnnbench.studyfile import read_study

    study = read_study(WORKBENCH.plugins.get("studies", name), name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            small = scaled(study, scale, WORKBENCH)
        except UsageError as refused:
            least = float(str(refused).split()[4])
            small = scaled(study, least, WORKBENCH)

    assert small == parse_study(small.model_dump(), name)
    assert all(new.epochs <= old.epochs for old, new in zip(study.tasks, small.tasks, strict=True))
