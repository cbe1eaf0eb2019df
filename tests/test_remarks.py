"""What sets the data apart, and another metric than accuracy, wherever results stand."""

from __future__ import annotations

import json
import re

import pytest

from bnnbench.cli.tables import print_results
from bnnbench.measurements import Measurement
from bnnbench.results import Results
from bnnbench_reports.figures.accuracy import accuracy_figure
from bnnbench_reports.figures.scores import info, mean_iou_figure, scores_figure, top5_figure
from bnnbench_reports.page import build
from bnnbench_reports.tables import results_table
from bnnbench_reports.verdict import verdict

from .small_study import EPOCHS, fill, record, study

REMARK = "9 of 10 <b>images</b>"
PIXELS = {"task": "segmentation", "synthetic": True, "remark": REMARK}


@pytest.fixture
def pixels(store):
    """A segmentation of synthetic data, with IoUs of 40 and 60, and 70 %."""
    store.create_study("s", study(), "", "0")
    for method, seed, iou in (("ste", 1, 40.0), ("ste", 2, 60.0), ("bop", 1, 70.0)):
        record(store, method, seed, {"binary": 80.0}, facts=PIXELS)
        entry = store.entries("s", method=method)[-1]
        store.write(entry.run_id, [Measurement("mean_iou", iou, EPOCHS, "test", "binary")])
    return Results(store, "s")


def figures():
    return [("test", scores_figure), ("iou", mean_iou_figure), ("curves", accuracy_figure)]


def test_segmentation_has_its_own_columns(pixels):
    """Pixel accuracy and mean IoU stand where accuracy stands else, the IoU by its seeds."""
    table = results_table(pixels.rows(), "")

    place = list(table.columns).index("test mean IoU, %")
    assert ["–", "50.00 ± 14.14", "70.00"] == [row[place] for row in table.rows]
    assert table.columns[place - 1] == "test pixel accuracy, %"
    assert "validation pixel accuracy, %" in table.columns
    assert all(table.columns[n] != "published, %" for n in table.numeric)


def test_classification_has_no_such_columns(store):
    """Without another metric there is no column and no figure for it."""
    fill(store)
    results = Results(store, "s")

    columns = results_table(results.rows(), "").columns

    assert "test accuracy, %" in columns
    assert not [column for column in columns if "IoU" in column or "top-5" in column]
    assert (None, None) == (mean_iou_figure(results), top5_figure(results))


def test_figures_of_another_metric(pixels):
    """The IoU has a figure of its own, and the accuracy is called what it is."""
    assert [{1: 40.0, 2: 60.0}, {1: 70.0}] == [each.by_seed for each in info(pixels, "mean_iou")]
    assert "Test mean IoU (n = 1 to 2 seeds)" == mean_iou_figure(pixels).title
    assert "Test pixel accuracy (n = 1 to 2 seeds)" == scores_figure(pixels).title
    assert "Validation pixel accuracy per epoch (n = 1 to 2 seeds)" == accuracy_figure(pixels).title


def test_top5(store):
    """Top-5 accuracy has its column and its figure."""
    fill(store)
    for entry in store.entries("s", method="bop"):
        store.write(entry.run_id, [Measurement("accuracy_top5", 95.0, EPOCHS, "test", "binary")])
    results = Results(store, "s")

    table = results_table(results.rows(), "")

    place = list(table.columns).index("test top-5 accuracy, %")
    assert "95.00 ± 0.00" == table.rows[-1][place]
    assert "Test top-5 accuracy (n = 2 seeds)" == top5_figure(results).title


def test_every_table_and_figure_says_so(pixels):
    """Every table with a task and every drawing bear the note, and it cannot inject markup."""
    page = build(pixels, figures())

    drawings = re.findall(r'<script type="application/json" id="spec-[^>]*>(.*?)</script>', page)
    assert len(figures()) == len(drawings)
    for drawing in drawings:
        texts = [a["text"] for a in json.loads(drawing)["layout"]["annotations"]]
        assert "t: synthetic data, 9 of 10 &lt;b&gt;images&lt;/b&gt;" in texts
    tables = [t for t in re.findall(r"<table>.*?</table>", page, re.DOTALL) if ">task<" in t]
    filled = [table for table in tables if "<td" in table]
    assert len(filled) >= 5
    for table in filled:
        rows = table.count("<tr") - 1
        assert rows == table.count("t (synthetic data, 9 of 10 &lt;b&gt;images&lt;/b&gt;)")
    assert "<b>images" not in page


def test_the_verdict_says_so(store):
    """Data that lack images are named once, for all their tasks."""
    store.create_study("s", study(), "", "0")
    record(store, "ste", 1, {"binary": 80.0}, facts={"remark": REMARK})
    results = Results(store, "s")

    said = verdict(results, results.rows())

    assert f"The data of t are not quite the published ones: {REMARK}." in said


def test_the_terminal_says_so(pixels, capsys):
    """The table in the terminal has the note in its title, and the metrics of the task."""
    print_results(pixels)

    out = " ".join(capsys.readouterr().out.split())
    assert f"s: t (synthetic data, {REMARK})" in out
    assert "test pixel accuracy % test mean IoU %" in out
    assert "50.00 ± 14.14" in out


def test_published_data_need_no_note(store):
    """Nothing is added where the data are as published."""
    fill(store)
    results = Results(store, "s")

    assert {} == results.notes
    assert "synthetic" not in build(results, figures())


@pytest.mark.parametrize("changed", [None, "train", "test"])
def test_runs_on_different_images_are_said(store, changed):
    """Where one run saw another split than the others, the table's note says so."""
    store.create_study("s", study(), "", "0")
    usual = {"train": "a", "validation": "b", "test": "c"}
    for seed in (1, 2):
        other = {changed: "z"} if changed and seed == 2 else {}
        record(store, "ste", seed, {"binary": 80.0}, facts={"splits": usual | other})

    said = "runs on different images" in " ".join(Results(store, "s").notes.values())

    assert said == bool(changed)
