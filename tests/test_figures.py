"""The figures' numbers, compared with what a hand computes from a few runs."""

from __future__ import annotations

import math
import statistics

import numpy as np
import pytest

from bnnbench.measurements import Measurement
from bnnbench.results import Curve, Results
from bnnbench.store import DONE, Store
from bnnbench_reports import thinning
from bnnbench_reports.colours import COLOURS, GREY, looks
from bnnbench_reports.figures import accuracy, flips, layers, loss, relaxation, scores, times
from bnnbench_reports.figures.drawing import count_of, plain, positive
from bnnbench_reports.readings import Bundle, aligned

from .small_study import enter, fill, record, study

FIGURES = [
    scores.scores_figure,
    accuracy.accuracy_figure,
    relaxation.relaxation_figure,
    loss.loss_figure,
    flips.flips_figure,
    layers.layers_figure,
    times.times_figure,
]


PHASES = [
    {"name": "relax", "first": 1, "last": 1, "selectable": False},
    {"name": "", "first": 2, "last": 2, "selectable": False},
    {"name": "<lock>", "first": 3, "last": 3, "selectable": True},
]
RELAXED = {1: (70.0, 71.0), 2: (74.0, 76.0)}  # epoch: validation accuracy of seed 1 and 2


def relax(store: Store, method: str, modes: tuple[str, ...] = ("relaxed",)) -> None:
    """Give a method's runs accuracies in more modes, for the epochs before the lock."""
    for entry in store.entries("s", method=method):
        for mode in modes:
            store.write(
                entry.run_id,
                [
                    Measurement("accuracy", by_seed[entry.number - 1], epoch, "validation", mode)
                    for epoch, by_seed in RELAXED.items()
                ],
            )


@pytest.fixture
def results(store: Store) -> Results:
    fill(store)
    relax(store, "ste")
    return Results(store, "s")


def test_accuracy_is_that_of_the_judged_mode_by_seed(results):
    """Each method's validation accuracy is read in its judged mode; rows are seeds."""
    found = accuracy.info(results)

    assert [
        ("real", "real"),
        ("ste", "binary"),
        ("bop", "binary"),
    ] == [(bundle.method, bundle.mode) for bundle in found]
    assert (1, 2) == found[1].seeds
    assert [1, 2, 3] == found[1].epochs.tolist()
    assert [[83, 84, 85], [86, 87, 88]] == found[1].values.tolist()
    assert [84.5, 85.5, 86.5] == found[1].mean.tolist()


def test_methods_that_are_judged_differently_are_named(results):
    """The explanation says which methods are judged with which weights."""
    figure = accuracy.accuracy_figure(results)

    assert "binary weights: ste, bop; real weights: real" in figure.explanation
    assert "n = 2" in figure.title


def test_epochs_that_a_seed_lacks_are_left_out(store):
    """A mean is over all seeds, so epochs that not all have are not shown."""
    fill(store)
    first = store.entries("s", method="bop", number=1)[0].run_id
    found = [
        m for m in store.measured("s", ["accuracy"]) if (m.run_id, m.split) == (first, "validation")
    ]
    kept = [Measurement(m.metric, m.value, m.epoch, m.split, m.mode) for m in found if m.epoch != 2]
    store.start_run(first, {"judged": "binary"}, {})
    store.write(first, kept)
    store.end_run(first, DONE)

    bop = accuracy.info(Results(store, "s"))[2]

    assert [1, 3] == bop.epochs.tolist()
    assert [[82, 84], [83, 85]] == bop.values.tolist()


def test_scores_by_mode(results):
    """Every mode has its accuracies by seed, the judged one first, with mean and deviation."""
    found = scores.info(results)

    assert [
        ("real", "real", True),
        ("real", "binary", False),
        ("ste", "binary", True),
        ("ste", "real", False),
        ("bop", "binary", True),
    ] == [(each.method, each.mode, each.judged) for each in found]
    assert {1: 85.0, 2: 88.0} == found[2].by_seed
    assert (86.5, 2) == (found[2].spread.mean, found[2].spread.n)
    assert math.isclose(found[2].spread.sd, 3 / math.sqrt(2))


def test_flips_and_loss(results):
    """Flips are those of all weights, losses those of the training split."""
    bundle, curve = flips.info(results)[0], loss.info(results)[0]

    assert np.allclose([0.1 * 20 / 28, 0.05 * 20 / 28, 0.1 / 3 * 20 / 28], bundle.mean)
    assert np.allclose([1, 1 / 2, 1 / 3], curve.mean)


def test_relaxed_beside_binary(store):
    """Only a method with both modes is there; each mode has its own epochs, rows are seeds."""
    store.create_study("s", study(), "", "0")
    for seed, value in enumerate((80.0, 84.0), start=1):
        record(store, "ste", seed, {"binary": value}, facts={"phases": PHASES})
        record(store, "bop", seed, {"binary": value})
        record(store, "real", seed, {"real": value}, judged="real")
    relax(store, "ste")
    relax(store, "bop", ("real",))  # as ste's latents: not what it computes with
    relax(store, "real")  # without a binary mode there is nothing to compare

    (pair,) = relaxation.info(Results(store, "s"))

    assert ("t", "ste", (1, 2)) == (pair.binary.task, pair.binary.method, pair.binary.seeds)
    assert ("relaxed", "binary") == (pair.relaxed.mode, pair.binary.mode)
    assert [1, 2] == pair.relaxed.epochs.tolist()
    assert [[70, 74], [71, 76]] == pair.relaxed.values.tolist()
    assert [70.5, 75] == pair.relaxed.mean.tolist()
    assert [1, 2, 3] == pair.binary.epochs.tolist()
    assert [[78, 79, 80], [82, 83, 84]] == pair.binary.values.tolist()
    assert ((2, "phase 2"), (3, "<lock>")) == pair.starts


def test_relaxed_and_binary_are_told_apart(store):
    """Binary is solid, relaxed dotted, seeds are thin; lines stand where the phases begin."""
    store.create_study("s", study(), "", "0")
    for method in ("ste", "bop"):
        for seed in (1, 2):
            record(store, method, seed, {"binary": 80.0}, facts={"phases": PHASES})
        relax(store, method)

    drawing = relaxation.relaxation_figure(Results(store, "s")).drawing

    legend = [(t.name, t.line.dash) for t in drawing.data if t.showlegend is None]
    assert [("binary weights", "solid"), ("relaxed weights", "dot")] == legend
    drawn = [(t.line.dash, t.line.width) for t in drawing.data if t.yaxis == "y2"]
    assert [("dot", 1), ("dot", 1), ("dot", 2.5)] == drawn[:3]
    assert [("solid", 1), ("solid", 1), ("solid", 2.5)] == drawn[3:]
    assert [1.5, 2.5] * 2 == [shape.x0 for shape in drawing.layout.shapes]
    assert ["x", "x", "x2", "x2"] == [shape.xref for shape in drawing.layout.shapes]
    texts = [note.text for note in drawing.layout.annotations]
    assert ["ste", "bop"] == texts[:2]
    assert ["phase 2", "&lt;lock&gt;"] * 2 == texts[2:]


def stochastic(store: Store) -> None:
    """Two runs of "bop" that are judged as stochastic BinaryConnect's: 90 and 92 percent."""
    for seed, ensemble_at in ((1, 2), (2, 3)):
        record(store, "bop", seed, {"real": 88.0 + 2 * seed}, judged="real")
        entry = store.entries("s", method="bop")[-1]
        mine = [(epoch, "binary", 50.0 + 10 * seed + epoch) for epoch in (1, 2, 3)]
        mine.append((ensemble_at, "ensemble", 80.0 + seed))  # of the selected epoch
        store.write(
            entry.run_id,
            [Measurement("accuracy", value, epoch, "validation", m) for epoch, m, value in mine],
        )


def test_the_mode_of_judging_stands_for_the_relaxed_one(store):
    """Where a method computes with draws: its judged mode beside binary, the ensembles as points.

    The modes that a run measured say so, no method's name; the ensembles are not aligned, for
    each seed selects an epoch of its own.
    """
    store.create_study("s", study(), "", "0")
    stochastic(store)
    record(store, "ste", 1, {"binary": 80.0})
    relax(store, "ste", ("real",))

    (pair,) = relaxation.info(Results(store, "s"))

    assert ("bop", "real", "binary") == (pair.method, pair.relaxed.mode, pair.binary.mode)
    assert [[88, 89, 90], [90, 91, 92]] == pair.relaxed.values.tolist()
    assert [[61, 62, 63], [71, 72, 73]] == pair.binary.values.tolist()
    assert (("ensemble", (1, 2), (2, 3), (81.0, 82.0)),) == pair.once


def test_the_mode_of_judging_is_drawn_dashed(store):
    """Three looks that the legend names; a sentence says what the points are, and the gap."""
    store.create_study("s", study(), "", "0")
    stochastic(store)
    for seed in (1, 2):
        record(store, "ste", seed, {"binary": 80.0})
    relax(store, "ste")

    figure = relaxation.relaxation_figure(Results(store, "s"))

    legend = [(t.name, t.line.dash, t.marker.symbol) for t in figure.drawing.data[:4]]
    assert [
        ("binary weights", "solid", None),
        ("real weights", "dash", None),
        ("relaxed weights", "dot", None),
        ("ensemble weights", None, "diamond"),
    ] == legend
    (points,) = (t for t in figure.drawing.data[4:] if t.mode == "markers")
    assert ((2, 3), (81, 82), "y2") == (tuple(points.x), tuple(points.y), points.yaxis)
    assert "one for each seed: ensemble, measured for the" in figure.explanation
    last = f"the highest is {91 - 68:+.2f} points (bop), the lowest {75 - 80:+.2f} points (ste)."
    assert figure.summary.endswith(last)


def test_flips_by_layer(results):
    """A map has the layers from the input on, epochs along, and the mean over the seeds."""
    real = layers.info(results)[0]

    assert ("dense1.weight", "dense2.weight") == real.layers
    assert 2 == real.n
    assert np.allclose([[0.1, 0.05, 0.1 / 3], [0, 0, 0]], real.values)


def test_times_have_no_warm_up_and_no_judging(results):
    """Of epochs of 1, 2 and 3 seconds the first is warm-up; what follows the last is no epoch."""
    real, ste, _ = times.info(results)

    assert [2, 3, 4, 6] == real.seconds.tolist()
    assert {1: 2.5, 2: 5.0} == real.medians
    assert {1: 2.0, 2: 2.0} == ste.ratios
    assert results.rows()[0].seconds == 2.5 * 1.5


def test_shared_runs_are_left_out_of_times(store):
    """A run that shared the machine has no time, and no seed is compared with it."""
    store.create_study("s", study(), "", "0")
    record(store, "real", 1, {"real": 90.0}, judged="real", shared=True)
    record(store, "real", 2, {"real": 90.0}, judged="real")
    record(store, "ste", 1, {"binary": 80.0})
    record(store, "ste", 2, {"binary": 80.0})

    results = Results(store, "s")
    real, ste = times.info(results)

    assert [5.0, 7.5] == [row.seconds for row in results.rows() if row.done]
    assert (1, {2: 5.0}) == (real.left_out, real.medians)
    assert ({1: 5.0, 2: 10.0}, {2: 2.0}) == (ste.medians, ste.ratios)
    assert "left out: 1." in times.times_figure(Results(store, "s")).explanation


def test_only_finished_confirming_runs_count(store):
    """A run that was only begun is in no figure."""
    store.create_study("s", study(), "", "0")
    store.start_run(enter(store, "ste", 1).run_id, {"judged": "binary"}, {})

    assert [None] * len(FIGURES) == [draw(Results(store, "s")) for draw in FIGURES]


@pytest.mark.parametrize("draw", FIGURES)
def test_every_figure_draws(results, draw):
    """A figure has a title, a sentence that explains it and axes with titles."""
    figure = draw(results)
    layout = figure.drawing.layout

    assert figure.title
    assert figure.explanation.endswith(".")
    assert layout.xaxis.title.text or layout.xaxis3.title.text
    assert figure.drawing.to_json() == draw(results).drawing.to_json()


def test_a_panel_for_each_task(store):
    """Two tasks have two panels, named and in the order of the study; a method is named once."""
    task = {"dataset": "digits", "architecture": "mlp", "epochs": 3}
    tasks = [task | {"name": "u"}, task | {"name": "t"}]
    values = study().model_dump() | {"tasks": tasks}
    store.create_study("s", type(study()).model_validate(values), "", "0")
    for name in ("t", "u"):
        record(store, "ste", 1, {"binary": 80.0}, task=name)

    drawing = accuracy.accuracy_figure(Results(store, "s")).drawing

    assert ["u", "t"] == [note.text for note in drawing.layout.annotations]
    assert ["y", "y2"] == [trace.yaxis for trace in drawing.data]
    assert [True, False] == [trace.showlegend for trace in drawing.data]


def test_a_method_has_one_look():
    """The reference is grey, the others have a colour each, then the same ones with a dash."""
    many = [{"name": f"m{n}", "method": "ste"} for n in range(8)]
    found = looks(study(methods=[{"method": "real"}, *many]))

    assert GREY == found["real"].colour
    assert COLOURS == tuple(found[f"m{n}"].colour for n in range(6))
    assert (COLOURS[0], "dash") == found["m6"][:2]
    assert 9 == len(set(found.values()))


def test_text_and_numbers():
    """Names cannot be read as HTML, counts say whether they differ, zeros leave gaps."""
    assert "&lt;b&gt; &amp;" == plain("<b> &")
    assert ["n = 3", "n = 2 to 5"] == [count_of([3, 3]), count_of([5, 2])]
    assert [True, False] == np.isnan(positive(np.array([0.0, 1.0]))).tolist()


@pytest.fixture
def many(store: Store) -> Results:
    """Twenty seeds of "ste", all else alike but for the test accuracies 60 to 79."""
    store.create_study("s", study(protocol={"seeds": 20}), "", "0")
    for seed in range(1, 21):
        accuracy_ = 60.0 + (7 * seed) % 20  # in no order
        record(store, "ste", seed, {"binary": accuracy_})
    return Results(store, "s")


def test_curves_beyond_the_limit_are_percentiles(many, monkeypatch):
    """One run too many, and the faint lines are percentiles of all seeds; the mean is of all."""
    monkeypatch.setattr(thinning, "CURVES", 19)
    figure = accuracy.accuracy_figure(many)

    low, high, mean = (trace.y.tolist() for trace in figure.drawing.data)

    last = [60.0 + number for number in range(20)]  # validation is as the test in the last epoch
    cuts = statistics.quantiles(last, n=20, method="inclusive")
    assert np.allclose([cuts[0], cuts[-1], statistics.fmean(last)], [low[2], high[2], mean[2]])
    assert (
        "The 20 curves are too many to draw one by one: faint lines are the 5th and the 95th"
        in (figure.explanation)
    )
    assert "one for each seed" not in figure.explanation
    assert "n = 20" in figure.title
    assert "5th percentile of n = 20" in figure.drawing.data[0].hovertemplate


def test_curves_up_to_the_limit_are_all_drawn(many, monkeypatch):
    """At the limit every seed has its line, and nothing is said to be left out."""
    monkeypatch.setattr(thinning, "CURVES", 20)
    monkeypatch.setattr(thinning, "POINTS", 21 * 3)
    figure = accuracy.accuracy_figure(many)

    assert 21 == len(figure.drawing.data)
    assert {3} == {len(trace.y) for trace in figure.drawing.data}
    assert "one for each seed; the strong line is their mean. All are" in figure.explanation


def test_epochs_beyond_the_limit_are_left_out(many, monkeypatch):
    """One point too many, and one epoch in two is drawn: the first and the last among them."""
    monkeypatch.setattr(thinning, "POINTS", 21 * 3 - 1)

    drawn = [(accuracy, accuracy.accuracy_figure), (loss, loss.loss_figure)]
    for module, draw in [*drawn, (flips, flips.flips_figure)]:
        (bundle,), figure = module.info(many), draw(many)
        assert [[1, 3]] * 21 == [trace.x.tolist() for trace in figure.drawing.data]
        assert np.allclose(bundle.mean[[0, 2]], figure.drawing.data[-1].y)
        assert "Of up to 3 epochs one in 2 is drawn, and the last." in figure.explanation


def test_what_is_drawn_is_bounded():
    """Whatever the numbers of seeds and epochs, no figure has many more points than it may."""
    random = np.random.default_rng(0)
    for _ in range(50):
        shapes = random.integers(1, [400, 3000], size=(random.integers(1, 8), 2))
        found = [
            Bundle("t", "m", "", tuple(range(n)), np.arange(1, e + 1), np.zeros((n, e)))
            for n, e in shapes.tolist()
        ]
        drawn = thinning.thinned(found)

        lines = [len(drawn.faint(bundle)) + 1 for bundle in drawn.bundles]
        points = sum(n * len(b.epochs) for n, b in zip(lines, drawn.bundles, strict=True))
        assert points <= thinning.POINTS + 2 * sum(lines)
        assert sum(lines) <= max(thinning.CURVES, 2 * len(found)) + len(found)
        assert all(
            (1, len(old.epochs)) == (new.epochs[0], new.epochs[-1])
            for old, new in zip(found, drawn.bundles, strict=True)
        )
        assert bool(drawn.many) == (sum(n for n, _ in shapes.tolist()) > thinning.CURVES)


def test_relaxed_and_binary_are_thinned_together(store, monkeypatch):
    """Both modes of a method are percentiles where their seeds are too many, in their dashes."""
    store.create_study("s", study(), "", "0")
    for seed, value in ((1, 80.0), (2, 84.0)):
        record(store, "ste", seed, {"binary": value}, facts={"phases": PHASES})
    relax(store, "ste")
    monkeypatch.setattr(thinning, "CURVES", 3)

    figure = relaxation.relaxation_figure(Results(store, "s"))

    lines = [t for t in figure.drawing.data if t.showlegend is False]
    assert ["dot"] * 3 + ["solid"] * 3 == [trace.line.dash for trace in lines]
    assert np.allclose([78.2, 81.8, 80], [trace.y[0] for trace in lines[3:]])
    assert "The 4 curves are too many to draw one by one" in figure.explanation


def test_dots_beyond_the_limit_are_evenly_spaced(many, monkeypatch):
    """Of twenty seeds five are drawn by rank with their own seeds; the mean is of all."""
    monkeypatch.setattr(scores, "DOTS", 5)
    figure = scores.scores_figure(many)

    dots, mean = figure.drawing.data
    assert [60.0, 65.0, 70.0, 74.0, 79.0] == list(dots.x)
    assert [60.0 + (7 * seed) % 20 for seed in dots.customdata] == list(dots.x)
    assert [69.5] == list(mean.x)
    assert "Of a line with more than 5 seeds so many are drawn" in figure.explanation
    monkeypatch.setattr(scores, "DOTS", 20)
    assert 20 == len(scores.scores_figure(many).drawing.data[0].x)
    assert "so many are drawn" not in scores.scores_figure(many).explanation


def test_boxes_beyond_the_limit_keep_their_ends(many, monkeypatch):
    """A box is made of so many epochs, with the least and the greatest among them."""
    monkeypatch.setattr(times, "VALUES", 9)
    figure = times.times_figure(many)

    (box,) = figure.drawing.data
    assert (9, 4.0, 120.0) == (len(box.x), min(box.x), max(box.x))  # seconds: 2 seed epoch
    assert len(box.y) == len(box.x)
    assert "Of a line with more than 9 epochs so many are drawn" in figure.explanation


def test_cells_beyond_the_limit_are_left_out(results, monkeypatch):
    """Maps have one epoch in so many, each with its own values."""
    monkeypatch.setattr(layers, "CELLS", 3 * 2 * 3 - 1)
    figure = layers.layers_figure(results)

    assert [[1, 3]] * 3 == [trace.x.tolist() for trace in figure.drawing.data]
    assert np.allclose([[0.1, 0.1 / 3], [0, 0]], figure.drawing.data[0].customdata)
    assert "Of up to 3 epochs one in 2 is drawn, and the last." in figure.explanation


def test_alike_and_unlike_epochs_are_aligned(results):
    """Curves with the same epochs are as they are; of others the common epochs stay."""
    entry = results.entries[0]
    whole, part = np.array([1, 2, 3]), np.array([2, 3, 4])
    one, two, three = (
        Curve(entry, "", "", "", epochs, 10.0 * epochs) for epochs in (whole, whole, part)
    )

    epochs, values = aligned([one, two])
    assert ([1, 2, 3], [[10, 20, 30]] * 2) == (epochs.tolist(), values.tolist())
    epochs, values = aligned([one, three])
    assert ([2, 3], [[20, 30]] * 2) == (epochs.tolist(), values.tolist())
