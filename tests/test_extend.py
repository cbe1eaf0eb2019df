"""Budgets in seconds, and studies that are given more: nothing trained twice, nothing mixed."""

from __future__ import annotations

import math
import shlex
import signal
import sys
import time
import tomllib
from types import SimpleNamespace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bnnbench import trials
from bnnbench.budget import IDLE, Spent, is_open, missing, spent, trained
from bnnbench.cli import main
from bnnbench.errors import UsageError
from bnnbench.experiments import Workbench
from bnnbench.extending import changes, extended
from bnnbench.plugins import load_plugins
from bnnbench.results import Results
from bnnbench.store import Store
from bnnbench.studies import MethodSpec, Protocol
from bnnbench.studyfile import parse_study
from bnnbench.trials import Trials
from bnnbench.tuning import StudyRunner
from bnnbench_reports.page import commands

from .conftest import TINY
from .test_kill import bnnbench, wait_for_runs
from .test_tuning import SILENT, Killed, dying, optuna_trials

BOP = TINY.replace('[[methods]]\nmethod = "real"\n', "")


@pytest.fixture(scope="module")
def workbench():
    """The bundled plugins."""
    return Workbench(load_plugins())


def study_of(text=BOP, **protocol):
    values = tomllib.loads(text)
    values["protocol"] |= protocol
    return parse_study(values, "tiny.toml")


def ran(store, workbench, name="s", observer=SILENT):
    runner = StudyRunner(store, name, workbench, observer)
    runner.run()
    return runner


def grown(store, study, name="s"):
    """The study of the database becomes this one, as ``study extend`` does it."""
    told = changes(store.study(name), study)
    store.extend_study(name, study, f"bnnbench study extend {name}", told)


def trained_by(store, workbench, name="s"):
    """The labels of the runs that running a study trains."""
    started = []
    observer = SimpleNamespace(**vars(SILENT) | {"run_started": lambda e: started.append(e.label)})
    ran(store, workbench, name, observer)
    return started


def standing(store, name="s"):
    """Every run that counts: where it stands, what it is and how it ended."""
    return sorted(
        (e.task, e.method, e.role, e.number, e.run.key, e.state)
        for e in store.entries(name)
        if not e.role.startswith("former")
    )


# A study of seconds


def plainly(cap, budget, seconds):
    """How many trials a budget buys: the plain rule, one trial after the other."""
    for count in range(len(seconds) + 1):
        spent_before = math.fsum(seconds[:count])
        if cap and count >= cap:
            return count
        if count and spent_before >= budget:
            return count
        if count >= IDLE and all(s == 0 for s in seconds[count - IDLE : count]):
            return count
    return None


@given(
    cap=st.integers(0, 15),
    budget=st.integers(1, 40),
    seconds=st.lists(st.sampled_from([0, 0, 1, 2, 5]), max_size=40),
)
@example(cap=0, budget=5, seconds=[1] + [0] * 12)
@example(cap=0, budget=5, seconds=[0] * 9 + [1] + [0] * 9 + [9])
def test_trials_until_the_seconds_are_spent(cap, budget, seconds):
    """At least one trial; more until the budget, the cap or the patience with idle ones is out."""
    protocol = Protocol(trials=cap, seconds=budget)

    count = 0
    while count <= len(seconds) and is_open(protocol, seconds[:count]):
        count += 1

    assert plainly(cap, budget, seconds) == (count if count <= len(seconds) else None)
    assert 0 < count


@given(trials=st.integers(0, 5), done=st.integers(0, 9))
def test_without_seconds_trials_are_counted(trials, done):
    """A budget of trials does not look at seconds."""
    protocol = Protocol(trials=trials)

    assert (done < trials) is is_open(protocol, [1e9] * done)
    assert max(trials - done, 0) == missing(protocol, [1e9] * done)


@given(
    budget=st.integers(1, 100),
    cap=st.integers(0, 9),
    seconds=st.lists(st.integers(1, 30), max_size=9),
)
def test_guess_of_what_is_missing(budget, cap, seconds):
    """There is a trial missing exactly where there is another one, and never more than the cap."""
    protocol = Protocol(trials=cap, seconds=budget)

    guess = missing(protocol, seconds)

    assert (guess > 0) is is_open(protocol, seconds)
    assert not cap or guess <= max(cap - len(seconds), 0)


@pytest.mark.parametrize("sampler", ["grid", "qmc"])
def test_points_of_a_known_number_need_trials(sampler):
    """A grid and a sequence are of a known size, which seconds do not give."""
    with pytest.raises(UsageError, match=f"protocol: the sampler '{sampler}' spreads a known"):
        study_of(sampler=sampler, seconds=5, trials=0)
    assert study_of(sampler=sampler, seconds=5, trials=3).protocol.tunes


def paced(monkeypatch, seconds=1.0):
    """Let every trial have trained for so long, whatever it really took."""
    monkeypatch.setattr(trials, "trained", lambda store, ended: {e.run_id: seconds for e in ended})


def test_seconds_end_the_trials(store, workbench, monkeypatch):
    """Every method has trials until its seconds are spent; the first is as published."""
    paced(monkeypatch)
    store.create_study("s", study_of(TINY, seconds=2.5, trials=0, seeds=1), "", "0")

    runner = ran(store, workbench)

    tuned = store.entries("s", role="tune")
    assert {("real", n) for n in range(3)} | {("bop", n) for n in range(3)} == {
        (e.method, e.number) for e in tuned
    }
    assert workbench.complete("methods", "bop", {}) == next(
        e.run.method.hyperparameters for e in tuned if (e.method, e.number) == ("bop", 0)
    )
    assert [(0, 0, Spent(3, 3.0))] * 2 == [
        (n.trials, n.confirmations, n.spent) for n in runner.needs()
    ]
    assert [] == trained_by(store, workbench)


def test_trials_are_the_cap_of_seconds(store, workbench, monkeypatch):
    """Where both are given, what is reached first ends the trials; the plan says a guess."""
    paced(monkeypatch)
    store.create_study("s", study_of(seconds=100, trials=2, seeds=1), "", "0")

    runner = StudyRunner(store, "s", workbench, SILENT)
    (need,) = runner.needs()
    runner.run()

    assert (1, True, Spent()) == (need.trials, need.open, need.spent)
    assert [0, 1] == [e.number for e in store.entries("s", role="tune")]


@pytest.mark.parametrize("stop_at", [1, 2, 3])
def test_broken_off_it_goes_on_with_what_was_spent(store, workbench, monkeypatch, stop_at):
    """Ctrl-C in any run, then again: as many trials as without, each counted once."""
    paced(monkeypatch)
    store.create_study("s", study_of(seconds=2.5, trials=0, seeds=1), "", "0")
    store.create_study("calm", study_of(seconds=2.5, trials=0, seeds=1), "", "0")
    begun = []

    def stop(entry, measured):
        begun.extend(m.epoch for m in measured if m.metric == "loss" and m.split == "train")
        if len(begun) == 2 * stop_at - 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ran(store, workbench, observer=SimpleNamespace(**vars(SILENT) | {"epoch_ended": stop}))
    ran(store, workbench)
    ran(store, workbench, "calm")

    numbers = [e.number for e in store.entries("s", role="tune")]
    assert [0, 1, 2] == numbers == [e.number for e in store.entries("calm", role="tune")]


def test_death_before_optuna_knows_of_the_last_trial(store, workbench, monkeypatch):
    """The trial that spent the rest is told and counts, though there is no other after it."""
    paced(monkeypatch)
    store.create_study("s", study_of(seconds=1.5, trials=0, seeds=1), "", "0")
    with monkeypatch.context() as patched:
        patched.setattr(Trials, "_tell", dying(Trials._tell, after=False))
        with pytest.raises(Killed):
            ran(store, workbench)

    ran(store, workbench)

    (trials,) = optuna_trials(store, "s").values()
    assert ["COMPLETE"] * 2 == [state for _, state, *_ in trials]


def test_spent_is_what_is_stored(store, workbench):
    """The seconds of a method are those of all epochs of its trials, the first epochs' too."""
    store.create_study("s", study_of(TINY, seeds=1), "", "0")
    ran(store, workbench)

    found = spent(store, "s")

    for method in ("real", "bop"):
        mine = {e.run_id for e in store.entries("s", method=method, role="tune")}
        rows = store.measured("s", ["seconds.train", "seconds.warmup"])
        seconds = [r.value for r in rows if r.run_id in mine]
        assert 2 * 2 == len(seconds)  # trials and epochs
        assert (2, pytest.approx(sum(seconds))) == found["t", method]
    needs = StudyRunner(store, "s", workbench, SILENT).needs()
    assert [found["t", n.method] for n in needs] == [n.spent for n in needs]


def test_failures_count_and_do_not_go_on_for_ever(store, workbench, monkeypatch):
    """A run that fails in its first epoch has the seconds from its beginning to its end."""
    from bnnbench_plugins.bop import Bop

    monkeypatch.setattr(Bop, "step", lambda self, closure=None: 1 / 0)
    store.create_study("s", study_of(seconds=1e-9, trials=0), "", "0")
    ran(store, workbench)

    (entry,) = store.entries("s")
    assert "failed" == entry.state
    assert Spent(1, entry.finished_at - entry.started_at) == spent(store, "s")["t", "bop"]


def test_what_cannot_even_begin_ends_after_ten(store, workbench, monkeypatch):
    """Trials that take no time at all would never spend a budget; ten in a row are enough."""
    monkeypatch.setattr(workbench, "prepare", lambda run: 1 / 0)
    store.create_study("s", study_of(seconds=60, trials=0), "", "0")
    ran(store, workbench)

    assert list(range(IDLE)) == [e.number for e in store.entries("s")]
    assert {"s/t/bop": ["FAIL"] * IDLE} == {
        name: [state for _, state, _, _ in found]
        for name, found in optuna_trials(store, "s").items()
    }


# More of a study


@pytest.mark.parametrize("sampler", ["tpe", "random", "qmc"])
def test_more_trials_are_as_if_asked_at_once(store, workbench, sampler):
    """Extended from 2 to 5 trials, a study is the one that had 5 from the start, bit for bit."""
    store.create_study("s", study_of(TINY, sampler=sampler, seeds=1), "", "0")
    ran(store, workbench)
    grown(store, study_of(TINY, sampler=sampler, seeds=1, trials=5))
    again = trained_by(store, workbench)
    other = Store(str(store.url.database) + ".once")
    other.create_study("s", study_of(TINY, sampler=sampler, seeds=1, trials=5), "", "0")
    ran(other, workbench)

    assert standing(other) == standing(store)
    assert optuna_trials(other, "s") == optuna_trials(store, "s")
    assert 6 == sum("trial" in label for label in again)
    other.engine.dispose()


def test_more_seeds_train_the_new_ones_alone(store, workbench):
    """From 2 to 3 seeds: one more run of each method, with the next seed."""
    store.create_study("s", study_of(TINY, trials=0), "", "0")
    ran(store, workbench)
    before = standing(store)
    grown(store, study_of(TINY, trials=0, seeds=3))

    assert ["t real confirm seed 3", "t bop confirm seed 3"] == trained_by(store, workbench)
    assert set(before) < set(standing(store))
    assert {3} == {row.done for row in Results(store, "s").rows()}


def test_another_method_leaves_the_first_alone(store, workbench):
    """The new method has the others' trials and seeds, and nothing else is trained."""
    store.create_study("s", study_of(seeds=1), "", "0")
    ran(store, workbench)
    crossed = MethodSpec(binarizer="sign", optimizer="bop")
    grown(store, extended(store.study("s"), [crossed]))

    assert [f"t sign-bop tune trial {n}" for n in (0, 1)] + [
        "t sign-bop confirm seed 1"
    ] == trained_by(store, workbench)


def scored(monkeypatch, scores):
    """Let the trials of these numbers have these accuracies; the others 0."""
    monkeypatch.setattr(
        Trials, "_objective", lambda self, entry: float(scores.get(entry.number, 0))
    )


def confirmed(store, trial):
    """Whether the confirming runs are those of a trial, all seeds of it and no other."""
    (best,) = store.entries("s", role="tune", number=trial)
    runs = store.entries("s", role="confirm")
    assert {"done"} == {e.state for e in runs}
    assert [1, 2] == sorted(e.number for e in runs)
    return {True} == {e.run.method == best.run.method for e in runs}


def test_another_best_trial_is_confirmed_anew(store, workbench, monkeypatch):
    """Its own runs are trained for every seed, the former are kept and count nowhere.

    When the former best is the best once more, nothing is trained again.
    """
    scored(monkeypatch, {1: 50, 3: 60, 4: 40})
    store.create_study("s", study_of(), "", "0")
    ran(store, workbench)
    assert confirmed(store, 1)
    first = {e.run.key for e in store.entries("s", role="confirm")}

    grown(store, study_of(trials=4))
    again = trained_by(store, workbench)

    assert confirmed(store, 3)
    assert [f"t bop confirm seed {n}" for n in (1, 2)] == [a for a in again if "confirm" in a]
    former = store.entries("s", role="former 1")
    assert first == {e.run.key for e in former}
    results = Results(store, "s")
    assert {2} == {row.done for row in results.rows()}
    assert not first & {e.run.key for e in results.confirmed()}
    assert any("former best trial: 2" in text for _, _, text in store.events("s"))
    assert (6, 6) == (store.studies()[0].runs, store.studies()[0].ended)

    grown(store, study_of(trials=5))
    trials = optuna_trials(store, "s")["s/t/bop"]
    scored(monkeypatch, {1: 50, 3: 60, 4: 70})
    ran(store, workbench)
    assert confirmed(store, 4)
    assert {"former 1", "former 2"} == {e.role for e in store.entries("s")} - {"tune", "confirm"}
    assert 4 == len(trials)
    assert first <= set(store.delete_study("s"))


def test_the_former_best_comes_back(store, workbench, monkeypatch):
    """Where a former trial is the best again, its runs count again and none is trained."""
    store.create_study("s", study_of(), "", "0")
    ran(store, workbench)
    keys = {e.run.key for e in store.entries("s", role="confirm")}
    (other,) = (t for t in store.entries("s", role="tune") if not confirmed(store, t.number))
    best = Trials.best
    monkeypatch.setattr(Trials, "best", lambda self, cell: other.run.method.hyperparameters)
    ran(store, workbench)
    assert not keys & {e.run.key for e in store.entries("s", role="confirm")}

    monkeypatch.setattr(Trials, "best", best)
    assert [] == trained_by(store, workbench)

    assert keys == {e.run.key for e in store.entries("s", role="confirm")}
    former = [e for e in store.entries("s") if e.role.startswith("former")]
    assert [other.run.method] * 2 == [e.run.method for e in former]


def test_tuning_a_study_that_was_not(store, workbench):
    """From 0 trials to some: what was confirmed untuned gives way, unless it is the best."""
    text = BOP + "search = { gamma = [1e-2, 1e-3] }\nhyperparameters = { tau = 0.0 }\n"
    store.create_study("s", study_of(text, trials=0, seeds=1), "", "0")
    ran(store, workbench)
    grown(store, study_of(text, trials=2, seeds=1))
    ran(store, workbench)

    (run,) = store.entries("s", role="confirm")
    assert run.run.method.hyperparameters["gamma"] in (1e-2, 1e-3)
    (former,) = store.entries("s", role="former 1")
    assert 1e-4 == former.run.method.hyperparameters["gamma"]


MOMENTS = [
    (Trials, "best", True),
    (Store, "set_aside", False),
    (Store, "set_aside", True),
    (StudyRunner, "_confirm", False),
    (StudyRunner, "_confirm", True),
    (Store, "end_run", False),
]


def first_time(function, *, after):
    """A function that dies when it is called, before or after its work."""

    def die(*arguments, **options):
        if after:
            function(*arguments, **options)
        raise Killed

    return die


@pytest.mark.parametrize(("owner", "name", "after"), MOMENTS, ids=str)
def test_death_while_another_trial_is_confirmed(store, workbench, monkeypatch, owner, name, after):
    """At no moment are runs of two configurations among the confirming ones; none is lost."""
    scored(monkeypatch, {1: 50, 3: 60})
    store.create_study("s", study_of(), "", "0")
    ran(store, workbench)
    grown(store, study_of(trials=4))

    with monkeypatch.context() as patched:
        patched.setattr(owner, name, first_time(getattr(owner, name), after=after))
        with pytest.raises(Killed):
            ran(store, workbench)
    standing_now = store.entries("s", role="confirm")
    assert len({str(e.run.method) for e in standing_now}) <= 1
    needs = StudyRunner(store, "s", workbench, SILENT).needs()
    again = trained_by(store, workbench)

    assert confirmed(store, 3)
    assert 2 == len(store.entries("s", role="former 1"))
    assert 4 == len(store.entries("s", role="tune"))
    if not needs[0].trials:  # then the plan knows which trial is the best
        assert needs[0].confirmations == sum("confirm" in label for label in again)


def test_a_trial_of_another_description_is_refused(store, workbench, monkeypatch):
    """What is not searched must be as in the first trial, however much later the others are."""
    store.create_study("s", study_of(seeds=1), "", "0")
    ran(store, workbench)
    grown(store, study_of(seeds=1, trials=3))
    complete = workbench.complete

    def changed(kind, name, values):
        found = complete(kind, name, values)
        return found | {"decay": 0.5} if name == "bop" else found

    monkeypatch.setattr(workbench, "complete", changed)
    with pytest.raises(UsageError, match=r"s/t/bop was begun with decay = 0\.1, now 0\.5"):
        ran(store, workbench)
    assert 2 == len(store.entries("s", role="tune"))


GROWTH = [
    ({}, {"seeds": 1}, "a study only grows, this one has 2 seeds and would have 1"),
    ({}, {"trials": 1}, "a study only grows, this one has 2 trials and would have 1"),
    ({"sampler": "grid"}, {"trials": 3}, "a grid is laid out for its 2 trials"),
    ({}, {"seconds": 9.0}, "this one is tuned by trials; give --trials"),
    ({"trials": 0, "seconds": 9}, {"trials": 3}, "no limit of trials; give --budget-seconds"),
    ({"trials": 0, "seconds": 9}, {"seconds": 3.0}, "has 9 seconds and would have 3"),
]


@pytest.mark.parametrize(("protocol", "totals", "message"), GROWTH)
def test_less_is_refused(protocol, totals, message):
    """A study only grows, in the unit of its own budget."""
    with pytest.raises(UsageError, match=message):
        extended(study_of(**protocol), **totals)


def test_to_extend_twice_is_to_extend_once():
    """Totals, not differences; a method that is there stays, one described otherwise is refused."""
    study = study_of(trials=0)
    bop, ste = MethodSpec(method="bop"), MethodSpec(method="ste")

    once = extended(study, [bop, ste], seeds=4, seconds=5.0)

    assert "seeds 2 -> 4, seconds 0 -> 5, methods + ste" == changes(study, once)
    assert once == extended(once, [bop, ste], seeds=4, seconds=5.0)
    assert "" == changes(once, once)
    other = MethodSpec(method="bop", hyperparameters={"gamma": 1e-3})
    with pytest.raises(UsageError, match="has another 'bop'; give the new one a name"):
        extended(study, [other])


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Call bnnbench in an empty folder; returns the exit code, standard output and error."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("BNNBENCH_STORAGE", raising=False)
    (tmp_path / "tiny.toml").write_text(TINY.replace("trials = 2", "trials = 0"))

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["bnnbench", *arguments])
        code = main(list(arguments))
        return code, *capsys.readouterr()

    return call


def test_extending_by_command(run, tmp_path):
    """The commands that a report shows repeat the study, extension and all."""
    (tmp_path / "more.toml").write_text(TINY + '[[methods]]\nname = "st"\nmethod = "ste"\n')
    place = ("--storage", "one.db")
    run("study", "create", "s", "--from", "tiny.toml", "--seeds", "1", *place)
    run("study", "run", "s", *place)

    made = run("study", "extend", "s", "--from", "more.toml", "--seeds", "2", *place)
    again = run("study", "extend", "s", "--method", "bop", "--seeds", "2", *place)
    crossed = run("study", "extend", "s", "--method", "sign+bop", *place)

    assert [0, 0, 0] == [made[0], again[0], crossed[0]]
    assert "extended study 's': seeds 1 -> 2, methods + st\n" in made[1]
    assert "study 's' has all that" in again[1]
    assert "7 runs are missing" not in run("study", "run", "s", "--plan", *place)[1]
    assert "6 runs are missing" in run("study", "run", "s", "--plan", *place)[1]
    _, events, _ = run("study", "show", "s", "--events", *place)
    assert events.count(" UTC  extended: ") == 2
    assert "extended: methods + sign-bop" in events

    store = Store("one.db", create=False)
    told, *_ = commands(Results(store, "s"))
    study = store.study("s")
    store.engine.dispose()
    for command in told.split(" && "):
        assert 0 == run(*(w.replace("one.db", "two.db") for w in shlex.split(command)[1:]))[0]
    other = Store("two.db", create=False)
    assert study == other.study("s")
    other.engine.dispose()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (("extend", "s"), "say what to add: --method"),
        (("extend", "s", "--seeds", "1"), "a study only grows, this one has 2 seeds"),
        (("extend", "s", "--method", "bopp"), "did you mean 'bop'?"),
        (("extend", "s", "--method", "sign+"), "--method must be a method, or BINARIZER+"),
        (("extend", "nope", "--seeds", "5"), "no study named 'nope' in this database; 'bnnbench"),
        (("run", "ss"), "there is no study named 'ss' in this database; did you mean 's'?"),
        (("run", "qqq"), "'qqq' in this database; 'bnnbench study list' names them all"),
    ],
)
def test_wrong_calls(run, call, message):
    """One line says what is wrong; the study stays as it is."""
    run("study", "create", "s", "--from", "tiny.toml")
    before = run("study", "list")

    code, _, err = run("study", *call)

    assert (2, 1) == (code, len(err.strip().splitlines()))
    assert message in err
    assert before == run("study", "list")
    assert "nothing out of the ordinary" in run("study", "show", "s", "--events")[1]


def test_a_study_that_is_being_run_is_not_extended(run):
    """Whoever runs it has read what it was."""
    from bnnbench.leases import Leases

    run("study", "create", "s", "--from", "tiny.toml")
    store = Store("bnnbench.db", create=False)
    other = Leases(store)
    other.holder = "another-machine:1:7:5:abcdef01"
    other.take(f"worker s/{other.holder}")
    store.engine.dispose()

    refused = run("study", "extend", "s", "--seeds", "3")

    assert (2, True) == (refused[0], "study 's' is being worked at by process 7" in refused[2])
    assert 0 == run("study", "extend", "s", "--seeds", "3", "--take-over")[0]


def test_death_between_the_writes_of_an_extension(store, workbench, monkeypatch):
    """Description, command and event are one transaction: all of them are there, or none."""
    import bnnbench.catalogue as catalogue

    store.create_study("s", study_of(), "create", "0")
    monkeypatch.setattr(catalogue, "_event", lambda *told: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        grown(store, study_of(seeds=9))

    assert (2, "create", []) == (
        store.study("s").protocol.seeds,
        store.command("s"),
        store.events("s"),
    )


def test_list_says_what_is_planned(run):
    """Before it is run, a study says how many runs it asks for, if that is known."""
    for name, more in {
        "a": ("--trials", "0"),
        "b": ("--trials", "3"),
        "c": ("--budget-seconds", "9"),
    }.items():
        run("study", "create", name, "--from", "tiny.toml", *more)

    lines = {line.split()[0]: line for line in run("study", "list")[1].splitlines() if line.strip()}

    assert "not run yet, 4 planned" in lines["a"]
    assert "not run yet, at most 10 planned" in lines["b"]
    assert "not run yet " in lines["c"]


def test_plan_shows_what_was_spent(run):
    """The plan says what tuning has cost of its budget, and that it guesses."""
    flags = ("--dataset", "digits", "--architecture", "mlp", "--epochs", "1", "--seeds", "1")
    run("study", "create", "s", *flags, "--method", "bop", "--budget-seconds", "1e-6")
    assert "about 2 runs are missing" in run("study", "run", "s", "--plan")[1]
    run("study", "run", "s")

    _, out, _ = run("study", "run", "s", "--plan")

    store = Store("bnnbench.db", create=False)
    (cost,) = spent(store, "s").values()
    store.engine.dispose()
    assert 1 == cost.trials
    assert f"1 in {cost.seconds:.3g} of 1e-06 s" in " ".join(out.split())
    assert "nothing is missing" in out


def kill(folder, runs):
    """Run the study in a process of its own and kill -9 it in the run after so many."""
    process = bnnbench("study", "run", "s", cwd=folder)
    wait_for_runs(folder, runs)
    time.sleep(0.15)
    process.send_signal(signal.SIGKILL)
    process.communicate()


@pytest.mark.slow
def test_killed_extension_is_finished_by_the_next_run(store, workbench, tmp_path, monkeypatch):
    """Killed among the new trials and among the new confirming runs: as if asked at once."""
    monkeypatch.chdir(tmp_path)
    text = BOP.replace("epochs = 2", "epochs = 8")
    store.create_study("s", study_of(text), "", "0")
    ran(store, workbench)
    grown(store, study_of(text, trials=4, seeds=3))
    kill(tmp_path, 5)
    kill(tmp_path, 6)
    ran(store, workbench)
    calm = Store(str(tmp_path / "calm.db"))
    calm.create_study("s", study_of(text, trials=4, seeds=3), "", "0")
    ran(calm, workbench)

    assert standing(calm) == standing(store)
    assert 4 + 3 == len(standing(store))
    assert {"done"} == {state for *_, state in standing(store)}
    assert optuna_trials(calm, "s") == optuna_trials(store, "s")
    calm.engine.dispose()


@pytest.mark.slow
def test_killed_study_of_seconds_goes_on_with_what_was_spent(
    store, workbench, tmp_path, monkeypatch
):
    """Every trial once; all but the last are within the budget, all together are not."""
    monkeypatch.chdir(tmp_path)
    text = BOP.replace("epochs = 2", "epochs = 12")
    store.create_study("s", study_of(text, seconds=0.5, trials=0), "", "0")
    kill(tmp_path, 1)
    ran(store, workbench)

    tuned = store.entries("s", role="tune")
    seconds = list(trained(store, tuned).values())
    assert list(range(len(tuned))) == [e.number for e in tuned]
    assert sum(seconds[:-1]) < 0.5 <= sum(seconds)
    assert [1, 2] == [e.number for e in store.entries("s", role="confirm")]
    assert {"done"} == {e.state for e in store.entries("s")}
    (trials,) = optuna_trials(store, "s").values()
    assert ["COMPLETE"] * len(tuned) == [state for _, state, *_ in trials]
