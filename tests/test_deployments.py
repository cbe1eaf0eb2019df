"""Networks as they would be deployed: kept beside their runs, and shown in the report."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace

import pytest

from bnnbench import deployments
from bnnbench.deployments import Refusal
from bnnbench.results import Results
from bnnbench.together import results_of
from bnnbench_reports import deployed
from bnnbench_reports.claims import claims_table
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
    """Sizes in KiB, milliseconds, and ratios of medians."""
    found = deployed.deployed(Results(kept, "s"))
    sizes, times = deployed.sizes_table(found), deployed.times_table(found)

    task = found[0].entry.task
    (row,) = sizes.rows
    assert row == (task, "ste", "1", "91.25", "0 of 10,000", "40.0", "2.0", "0.8", "20.0")
    assert times.columns[5:] == ["fp32", "fp32-best", "bf16", "int8"]
    assert times.rows == [
        [task, "ste", "1", "1", "0.500 (0.400 to 0.750)", "4.00\u00a0×", "–", "0.50\u00a0×", "–"],
        [task, "ste", "100", "1", "4.00 (3.00 to 5.00)", "12.50\u00a0×", "–", "–", "–"],
    ]


def test_operations_by_hand(kept):
    """700 of 1,000 products are 10.9 words: 310.9 operations are left, 3.2 times fewer."""
    found = deployed.deployed(Results(kept, "s"))
    ((entry, _),) = found
    table = deployed.operations_table(found)

    (row,) = table.rows
    assert len(row) == len(table.columns)
    assert row[2:] == ("1,000", "700", "70.0\u00a0%", "11", "200", "100", "3.2")
    assert DEPLOYED.fewer == pytest.approx(1000 / (700 / 64 + 200 + 100))
    other = replace(DEPLOYED, macs={"32/1": 30, "32/32": 4})
    (row,) = deployed.operations_table([deployed.Deployed(entry, other)]).rows
    assert row[2:] == ("34", "0", "0.0\u00a0%", "0", "0", "34", "1.0")
    assert replace(DEPLOYED, macs={"1/1": 128}).fewer == 64
    assert replace(DEPLOYED, macs={}).fewer == 1


def test_layers_by_hand(kept):
    """A line for each size of a batch; 1.5 ms are 6 times 0.25 ms, 0.75 ms 3 times."""
    table = deployed.layers_table(deployed.deployed(Results(kept, "s")))

    assert [row[2:] for row in table.rows] == [
        (
            "conv2", "convolution", "8×6×6 → 16×4×4, 3×3", "1W1A", "1", "0.250 (0.200 to 0.300)",
            "1.50 (1.25 to 2.00)", "6.00\u00a0×", "3.00\u00a0×",
        ),
        (
            "conv2", "convolution", "8×6×6 → 16×4×4, 3×3", "1W1A", "100", "2.00 (1.00 to 3.00)",
            "50.0 (40.0 to 60.0)", "25.00\u00a0×", "–",
        ),
    ]  # fmt: skip
    assert {len(table.columns)} == {len(row) for row in table.rows}


def metered(found, **joules):
    """A deployment whose ways took so many joules for an example, in batches of 1."""
    timings = [
        t._replace(joules=joules[t.way], joules_low=joules[t.way] / 2, joules_high=1.0)
        if t.way in joules and t.batch == 1
        else t
        for t in found.timings
    ]
    return replace(found, timings=tuple(timings))


def test_energy_by_hand(kept):
    """In millijoules, only of what was read, and of nothing where nothing was."""
    (each,) = deployed.deployed(Results(kept, "s"))
    found = each._replace(found=metered(DEPLOYED, packed=0.25, fp32=0.5))

    assert deployed.energy_table([each]).rows == []
    (row,) = deployed.energy_table([found]).rows
    assert row[2:] == ("1", "250 (125 to 1000)", "500 (250 to 1000)", "–", "–", "–")


def test_energy_comes_back(kept):
    """And what was kept before there were layers and energy is read as it was."""
    found = metered(DEPLOYED, packed=math.pi)
    assert found == deployments.of_text(deployments.as_text(found))

    old = json.loads(deployments.as_text(DEPLOYED))
    del old["layers"]
    old["timings"] = [timing[:5] for timing in old["timings"]]
    assert replace(DEPLOYED, layers=()) == deployments.of_text(json.dumps(old))


def test_the_page_says_whether_energy_was_read(kept):
    """A table, or one line."""
    page = build(Results(kept, "s"), [])
    assert "Energy: the counters of the machine cannot be read." in page
    assert "Millijoules" not in page

    (ste,) = {e.run_id for e in kept.entries("s", method="ste", number=1)}
    deployments.keep(kept, ste, metered(DEPLOYED, packed=0.25))
    page = build(Results(kept, "s"), [])
    assert "Energy: the counters" not in page
    assert "Millijoules for one example." in page
    assert "250 (125 to 1000)" in page


# claims


def claimed(found):
    """What was measured, by the number that is claimed."""
    rows = {row[0]: row for row in claims_table(found).rows}
    numbers = {number: row for row in rows.values() for number in re.findall(r"\b\d+\b", row[0])}
    return {number: row[3] for number, row in numbers.items()}


AGAINST = "against float32, PyTorch as it comes (1 thread, n = 30)"


def test_claims_by_hand(kept):
    """Each stands beside what is nearest to it, with its shape, baseline, threads and rounds."""
    found = deployed.deployed(Results(kept, "s"))

    assert claimed(found) == {
        "32": "t (a on d): 20.0\u00a0×, 1 network",
        "7": f"t (a on d): 4.0\u00a0× in batches of 1, 12.5\u00a0× in batches of 100, {AGAINST}",
        "23": "not measured in this study",
        "58": (
            "t (a on d), 8×6×6 → 16×4×4, 3×3: 6.0\u00a0× in batches of 1, 25.0\u00a0× in batches of"
            f" 100, {AGAINST}; t (a on d), all layers, counted: 3.2\u00a0× fewer operations"
        ),
    }


def test_claims_of_several_networks(kept):
    """From the least to the most of a task's methods; of a dense layer, the claim for products."""
    (each,) = deployed.deployed(Results(kept, "s"))
    (layer,) = DEPLOYED.layers
    slow = [t._replace(median=2 * t.median) if t.way == "packed" else t for t in layer.timings]
    other = replace(
        DEPLOYED,
        float32=DEPLOYED.float32 // 2,
        layers=(replace(layer, kind="dense", shape="9 → 5", timings=tuple(slow)),),
    )
    found = claimed([each, each._replace(found=other)])

    assert found["32"] == "t (a on d): 10.0 to 20.0\u00a0×, 2 networks"
    assert found["23"].startswith("t (a on d), 9 → 5: 3.0\u00a0× in batches of 1, 12.5\u00a0× in")
    assert "9 → 5" not in found["58"]


def test_claims_of_layers_of_several_shapes(kept):
    """Each shape has its numbers."""
    (each,) = deployed.deployed(Results(kept, "s"))
    (layer,) = DEPLOYED.layers
    slow = [t._replace(median=2 * t.median) if t.way == "packed" else t for t in layer.timings]
    other = replace(DEPLOYED, layers=(replace(layer, shape="9 → 5", timings=tuple(slow)),))

    found = claimed([each, each._replace(found=other)])

    assert "8×6×6 → 16×4×4, 3×3: 6.0\u00a0× in batches of 1," in found["58"]
    assert "9 → 5: 3.0\u00a0× in batches of 1," in found["58"]


def test_claims_that_nothing_stands_beside(kept):
    """Real inputs are no measure of XNOR and popcount, in a layer as in a network."""
    (each,) = deployed.deployed(Results(kept, "s"))
    (layer,) = DEPLOYED.layers
    real = replace(DEPLOYED, macs={"1/32": 9}, layers=(replace(layer, bits="1/32"),))

    found = claimed([each._replace(found=real)])
    nothing = "not measured in this study"
    assert (found["7"], found["23"], found["58"]) == (nothing, nothing, nothing)
    assert found["32"].startswith("t (a on d): 20.0")


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
    for said in (
        "58 times faster on the CPU",
        "3.2\u00a0× fewer operations",
        "8×6×6 → 16×4×4, 3×3",
    ):
        assert said in page


def test_the_data_have_them(kept):
    """By cell and seed, with all numbers."""
    known = collected(Results(kept, "s"))

    (found,) = known["deployments"]
    cell = known["cells"][found["cell"]]
    assert ("ste", 1) == (known["methods"][cell["method"]]["name"], found["seed"])
    way = {"way": "fp32", "batch": 1, "median": 2.0, "low": 1.5, "high": 3.0}
    unknown = dict.fromkeys(("joules", "joules_low", "joules_high"))
    assert way | unknown in found["timings"]
    (layer,) = found["layers"]
    assert ("conv2", 18_432) == (layer["name"], layer["macs"])
    assert layer["timings"][1] == way | unknown | {"median": 1.5, "low": 1.25, "high": 2.0}
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
