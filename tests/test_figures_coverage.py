"""The map of what is done, and what holds of every figure of the report."""

from __future__ import annotations

import importlib
import itertools
import re

import pytest

from bnnbench import deployments
from bnnbench.measurements import Measurement
from bnnbench.results import Results
from bnnbench.store import DIVERGED, DONE, FAILED, PRUNED, TUNE, Store
from bnnbench_reports import register_figures
from bnnbench_reports.figures import coverage
from bnnbench_reports.tables import coverage_table

from .small_study import DEPLOYED, ROLES, enter, fill, record, study

QUANTILES = [f"{kind}_q{q:02}" for kind in ("angle", "angle_apart") for q in (5, 25, 50, 75, 95)]
HOSTILE = "</script><b>x</b>"
FIGURES: dict[str, str] = {}
register_figures(lambda name, reference: FIGURES.setdefault(name, reference))


def draw(name, results):
    module, function = FIGURES[name].split(":")
    return getattr(importlib.import_module(module), function)(results)


def lose(store, method, number, state, error="", **place):
    entry = enter(store, method, number, **place)
    store.start_run(entry.run_id, {"judged": "binary"}, {})
    store.end_run(entry.run_id, state, error=error)


@pytest.fixture
def results(store):
    """Of "ste" one run is done, one failed, one diverged, one is missing; of "bop" none began."""
    store.create_study("s", study(protocol={"seeds": 4}), "", "0")
    for seed in range(1, 5):
        record(store, "real", seed, {"real": 90.0}, judged="real")
    record(store, "ste", 1, {"binary": 80.0})
    lose(store, "ste", 2, FAILED, f"ValueError: {HOSTILE}")
    lose(store, "ste", 3, DIVERGED)
    lose(store, "ste", 0, PRUNED, role=TUNE)
    return Results(store, "s")


def test_cells_count_as_the_table_does(results):
    """Done, failed, diverged and missing add up to what was asked for."""
    real, ste, bop = coverage.info(results)

    assert (4, 4, 0, 0, 0, {}, ()) == real[2:]
    assert (4, 1, 1, 1, 1, {"pruned": 1}) == ste[2:8]
    assert (4, 0, 0, 0, 4) == bop[2:7]
    for each, row in zip((real, ste, bop), coverage_table(results).rows, strict=True):
        counts = [each.asked, each.done, each.failed, each.diverged, each.missing]
        assert list(map(str, counts)) == list(row[2:7])


def test_the_map_is_drawn_with_reasons_on_hover(results):
    """Methods by tasks; the share that is done decides the colour, and reasons are no markup."""
    figure = coverage.coverage_figure(results)

    (drawn,) = figure.drawing.data
    assert [[1.0], [0.25], [0.0]] == [list(row) for row in drawn.z]
    assert (["t"], ["real", "ste", "bop"]) == (list(drawn.x), list(drawn.y))
    said = "1 of 4<br>1 failed, 1 diverged, 1 missing<br>trials: 1 pruned"
    assert said == drawn.text[1][0]
    assert "&lt;/script&gt;" in drawn.customdata[1][0]
    assert "<b>" not in drawn.customdata[1][0]
    assert "t: bop<br>4 not finished" == drawn.customdata[2][0]
    assert "Runs that are done (n = 4 asked for in a cell)" == figure.title


def test_where_all_is_done_there_is_no_map(store):
    """Trials that were pruned are what was asked for; one that failed is not."""
    fill(store)
    lose(store, "ste", 0, PRUNED, role=TUNE)

    assert coverage.coverage_figure(Results(store, "s")) is None
    lose(store, "ste", 1, FAILED, role=TUNE)
    assert coverage.coverage_figure(Results(store, "s")) is not None


@pytest.fixture(scope="module")
def rich(tmp_path_factory):
    """A study with all that a figure may want: tasks, trials, probes, and names that are markup."""
    store = Store(str(tmp_path_factory.mktemp("rich") / "bnnbench.db"))
    task = {"dataset": "digits", "architecture": "mlp", "epochs": 3}
    tasks = [task | {"name": name} for name in "tuv"]
    values = study(protocol={"seeds": 2}).model_dump() | {"tasks": tasks}
    store.create_study("s", type(study()).model_validate(values), "", "0")
    facts = {"examples": {"train": 1000}, "roles": [ROLES[0] | {"parameter": HOSTILE}]}
    for name, (place, method) in itertools.product("tuv", enumerate(("real", "ste", "bop"))):
        test = {"binary": 90.0 - place, "relaxed": 50.0}
        record(store, method, 1, test, facts=facts, task=name)
        entry = store.entries("s", method=method, number=1, task=name)[0]
        store.write(entry.run_id, list(probed()))
        deployments.keep(store, entry.run_id, DEPLOYED)
    for number in range(9):
        what = {"lr": 0.1**number, HOSTILE: "ab"[number % 2] + HOSTILE, "<i>": number}
        try_out(store, number, what)
    yield store
    store.engine.dispose()


def try_out(store, number, values):
    entry = enter(store, "ste", number, role=TUNE, values=values)
    store.start_run(entry.run_id, {"judged": "binary"}, {})
    accuracy = Measurement("accuracy", 50.0 + number, 2, "validation", "binary")
    store.write(entry.run_id, [accuracy, Measurement("selected_epoch", 2, 3)])
    store.end_run(entry.run_id, FAILED if number == 3 else DONE, error=HOSTILE)


def probed():
    """What probes measure of one layer, and modes that a figure wants."""
    layer = HOSTILE
    for epoch in (1, 2, 3):
        yield Measurement("accuracy", 50.0, epoch, "validation", "relaxed")
        for metric in ("flip_init", "flip_epoch", "pi"):
            yield Measurement(metric, 0.25, epoch)
    yield Measurement("latent_bin_03", 1.0, 3, layer=layer)
    yield Measurement("latent_saturated", 0.0, 3, layer=layer)
    for epoch, metric in itertools.product((1, 3), ("latent_distance", *QUANTILES)):
        yield Measurement(metric, 30.0, epoch, layer=layer)
    for metric in ("angle_mean", "angle_sd", "fan_in"):
        yield Measurement(metric, 30.0, 3, layer=layer)
    yield Measurement("fan_in", 30.0, 1, layer=layer)
    for metric in ("dot_r", "dot_cell_01_02"):
        yield Measurement(metric, 1.0, 3, "validation", layer=layer)
    for metric in ("accuracy_top5", "mean_iou"):
        yield Measurement(metric, 60.0, 3, "test", "binary")


UNITS = ("%", "degrees", "seconds", "epoch", "bounds", "sd", "no unit", "points of percent", "÷")
UNITS += (
    "share of",
    "number of",
    "weights of",
    "per weight",
    "per step",
    "mean rank",
    "layer",
    "task",
)


def axes_of(drawing):
    """The titles of the axes along which a drawing shows something, as ("x", title).

    Panels one above the other share the title of one of them. An axis without ticks, or one that
    has names where others have numbers, needs none.
    """
    layout = drawing.layout
    for trace in drawing.data:
        for kind in "xy":
            axis = layout[f"{kind}axis{(trace[f'{kind}axis'] or kind)[1:]}"]
            values = [v for v in (() if trace[kind] is None else trace[kind]) if v is not None]
            named = kind == "y" and any(isinstance(value, str) for value in values)
            if not values or named or axis.ticktext or axis.showticklabels is False:
                continue
            others = [layout[name] for name in layout if name.startswith(f"{kind}axis")]
            column = [axis, *(each for each in others if kind == "y" or each.domain == axis.domain)]
            yield kind, next((each.title.text for each in column if each.title.text), "")


def texts(value):
    """All texts of a drawing."""
    if isinstance(value, dict):
        return [text for each in value.values() for text in texts(each)]
    if isinstance(value, list | tuple):
        return [text for each in value for text in texts(each)]
    return [value] if isinstance(value, str) else []


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_says_what_it_is(rich, name):
    """Each has n of something in its title, an explanation in sentences, and is the same twice."""
    figure = draw(name, Results(rich, "s"))

    assert re.search(r"\(n = \d+( to \d+)? [a-z]", figure.title)
    assert len(figure.explanation.split()) > 12
    assert figure.summary
    assert figure.info is not None
    assert figure.explanation.endswith(".")
    assert "  " not in figure.explanation
    assert figure.drawing.to_json() == draw(name, Results(rich, "s")).drawing.to_json()


@pytest.mark.parametrize("name", FIGURES)
def test_every_axis_of_numbers_has_its_unit(rich, name):
    """The title of the axis names it, whichever figure; names of things need none."""
    figure = draw(name, Results(rich, "s"))
    found = set(axes_of(figure.drawing))

    assert found
    for kind, title in found:
        if (name, kind) == ("tuning-slices", "x"):  # hyperparameters, named above their panels
            assert {"lr", "&lt;i&gt;"} <= {a.text for a in figure.drawing.layout.annotations}
        else:
            assert any(unit in title for unit in UNITS), (kind, title)


@pytest.mark.parametrize("name", FIGURES)
def test_no_name_becomes_markup(rich, name):
    """plotly reads a little HTML in every text; layers, hyperparameters and errors bring none."""
    drawing = draw(name, Results(rich, "s")).drawing.to_plotly_json()

    for text in texts(drawing["data"]) + texts(drawing["layout"]):
        assert "<b>" not in text
        assert "</script" not in text
        assert "<i>" not in text


def test_no_figure_of_nothing(store):
    """A study of which no run has ended has no figure but that of what is missing."""
    store.create_study("s", study(), "", "0")

    assert ["coverage"] == [name for name in FIGURES if draw(name, Results(store, "s"))]
