"""Running a study: equal budgets, paired seeds, one look at test, and nothing lost or doubled."""

from __future__ import annotations

import tomllib
from types import SimpleNamespace

import optuna
import pytest

from bnnbench import trainer
from bnnbench import trials as asking
from bnnbench.errors import StoreError, UsageError
from bnnbench.experiments import Workbench
from bnnbench.plugins import load_plugins
from bnnbench.points import at, grid, sobol_points
from bnnbench.results import Results
from bnnbench.search import optuna_storage
from bnnbench.spaces import Choice, Float, Int
from bnnbench.store import Store
from bnnbench.studyfile import parse_study
from bnnbench.trials import Trials
from bnnbench.tuning import StudyRunner

from .conftest import TINY

SILENT = SimpleNamespace(
    run_started=lambda entry: None,
    epochs_skipped=lambda entry, epochs: None,
    epoch_ended=lambda entry, measured: None,
    run_ended=lambda entry, state, message: None,
)


@pytest.fixture(scope="module")
def workbench():
    """The bundled plugins."""
    return Workbench(load_plugins())


def study_with(**protocol):
    values = tomllib.loads(TINY)
    values["protocol"] |= protocol
    return parse_study(values, "tiny.toml")


def ran(store, study, workbench, name="s", observer=SILENT):
    store.create_study(name, study, "cmd", "0")
    runner = StudyRunner(store, name, workbench, observer)
    runner.run()
    return runner


def fingerprint(store, name):
    """All that a study measured but for times."""
    metrics = ["accuracy", "loss", "flip_step", "flip_init", "selected_epoch"]
    keys = {entry.run_id: entry.run.key for entry in store.entries(name)}
    rows = store.measured(name, metrics)
    return sorted(
        (keys[r.run_id], r.metric, r.epoch, r.split, r.mode, r.layer, r.value) for r in rows
    )


def optuna_trials(store, name):
    storage = optuna_storage(store)
    found = {}
    for study_name in optuna.get_all_study_names(storage):
        if study_name.startswith(f"{name}/"):
            study = optuna.load_study(study_name=study_name, storage=storage)
            found[study_name] = [
                (t.number, t.state.name, dict(t.params), t.value) for t in study.trials
            ]
    return found


def test_every_method_has_the_same_budget_and_seeds(store, tiny, workbench):
    """Each (task, method) is one Optuna study with its trials; confirmations are paired by seed."""
    ran(store, tiny, workbench)

    trials = optuna_trials(store, "s")
    entries = store.entries("s")
    assert {"s/t/real": 2, "s/t/bop": 2} == {name: len(found) for name, found in trials.items()}
    assert {"COMPLETE"} == {state for found in trials.values() for _, state, _, _ in found}
    seeds = {(e.method, e.role): [] for e in entries}
    for entry in entries:
        seeds[entry.method, entry.role].append((entry.number, entry.run.seed))
    assert [(1, 1), (2, 2)] == seeds["real", "confirm"] == seeds["bop", "confirm"]
    assert [(0, 0), (1, 0)] == seeds["real", "tune"] == seeds["bop", "tune"]


def test_first_trial_is_as_published(store, tiny, workbench):
    """The tuner can do no worse on validation than the published hyperparameters."""
    ran(store, tiny, workbench)

    defaults = workbench.complete("methods", "bop", {})
    first = store.entries("s", method="bop", role="tune", number=0)[0]
    assert defaults == first.run.method.hyperparameters


def test_test_split_is_looked_at_once_and_only_when_confirming(store, tiny, workbench):
    """Tuning runs have no test figure; confirming runs have one for each inference mode."""
    ran(store, tiny, workbench)

    looks = [(r.run_id, r.mode) for r in store.measured("s", ["accuracy"], split="test")]
    confirming = {e.run_id for e in store.entries("s") if e.role == "confirm"}
    assert confirming == {run_id for run_id, _ in looks}
    assert len(set(looks)) == len(looks)


def test_confirmed_is_the_best_on_validation(store, tiny, workbench):
    """The confirming runs have the hyperparameters of the best trial."""
    ran(store, tiny, workbench)

    for method in ("real", "bop"):
        trials = optuna_trials(store, "s")[f"s/t/{method}"]
        best = max(trials, key=lambda trial: (trial[3], -trial[0]))[0]
        tuned = store.entries("s", method=method, role="tune", number=best)[0]
        confirmed = store.entries("s", method=method, role="confirm")
        assert all(tuned.run.method == e.run.method for e in confirmed)


def test_running_again_changes_nothing(store, tiny, workbench):
    """A finished study has nothing missing, and a second run trains nothing."""
    ran(store, tiny, workbench)
    before, trials = fingerprint(store, "s"), optuna_trials(store, "s")
    started = []
    observer = SimpleNamespace(**vars(SILENT) | {"run_started": started.append})

    runner = StudyRunner(store, "s", workbench, observer)
    needs = runner.needs()
    runner.run()

    assert [0, 0, 0, 0] == [n for need in needs for n in (need.trials, need.confirmations)]
    assert [] == started
    assert (before, trials) == (fingerprint(store, "s"), optuna_trials(store, "s"))


@pytest.fixture(scope="module")
def undisturbed(workbench, tmp_path_factory):
    """What the tiny study gives when nobody disturbs it."""
    store = Store(str(tmp_path_factory.mktemp("calm") / "bnnbench.db"))
    ran(store, study_with(), workbench)
    yield fingerprint(store, "s"), optuna_trials(store, "s")
    store.engine.dispose()


@pytest.mark.parametrize("stop_at", range(1, 9))
def test_interrupted_study_ends_like_an_undisturbed_one(
    store, tiny, workbench, undisturbed, stop_at
):
    """Ctrl-C at any run, then again: the same trials, the same numbers, none lost, none doubled."""
    count = 0

    def interrupt(entry, measured):
        nonlocal count
        count += entry.run.epochs == max((m.epoch for m in measured), default=0)
        if count == stop_at:
            raise KeyboardInterrupt

    disturbed = SimpleNamespace(**vars(SILENT) | {"epoch_ended": interrupt})
    with pytest.raises(KeyboardInterrupt):
        ran(store, tiny, workbench, observer=disturbed)
    assert "running" not in {entry.state for entry in store.entries("s")}

    StudyRunner(store, "s", workbench, SILENT).run()

    assert undisturbed == (fingerprint(store, "s"), optuna_trials(store, "s"))


class Killed(BaseException):
    """What nobody catches: the process is gone."""


def dying(function, *, after):
    """A function that dies the second time it is called, before or after its work."""
    calls = []

    def die(*arguments, **options):
        calls.append(1)
        if len(calls) == 2 and not after:
            raise Killed
        result = function(*arguments, **options)
        if len(calls) == 2:
            raise Killed
        return result

    return die


MOMENTS = [
    (asking, "take", True),  # asked, nothing suggested
    (asking, "suggest", True),  # suggested, no run yet
    (Store, "start_run", True),  # begun, nothing measured
    (Store, "write", True),  # in the middle of a run
    (Store, "end_run", False),  # measured, not yet ended
    (Trials, "_tell", False),  # ended, Optuna not told
    (StudyRunner, "_confirm", True),
]


@pytest.mark.parametrize(("owner", "name", "after"), MOMENTS, ids=lambda value: str(value))
def test_death_at_any_moment_changes_nothing(
    store, tiny, workbench, undisturbed, monkeypatch, owner, name, after
):
    """Between asking, suggesting, training, ending and telling: nothing lost, nothing doubled."""
    with monkeypatch.context() as patched:
        patched.setattr(trainer.Notebook, "LATE", 0.0)  # else quick epochs are written at the end
        patched.setattr(owner, name, dying(getattr(owner, name), after=after))
        with pytest.raises(Killed):
            ran(store, tiny, workbench)

    StudyRunner(store, "s", workbench, SILENT).run()

    assert undisturbed == (fingerprint(store, "s"), optuna_trials(store, "s"))
    assert {"done"} == {entry.state for entry in store.entries("s")}


@pytest.mark.parametrize("search", [[1e-5, 1e-3], {"low": 1e-3, "high": 1e-2}])
def test_defaults_outside_the_search_are_not_tried(store, workbench, search):
    """A search that leaves the published value out is kept to."""
    values = tomllib.loads(TINY)
    values["methods"] = [{"method": "bop", "search": {"gamma": search}}]
    ran(store, parse_study(values, "tiny.toml"), workbench)

    for _, state, params, _ in optuna_trials(store, "s")["s/t/bop"]:
        assert "COMPLETE" == state
        assert params["gamma"] in (1e-5, 1e-3) or 1e-3 <= params["gamma"] <= 1e-2
        assert 1e-4 != params["gamma"]


def test_study_keeps_to_one_description(store, tiny, workbench, monkeypatch):
    """A plugin whose defaults change in the middle of a study is refused, not mixed in."""
    ran(store, study_with(trials=0), workbench)
    complete = workbench.complete

    def changed(kind, name, values):
        found = complete(kind, name, values)
        return found | {"tau": 1e-3} if name == "bop" else found

    monkeypatch.setattr(workbench, "complete", changed)
    with pytest.raises(UsageError, match=r"s/t/bop was begun with tau = 1e-08, now 0.001"):
        StudyRunner(store, "s", workbench, SILENT).run()


def locked(store, run_id, measured, claim):
    raise StoreError("locked")


def test_database_that_fails_is_not_the_run_that_failed(store, tiny, workbench, monkeypatch):
    """A locked database stops the command; the run is taken up again by the next."""
    store.create_study("s", tiny, "cmd", "0")
    with monkeypatch.context() as patched:
        patched.setattr(trainer.Notebook, "LATE", 0.0)
        patched.setattr(Store, "write", locked)
        with pytest.raises(StoreError, match="locked"):
            StudyRunner(store, "s", workbench, SILENT).run()
    assert ["pending"] == [entry.state for entry in store.entries("s")]

    StudyRunner(store, "s", workbench, SILENT).run()

    assert {"done"} == {entry.state for entry in store.entries("s")}


def closed(*_):
    raise BrokenPipeError


def test_who_watches_and_goes_is_not_the_run_that_failed(store, tiny, workbench):
    """`study run s | head` ends the command where it stands; the run is taken up by the next."""
    store.create_study("s", tiny, "cmd", "0")
    gone = SimpleNamespace(**{**vars(SILENT), "epoch_ended": closed})
    with pytest.raises(BrokenPipeError):
        StudyRunner(store, "s", workbench, gone).run()

    assert ["pending"] == [entry.state for entry in store.entries("s")]


def test_failed_runs_are_tried_again_when_asked(store, workbench, monkeypatch):
    """A bug that is mended needs no new study; without being asked nothing is tried again."""
    from bnnbench_plugins.bop import Bop

    with monkeypatch.context() as patched:
        patched.setattr(Bop, "step", lambda self, closure=None: 1 / 0)
        runner = ran(store, study_with(trials=0), workbench)
    runner.run()
    assert ["failed"] * 2 == [e.state for e in store.entries("s", method="bop")]

    assert 2 == store.retry_failed("s")
    runner.run()

    assert {"done"} == {e.state for e in store.entries("s")}


def test_judged_mode_of_a_study_counts(store, workbench):
    """A cross can be tuned and selected by its real weights; an unknown mode is refused."""
    values = tomllib.loads(TINY)
    crossed = {"binarizer": "identity", "optimizer": "clipped-adam"}
    values["methods"] = [crossed | {"judged": "real"}]
    values["protocol"] = {"seeds": 1}
    ran(store, parse_study(values, "tiny.toml"), workbench)
    (row, _) = Results(store, "s").rows()
    assert ("real", True, "32") == (row.mode, row.judged, row.weight_bits)

    values["methods"] = [crossed | {"judged": "ensemble"}]
    store.create_study("bad", parse_study(values, "tiny.toml"), "cmd", "0")
    with pytest.raises(UsageError, match="its inference modes are binary, real"):
        StudyRunner(store, "bad", workbench, SILENT).check()


def test_pruned_runs_belong_to_their_study(store, workbench):
    """What one study's pruner stopped, another study trains to its end."""
    cell = StudyRunner(store, made(store, "p", pruner="median"), workbench, SILENT).cells[0]
    other = StudyRunner(store, made(store, "n"), workbench, SILENT).cells[0]

    assert cell.run({}, 0, test=False).key != other.run({}, 0, test=False).key
    assert cell.run({}, 1, test=True).key == other.run({}, 1, test=True).key


def made(store, name, **protocol):
    store.create_study(name, study_with(**protocol), "cmd", "0")
    return name


def test_quasi_random_points_fill_the_space():
    """Half of the Sobol points lie in each half of every hyperparameter; the seed is the name."""
    spaces = {"a": Float(1e-4, 1e-2, log=True), "b": Choice("x", "y"), "c": Int(1, 4)}

    points = sobol_points(spaces, 16, "s")

    assert points == sobol_points(spaces, 16, "s") != sobol_points(spaces, 16, "t")
    assert 8 == sum(point["a"] < 1e-3 for point in points)
    assert 8 == sum(point["b"] == "x" for point in points)
    assert {1, 2, 3, 4} == {point["c"] for point in points}
    assert (1e-4, 1e-2) == (at(spaces["a"], 0.0), at(spaces["a"], 1.0))


@pytest.mark.parametrize("sampler", ["tpe", "random", "qmc", "grid", "gp"])
def test_samplers(store, workbench, sampler):
    """Every sampler finishes its trials inside the search space."""
    ran(store, study_with(sampler=sampler, trials=3, seeds=1), workbench)

    for name, trials in optuna_trials(store, "s").items():
        assert ["COMPLETE"] * 3 == [state for _, state, _, _ in trials]
        lows = {"s/t/real": ("lr", 1e-4, 3e-2), "s/t/bop": ("gamma", 1e-5, 1e-2)}
        key, low, high = lows[name]
        assert all(low <= params[key] <= high for _, _, params, _ in trials)
        assert 3 == len({params[key] for _, _, params, _ in trials}) or sampler == "grid"


@pytest.mark.parametrize("pruner", ["median", "hyperband"])
def test_pruners(store, workbench, pruner):
    """A pruned run ends as pruned in both tables, counts in the budget, and is never confirmed."""
    ran(store, study_with(pruner=pruner, trials=12, seeds=1, sampler="random"), workbench)

    for name, trials in optuna_trials(store, "s").items():
        method = name.rpartition("/")[2]
        states = {e.number: e.state for e in store.entries("s", method=method, role="tune")}
        assert 12 == len(trials) == len(states)
        assert {"COMPLETE": "done", "PRUNED": "pruned"} == {
            "COMPLETE": "done",
            "PRUNED": "pruned",
        } | {state: states[number] for number, state, _, _ in trials}
    assert {"done"} == {e.state for e in store.entries("s", role="confirm")}
    everything = [e.state for e in store.entries("s", role="tune")]
    assert "pruned" in everything


def test_zero_trials_take_the_published(store, workbench):
    """Without trials nothing is tuned, and the confirming runs have the defaults."""
    ran(store, study_with(trials=0), workbench)

    assert {} == optuna_trials(store, "s")
    defaults = workbench.complete("methods", "bop", {})
    confirmed = store.entries("s", method="bop")
    assert [defaults] * 2 == [e.run.method.hyperparameters for e in confirmed]


def test_failing_run_is_kept_with_its_traceback(store, tiny, workbench, monkeypatch):
    """One method's failure is stored and counted; the other method's runs go on."""
    from bnnbench_plugins.bop import Bop

    def broken(self, closure=None):
        raise RuntimeError("the optimizer is broken")

    monkeypatch.setattr(Bop, "step", broken)
    ran(store, tiny, workbench)

    states = {(e.method, e.role): e.state for e in store.entries("s")}
    assert {
        ("real", "tune"): "done",
        ("bop", "tune"): "failed",
        ("real", "confirm"): "done",
    } == states
    error = store.entries("s", method="bop")[0].error
    assert "Traceback" in error
    assert "RuntimeError: the optimizer is broken" in error
    assert ["FAIL", "FAIL"] == [state for _, state, _, _ in optuna_trials(store, "s")["s/t/bop"]]


def test_divergence_is_a_result(store, workbench):
    """A run whose loss is no number ends as diverged, is not averaged, and is shown."""
    values = tomllib.loads(TINY)
    values["methods"][0]["hyperparameters"] = {"lr": 1e30, "lr_end": 1e30}
    values["protocol"] = {"seeds": 2}
    ran(store, parse_study(values, "tiny.toml"), workbench)

    row = next(row for row in Results(store, "s").rows() if row.method == "real")
    assert ({"diverged": 2}, 0, None) == (row.ended_badly, row.done, row.test)


@pytest.mark.parametrize("trials", [1, 2, 5, 9, 10])
def test_grid_has_enough_points_and_few_levels(trials):
    """The grid is the coarsest of equal levels that has a point for every trial."""
    spaces = {"a": Float(1e-4, 1e-2, log=True), "b": Choice("x", "y"), "c": Int(1, 3)}

    made = grid(spaces, trials)

    points = len(made["a"]) * len(made["b"]) * len(made["c"])
    assert points >= trials
    assert all(1e-4 <= value <= 1e-2 for value in made["a"])


@pytest.mark.filterwarnings("ignore:a budget of")
def test_the_pruner_never_hears_of_bnew_before_its_lock(store, workbench, monkeypatch):
    """Neither the relaxed accuracy nor that of signs which are not yet locked is reported."""
    heard = []
    monkeypatch.setattr(
        optuna.Trial, "report", lambda self, value, step: heard.append((self.number, step, value))
    )
    made = study_with(trials=2, seeds=1, pruner="median").model_dump()
    made["methods"] = [{"method": "bnew", "hyperparameters": {"relax": 0.25, "lock": 0.34}}]
    made["tasks"][0]["epochs"] = 8

    ran(store, parse_study(made, "x"), workbench)

    (entry, _) = store.entries("s", role="tune")
    phases = {p["name"]: (p["first"], p["last"]) for p in entry.facts["phases"]}
    assert {"relax": (1, 2), "harden": (3, 6), "fine-tune": (7, 8)} == phases
    assert [(n, step) for n in (0, 1) for step in (7, 8)] == [(n, step) for n, step, _ in heard]
    for _, step, value in heard[:2]:
        place = {"split": "validation", "epoch": step}
        binary = store.value(entry.run_id, "accuracy", mode="binary", **place)
        assert binary == value == store.value(entry.run_id, "accuracy", mode="relaxed", **place)
    assert store.value(entry.run_id, "selected_epoch") in (7, 8)
