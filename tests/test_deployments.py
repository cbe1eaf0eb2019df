"""Networks as they would be deployed: kept beside their runs, and shown in the report."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest

from bnnbench import deployments
from bnnbench.deployments import Refusal
from bnnbench.results import Results
from bnnbench.together import results_of
from bnnbench_reports import deployed
from bnnbench_reports.data import collected
from bnnbench_reports.figures import deployment
from bnnbench_reports.page import build

from .small_study import DEPLOYED, record, study


@pytest.fixture
def kept(store):
    """A study of three methods, of which one was packed, one refused, and one not tried."""
    store.create_study("s", study(protocol={"seeds": 2}), "", "0")
    runs = {}
    for method in ("real", "ste", "bop"):
        for seed in (1, 2):
            record(store, method, seed, {"binary": 80.0})
    for entry in store.entries("s"):
        runs.setdefault(entry.method, entry.run_id)
    deployments.keep(store, runs["ste"], DEPLOYED)
    deployments.keep(store, runs["bop"], Refusal("its <i>weights</i> have three values"))
    return store


def test_what_is_kept_comes_back(kept):
    """By run, exactly; what is measured again takes the place of what was."""
    (ste,) = {e.run_id for e in kept.entries("s", method="ste", number=1)}
    assert DEPLOYED == deployments.kept(kept, "s")[ste]

    again = replace(DEPLOYED, accuracy=math.nextafter(DEPLOYED.accuracy, 0), foreign=None)
    deployments.keep(kept, ste, again)

    found = deployments.kept(kept, "s")
    assert again == found[ste]
    assert 2 == len(found)


def test_a_deleted_study_takes_them_along(kept):
    """Nothing of its runs is left."""
    kept.delete_study("s")

    with kept.begin() as connection:
        left = connection.exec_driver_sql("SELECT count(*) FROM bnnbench_deployments").scalar()
    assert left == 0


def test_of_several_studies(kept):
    """Each study's runs have theirs, also where two studies share a run."""
    kept.create_study("other", study(protocol={"seeds": 2}), "", "0")
    results = results_of(kept, ("s", "other"))

    assert [DEPLOYED] == [each.found for each in deployed.deployed(results)]


def test_numbers_by_hand():
    """40 KiB in 2 KiB are 20 times smaller; 2.0 ms are 4 times 0.5 ms, 0.25 ms half of it."""
    assert DEPLOYED.compression == 20.0
    assert 4.0 == DEPLOYED.speedup("fp32", 1)
    assert 0.5 == DEPLOYED.speedup("bf16", 1)
    assert 12.5 == DEPLOYED.speedup("fp32", 100)
    assert DEPLOYED.speedup("int8", 1) is None
    assert DEPLOYED.speedup("bf16", 100) is None


def test_throughput_by_hand():
    """0.5 ms for each image are 2,000 images a second; 4 ms for 100 of them are 25,000."""
    assert DEPLOYED.timing("packed", 1).throughput == 2_000
    assert DEPLOYED.timing("packed", 100).throughput == 25_000
    assert DEPLOYED.timing("fp32", 1).throughput == 500


def test_tables_by_hand(kept):
    """Sizes in KiB, shares of the MACs, milliseconds, and ratios of medians."""
    found = deployed.deployed(Results(kept, "s"))
    sizes, times = deployed.sizes_table(found), deployed.times_table(found)

    task = found[0].entry.task
    (row,) = sizes.rows
    assert row == (
        task, "ste", "1", "91.25", "0 of 10,000", "40.0", "2.0", "0.8", "20.0",
        "90.0\u00a0%", "70.0\u00a0%",
    )  # fmt: skip
    assert times.columns[5:] == ["fp32", "fp32-best", "bf16", "int8"]
    assert times.rows == [
        [task, "ste", "1", "1", "0.500 (0.400 to 0.750)", "4.00\u00a0×", "–", "0.50\u00a0×", "–"],
        [task, "ste", "100", "1", "4.00 (3.00 to 5.00)", "12.50\u00a0×", "–", "–", "–"],
    ]


def test_the_page_has_them(kept):
    """Tables, figure, conditions and the reason of the one that is not packed, all escaped."""
    page = build(Results(kept, "s"), [("deployment", deployment.deployment_figure)])

    assert "Not packed: bop on t: its &lt;i&gt;weights&lt;/i&gt; have three values." in page
    assert (
        "Abacus &lt;b&gt;, 2 cores, torch 2.13.0: 1 thread, n = 30 rounds, others used up to 2%"
        in page
    )
    assert "Abacus <b>" not in page
    assert "Time to answer, packed and otherwise" in page


def test_the_data_have_them(kept):
    """By cell and seed, with all numbers."""
    known = collected(Results(kept, "s"))

    (found,) = known["deployments"]
    cell = known["cells"][found["cell"]]
    assert ("ste", 1) == (known["methods"][cell["method"]]["name"], found["seed"])
    assert {"way": "fp32", "batch": 1, "median": 2.0, "low": 1.5, "high": 3.0} in found["timings"]
    assert (40 * 1024, 91.25, 10_000) == (found["float32"], found["accuracy"], found["examples"])
    json.dumps(found, allow_nan=False)


def test_without_them_there_is_no_section(store):
    """Nothing is said of what was not measured."""
    store.create_study("s", study(), "", "0")
    record(store, "real", 1, {"real": 80.0}, judged="real")
    results = Results(store, "s")

    assert deployment.deployment_figure(results) is None
    assert 'id="deployment"' not in build(results, [])


def test_the_figure_has_medians_and_quartiles(kept):
    """A trace for each way, in a panel for each size of a batch; a way without times has none."""
    drawing = deployment.deployment_figure(Results(kept, "s")).drawing

    drawn = {(t.name, t.yaxis): t for t in drawing.data if len(t.x)}
    assert {("packed", "y"), ("fp32", "y"), ("bf16", "y"), ("packed", "y2"), ("fp32", "y2")} == set(
        drawn
    )
    packed = drawn["packed", "y"]
    assert ([0.5], [0.25]) == (list(packed.x), list(packed.error_x.array))
    assert [0.1] == pytest.approx(packed.error_x.arrayminus)
    assert ["batch of 1", "batch of 100"] == [a.text for a in drawing.layout.annotations]
