"""Latents, angles and dot products as they are drawn, against numbers made by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import integrate, stats

from bnnbench.measurements import Measurement
from bnnbench.results import Results
from bnnbench.store import DONE
from bnnbench_reports import probed
from bnnbench_reports.colours import looks as colours
from bnnbench_reports.figures import angles, histograms, products
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
    assert "ste 37.5 %." in histograms.histograms_figure(results).explanation


def test_histograms_are_drawn_around_the_middles_of_the_bins(store, results):
    """Bin 1 is around -0.975, bin 40 around 0.975; before is dotted, after in the method's dash."""
    look(store, "ste", 1, of("latent_bin_01", 0.25, epoch=0), of("latent_bin_40", 0.75))
    figure = histograms.histograms_figure(results)

    before, after = figure.drawing.data
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
    assert "no latent beside the weight: real, bop." in figure.explanation
    heights = [line.y0 for line in figure.drawing.layout.shapes]
    assert [37.07, 34.15, 30.0] == pytest.approx(heights, abs=0.005)


def test_angles_by_dimension(store, results):
    """A point at the layer's fan-in, faint the angle to the same signs in a random order."""
    measured = [("angle_mean", 31.0), ("angle_sd", 2.0), ("fan_in", 64.0)]
    measured += [("angle_apart_mean", 91.0), ("angle_apart_sd", 7.0)]
    look(store, "ste", 1, *(of(*pair) for pair in measured))
    figure = angles.dimension_figure(results)

    unrelated, gaussian, near, apart = figure.drawing.data
    assert ([64.0], [31.0], 1.0) == (list(near.x), list(near.y), near.opacity)
    assert ([64.0], [91.0], [7.0]) == (list(apart.x), list(apart.y), list(apart.error_y.array))
    assert 0.5 == apart.opacity
    assert [32.0, 128.0] == pytest.approx([min(unrelated.x), max(unrelated.x)])
    half = math.degrees(1) / math.sqrt(32)
    assert math.isclose(90 + half, unrelated.y[0])
    assert math.isclose(90 - half, unrelated.y[-1])
    assert math.isclose(probed.GAUSSIAN + probed.GAUSSIAN_SD / math.sqrt(128), gaussian.y[39])


def test_without_a_dimension_there_are_angles_alone(store, results):
    """A look that has no fan-in is in the first figure only."""
    look(store, "ste", 1, of("angle_mean", 31.0))

    assert angles.angles_figure(results) is not None
    assert angles.dimension_figure(results) is None


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
    assert "n = 1 seeds: of 2 values" not in figure.summary
    assert "0.80 (ste, dense1)" in figure.summary


def test_methods_without_latents_are_named(store, results):
    """Of the methods that have finished, those whose dot products could not be looked at."""
    at = {"split": "validation"}
    look(store, "ste", 1, of("dot_r", 0.8, **at), of("dot_cell_03_07", 9.0, **at))
    look(store, "bop", 1, of("angle_mean", 80.0))
    figure = products.products_figure(results)

    said = "Not applicable, for there is no latent beside the weight: bop."
    assert figure.explanation.endswith(said)


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


def test_names_are_short():
    """A layer goes by the name of its module."""
    assert ["conv1", "weight_g", "features.0"] == [
        short(name) for name in ("conv1.weight", "weight_g", "features.0.weight")
    ]


def test_the_angle_of_gaussian_weights_spreads_as_the_theory_says():
    """The delta method's deviation, 20.2/sqrt(d), is that of simulated angles, as is the mean."""
    random = np.random.default_rng(0)
    d, filters = 1024, 4000
    weights = random.standard_normal((filters, d))
    cosines = np.abs(weights).sum(axis=1) / (math.sqrt(d) * np.linalg.norm(weights, axis=1))
    found = np.degrees(np.arccos(cosines))

    sd = found.std(ddof=1) * math.sqrt(d)
    error = probed.GAUSSIAN_SD / math.sqrt(2 * filters)  # of a deviation of so many numbers
    assert abs(sd - probed.GAUSSIAN_SD) < 4 * error
    assert abs(found.mean() - probed.GAUSSIAN) < 0.1


def test_unrelated_vectors_spread_as_the_theory_says():
    """Gaussian weights and signs in a random order: 90 degrees with 57.3/sqrt(d)."""
    random = np.random.default_rng(1)
    d, filters = 1024, 4000
    weights, signs = random.standard_normal((filters, d)), random.choice([-1, 1], (filters, d))
    cosines = (weights * signs).sum(axis=1) / (math.sqrt(d) * np.linalg.norm(weights, axis=1))
    found = np.degrees(np.arccos(cosines))

    error = probed.APART_SD / math.sqrt(2 * filters)
    assert abs(found.std(ddof=1) * math.sqrt(d) - probed.APART_SD) < 4 * error
    assert abs(found.mean() - 90) < 4 * probed.APART_SD / math.sqrt(d * filters)


def test_the_lines_of_the_theory_are_integrals():
    """E|w| / sqrt(E w^2) of Gaussian and uniform weights; of Gaussian ones above a tenth."""
    mean, _ = integrate.quad(lambda w: 2 * w * stats.norm.pdf(w), 0, 40)
    above, _ = integrate.quad(lambda w: 2 * w * stats.norm.pdf(w), 0.1, 40)

    assert math.isclose(math.degrees(math.acos(mean)), probed.GAUSSIAN)
    assert math.isclose(math.degrees(math.acos(0.5 / math.sqrt(1 / 3))), probed.UNIFORM)
    ternary = math.degrees(math.acos(above / math.sqrt(2 * stats.norm.sf(0.1))))
    assert abs(ternary - probed.TERNARY) < 0.005
