"""Time as it is drawn: ratios, shares, accuracy against it; against numbers made by hand."""

from __future__ import annotations

import math
import statistics

import numpy as np
import pytest

from bnnbench.measurements import Measurement
from bnnbench.results import Results
from bnnbench.statistics.intervals import interval
from bnnbench.store import DONE
from bnnbench_reports.figures import pareto, ratios, shares, times
from bnnbench_reports.figures.pareto import Spot, front
from bnnbench_reports.records import buckets_table

from .small_study import enter, fill, record, study


def timed(store, method, seed, seconds, accuracy=90.0, *, shared=False, **buckets):
    """A finished run with so many seconds of training in each epoch, the first is warm-up."""
    entry = enter(store, method, seed)
    store.start_run(entry.run_id, {"judged": "binary"}, {})
    measured = [
        Measurement("seconds.train" if epoch > 1 else "seconds.warmup", value, epoch)
        for epoch, value in enumerate(seconds, start=1)
    ]
    measured += [Measurement(f"seconds.{name}", value, 1) for name, value in buckets.items()]
    measured.append(Measurement("seconds.train", 1000.0, 4))  # after the last epoch: judging
    measured.append(Measurement("accuracy", accuracy, 3, "test", "binary"))
    store.write(entry.run_id, measured)
    store.end_run(entry.run_id, DONE, shared=shared)


@pytest.fixture
def results(store):
    """Medians of 2, 4 and 5 seconds of the reference, 3, 8 and 5 of "ste"."""
    store.create_study("s", study(protocol={"seeds": 4}), "", "0")
    for seed, (real, ste) in enumerate([(2.0, 3.0), (4.0, 8.0), (5.0, 5.0)], start=1):
        timed(store, "real", seed, [9.0, real - 1, real + 1], accuracy=80.0 + seed)
        timed(store, "ste", seed, [7.0, ste, ste], accuracy=90.0 + seed)
    timed(store, "ste", 4, [1.0, 1.0, 1.0], accuracy=99.0)
    timed(store, "real", 4, [1.0, 1.0, 1.0], accuracy=10.0, shared=True)
    return Results(store, "s")


def test_ratios_are_of_the_same_seed(results):
    """A ratio is median to median of one seed; the reference has none, a lonely seed neither."""
    (ste,) = ratios.info(results)

    assert ("t", "ste", {1: 1.5, 2: 2.0, 3: 1.0}) == (ste.task, ste.method, ste.by_seed)
    assert 1.5 == ste.mean
    assert interval([1.5, 2.0, 1.0]) == ste.interval


def test_ratios_are_drawn_around_one(results):
    """Points are seeds, the bar is the interval of their mean, a line stands at 1."""
    figure = ratios.ratios_figure(results)

    dots, mean = figure.drawing.data
    low, high = interval([1.5, 2.0, 1.0])
    assert ([1.5, 2.0, 1.0], [1, 2, 3]) == (list(dots.x), list(dots.customdata))
    assert math.isclose(low, mean.x[0] - mean.error_x.arrayminus[0])
    assert math.isclose(high, mean.x[0] + mean.error_x.array[0])
    assert [1] == [line.x0 for line in figure.drawing.layout.shapes]
    assert "Time per epoch as a ratio to real (n = 3 seeds)" == figure.title
    assert "ste<br>1.50 ×, n = 3" == dots.y[0]
    assert "÷ those of real" in figure.drawing.layout.xaxis.title.text


def test_two_seeds_have_a_ratio_without_an_interval(store):
    """Of two ratios there is a mean and nothing else."""
    fill(store)
    found = ratios.info(Results(store, "s"))

    assert [(2.0, None), (2.0, None)] == [(each.mean, each.interval) for each in found]
    rows = [row for row in Results(store, "s").rows() if row.judged and row.method != "real"]
    assert [row.ratio.mean for row in rows] == [each.mean for each in found]
    mean = ratios.ratios_figure(Results(store, "s")).drawing.data[1]
    assert mean.error_x.array is None


def test_boxes_name_their_runs(results):
    """The boxes are of all epochs after the first; the ratios have a figure of their own."""
    figure = times.times_figure(results)

    assert "Training time per epoch (n = 3 to 4 seeds)" == figure.title
    assert ["real<br>n = 3", "ste<br>n = 4"] == [box.y[0] for box in figure.drawing.data]
    assert [1.0, 3.0, 3.0, 5.0, 4.0, 6.0] == list(figure.drawing.data[0].x)


def test_without_a_reference_there_are_no_ratios(store):
    """The boxes stay."""
    methods = [{"method": "ste"}, {"method": "bop"}]
    store.create_study("s", study(methods=methods), "", "0")
    record(store, "ste", 1, {"binary": 80.0})

    assert ratios.ratios_figure(Results(store, "s")) is None
    assert times.times_figure(Results(store, "s")) is not None


def test_shares_of_the_wall_time(store):
    """Seconds are summed over the runs of a method by bucket; shares are of their sum."""
    store.create_study("s", study(), "", "0")
    timed(store, "ste", 1, [2.0, 5.0, 5.0], evaluation=4.0, database=1.0)
    timed(store, "ste", 2, [1.0, 2.0, 2.0], evaluation=2.0, shared=True)
    timed(store, "real", 1, [1.0], probes=3.0)
    real, ste = shares.info(Results(store, "s"))

    expected = {"train": 2014.0, "warmup": 3.0, "evaluation": 6.0, "database": 1.0}
    assert ("ste", expected, 2) == (ste.method, ste.seconds, ste.n)
    assert math.isclose(100 * 6 / 2024, ste.share("evaluation"))
    assert 0 == ste.share("probes")
    assert math.isclose(100 * 3 / 1004, real.share("probes"))
    assert ["1004.00", "2024.00"] == [row[2] for row in buckets_table(Results(store, "s")).rows]


def test_shares_are_stacked_to_a_hundred(store):
    """Every bar adds up to 100 %, each bucket has one colour and stands in the legend once."""
    store.create_study("s", study(), "", "0")
    timed(store, "ste", 1, [2.0, 5.0, 5.0], evaluation=4.0, checkpoints=0.5)
    timed(store, "bop", 1, [2.0, 5.0, 5.0], other=9.0, probes=1.0, database=2.0)
    figure = shares.shares_figure(Results(store, "s"))

    bars = figure.drawing.data
    names = ["train", "warmup", "evaluation", "probes", "checkpoints", "database", "other"]
    assert names == [bar.name for bar in bars]
    assert np.allclose(100, np.sum([bar.x for bar in bars], axis=0))
    assert 7 == len({bar.marker.color for bar in bars})
    assert "stack" == figure.drawing.layout.barmode
    assert "Where the time went, percent (n = 1 runs)" == figure.title
    assert [("ste", 4.0), ("bop", 0.0)] == [tuple(each) for each in bars[2].customdata]


def test_accuracy_against_time(results):
    """Seconds are those of all epochs, warm-up too and judging not; shared runs are left out."""
    real, ste = pareto.info(results)

    spots = {1: (13.0, 81.0), 2: (17.0, 82.0), 3: (19.0, 83.0)}  # 9 + 2 medians
    assert ("real", spots) == (real.method, real.by_seed)
    assert {1: (13.0, 91.0), 2: (23.0, 92.0), 3: (17.0, 93.0), 4: (3.0, 99.0)} == ste.by_seed
    assert (statistics.fmean([13, 17, 19]), 82.0) == real.mean


def test_the_front_is_what_nobody_beats():
    """Against all pairs: on the front is who has no other that is as quick and as accurate."""
    random = np.random.default_rng(1)
    for _ in range(50):
        spots = [Spot(*map(float, pair)) for pair in random.integers(0, 8, (12, 2))]
        best = {
            one
            for one in spots
            if not any(
                two != one and two.seconds <= one.seconds and two.accuracy >= one.accuracy
                for two in spots
            )
        }
        assert sorted(best) == front(spots)


def test_accuracy_against_time_is_drawn_with_the_front(results):
    """The front goes over the means: ste is quicker and better, and its steps end at the right."""
    figure = pareto.pareto_figure(results)

    steps, runs, mean, *_ = figure.drawing.data
    _, ste = pareto.info(results)
    assert [ste.mean.seconds, 23.0] == list(steps.x)
    assert [ste.mean.accuracy] * 2 == list(steps.y)
    assert ("hv", "dash") == (steps.line.shape, steps.line.dash)
    assert [13, 17, 19] == list(runs.x)
    assert [1, 2, 3] == list(runs.customdata)
    assert mean.marker.size > runs.marker.size
    shown = [(trace.name, trace.showlegend) for trace in figure.drawing.data]
    assert [("Pareto front of the means", True), (None, False), ("real", True)] == shown[:3]
    assert "Test accuracy against seconds of training (n = 3 to 4 seeds)" == figure.title


def test_without_a_run_of_its_own_there_is_no_time(store):
    """Where all runs shared the machine there is neither a ratio nor a point."""
    store.create_study("s", study(), "", "0")
    for method in ("real", "ste"):
        timed(store, method, 1, [1.0, 2.0, 3.0], shared=True)
    results = Results(store, "s")

    drawn = [ratios.ratios_figure, pareto.pareto_figure, times.times_figure]
    assert [None] * 3 == [draw(results) for draw in drawn]
    assert "among them" in shares.shares_figure(results).explanation
