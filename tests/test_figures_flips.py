"""Flips since the start, by epoch, pi and oscillation, against numbers made by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from bnnbench.measurements import Measurement
from bnnbench.results import Results
from bnnbench_reports.figures import flips, oscillation

from .small_study import record, study

FACTS = {"examples": {"train": 1000, "validation": 10}}  # 10 steps of 100
DRAWN = [flips.epoch_figure, flips.start_figure, flips.pi_figure]


def flipped(store, method, seed, begin=0.1, facts=FACTS, **place):
    """A finished run whose flips are known: flip_init is 0.1, 0.2, 0.3 + seed / 100."""
    entry_facts = facts or {}
    record(store, method, seed, {"binary": 80.0}, facts=entry_facts, **place)
    entry = store.entries("s", method=method, number=seed, **place)[0]
    measured = []
    for epoch in (1, 2, 3):
        measured += [
            Measurement("flip_init", begin * epoch + seed / 100, epoch),
            Measurement("flip_epoch", 0.5 / 10**epoch if epoch < 3 else 0.0, epoch),
            Measurement("pi", -float(epoch + seed), epoch),
            Measurement("flip_init", 0.9, epoch, layer="dense1.weight"),
        ]
    store.write(entry.run_id, measured)


@pytest.fixture
def results(store):
    store.create_study("s", study(), "", "0")
    flipped(store, "ste", 1)
    flipped(store, "ste", 2)
    flipped(store, "bop", 1, begin=0.0)
    return Results(store, "s")


def test_shares_are_percents_of_all_weights(results):
    """flip_init and flip_epoch in percent, pi as it is; never those of a layer."""
    (since, _), (by_epoch, _), (pi, _) = (
        flips.info(results, metric) for metric in ("flip_init", "flip_epoch", "pi")
    )

    assert np.allclose([[11, 21, 31], [12, 22, 32]], since.values)
    assert np.allclose([5, 0.5, 0], by_epoch.mean)
    assert [[-2, -3, -4], [-3, -4, -5]] == pi.values.tolist()


def test_the_rate_stays_a_share(results):
    """flip_step is what it was, on a logarithmic axis."""
    found = flips.info(results)[0]

    assert np.allclose([0.1 * 20 / 28, 0.05 * 20 / 28, 0.1 / 3 * 20 / 28], found.mean)
    assert "log" == flips.flips_figure(results).drawing.layout.yaxis.type


def test_flips_by_epoch_leave_gaps(results):
    """On the logarithmic axis an epoch without a change is a gap; shares and pi are linear."""
    by_epoch, since, pi = (draw(results).drawing for draw in DRAWN)

    assert ["log", "linear", "linear"] == [d.layout.yaxis.type for d in (by_epoch, since, pi)]
    assert [False, False, True] == np.isnan(by_epoch.data[2].y).tolist()
    assert np.allclose([11.5, 21.5, 31.5], since.data[2].y)
    titles = ["share of weights in %", "share of weights in %", "π = ln(flip rate + e⁻⁹), no unit"]
    assert titles == [d.layout.yaxis.title.text for d in (by_epoch, since, pi)]


@pytest.mark.parametrize("draw", DRAWN)
def test_each_says_what_it_is_and_n(results, draw):
    """The titles differ, have n, and only the one with a logarithmic axis speaks of gaps."""
    figure = draw(results)

    assert figure.title.endswith("(n = 1 to 2 seeds)")
    assert ("leave a gap" in figure.explanation) == (draw is flips.epoch_figure)
    assert 3 == len({draw(results).title for draw in DRAWN})


@pytest.mark.parametrize("draw", DRAWN)
def test_many_seeds_are_percentiles(results, draw, monkeypatch):
    """One curve too many, and the seeds are no longer drawn one by one, in these figures alone."""
    monkeypatch.setattr(flips, "CURVES", 2)

    assert "The 3 curves are too many to draw one by one" in draw(results).explanation
    assert "too many" not in flips.flips_figure(results).explanation
    monkeypatch.setattr(flips, "CURVES", 3)
    assert "too many" not in draw(results).explanation


def test_pi_says_what_its_numbers_mean():
    """-9 is no flip, -6.8 one in 1,000, -4.6 one in 100."""
    said = flips.KINDS["pi"].explanation

    for share, words in ((0, "-9 where"), (1e-3, "-6.8 where"), (1e-2, "-4.6 where")):
        assert f"{math.log(share + math.exp(-9)):.1f}".removesuffix(".0") in words
        assert words in said


def test_oscillation_is_what_cancels(results):
    """Ten steps an epoch: flips per weight are ten times the sum of the rates."""
    ste, bop = oscillation.info(results)

    flips_per_weight = 10 * 0.1 * 20 / 28 * (1 + 1 / 2 + 1 / 3)
    assert ("t", "ste") == (ste.task, ste.method)
    assert [1, 2] == list(ste.by_seed)
    assert [flips_per_weight] * 2 == pytest.approx([w.flips for w in ste.by_seed.values()])
    assert [0.31, 0.32] == pytest.approx([w.changed for w in ste.by_seed.values()])
    assert (flips_per_weight, 0.315) == pytest.approx(ste.mean)
    assert math.isclose(1 - 0.31 / flips_per_weight, ste.by_seed[1].undone)
    assert math.isclose(0.01, bop.by_seed[1].changed)


def test_oscillation_of_signs_that_walk():
    """Signs that flip by chance: all flips but one of each weight that differs were undone."""
    random = np.random.default_rng(0)
    steps = random.random((30, 500)) < 0.1
    changed = steps.sum(axis=0) % 2 == 1
    pairs = (steps.sum(axis=0) // 2).sum()  # of flips that cancel each other

    walk = oscillation.Walk(steps.sum() / 500, changed.mean())

    assert math.isclose(2 * pairs / steps.sum(), walk.undone)
    assert (0.0, 0.0) == (oscillation.Walk(0.0, 0.0).undone, oscillation.Walk(0.5, 0.5).undone)


def test_oscillation_is_drawn_below_its_limit(results):
    """On the dashed line as many weights differ as there were flips; means are larger points."""
    figure = oscillation.oscillation_figure(results)

    limit, runs, mean = figure.drawing.data[:3]
    assert np.allclose(100 * np.asarray(limit.x), limit.y)
    assert [31, 32] == pytest.approx(list(runs.y))
    assert [31.5] == pytest.approx(list(mean.y))
    assert [1, 2] == [seed for seed, _ in runs.customdata]
    assert "log" == figure.drawing.layout.xaxis.type
    assert "Oscillation (n = 1 to 2 seeds)" == figure.title
    assert "were undone: ste 76 %, bop 99 %." in figure.explanation


def test_oscillation_needs_steps_and_a_start(store):
    """Without the number of examples there are no steps; without flip_init nothing to compare."""
    store.create_study("s", study(), "", "0")
    flipped(store, "ste", 1, facts=None)
    record(store, "bop", 1, {"binary": 80.0}, facts=FACTS)

    assert oscillation.oscillation_figure(Results(store, "s")) is None
    assert flips.start_figure(Results(store, "s")) is not None


def test_no_flips_no_figures(store):
    """What was not measured is not drawn."""
    store.create_study("s", study(), "", "0")
    record(store, "bop", 1, {"binary": 80.0})

    assert [None] * 3 == [draw(Results(store, "s")) for draw in DRAWN]
