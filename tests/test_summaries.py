"""Figures in a sentence: the numbers are those of the figure's info, and every figure has one."""

from __future__ import annotations

import re

import numpy as np
import pytest
from plotly.graph_objects import Bar, Heatmap, Scatter
from plotly.graph_objects import Figure as Drawing

from bnnbench.deployments import keep
from bnnbench.interfaces import Figure
from bnnbench.measurements import Measurement
from bnnbench.plugins import load_plugins
from bnnbench.results import Results
from bnnbench.store import DIVERGED, DONE, TUNE
from bnnbench.testing.figures import results as small_results
from bnnbench_reports import command, page
from bnnbench_reports.cards import make_card
from bnnbench_reports.figures import (
    accuracy,
    bestof,
    coverage,
    deployment,
    differences,
    flips,
    history,
    layers,
    pareto,
    ratios,
    scores,
    shares,
    times,
)
from bnnbench_reports.figures.summaries import Value, drawn, points, summary

from .small_study import DEPLOYED, enter, fill


@pytest.fixture
def results(store):
    """real 90 and 92, ste 85 and 88, bop 84 and 85; see small_study."""
    fill(store)
    return Results(store, "s")


def test_scores(results):
    """Means of every mode: real 91, ste 86.5 and 50, bop 84.5, real with binary weights 20."""
    assert (
        "Mean test accuracy, n = 2 seeds: of 5 values the highest is 91.00 % (real, real),"
        " the lowest 20.00 % (real, binary)."
    ) == scores.scores_figure(results).summary


def test_curves(results):
    """Means of the last epoch, and the ends of all: 82 is bop's first with seed 1, 92 real's."""
    assert (
        "Validation accuracy after epoch 3, means, n = 2 seeds: of 3 values the highest is"
        " 91.00 % (real), the lowest 84.50 % (bop); all seeds and epochs go from 82.00 to 92.00 %."
    ) == accuracy.accuracy_figure(results).summary


def test_flips(results):
    """A share is 0.1 / epoch times 20 of 28 weights; all methods flip alike."""
    last, first = 0.1 / 3 * 20 / 28, 0.1 * 20 / 28

    said = flips.flips_figure(results).summary

    assert f"means, n = 2 seeds: all 3 values are {last:.3g};" in said
    assert said.endswith(f"go from {last:.3g} to {first:.3g}.")


def test_layers(results):
    """Of dense1 it is the mean of 0.1, 0.05 and 0.033; in dense2 nothing flips."""
    mean = np.mean([0.1, 0.05, 0.1 / 3])

    said = layers.layers_figure(results).summary

    assert f"of 6 values the highest is {mean:.3g} (dense1, real)" in said
    assert "the lowest 0 (dense2, real)." in said


def test_differences(results):
    """ste is 5 and 4 points below real, bop 6 and 7."""
    assert (
        "Mean test accuracy minus that of real, n = 2 seeds: of 2 values the highest is"
        " -4.50 points (ste), the lowest -6.50 points (bop)."
    ) == differences.differences_figure(results).summary


def test_times(results):
    """Epochs 2 and 3 of seeds 1 and 2 take real 2, 3, 4, 6 seconds, the others twice that."""
    said = times.times_figure(results).summary

    assert said.endswith("the highest is 7 s (ste), the lowest 3.5 s (real).")
    assert ratios.ratios_figure(results).summary.endswith("n = 2 seeds: all 2 values are 2.00.")
    assert "of 3 values the highest is" in shares.shares_figure(results).summary


def test_accuracy_and_time(results):
    """real trains for 6 and 12 seconds, the others for twice as long."""
    said = pareto.pareto_figure(results).summary

    assert "the highest is 91.00 % (real in 9 s), the lowest 84.50 % (bop in 18 s)." in said


def test_deployment(results, store):
    """The packed network takes 0.5 and 4 ms, bf16 0.25 ms, fp32 50 ms for a hundred."""
    keep(store, store.entries("s", method="ste")[0].run_id, DEPLOYED)

    assert (
        "Median milliseconds for a batch, n = 30 rounds: of 5 values the highest is 50 ms (ste,"
        " fp32, batch of 100), the lowest 0.25 ms (ste, bf16, batch of 1)."
    ) == deployment.deployment_figure(Results(store, "s")).summary


def test_tuning(store):
    """Of trials with 80, 90 and 85 % the best has 90; one alone is expected to have 85."""
    fill(store)
    for number, value in enumerate((80.0, 90.0, 85.0)):
        entry = enter(store, "ste", number, role=TUNE, values={"lr": 10.0**-number})
        store.start_run(entry.run_id, {"judged": "binary"}, {})
        measured = [Measurement("accuracy", value, 1, "validation", "binary")]
        store.write(entry.run_id, [*measured, Measurement("selected_epoch", 1, 1)])
        store.end_run(entry.run_id, DONE)
    results = Results(store, "s")

    assert history.history_figure(results).summary.endswith("completed trials: 90.00 % (ste).")
    assert bestof.bestof_figure(results).summary.endswith("n = 3 trials: 5.00 points (ste).")


def test_coverage(store):
    """Half of bop's runs are done."""
    fill(store, protocol={"seeds": 4})
    store.end_run(enter(store, "bop", 3).run_id, DIVERGED, error="nan")

    assert (
        "Share of the 12 confirming runs that are done, n = 4 in a cell: all 3 values are 50 %."
    ) == coverage.coverage_figure(Results(store, "s")).summary


def bundled():
    return command.figures(load_plugins())


def test_every_bundled_figure_has_one():
    """On a study that has nearly everything: a sentence with n and numbers, and the info."""
    results, seen = small_results(), []
    for name, draw in bundled():
        if (figure := draw(results)) is None:
            continue
        seen.append(name)
        assert figure.info is not None, name
        assert re.search(r"n = \d", figure.summary), name
        assert re.search(r": .*\d", figure.summary), name
        assert figure.summary.endswith("."), name
        assert not re.search(r"[a-z)]\. [A-Z]", figure.summary), name
    assert len(seen) > 10


def test_the_page_says_it_instead_of_the_title(results):
    """The text alternative of an image is the sentence; a name cannot inject markup."""
    hostile = '</script><b>&"'
    figure = Figure("Title", "It is explained.", Drawing(), summary=hostile)

    known = [("test-accuracy", scores.scores_figure), ("accuracy", accuracy.accuracy_figure)]
    html = page.build(results, [*known, ("o", lambda results: figure)])

    assert 'role="img" aria-label="Mean test accuracy, n = 2 seeds: of 5 values' in html
    assert 'role="img" aria-label="Validation accuracy after epoch 3, means' in html
    assert 'role="img" aria-label="&lt;/script&gt;&lt;b&gt;&amp;&#34;"' in html
    assert not re.search('role="img" aria-label="(?:Title|)"', html)


def test_without_one_the_drawing_is_told(results):
    """A stranger's figure has the ends of its axis that has numbers; names are read as plain text.

    Values that are missing count for nothing.
    """
    lines = Drawing(
        [Scatter(x=[1, 2], y=[0.5, None], name="a &lt; b"), Scatter(x=[1], y=[-3.0], name="c<br>d")]
    )
    lines.update_yaxes(title_text="loss<br>in nats")
    seed = Scatter(y=[1, 2], hovertemplate="ste, seed 3<br>epoch %{x}: %{y}")
    bars = Drawing(Bar(x=[2, 7], y=["one", "two"], name="bars", orientation="h"))

    assert drawn(lines) == (
        "loss in nats, 2 lines: of 2 values the highest is 0.5 (a < b), the lowest -3 (c d)."
    )
    assert (
        drawn(bars) == "values, 1 line: of 2 values the highest is 7 (bars), the lowest 2 (bars)."
    )
    assert "the highest is 2 (ste, seed 3)" in drawn(Drawing(seed))
    assert drawn(Drawing()) == "A figure without numbers."
    card = make_card("o", lambda results: Figure("Title", "It is explained.", bars), results)
    assert card.summary == drawn(bars)


def test_the_points_of_a_drawing():
    """Line by line, with all axes that there are."""
    drawing = Drawing([Scatter(x=[1, 2], y=[3, 4], name="a"), Heatmap(z=[[1, 2], [3, 4]])])

    line, cells = points(drawing)

    assert {"line": "a", "x": [1, 2], "y": [3, 4]} == line
    assert ("heatmap", [[1, 2], [3, 4]]) == (cells["line"], [list(row) for row in cells["z"]])


def test_ends_of_random_values():
    """The ends are those of numpy, wherever they stand; what is not finite is left out."""
    rng = np.random.default_rng(7)
    for size in (1, 2, 30):
        values = rng.normal(size=size)
        found = [Value(f"v{place}", float(value)) for place, value in enumerate(values)]
        said = summary(
            "X", [*found, Value("nan", float("nan")), Value("inf", float("inf"))], "n = 1"
        )

        assert f"{values.max():.2f} (v{values.argmax()})" in said
        assert f"{values.min():.2f} (v{values.argmin()})" in said
        assert (f"of {size} values" in said) == (size > 1)
