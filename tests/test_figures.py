"""The figures' numbers, compared with what a hand computes from a few runs."""

from __future__ import annotations

import math

import numpy as np
import pytest

from bnnbench.measurements import Measurement
from bnnbench.results import Results
from bnnbench.store import Store
from bnnbench_reports.colours import COLOURS, GREY, looks
from bnnbench_reports.figures import accuracy, flips, layers, loss, relaxation, scores, times
from bnnbench_reports.figures.drawing import count_of, plain, positive

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
    with store.begin() as connection:
        connection.exec_driver_sql(
            f"DELETE FROM bnnbench_measurements WHERE run_id = {first} AND epoch = 2"
        )

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

    real, ste = times.info(Results(store, "s"))

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
