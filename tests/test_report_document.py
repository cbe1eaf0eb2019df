"""report.json has what the page shows: the figures' data, the verdict, every run as it was set."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import pytest
from plotly.graph_objects import Figure as Drawing
from plotly.graph_objects import Scatter

from bnnbench.catalogue import FORMER
from bnnbench.interfaces import Figure
from bnnbench.plugins import load_plugins
from bnnbench.results import Results
from bnnbench.runs import Part
from bnnbench.store import CONFIRM, DONE, FAILED, TUNE
from bnnbench_reports import command, document, infos, page
from bnnbench_reports.data import as_text
from bnnbench_reports.figures import layers, scores
from bnnbench_reports.infos import plain

from .small_study import enter, fill, record, study

FIGURES = [
    ("test-accuracy", scores.scores_figure),
    ("flips-by-layer", layers.layers_figure),
    ("points", lambda results: Figure("P", "Points.", Drawing(Scatter(x=[1], y=[0.123456789])))),
    ("bad", lambda results: 1 / 0),
    ("none", lambda results: None),
]


def documented(store, figures=FIGURES, plugins=None):
    """What report.json holds, read again."""
    results = Results(store, "s")
    whole = page.made(results, figures, plugins)
    return json.loads(as_text(document.document(results, whole)))


def test_a_figure_has_what_it_is_drawn_from(store):
    """By hand: two seeds of each of five lines, and 0.1 / epoch of the flips of dense1."""
    fill(store)

    accuracy, flips, drawn, bad = documented(store)["figures"]

    assert ("test-accuracy", None) == (accuracy["name"], accuracy["longest"])
    assert accuracy["summary"].startswith("Mean test accuracy, n = 2 seeds")
    first = {"task": "t", "method": "real", "mode": "real", "judged": True}
    assert first | {"by_seed": {"1": 90, "2": 92}} == accuracy["info"][0]
    assert 5 == len(accuracy["info"])
    assert ["dense1.weight", "dense2.weight"] == flips["info"][0]["layers"]
    assert [[0.1, 0.05, 0.033333], [0, 0, 0]] == flips["info"][0]["values"]
    assert [{"line": "scatter", "x": [1], "y": [0.12346]}] == drawn["info"]
    assert {"name", "title", "error"} == set(bad)
    assert "ZeroDivisionError" in bad["error"]


def test_data_that_fail_are_said(store):
    """A stranger's data that cannot be told cost themselves alone; odd things are told as text."""
    fill(store)
    drawing = Drawing(Scatter(x=[1], y=[2]))

    class Broken(dict):
        def items(self):
            raise RuntimeError("no items")

    odd = Figure("O", "Odd.", drawing, info={"a": {1, 2}, "b": 2 + 1j})
    broken = Figure("B", "Broken.", drawing, info=Broken(a=1))

    found = documented(store, [("odd", lambda r: odd), ("broken", lambda r: broken)])["figures"]

    assert {"a": "{1, 2}", "b": "(2+1j)"} == found[0]["info"]
    assert ("RuntimeError: no items", False) == (found[1]["error"], "info" in found[1])


def test_every_bundled_figure_is_there(store):
    """Those that the page shows, in its order, each with its data."""
    fill(store)
    results = Results(store, "s")
    whole = page.made(results, command.figures(load_plugins()))

    figures = document.document(results, whole)["figures"]

    assert [card.name for card in whole.cards] == [each["name"] for each in figures]
    assert len(figures) >= 10
    assert all(each["info"] and each["summary"] for each in figures)


def test_every_run_with_its_configuration(store):
    """Runs that differ in their seed alone share a configuration; trials and failures are there."""
    fill(store)
    trial = enter(store, "ste", 0, role=TUNE, values={"lr": 0.5})
    store.end_run(trial.run_id, FAILED, error="Traceback\n\nValueError: no")
    enter(store, "ste", 0, role=f"{FORMER}{CONFIRM}")

    found = documented(store, [])
    ste = [run for run in found["runs"] if run["method"] == "ste"]
    configurations = [found["configurations"][run["configuration"]] for run in ste]

    assert [1, 2, 0] == [run["seed"] for run in ste]
    assert configurations[0] == configurations[1]
    assert [0.1, 0.1, 0.5] == [each["method"]["hyperparameters"]["lr"] for each in configurations]
    assert ("tune", "failed") == (ste[2]["role"], ste[2]["state"])
    assert [e.run.key for e in store.entries("s", method="ste")][:3] == [r["key"] for r in ste]
    assert {"seed", "start_from", "teacher"}.isdisjoint(configurations[0])
    assert 4 == len(found["configurations"])
    assert {run["environment"] for run in ste if run["state"] == DONE} <= set(found["environments"])


def test_runs_beyond_the_limit_are_counted(store, monkeypatch):
    """The first stand, the others are a number."""
    fill(store)
    monkeypatch.setattr(document, "RUNS", 4)

    found = documented(store, [])

    assert (4, 2) == (len(found["runs"]), found["runs_left_out"])


def test_a_number_that_json_lacks(store):
    """An infinite hyperparameter is told as text, for JSON has none."""
    store.create_study("s", study(), "", "0")
    entry = enter(store, "ste", 1)
    run = replace(entry.run, method=Part("ste", {"tau": math.inf}), seed=2)
    store.enter("s", "t", "ste", CONFIRM, 2, run)

    (_, other) = documented(store, [])["configurations"]

    assert "Infinity" == other["method"]["hyperparameters"]["tau"]


def test_what_else_is_on_the_page(store):
    """The verdict, the checksums of the data, what to cite, the study file, and how to go on."""
    fill(store, protocol={"seeds": 3})
    record(store, "ste", 3, {"binary": 90.0}, facts={"splits": {"test": "abc"}})

    found = documented(store, [], load_plugins())
    told = page.facts(Results(store, "s"))

    assert told["verdict"] == found["verdict"]
    assert told["file"] == found["repeat"]["file"]
    assert told["commands"] == found["repeat"]["commands"]
    (split,) = found["repeat"]["splits"]
    assert ("test", "abc") == (split["split"], split["SHA-256"])
    cited = {each["component"] for each in found["repeat"]["citations"]}
    assert {"study", "probe flips"} <= cited


def test_the_data_of_the_page_are_part_of_it(store):
    """What the page's controls compute with is there, under the same keys."""
    fill(store)
    results = Results(store, "s")
    whole = page.made(results, [])

    found = document.document(results, whole)

    assert whole.known == {key: found[key] for key in whole.known}


def test_the_same_twice(store):
    """Byte for byte, read anew."""
    fill(store)
    one, other = (as_text(documented(store, plugins=load_plugins())) for _ in range(2))

    assert one == other


class Pair(NamedTuple):
    name: str
    values: np.ndarray


@dataclass
class Odd:
    by_place: dict
    nothing: None = None


def test_plain_values():
    """Named tuples and dataclasses by their fields; five digits; what is not finite is null."""
    given = [
        Pair("a", np.array([1.0, math.nan, 1 / 3])),
        Odd({("t", "ste"): np.float64(123456.789), 3: np.int64(4)}),
        (True, "x", math.inf, 1e-12, 99999.6),
    ]

    assert [
        {"name": "a", "values": [1, None, 0.33333]},
        {"by_place": {"t, ste": 123460.0, "3": 4}, "nothing": None},
        [True, "x", None, 1e-12, 100000.0],
    ] == plain(given).value


@pytest.mark.parametrize("most", [10, 60, 300, 5000])
def test_lists_that_belong_together_stay_together(most):
    """Of random tables there are at most so many numbers, and each is in its place."""
    rng = np.random.default_rng(most)
    epochs, layers = np.arange(200) * 3, [f"l{number}" for number in range(12)]
    values = np.add.outer(1000 * np.arange(12), epochs)
    by_seed = {seed: float(seed) for seed in rng.permutation(50).tolist()}
    given = {"epochs": epochs, "layers": layers, "values": values, "by_seed": by_seed}

    found, longest = plain(given, most)

    counts = len(found["epochs"]) + len(found["layers"]) + len(found["by_seed"])
    total = counts + len(found["epochs"]) * len(found["layers"])
    assert total <= max(most, 2 + 2 + 4 + 2)
    assert (longest is None) == (most == 5000)
    rows = [int(layer[1:]) for layer in found["layers"]]
    assert [[1000 * row + epoch for epoch in found["epochs"]] for row in rows] == found["values"]
    assert (0, 597) == (found["epochs"][0], found["epochs"][-1])
    assert ("l0", "l11") == (found["layers"][0], found["layers"][-1])
    assert all(float(seed) == value for seed, value in found["by_seed"].items())


def test_records_are_not_thinned():
    """A list of objects is whole however long it is, and so are an object's fields."""
    given = [Pair(str(number), np.arange(40)) for number in range(30)]

    found, longest = plain(given, 200)

    assert [str(number) for number in range(30)] == [each["name"] for each in found]
    assert {longest} == {len(each["values"]) for each in found}
    assert infos.FEWEST <= longest < 40
