"""Latents, angles and dot products as they are drawn, against numbers made by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from plotly.graph_objects import Figure as Drawing
from plotly.graph_objects import Scatter
from scipy import integrate, stats

from bnnbench.measurements import Measurement
from bnnbench.results import Results
from bnnbench.store import DONE
from bnnbench_reports import cards, probed
from bnnbench_reports.colours import looks as colours
from bnnbench_reports.figures import angles, dimension, histograms, products, trends
from bnnbench_reports.probed import looks, short

from .small_study import ENVIRONMENT, ROLES, enter, study

NAMES = ("dense1.weight", "dense2.weight")


def look(store, method, seed, *measured, roles=ROLES):
    """A finished run with what was measured of it."""
    entry = enter(store, method, seed)
    store.start_run(entry.run_id, {"judged": "binary", "roles": roles}, ENVIRONMENT)
    store.write(entry.run_id, list(measured))
    store.end_run(entry.run_id, DONE)


def of(metric, value, epoch=3, layer=NAMES[0], **place):
    return Measurement(metric, value, epoch, layer=layer, **place)


@pytest.fixture
def results(store):
    store.create_study("s", study(), "", "0")
    return Results(store, "s")


def test_looks_are_means_over_seeds_at_one_epoch(store, results):
    """The last epoch, or the first; layers in the order of the network, methods of the study."""
    for seed, angle in ((1, 30.0), (2, 34.0)):
        first = of("angle_mean", 37.0 + seed, epoch=0)
        deep = of("angle_mean", 20.0 + seed, layer=NAMES[1])
        look(store, "bop", seed, deep, of("angle_mean", angle), first)
    look(store, "real", 1, of("angle_mean", 10.0, epoch=2))

    real, one, two = looks(results, ["angle_mean"])

    assert ("real", 2, {"angle_mean": 10.0}, 1) == (real.method, real.epoch, real.values, real.n)
    assert NAMES == (one.layer, two.layer)
    assert ("bop", 3, {"angle_mean": 32.0}, 2) == (one.method, one.epoch, one.values, one.n)
    assert {"angle_mean": 21.5} == two.values
    begin = looks(results, ["angle_mean"], first=True)[1]
    assert (0, {"angle_mean": 38.5}) == (begin.epoch, begin.values)


def test_a_metric_of_some_seeds_is_a_mean_over_those(store, results):
    """And it is said of how many; a number that is none, or of an earlier epoch, is not counted."""
    look(store, "ste", 1, of("a", 1.0), of("b", 5.0), of("c", math.nan))
    look(store, "ste", 2, of("a", 2.0), of("b", 9.0, epoch=2), of("c", 4.0))
    look(store, "ste", 3, of("a", 6.0), of("c", 6.0))

    (found,) = looks(results, ["a", "b", "c"])

    assert {"a": 3.0, "b": 5.0, "c": 5.0} == found.values
    assert {"a": 3, "b": 1, "c": 2} == found.seen
    assert 3 == found.n


def test_layers_are_in_the_order_of_the_network(store, results):
    """Whatever their names; a probe may leave "weight" out, and unknown ones come last, by name."""
    roles = [{"parameter": name} for name in ("stem.weight", "block.weight", "head.weight")]
    layers = ("another", "head.weight", "block", "stem.weight", "aside")
    look(store, "ste", 1, *(of("a", 1.0, layer=layer) for layer in layers), roles=roles)

    found = [each.layer for each in looks(results, ["a"])]

    assert ["stem.weight", "block", "head.weight", "another", "aside"] == found


def test_only_the_place_that_is_asked_for(store, results):
    """Split and mode choose the series."""
    look(store, "ste", 1, of("dot_r", 0.5, split="validation"), of("dot_r", 0.9, split="test"))

    (found,) = looks(results, ["dot_r"], split="validation", mode="")

    assert {"dot_r": 0.5} == found.values


def test_histograms_are_of_the_first_layer_before_and_after(store, results):
    """Shares in percent, mean over seeds; a method without a look before training has none."""
    for seed in (1, 2):
        before = of("latent_bin_20", 1.0, epoch=0)
        after = [of("latent_bin_01", 0.5 * seed / 2), of("latent_bin_40", 1 - 0.5 * seed / 2)]
        other = of("latent_bin_05", 1.0, layer=NAMES[1])
        look(store, "ste", seed, before, *after, other, of("latent_saturated", 0.25 * seed))
    look(store, "bop", 1, of("latent_bin_41", 1.0, epoch=1))

    ste, bop = histograms.info(results)

    assert (NAMES[0], 42, 42) == (ste.look.layer, len(ste.before), len(ste.after))
    assert {20: 100.0} == {n: share for n, share in enumerate(ste.before) if share}
    assert {1: 37.5, 40: 62.5} == {n: share for n, share in enumerate(ste.after) if share}
    assert () == bop.before
    assert (100.0, 1) == (bop.after[41], bop.look.epoch)
    said = histograms.histograms_figure(results).summary
    assert said.endswith("n = 1 to 2 seeds: 37.5 % (ste).")


def test_histograms_are_drawn_around_the_middles_of_the_bins(store, results):
    """Bin 1 is around -0.975, bin 40 around 0.975; before is dotted, after in the method's dash."""
    look(store, "ste", 1, of("latent_bin_01", 0.25, epoch=0), of("latent_bin_40", 0.75))
    figure = histograms.histograms_figure(results)

    before, start, after = figure.drawing.data
    assert (before.y, False) == (start.y, start.visible)
    assert {1: 25.0} == {bin_: share for bin_, share in enumerate(before.y) if share}
    assert {40: 75.0} == {bin_: share for bin_, share in enumerate(after.y) if share}
    assert (-0.975, 0.975) == pytest.approx((before.x[1], after.x[40]))
    middles = np.convolve(np.linspace(-1.05, 1.05, 43), [0.5, 0.5], "valid")
    assert np.allclose(middles, after.x)
    assert ("dot", False) == (before.line.dash, before.showlegend)
    assert ("solid", True) == (after.line.dash, after.showlegend)
    assert colours(results.study)["ste"].colour == before.line.color == after.line.color
    assert "latent weight ÷ its bound" == figure.drawing.layout.xaxis.title.text
    assert "Latent weights of the first binary layer (n = 1 seeds)" == figure.title


def test_angles_of_each_layer(store, results):
    """Means over filters and seeds with the deviation over filters; another mode has its own."""
    for seed in (1, 2):
        look(
            store,
            "ste",
            seed,
            of("angle_mean", 30.0 + seed),
            of("angle_sd", 2.0 * seed),
            of("angle_mean", 80.0, mode="relaxed"),
        )
    look(store, "real", 1, of("angle_sd", 1.0))  # without a mean there is nothing to draw
    look(store, "bop", 1, of("flip_step", 0.1))

    (ste,) = angles.info(results)
    figure = angles.angles_figure(results)

    assert {"angle_mean": 31.5, "angle_sd": 3.0} == ste.values
    (trace,) = figure.drawing.data
    assert (["dense1"], [31.5], [3.0]) == (list(trace.x), list(trace.y), list(trace.error_y.array))
    assert figure.explanation.endswith("Not measured: real, bop.")
    heights = [line.y0 for line in figure.drawing.layout.shapes]
    assert [37.07, 34.15, 30.0] == pytest.approx(heights, abs=0.005)
    assert (0, 45) == figure.drawing.layout.yaxis.range


def test_large_angles_are_inside_their_axis(store, results):
    """With their deviations; the next multiple of five above one degree more ends it."""
    look(store, "ste", 1, of("angle_mean", 57.0), of("angle_sd", 3.5))

    assert (0, 65) == angles.angles_figure(results).drawing.layout.yaxis.range


def quantiles(middle, step, kind="angle"):
    """Five quantiles around a median, evenly spaced."""
    return {f"{kind}_q{q:02}": middle + step * k for k, q in enumerate(dimension.QUANTILES, -2)}


def test_angles_by_dimension(store, results):
    """A mark at the layer: median, bars to the quantiles, of both kinds of angles."""
    measured = {"fan_in": 64.0} | quantiles(31, 2) | quantiles(91, 4, "angle_apart")
    for seed, more in ((1, -1), (2, 1)):
        own = {m: v + more * (m != "fan_in") for m, v in measured.items()}
        look(store, "ste", seed, *(of(*pair) for pair in own.items()))
    figure = dimension.dimension_figure(results)

    *_, thin, thick, median = figure.drawing.data
    label = "dense1<br>d = 64"
    assert ((label, label), (31, 91)) == (median.x, median.y)
    assert ((label, label, None) * 2, (27, 35, None, 83, 99, None)) == (thin.x, thin.y)
    assert (29, 33, None, 87, 95, None) == thick.y
    assert thin.line.width < thick.line.width
    assert ["ste, 5 to 95 %", "ste, 25 to 75 %", "ste"] == [thin.name, thick.name, median.name]
    assert not figure.drawing.layout.sliders
    assert "slider" not in figure.explanation
    assert "n = 2 seeds: 31.00 (dense1, ste, d = 64)." in figure.summary


def test_the_theory_stands_beside_each_layer(store, results):
    """Once for all methods, of the layer's dimension, in a place of its own."""
    for method in ("ste", "bop"):
        measured = [("fan_in", 33.0), *quantiles(31, 2).items()]
        look(store, method, 1, *(of(*pair) for pair in measured))
    thin, thick, median, *others = dimension.dimension_figure(results).drawing.data

    shares = stats.beta.ppf([0.05, 0.25, 0.5, 0.75, 0.95], 16, 16)
    q05, q25, q50, q75, q95 = (math.degrees(math.acos(1 - 2 * share)) for share in shares)
    assert pytest.approx([q05, q95, q25, q75, q50]) == [*thin.y[:2], *thick.y[:2], *median.y]
    assert ("theory: two random vectors", True) == (median.name, median.showlegend)
    gaussian = others[2]
    assert (gaussian.y[0],) == pytest.approx(probed.gaussian_angle(0.5, np.array([33.0])))
    groups = [trace.offsetgroup for trace in (median, *others[2::3])]
    assert [median.name, "theory: Gaussian weights", "ste", "bop"] == groups


def test_layers_of_the_same_dimension_are_all_seen(store, results):
    """Each has its place, the smallest dimension first; of one number there is no theory."""
    sizes = {"dense1": 1000.0, "dense2": 9.0, "other": 9.0, "single": 1.0}
    look(store, "ste", 1, *(
        of(metric, value, layer=layer) for layer, d in sizes.items()
        for metric, value in {"fan_in": d, **quantiles(31, 2)}.items()
    ))  # fmt: skip
    drawing = dimension.dimension_figure(results).drawing

    labels = ["single<br>d = 1", "dense2<br>d = 9", "other<br>d = 9", "dense1<br>d = 1,000"]
    assert labels == list(drawing.layout.xaxis.categoryarray)
    assert set(labels) == set(drawing.data[-1].x)
    assert [True, False, False, False] == np.isnan(drawing.data[2].y).tolist()
    assert drawing.data[2].y[1] == pytest.approx(90)


def test_quantiles_of_unrelated_vectors_are_those_of_random_ones():
    """In 2, 3, 9 and 100 dimensions the share below each quantile is as large as it says."""
    random, filters = np.random.default_rng(0), 20_000
    for d in (2, 3, 9, 100):
        one, two = random.standard_normal((2, filters, d))
        cosines = (one * two).sum(axis=1) / np.linalg.norm(one, axis=1)
        found = np.degrees(np.arccos(np.clip(cosines / np.linalg.norm(two, axis=1), -1, 1)))
        for quantile in (0.05, 0.25, 0.5, 0.95):
            share = np.mean(found < probed.unrelated_angle(quantile, np.array(float(d))))
            assert abs(share - quantile) < 4 * math.sqrt(quantile * (1 - quantile) / filters)


def test_the_density_of_unrelated_vectors():
    """Integrals of sin(theta)^(d - 2) up to a quantile are that share of the whole."""
    for d in (3, 4, 27, 576):

        def density(theta, power=d - 2):
            return math.sin(theta) ** power

        for quantile in (0.05, 0.75):
            end = math.radians(probed.unrelated_angle(quantile, np.array(float(d))))
            middle = math.pi / 2
            below = integrate.quad(density, 0, min(end, middle))[0]
            below += integrate.quad(density, middle, max(end, middle))[0]
            whole = integrate.quad(density, 0, middle)[0] * 2
            assert quantile == pytest.approx(below / whole, abs=1e-6)


def test_quantiles_of_gaussian_vectors_and_their_signs():
    """Against simulations: within half a degree at d = 27, a twentieth at 1,000."""
    random, filters = np.random.default_rng(1), 20_000
    for d, most in ((10, 1.5), (27, 0.5), (1000, 0.05)):
        weights = random.standard_normal((filters if d < 100 else filters // 2, d))
        norms = np.linalg.norm(weights, axis=1)
        found = np.degrees(np.arccos(np.abs(weights).sum(axis=1) / (math.sqrt(d) * norms)))
        for quantile in (0.05, 0.25, 0.5, 0.75, 0.95):
            expected = probed.gaussian_angle(quantile, np.array(float(d)))
            assert abs(np.quantile(found, quantile) - expected) < most, (d, quantile)


def test_the_slider_shows_each_task_at_its_last_look(store):
    """One that ended earlier stays as it was; an epoch that is chosen shows what was then."""
    task = {"dataset": "digits", "architecture": "mlp", "epochs": 3}
    tasks = [task | {"name": "t"}, task | {"name": "u"}]
    values = study().model_dump() | {"tasks": tasks}
    store.create_study("s", type(study()).model_validate(values), "", "0")
    for name, epochs in (("t", (0, 2)), ("u", (0, 1, 3))):
        entry = enter(store, "ste", 1, task=name)
        store.start_run(entry.run_id, {"judged": "binary", "roles": ROLES}, ENVIRONMENT)
        store.write(entry.run_id, [of("latent_bin_20", 1.0, epoch=epoch) for epoch in epochs])
        store.end_run(entry.run_id, DONE)

    drawing = histograms.histograms_figure(Results(store, "s")).drawing

    told = [trace.hovertemplate.split("<br>")[0] for trace in drawing.data]
    panels = [trace.yaxis for trace in drawing.data]
    (made,) = drawing.layout.sliders

    def shown(visible):
        rows = zip(told, panels, visible, strict=True)
        return {(text[5:], panel) for text, panel, seen in list(rows)[2:] if seen}

    assert ["0", "1", "2", "3"] == [step.label for step in made.steps]
    assert {("epoch 2", "y"), ("epoch 3", "y2")} == shown([t.visible for t in drawing.data])
    steps = [shown(step.args[0]["visible"]) for step in made.steps]
    assert {("epoch 0", "y"), ("epoch 0", "y2")} == steps[0]
    assert {("epoch 0", "y"), ("epoch 1", "y2")} == steps[1]
    assert {("epoch 2", "y"), ("epoch 1", "y2")} == steps[2]
    assert shown([t.visible for t in drawing.data]) == steps[3]
    assert 3 == made.active
    assert [True, True] == [t.visible for t in drawing.data[:2]]
    assert ["ste, epoch 0", "ste"] == [drawing.data[2].name, drawing.data[-1].name]


def judged(store, method, seed, modes, *measured):
    """A finished run whose network was judged in some modes."""
    bits = [Measurement("weight_bits", 1, 3, mode=mode) for mode in modes]
    look(store, method, seed, *bits, *measured)


def test_methods_without_latents_are_named(store, results):
    """By the modes in which they were judged: who has others was not measured."""
    judged(store, "ste", 1, ("binary", "real"), of("angle_mean", 31.0), of("fan_in", 64.0),
           *(of(*pair) for pair in quantiles(31, 2).items()),
           of("dot_r", 0.8, split="validation"),
           of("dot_cell_03_07", 9.0, split="validation"))  # fmt: skip
    judged(store, "bop", 1, ("binary",))
    judged(store, "real", 1, ("binary", "real"))
    said = "no latent beside the weight: bop. Not measured: real."

    for draw in (
        angles.angles_figure,
        dimension.dimension_figure,
        products.products_figure,
        trends.geometry_figure,
    ):
        assert draw(results).explanation.endswith(said)


def test_saturation_and_distance_over_the_epochs(store, results):
    """Shares in percent and distances in bounds: a line for each method, a row for each layer."""
    for seed in (1, 2):
        measured = [of("latent_saturated", 1.0, epoch, layer=NAMES[1]) for epoch in (0, 2, 10)]
        for epoch, share in ((0, 0.0), (2, 0.125 * seed), (10, 0.25 * seed)):
            measured.append(of("latent_saturated", share, epoch))
            measured.append(of("latent_distance", 0.5 - share / 2, epoch))
        look(store, "ste", seed, *measured)
    look(store, "bop", 1, of("latent_saturated", 1.0, epoch=1))
    figure = trends.saturation_figure(results)

    lines = {(t.name, t.yaxis): (t.x, t.y) for t in figure.drawing.data}
    epochs = ("0", "2", "10")
    assert lines == {
        ("ste", "y"): (epochs, (0, 18.75, 37.5)),
        ("ste", "y2"): (epochs, (0.5, 0.40625, 0.3125)),
        ("ste", "y3"): (epochs, (100, 100, 100)),
        ("bop", "y"): (("1",), (100,)),
    }
    layout = figure.drawing.layout
    assert ("0", "1", "2", "10") == layout.xaxis.categoryarray == layout.xaxis4.categoryarray
    assert ["dense1", "dense1", "dense2", "dense2"] == [note.text for note in layout.annotations]
    assert ("saturated, %", "distance to ±1, bounds") == (
        layout.yaxis.title.text,
        layout.yaxis2.title.text,
    )
    assert "Latent weights on their way to ±1 (n = 1 to 2 seeds)" == figure.title
    assert [True, True] == [t.showlegend for t in figure.drawing.data if t.yaxis == "y"]
    assert 2 == sum(t.showlegend for t in figure.drawing.data)


def test_angles_and_correlations_over_the_epochs(store, results):
    """Each from its own split, means over seeds; the right column is r."""
    for seed in (1, 2):
        look(store, "ste", seed,
                *(of("angle_mean", 30.0 + seed + epoch, epoch) for epoch in (0, 3)),
                of("angle_mean", 80.0, mode="relaxed"),
                of("dot_r", 0.25 * seed, split="validation"))  # fmt: skip

    figure = trends.geometry_figure(results)

    assert [("y", ("0", "3"), (31.5, 34.5)), ("y2", ("3",), (0.375,))] == [
        (trace.yaxis, trace.x, trace.y) for trace in figure.drawing.data
    ]
    assert "angle, degrees" == figure.drawing.layout.yaxis.title.text


def test_trends_of_many_layers_are_left_out(store, results, monkeypatch):
    """The first and the last of the network are among those that stay, and it is said."""
    monkeypatch.setattr(trends, "ROWS", 3)
    roles = [{"parameter": f"l{n}"} for n in range(5)]
    look(store, "ste", 1, *(of("latent_saturated", n / 8, layer=f"l{n}") for n in range(5)),
         roles=roles)  # fmt: skip
    figure = trends.saturation_figure(results)

    assert [(0,), (25,), (50,)] == [trace.y for trace in figure.drawing.data]
    assert "3 of 5 layers are drawn, evenly spaced." in figure.explanation


def test_without_a_dimension_there_are_angles_alone(store, results):
    """A look that has no fan-in, or no quantiles, is in the first figure only."""
    look(store, "ste", 1, of("angle_mean", 31.0), of("fan_in", 64.0))
    look(store, "bop", 1, *(of(*pair) for pair in quantiles(31, 2).items()))

    assert angles.angles_figure(results) is not None
    assert dimension.dimension_figure(results) is None


def test_counts_are_those_of_all_seeds(store, results):
    """An empty cell is not stored and counts as none; rows are y, columns are x."""
    at = {"split": "validation"}
    look(store, "ste", 1, of("dot_r", 0.8, **at), of("dot_cell_03_07", 6.0, **at))
    look(store, "ste", 2, of("dot_r", 0.6, **at), of("dot_cell_03_07", 1.0, **at),
         of("dot_cell_23_00", 3.0, **at), of("dot_shuffled_r", 0.5, **at))  # fmt: skip

    (plane,) = products.info(results)

    assert {(7, 3): 7.0, (0, 23): 3.0} == {
        (int(y), int(x)): plane.counts[y, x] for y, x in np.argwhere(plane.counts)
    }
    assert (0.7, 0.5, 2) == (pytest.approx(plane.r), plane.shuffled, plane.look.n)


def test_planes_are_drawn_as_shares(store, results):
    """Colours go by the root of a cell's share, empty cells are gaps; titles have r and both."""
    at = {"split": "validation"}
    look(store, "ste", 1, of("dot_r", 0.8, **at), of("dot_cell_03_07", 9.0, **at),
         of("dot_cell_00_00", 1.0, **at))  # fmt: skip
    look(store, "bop", 1, of("dot_r", 0.7, **at))  # without cells there is no map
    figure = products.products_figure(results)

    plane, diagonal = figure.drawing.data
    z = np.asarray(plane.z)
    assert 2 == np.isfinite(z).sum()
    assert (math.sqrt(0.9), math.sqrt(0.1)) == pytest.approx((z[7, 3], z[0, 0]))
    assert 90.0 == pytest.approx(plane.customdata[7][3])
    assert [-2.875, -2.625, 2.875] == pytest.approx([plane.x[0], plane.x[1], plane.x[-1]])
    assert list(diagonal.x) == list(diagonal.y) == [-3, 3]
    assert ["ste, dense1<br>r = 0.80"] == [note.text for note in figure.drawing.layout.annotations]
    assert "(n = 1 seeds)" in figure.title


def test_nothing_is_drawn_in_yellow(store, results):
    """The background shows where there is next to nothing, be it white or black."""
    (_, low), (_, high) = products.SCALE

    alphas = [float(colour.rpartition(",")[2].rstrip(")")) for colour in (low, high)]
    assert alphas[0] < 0.1 < alphas[1] == 1
    assert low.rpartition(",")[0] == high.rpartition(",")[0]


def test_planes_beyond_the_limit_are_left_out(store, results, monkeypatch):
    """And the explanation says so."""
    at = {"split": "validation"}
    for method in ("real", "ste", "bop"):
        look(store, method, 1, of("dot_r", 0.8, **at), of("dot_cell_03_07", 9.0, **at),
             of("dot_shuffled_r", 0.25, **at))  # fmt: skip
    monkeypatch.setattr(products, "MOST", 2)
    figure = products.products_figure(results)

    titles = ["real, dense1<br>r = 0.80 (0.25)", "ste, dense1<br>r = 0.80 (0.25)"]
    assert titles == [note.text for note in figure.drawing.layout.annotations]
    assert figure.explanation.endswith("The first 2 of 3 are drawn.")


def test_titles_of_planes_have_room(store, results, monkeypatch):
    """However many lines they have: between two rows of maps, and above the first."""
    at = {"split": "validation"}
    monkeypatch.setattr(products, "COLUMNS", 1)
    long = [f"{'very-' * 12}long{n}.weight" for n in range(3)]
    metrics = {"dot_r": 0.8, "dot_cell_03_07": 9.0}.items()
    both = [of(*pair, layer=layer, **at) for layer in long for pair in metrics]
    look(store, "ste", 1, *both)
    layout = products.products_figure(results).drawing.layout

    lines = max(note.text.count("<br>") + 1 for note in layout.annotations)
    inner = layout.height - layout.margin.t - layout.margin.b
    gap = (layout.yaxis.domain[0] - layout.yaxis2.domain[1]) * inner
    assert lines > 3
    assert gap >= 14 * lines + 40  # a line of text, and an axis with its title
    assert layout.margin.t >= 14 * lines


def test_a_note_stands_above_the_titles(store, results):
    """Of as many lines as they have; where there are none, close to the drawing."""
    at = {"split": "validation"}
    look(store, "ste", 1, of("dot_r", 0.8, layer="very-" * 12, **at),
         of("dot_cell_03_07", 9.0, layer="very-" * 12, **at), of("angle_mean", 31.0))  # fmt: skip
    tall, plain = products.products_figure(results).drawing, angles.angles_figure(results).drawing
    lines = tall.layout.annotations[0].text.count("<br>") + 1
    for drawing in (tall, plain):
        cards.annotate(drawing, "synthetic data")

    heights = [drawing.layout.annotations[-1].yshift for drawing in (tall, plain)]
    assert lines > 3
    assert heights[0] >= 14 * lines
    assert 22 == heights[1]
    assert all(d.layout.margin.t >= h + 20 for d, h in zip((tall, plain), heights, strict=True))


def test_a_legend_of_many_names_is_not_cut():
    """With more names than half of the height has lines for, there is room for one a line."""
    few, many = (
        Drawing(
            [Scatter(x=[1], y=[1], name=f"m{n % names}", visible=n < names) for n in range(40)],
            {"height": 430, "legend": {"orientation": "h"}},
        )
        for names in (10, 14)
    )
    for drawing in (few, many):
        cards.make_room(drawing)

    assert (430, None) == (few.layout.height, few.layout.legend.maxheight)
    assert many.layout.legend.maxheight >= 14 * 19  # pixels of a line on a narrow screen
    assert many.layout.height - many.layout.legend.maxheight >= 430 / 2


def test_names_are_short():
    """A layer goes by the name of its module."""
    assert ["conv1", "weight_g", "features.0"] == [
        short(name) for name in ("conv1.weight", "weight_g", "features.0.weight")
    ]


def test_the_lines_of_the_theory_are_integrals():
    """E|w| / sqrt(E w^2) of Gaussian and uniform weights; of Gaussian ones above a tenth."""
    mean, _ = integrate.quad(lambda w: 2 * w * stats.norm.pdf(w), 0, 40)
    above, _ = integrate.quad(lambda w: 2 * w * stats.norm.pdf(w), 0.1, 40)

    assert math.isclose(math.degrees(math.acos(mean)), probed.GAUSSIAN)
    assert math.isclose(math.degrees(math.acos(0.5 / math.sqrt(1 / 3))), probed.UNIFORM)
    ternary = math.degrees(math.acos(above / math.sqrt(2 * stats.norm.sf(0.1))))
    assert abs(ternary - probed.TERNARY) < 0.005
