"""The verdict: at most five sentences, whatever the study, with numbers that a hand computes."""

from __future__ import annotations

import re
from types import SimpleNamespace

import pytest

from bnnbench.comparisons import Comparisons
from bnnbench.results import Results
from bnnbench.statistics.paired import compare
from bnnbench.studyfile import parse_study
from bnnbench_reports.caveats import other_bits, other_data
from bnnbench_reports.readings import Scores
from bnnbench_reports.verdict import best, claimed, lead, verdict

from .small_study import record, study

METHODS = ("real", "ste", "bop", "bmd")


def several(store, accuracies, seeds=1, **changes):
    """The verdict on finished runs; "real" is judged as it is, and a's first seed had company.

    ``accuracies``: by task those of some methods, a half point more with each seed.
    """
    task = {"dataset": "digits", "architecture": "mlp", "epochs": 3}
    values = {
        "tasks": [task | {"name": name} for name in accuracies],
        "methods": [{"method": method} for method in METHODS],
        "protocol": {"seeds": seeds},
    }
    store.create_study("s", parse_study(values | changes, "several"), "", "0")
    for name, by_method in accuracies.items():
        for method, accuracy in by_method.items():
            judged = "real" if method == "real" else "binary"
            for seed in range(seeds):
                place = {"task": name, "judged": judged, "shared": name == "a" and seed == 0}
                record(store, method, seed + 1, {judged: accuracy + seed / 2}, **place)
    results = Results(store, "s")
    return verdict(results, results.rows())


def test_of_three_tasks_it_counts(store):
    """ste is best on two of three, from its least to its greatest mean; leads are of all three.

    Means of two seeds are a quarter point above the first; ste leads by 1 and 4, bop by 2.5.
    """
    said = several(
        store,
        {
            "a": {"real": 80.0, "ste": 90.0, "bop": 89.0},
            "b": {"real": 70.0, "ste": 75.5, "bop": 71.5},
            "c": {"real": 60.0, "ste": 50.0, "bop": 52.5},
        },
        seeds=2,
    )

    assert (
        "ste has the best mean test accuracy on 2 of 3 tasks (75.75 to 90.25 %) and real on 1"
        " (60.25 %); each method is judged in its own mode, with n = 2 seeds on a task."
    ) == said[0]
    assert (
        "Among methods judged with binary weights, ste comes first on 2 of 3 tasks (1.00 to 4.00"
        " points ahead of the next, paired) and bop on 1 (2.50 points ahead of the next, paired)."
    ) == said[1]
    assert "n = 2 seeds" in said[2]
    assert said[3].startswith("3 of 18 runs shared the machine with others;")
    assert 4 == len(said)


def test_of_twelve_tasks_it_is_as_short(store):
    """The three methods that win most are named, the others counted; all caveats are a sentence."""
    tasks = "abcdefghijkl"
    winners = dict(zip(tasks, ["ste"] * 5 + ["bop"] * 4 + ["real"] * 2 + ["bmd"], strict=True))
    said = several(
        store,
        {t: dict.fromkeys(METHODS, 50.0) | {winners[t]: 60.0 + n} for n, t in enumerate(tasks)},
        scale=0.5,
        departures=["Other data.", "Another order."],
    )

    assert (
        "ste has the best mean test accuracy on 5 of 12 tasks (60.00 to 64.00 %), bop on 4 (65.00"
        " to 68.00 %), real on 2 (69.00 to 70.00 %) and 1 other; each method is judged in its own"
        " mode, with n = 1 seed on a task."
    ) == said[0]
    assert (
        "The runs had 0.5 of the published training; the study departs from its source in 2 points,"
        " see below."
    ) == said[4]
    assert 5 == len(said)
    assert all(sentence.endswith(".") for sentence in said)
    assert not [sentence for sentence in said if re.search(r"\w\. [A-Z]", sentence)]


def test_one_method_that_is_always_best(store):
    """It is best on all tasks; without rivals with binary weights there is no lead."""
    said = several(store, {"a": {"ste": 80.0}, "b": {"ste": 70.0}})

    assert said[0].startswith(
        "ste has the best mean test accuracy on both tasks (70.00 to 80.00 %)"
    )
    assert "ste is the only method judged with binary weights." == said[1]


def score(task, method, *values):
    return Scores(task, method, "binary", True, dict(enumerate(values)))


def test_seeds_that_are_not_shared_give_no_lead():
    """A lead is over common seeds; where there are none the first is named alone."""
    other = Scores("t", "bop", "binary", True, {7: 70.0})
    two = [[score("t", "ste", 80.0), other], [score("u", "ste", 90.0), score("u", "bop", 88.5)]]

    assert "no seed in common with bop" in lead(two[:1])
    assert "ste comes first on both tasks (1.50 points ahead of the next, paired)." in lead(two)
    assert lead([two[0], two[0]]).endswith("ste comes first on both tasks.")


def test_numbers_of_seeds_differ():
    """n is that of the best methods, from the least to the greatest."""
    found = [[score("t", "ste", 80.0)], [score("u", "ste", 90.0, 91.0, 92.0)]]

    said = best(found, "accuracy")
    assert "(80.00 to 91.00 %)" in said
    assert said.endswith("with n = 1 to 3 seeds on a task.")


@pytest.mark.parametrize("count", [3, 4])
def test_many_differences_are_counted(count):
    """Up to three stand with their p; of more there are the tasks and the range of each method.

    Of twelve seeds, each 0.02 points better than the one before, the mean is 0.11 above the first;
    p is 2 * 2^-12, times as many as there are comparisons.
    """
    family = compare([[-1.0 - task + 0.02 * seed for seed in range(12)] for task in range(count)])
    found = [
        SimpleNamespace(task=f"t{number}", method="bop" if number == 3 else "ste", paired=paired)
        for number, paired in enumerate(family)
    ]

    told = claimed(found, "real")

    if count == 3:
        assert "over 3 comparisons: ste on t0 (-0.89 points, p = 0.0015, n = 12); ste on" in told
    else:
        said = "ste on 3 tasks (-2.89 to -0.89 points); bop on 1 task (-3.89 points)."
        assert told.endswith(f"over 4 comparisons: {said}")


def test_many_methods_with_other_bits():
    """Those that call more than one bit binary are listed in a clause, and counted beyond three."""
    rows = [
        SimpleNamespace(method=name, done=1, mode="binary", weight_bits="2") for name in "abcde"
    ]

    (clause,) = other_bits(rows)

    assert clause.startswith("what a calls binary has 2-bit weights, what b")
    assert clause.endswith("and 2 others")
    assert [] == other_bits([SimpleNamespace(method="a", done=1, mode="binary", weight_bits="1")])


def test_tasks_with_other_data():
    """Three notes at most stand in the clause, the others are counted."""
    noted = [(task, f"{task} images") for task in "abcde"]

    (clause,) = other_data(noted)

    assert clause.endswith("ones: a images; of b: b images; of c: c images; and 2 more")
    assert [] == other_data([])


def test_without_a_tested_run_there_is_one_sentence(store):
    """Nothing is claimed of runs without an accuracy."""
    store.create_study("s", study(), "", "0")
    results = Results(store, "s")

    assert ["No finished run has a test accuracy."] == verdict(
        results, [], Comparisons(results, [])
    )
