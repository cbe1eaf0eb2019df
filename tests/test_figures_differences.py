"""Paired differences, ranks and profiles as they are drawn, against numbers made by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from bnnbench.comparisons import Comparisons
from bnnbench.results import Results
from bnnbench.statistics.intervals import interval
from bnnbench.statistics.profiles import Profile
from bnnbench.studyfile import parse_study
from bnnbench_reports.colours import looks
from bnnbench_reports.comparisons import ranks_table
from bnnbench_reports.figures import differences, profiles, ranks

from .small_study import EPOCHS, fill, record, study

METHODS = ("real", "ste", "bop", "bmd")


def studied(store, scores, seeds=2, **changes):
    """A study of tasks with the test accuracies of their methods, by task, then by method."""
    task = {"dataset": "digits", "architecture": "mlp", "epochs": EPOCHS}
    methods = list(next(iter(scores.values())))
    values = {
        "tasks": [task | {"name": name} for name in scores],
        "protocol": {"seeds": seeds},
        "methods": [{"method": method} for method in methods],
    }
    store.create_study("s", parse_study(values | changes, "figures"), "", "0")
    for name, by_method in scores.items():
        for method, accuracies in by_method.items():
            judged = "real" if method == "real" else "binary"
            for seed, accuracy in enumerate(accuracies, start=1):
                record(store, method, seed, {judged: accuracy}, judged=judged, task=name)
    return Results(store, "s")


def test_differences_are_of_the_same_seed(store):
    """A point is the method's accuracy minus the reference's of that seed, where both have it."""
    accuracies = {"real": [90.0, 92.0, 91.0, 95.0], "ste": [88.0, 93.0, 87.0], "bop": [90.0]}
    found = differences.info(studied(store, {"t": accuracies}))

    assert [("t", "ste"), ("t", "bop")] == [(each.task, each.method) for each in found]
    assert [{1: -2.0, 2: 1.0, 3: -4.0}, {1: 0.0}] == [each.by_seed for each in found]
    assert [3, 1] == [each.paired.n for each in found]
    assert math.isclose(-5 / 3, found[0].paired.mean)
    assert (interval([-2.0, 1.0, -4.0]), None) == tuple(each.paired.interval for each in found)


def test_differences_are_those_of_the_table(store):
    """Over two tasks p is corrected for all comparisons at once, as in the table."""
    random = np.random.default_rng(0)
    scores = {
        task: {
            method: list(random.normal(90 - 2 * place, 0.5, 8))
            for place, method in enumerate(METHODS)
        }
        for task in ("t", "u")
    }
    results = studied(store, scores, seeds=8)
    found = differences.info(results)

    table = Comparisons(results).differences
    assert [each.paired for each in table] == [each.paired for each in found]
    pairs = np.subtract(scores["u"]["bmd"], scores["u"]["real"])
    assert np.allclose(pairs, list(found[-1].by_seed.values()))
    least = stats.wilcoxon(pairs).pvalue
    assert least < found[-1].paired.p <= 6 * least
    assert f"p = {found[-1].paired.p:.2g}, n = 8" in differences.label(found[-1])


def test_differences_are_drawn_with_the_interval_of_the_mean(store):
    """A panel for each task, a line at 0; the bar goes from the interval's low to its high end."""
    accuracies = {"real": [90.0, 92.0, 91.0], "ste": [88.0, 93.0, 87.0], "bop": [80.0, 81.0]}
    results = studied(store, {"t": accuracies, "u": accuracies})
    figure = differences.differences_figure(results)

    dots, mean, _, bare = figure.drawing.data[:4]
    low, high = interval([-2.0, 1.0, -4.0])
    assert ([-2, 1, -4], [1, 2, 3]) == (list(dots.x), list(dots.customdata))
    assert math.isclose(low, mean.x[0] - mean.error_x.arrayminus[0])
    assert math.isclose(high, mean.x[0] + mean.error_x.array[0])
    assert bare.error_x.array is None
    assert looks(results.study)["ste"].colour == dots.marker.color == mean.error_x.color
    assert [("x", 0), ("x2", 0)] == [(line.xref, line.x0) for line in figure.drawing.layout.shapes]
    assert ["y", "y", "y", "y", "y2"] == [trace.yaxis for trace in figure.drawing.data[:5]]
    assert "Test accuracy minus that of real (n = 2 to 3 seeds)" == figure.title
    assert "n = 3 cannot reach 0.05" in mean.hovertemplate


def test_no_reference_no_differences(store):
    """Without a reference there are none, and of one task neither ranks nor profiles."""
    results = studied(store, {"t": {"ste": [80.0], "bop": [81.0]}})

    drawn = [differences.differences_figure, ranks.ranks_figure, profiles.profiles_figure]
    assert [None] * 3 == [draw(results) for draw in drawn]


def test_differences_beyond_the_limit_are_evenly_spaced(store, monkeypatch):
    """Of six seeds three are drawn by rank, each with its seed; the mean is of all."""
    mine = [95.0, 91.0, 93.0, 92.0, 96.0, 94.0]
    results = studied(store, {"t": {"real": [90.0] * 6, "ste": mine}}, seeds=6)
    monkeypatch.setattr(differences, "DOTS", 3)
    figure = differences.differences_figure(results)

    dots, mean = figure.drawing.data
    drawn = list(zip(dots.customdata, dots.x, strict=True))
    assert [(2, 1.0), (3, 3.0), (5, 6.0)] == drawn
    assert 3.5 == mean.x[0]
    assert "Of a line with more than 3 seeds so many are drawn" in figure.explanation


SCORES = {  # on each task the order real, ste, bop, bmd, but bop is before ste on u
    "t": {"real": [90.0], "ste": [89.0], "bop": [88.0], "bmd": [50.0]},
    "u": {"real": [90.0], "ste": [88.0], "bop": [89.0], "bmd": [50.0]},
    "v": {"real": [90.0], "ste": [89.0], "bop": [88.0], "bmd": [50.0]},
}


def test_ranks_and_what_is_not_told_apart(store):
    """Mean ranks, the best first; groups have the ends and the letters of the table."""
    results = studied(store, SCORES)
    found = ranks.info(results)

    assert {"real": 1.0, "ste": 7 / 3, "bop": 8 / 3, "bmd": 4.0} == pytest.approx(found.ranks)
    assert ["real", "ste", "bop", "bmd"] == list(found.ranks)
    q = stats.studentized_range.ppf(0.95, 4, math.inf)
    critical = q / math.sqrt(2) * math.sqrt(4 * 5 / (6 * 3))
    assert math.isclose(critical, found.critical, rel_tol=1e-5)  # 2.71
    assert [("a", 1.0, 8 / 3), ("b", 7 / 3, 4.0)] == [
        (group.letter, pytest.approx(group.best), pytest.approx(group.worst))
        for group in found.groups
    ]
    table = ranks_table(Comparisons(results)).rows
    assert ["a", "ab", "ab", "b"] == [row[2] for row in table]
    friedman = stats.friedmanchisquare(*([3 - s for s in row] for row in RANKED))
    assert (3, pytest.approx(friedman.pvalue)) == (found.tasks, found.p)


RANKED = [[1, 1, 1], [2, 3, 2], [3, 2, 3], [4, 4, 4]]  # methods by tasks


def test_ranks_are_drawn_below_the_critical_difference(store):
    """The first bar is as long as the critical difference, methods follow, then the groups."""
    figure = ranks.ranks_figure(studied(store, SCORES))

    critical, *methods, a, b = figure.drawing.data
    found = ranks.info(Results(store, "s"))
    assert math.isclose(found.critical, critical.x[1] - critical.x[0])
    assert [1, 2, 3, 4] == [trace.y[0] for trace in methods]
    assert np.allclose([1, 7 / 3, 8 / 3, 4], [trace.x[0] for trace in methods])
    assert ([1.0, pytest.approx(8 / 3)], [5, 5]) == (list(a.x), list(a.y))
    assert [6, 6] == list(b.y)
    names = ["critical difference", "real", "ste", "bop", "bmd"]
    names += ["not told apart: a", "not told apart: b"]
    assert names == list(figure.drawing.layout.yaxis.ticktext)
    assert "Mean ranks over tasks (n = 3 tasks)" == figure.title
    assert f"{found.critical:.2f} ranks" in figure.explanation


def test_ranks_of_methods_that_take_turns_are_not_told_apart(store):
    """Where Friedman's p is above 0.05 one bar joins all, and the explanation says so."""
    turns = [[90.0, 89.0, 88.0], [88.0, 90.0, 89.0], [89.0, 88.0, 90.0]]
    names = ("real", "ste", "bop")
    scores = {
        task: {name: [turns[number][place]] for place, name in enumerate(names)}
        for number, task in enumerate(("t", "u", "v"))
    }
    results = studied(store, scores)

    (group,) = ranks.info(results).groups
    assert ("a", 2.0, 2.0) == group
    assert "no methods are told apart" in ranks.ranks_figure(results).explanation


def test_profiles_have_the_areas_of_the_table(store):
    """In seconds: real needs 6 in 3 epochs, ste 2 in one, on v 6 in two; bop never comes there."""
    scores = {"real": [90.0], "ste": [92.0], "bop": [80.0]}
    results = studied(store, {"t": scores, "u": scores, "v": scores | {"ste": [91.0]}})
    found = profiles.info(results)

    assert ("seconds", 3) == (found.unit, found.tasks)
    assert {
        "real": Profile((1.0, 3.0, 3.0)),
        "ste": Profile((1.0, 1.0, 1.0)),
        "bop": Profile((math.inf,) * 3),
    } == found.by_method
    areas = Comparisons(results).areas
    assert [each.area for each in found.by_method.values()] == pytest.approx(areas.areas)


def test_profiles_are_drawn_as_steps(store):
    """A line rises where the method's ratio is reached, and one that never arrives stays at 0."""
    scores = {"real": [90.0], "ste": [92.0], "bop": [80.0]}
    figure = profiles.profiles_figure(studied(store, dict.fromkeys(("t", "u", "v"), scores)))

    real, ste, bop = figure.drawing.data
    assert ([1, 3, 4], [0, 1, 1]) == (list(real.x), list(real.y))
    assert ([1, 4], [1, 1]) == (list(ste.x), list(ste.y))
    assert [0, 0] == list(bop.y)
    assert {"hv"} == {trace.line.shape for trace in figure.drawing.data}
    assert ["real (0.33)", "ste (1.00)", "bop (0.00)"] == [t.name for t in figure.drawing.data]
    assert "seconds to the target (n = 3 tasks)" in figure.title


def test_the_comparisons_are_found_once(store):
    """All figures of a report share them; other results have their own."""
    from bnnbench_reports.figures.compared import compared

    fill(store)
    one, two = Results(store, "s"), Results(store, "s")

    assert compared(one) is compared(one)
    assert compared(two).results is two
    assert study().reference == compared(two).reference
