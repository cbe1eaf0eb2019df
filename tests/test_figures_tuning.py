"""Tuning as it is drawn, against numbers made by hand and against all choices of trials."""

from __future__ import annotations

import itertools
import math
import statistics

import numpy as np
import pytest
from scipy import stats

from bnnbench.comparisons import Budget
from bnnbench.measurements import Measurement
from bnnbench.results import Results
from bnnbench.store import DIVERGED, DONE, FAILED, PRUNED, TUNE
from bnnbench_reports.figures import bestof, budgets, history, importance, slices
from bnnbench_reports.figures.trials import searches

from .small_study import enter, record, study

FIGURES = [
    history.history_figure,
    bestof.bestof_figure,
    slices.slices_figure,
    importance.importance_figure,
    budgets.budgets_figure,
]


def tried(store, method, number, accuracy, *, state=DONE, judged="binary", **values):
    """A trial; "for" is a hyperparameter that all trials have alike."""
    entry = enter(store, method, number, role=TUNE, values={"number": None} | values)
    store.start_run(entry.run_id, {"judged": judged}, {})
    measured = [
        Measurement("accuracy", accuracy - 5, 1, "validation", judged),
        Measurement("accuracy", accuracy, 2, "validation", judged),
        Measurement("accuracy", accuracy - 1, 3, "validation", judged),
        Measurement("accuracy", 99.5, 2, "validation", "other"),
        Measurement("selected_epoch", 2, 3),
    ]
    store.write(entry.run_id, measured)
    store.end_run(entry.run_id, state, error="no" if state == FAILED else "")


@pytest.fixture
def results(store):
    """Six trials of "ste", of which one was pruned and one failed, and two of "bop"."""
    store.create_study("s", study(protocol={"seeds": 1, "trials": 6}), "", "0")
    accuracies = [70.0, 60.0, 99.0, 80.0, 99.0, 75.0]
    states = [DONE, DONE, PRUNED, DONE, FAILED, DONE]
    for number, (accuracy, state) in enumerate(zip(accuracies, states, strict=True)):
        tried(store, "ste", number, accuracy, state=state, lr=10.0**-number)
    for number, accuracy in enumerate([50.0, 40.0]):
        tried(store, "bop", number, accuracy, gamma=number + 1)
    record(store, "ste", 1, {"binary": 80.0})
    return Results(store, "s")


def test_trials_have_what_they_were_judged_by(results):
    """The accuracy is that of the selected epoch in the judged mode, of trials that were done."""
    ste, bop = searches(results)

    assert ("ste", "bop") == (ste.method, bop.method)
    assert [70.0, 60.0, None, 80.0, None, 75.0] == [trial.accuracy for trial in ste.trials]
    assert ["done", "done", "pruned", "done", "failed", "done"] == [t.state for t in ste.trials]
    assert (["lr"], ["gamma"]) == (ste.varied, bop.varied)


def test_history_and_the_best_so_far(results):
    """The best never falls; a trial that was not completed changes nothing, to the last one."""
    ste, bop = history.info(results)

    assert ((0, 1, 3, 5), (70.0, 60.0, 80.0, 75.0)) == (ste.numbers, ste.accuracies)
    assert {0: 70.0, 1: 70.0, 2: 70.0, 3: 80.0, 4: 80.0, 5: 80.0} == ste.best
    assert {0: 50.0, 1: 50.0} == bop.best


def test_history_begins_with_the_first_completed_trial(store):
    """Before it there is no best; a method without one has no history."""
    store.create_study("s", study(), "", "0")
    for number, state in enumerate([DIVERGED, DONE, PRUNED]):
        tried(store, "ste", number, 60.0, state=state, lr=number)
    for number in (0, 1):
        tried(store, "bop", number, 60.0, state=PRUNED, gamma=number)
    results = Results(store, "s")

    (ste,) = history.info(results)

    assert {1: 60.0, 2: 60.0} == ste.best
    explanation = history.history_figure(results).explanation
    assert "Left out: 1 diverged, 3 pruned of 5 trials." in explanation
    assert bestof.bestof_figure(results) is None
    assert ["lr"] == [each.name for each in slices.info(results)]


def test_history_is_drawn_as_steps(results):
    """Dots are the trials; the legend names the methods, not the dots."""
    figure = history.history_figure(results)

    dots, steps = figure.drawing.data[:2]
    assert ([0, 1, 3, 5], [70, 60, 80, 75]) == (list(dots.x), list(dots.y))
    assert ("hv", [70, 70, 70, 80, 80, 80]) == (steps.line.shape, list(steps.y))
    assert [None, "ste", None, "bop"] == [trace.name for trace in figure.drawing.data]
    assert [False, True] * 2 == [trace.showlegend for trace in figure.drawing.data]
    assert "Tuning history (n = 2 to 4 completed trials)" == figure.title


def test_the_expected_best_is_the_mean_over_all_choices():
    """Of k of n numbers, some of them equal: every choice once, its greatest, and their mean."""
    random = np.random.default_rng(0)
    for n in range(1, 9):
        values = random.integers(0, 6, n).astype(float).tolist()
        expected = [
            statistics.fmean(max(chosen) for chosen in itertools.combinations(values, k))
            for k in range(1, n + 1)
        ]
        assert np.allclose(expected, bestof.expected_best(values))


def test_the_expected_best_of_many_trials_is_between_mean_and_maximum():
    """Of 2,000 trials it rises from the mean to the greatest, as exact fractions say."""
    values = np.random.default_rng(1).normal(80, 5, 2000)
    found = bestof.expected_best(values)

    ranked = np.sort(values).tolist()
    for k in (1, 2, 50, 1999, 2000):
        total = math.comb(2000, k)
        exact = math.fsum(
            math.comb(i - 1, k - 1) / total * value for i, value in enumerate(ranked, start=1)
        )
        assert math.isclose(exact, found[k - 1], rel_tol=1e-9)
    assert (np.diff(found) >= -1e-9).all()


def test_best_of_k_is_of_completed_trials(results):
    """Four of six trials of "ste" were completed: 60, 70, 75 and 80."""
    ste, bop = bestof.info(results)

    assert (71.25, 80.0) == (pytest.approx(ste.expected[0]), pytest.approx(ste.expected[-1]))
    pairs = [70, 75, 80, 75, 80, 80]
    assert math.isclose(statistics.fmean(pairs), ste.expected[1])
    assert (45.0, 50.0) == pytest.approx(bop.expected)
    figure = bestof.bestof_figure(results)
    assert "Best of k trials (n = 2 to 4 trials)" == figure.title
    assert "Left out: 1 failed, 1 pruned of 8 trials." in figure.explanation
    assert [1, 2, 3, 4] == figure.drawing.data[0].x.tolist()


def test_slices_are_of_what_was_varied(results):
    """One for each hyperparameter that differs between trials, with the completed ones' values."""
    lr, gamma = slices.info(results)

    assert ("lr", "log", "gamma", "linear") == (lr.name, lr.axis, gamma.name, gamma.axis)
    assert [("ste", (1.0, 0.1, 1e-3, 1e-5), (70.0, 60.0, 80.0, 75.0))] == list(lr.slices)
    figure = slices.slices_figure(results)
    dots = figure.drawing.data[0]
    assert ([1.0, 0.1, 1e-3, 1e-5], [70, 60, 80, 75]) == (list(dots.x), list(dots.y))
    assert ["lr", "gamma"] == [note.text for note in figure.drawing.layout.annotations]
    assert ("log", "linear") == (
        figure.drawing.layout.xaxis.type,
        figure.drawing.layout.xaxis2.type,
    )
    assert "Accuracy by hyperparameter (n = 2 to 4 completed trials)" == figure.title


@pytest.mark.parametrize(("log", "axis"), [(True, "log"), (False, "linear")])
def test_an_axis_is_as_the_study_file_says(store, log, axis):
    """Whatever the values look like."""
    search = {"lr": {"low": 1e-6, "high": 10, "log": log}}
    methods = [{"method": "real"}, {"method": "ste", "search": search}]
    store.create_study("s", study(methods=methods), "", "0")
    for number, lr in enumerate([1e-5, 1e-3, 1e-1] if not log else [1.0, 2.0, 3.0]):
        tried(store, "ste", number, 60.0, lr=lr)

    (lr,) = slices.info(Results(store, "s"))

    assert axis == lr.axis


@pytest.mark.parametrize(
    ("values", "axis"),
    [
        ([1e-4, 1e-3, 1e-2], "log"),
        ([0.0, 1e-3, 1e-2], "linear"),
        ([1, 2, 4], "linear"),
        ([1.0, *[4.0] * 18, 7.0, 10.0], "linear"),  # how often a value was tried does not matter
        (["cosine", "<b>", "step"], "category"),
        ([True, False, True], "category"),
        ([None, 1.0, 2.0], "category"),
    ],
)
def test_an_axis_by_its_values(store, values, axis):
    """Where the file does not say: numbers over a decade, numbers, and what is no number."""
    store.create_study("s", study(), "", "0")
    for number, value in enumerate(values):
        tried(store, "ste", number, 60.0 + number, what=value)
    results = Results(store, "s")

    (found,) = slices.info(results)

    assert axis == found.axis
    dots = slices.slices_figure(results).drawing.data[0]
    assert len(values) == len(dots.x)
    assert "<b>" not in list(dots.x)


def test_axes_of_drawn_values_are_as_they_were_drawn():
    """Twenty numbers from four decades; those drawn on a linear scale are taken wrongly rarely."""
    random = np.random.default_rng(2)
    logs = [slices.is_even_on_log(10 ** random.uniform(-5, -1, 20)) for _ in range(100)]
    flats = [slices.is_even_on_log(random.uniform(0, 1, 20)) for _ in range(100)]

    assert 100 == sum(logs)
    assert sum(flats) <= 5


def test_panels_beyond_the_limit_are_left_out(results, monkeypatch):
    """And the explanation says so."""
    monkeypatch.setattr(slices, "MOST", 1)
    figure = slices.slices_figure(results)

    assert ["ste"] == [trace.name for trace in figure.drawing.data]
    assert "The first 1 of 2 panels are drawn." in figure.explanation
    assert "lr" == figure.drawing.layout.xaxis.title.text


def test_rank_correlations_are_spearmans():
    """With ties among values and among accuracies, as scipy has it; of nothing there is none."""
    random = np.random.default_rng(3)
    for _ in range(50):
        values, accuracies = random.integers(0, 6, (2, 10)).astype(float)
        expected = stats.spearmanr(values, accuracies).statistic
        assert math.isclose(expected, importance.correlation(values, accuracies), abs_tol=1e-9)
    assert importance.correlation([1.0, 1.0], [3.0, 4.0]) is None
    assert importance.correlation([1.0, 2.0], [3.0, 3.0]) is None


def test_correlations_need_enough_trials(store):
    """Eight completed trials have one, seven have none, and a word has none."""
    store.create_study("s", study(), "", "0")
    for number in range(8):
        tried(
            store,
            "ste",
            number,
            60.0 + (5 if number == 7 else number),
            lr=number,
            kind="ab"[number % 2],
        )
        tried(store, "bop", number, 60.0, state=DONE if number else PRUNED, gamma=number)
    results = Results(store, "s")

    (found,) = importance.info(results)

    expected = stats.spearmanr(range(8), [0, 1, 2, 3, 4, 5, 6, 5]).statistic
    assert ("ste", "lr", 8) == (found.method, found.name, found.n)
    assert math.isclose(expected, found.r)
    figure = importance.importance_figure(results)
    (bar,) = figure.drawing.data
    assert [found.r] == list(bar.x)
    assert "(n = 8 completed trials)" in figure.title


def test_budgets_are_those_of_the_table(store, monkeypatch):
    """Seconds of all trials, whatever their end; a method without trials has no bar."""
    clock = itertools.count(0.0, 2.5)
    monkeypatch.setattr("bnnbench.ledger.time.time", lambda: next(clock))
    store.create_study("s", study(), "", "0")
    record(store, "real", 1, {"real": 90.0}, judged="real")
    for number, state in enumerate([DONE, PRUNED, FAILED, DIVERGED]):
        tried(store, "ste", number, 60.0, state=state)
    record(store, "ste", 1, {"binary": 80.0})
    results = Results(store, "s")

    (found,) = budgets.info(results)

    assert ("ste", Budget(4, 1, 1, 1, 10.0)) == (found.method, found.budget)
    figure = budgets.budgets_figure(results)
    assert [10.0] == list(figure.drawing.data[0].x)
    assert "ste<br>4 trials (1 pruned, 1<br>failed, 1 diverged)" == figure.drawing.data[0].y[0]
    assert "What tuning took, in seconds (n = 4 trials)" == figure.title


def test_no_trials_no_figures(store):
    """A study that takes the published hyperparameters has no figure of tuning."""
    store.create_study("s", study(), "", "0")
    record(store, "ste", 1, {"binary": 80.0})

    assert [None] * len(FIGURES) == [draw(Results(store, "s")) for draw in FIGURES]


def test_trials_under_way_do_not_count(store):
    """A trial that has begun and not ended is nowhere."""
    store.create_study("s", study(), "", "0")
    entry = enter(store, "ste", 0, role=TUNE)
    store.start_run(entry.run_id, {"judged": "binary"}, {})

    assert [] == searches(Results(store, "s"))


def test_trials_beyond_the_limit_are_thinned(store, monkeypatch):
    """Dots are left out, evenly by rank; the steps and what was left out of them are not."""
    store.create_study("s", study(), "", "0")
    for number in range(9):
        tried(store, "ste", number, 60.0 + number, lr=number)
    results = Results(store, "s")
    monkeypatch.setattr(history, "DOTS", 3)
    monkeypatch.setattr(slices, "DOTS", 3)

    for draw in (history.history_figure, slices.slices_figure):
        figure = draw(results)
        assert [60.0, 64.0, 68.0] == list(figure.drawing.data[0].y)
        assert "Of a line with more than 3 trials so many are drawn" in figure.explanation
    assert 9 == len(history.history_figure(results).drawing.data[1].x)
