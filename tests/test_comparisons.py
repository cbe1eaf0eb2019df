"""What a study's results say, against values made by hand, and where it is shown."""

from __future__ import annotations

import io
import math
import re
import statistics

import numpy as np
import pytest
from rich.console import Console
from scipy import stats

from bnnbench.cli import comparisons as terminal
from bnnbench.cli.tables import print_results
from bnnbench.comparisons import Budget, Comparisons, _letter
from bnnbench.measurements import Measurement
from bnnbench.results import Results
from bnnbench.statistics.intervals import interval
from bnnbench.statistics.paired import Cannot, compare
from bnnbench.statistics.ranks import Refusal
from bnnbench.store import DIVERGED, DONE, FAILED, PRUNED, TUNE
from bnnbench.studyfile import parse_study
from bnnbench_reports.page import build

from .small_study import EPOCHS, enter, fill, record

METHODS = ("real", "ste", "bop", "bmd")


def study(tasks=("t",), methods=METHODS, **changes):
    """A study of some tasks and methods; "real" is the reference."""
    task = {"dataset": "digits", "architecture": "mlp", "epochs": EPOCHS}
    values = {
        "tasks": [task | {"name": name} for name in tasks],
        "protocol": {"seeds": 3},
        "methods": [{"method": method} for method in methods],
    }
    return parse_study(values | changes, "comparisons")


def finish(store, task, method, scores, **place):
    """Finished runs of the seeds from 1, judged with real weights if the method is "real"."""
    judged = "real" if method == "real" else "binary"
    for seed, score in enumerate(scores, start=1):
        record(store, method, seed, {judged: score}, judged=judged, task=task, **place)


def lose(store, task, method, seed, state, **place):
    """A run that ended badly, after four seconds."""
    entry = enter(store, method, seed, task=task, **place)
    store.start_run(entry.run_id, {}, {})
    store.end_run(entry.run_id, state, error="no")


def compared(store, **changes):
    return Comparisons(Results(store, "s"))


def test_cells(store):
    """Mean, deviation, n and interval of each mode; bad ends are counted and in no mean."""
    store.create_study("s", study(protocol={"seeds": 6}), "", "0")
    for seed, score in enumerate((85.0, 86.0, 89.0), start=1):
        record(store, "ste", seed, {"binary": score, "real": score / 2})
    lose(store, "t", "ste", 4, FAILED)
    lose(store, "t", "ste", 5, DIVERGED)

    cells = compared(store).cells
    binary, real = cells["t", "ste", "binary"], cells["t", "ste", "real"]

    assert (6, 3, 1, 1) == (binary.asked, binary.done, binary.failed, binary.diverged)
    expected = (statistics.fmean([85, 86, 89]), statistics.stdev([85, 86, 89]), 3)
    assert expected == pytest.approx(tuple(binary.test))
    assert interval([85.0, 86.0, 89.0]) == binary.interval
    assert interval([42.5, 43.0, 44.5]) == real.interval
    assert (True, False) == (binary.judged, real.judged)
    missing = cells["t", "bop", ""]
    assert (None, None, 0) == (missing.test, missing.interval, missing.done)


def test_an_interval_of_percentages_ends_at_100(store):
    """The mean of a few accuracies that lie far apart is at most 100 %, and so is its interval."""
    store.create_study("s", study(), "", "0")
    for seed, score in enumerate((80.0, 95.0, 99.0), start=1):
        record(store, "ste", seed, {"binary": score})

    found = compared(store).cells["t", "ste", "binary"].interval

    plain = interval([80.0, 95.0, 99.0])
    assert plain.high > 100
    assert (plain.low, 100) == found


def test_what_tuning_took(store, monkeypatch):
    """Every trial that ended counts, however it ended, with its seconds; one that runs does not."""
    store.create_study("s", study(protocol={"seeds": 1, "trials": 5}), "", "0")
    now = [100.0]
    monkeypatch.setattr("time.time", lambda: now[0])
    for number, state in enumerate((DONE, PRUNED, PRUNED, FAILED, DIVERGED, "running")):
        entry = enter(store, "ste", number, role=TUNE, values={"lr": 0.1 * number})
        store.start_run(entry.run_id, {}, {})
        now[0] += 2 + number
        if state != "running":
            store.end_run(entry.run_id, state)

    cells = compared(store).cells

    assert Budget(5, 2, 1, 1, 20.0) == cells["t", "ste", ""].tuning
    assert Budget(0, 0, 0, 0, 0) == cells["t", "bop", ""].tuning
    assert "5 trials (2 pruned, 1 failed, 1 diverged), 20 s" == terminal.budget(
        cells["t", "ste", ""].tuning
    )


def test_differences_are_of_common_seeds_and_one_family(store):
    """Pairs have one seed; p is corrected over both tasks; who has no pair is said."""
    random = np.random.default_rng(0)
    store.create_study("s", study(("t", "u"), protocol={"seeds": 9}), "", "0")
    scores = {(task, m): random.normal(90, 1, 9).tolist() for task in "tu" for m in METHODS[:3]}
    scores["u", "bop"] = [score + 10 for score in scores["u", "bop"]]
    seeds = dict.fromkeys(scores, 9) | {("t", "ste"): 7, ("u", "ste"): 7, ("t", "real"): 8}
    for (task, method), values in scores.items():
        finish(store, task, method, values[: seeds[task, method]])

    found = compared(store).differences

    assert [(task, method) for task in "tu" for method in METHODS[1:]] == [
        (each.task, each.method) for each in found
    ]
    pairs = {
        (task, method): [
            scores[task, method][k] - scores[task, "real"][k]
            for k in range(min(seeds[task, method], seeds[task, "real"]))
        ]
        for task in "tu"
        for method in ("ste", "bop")
    }
    expected = dict(zip(pairs, compare(list(pairs.values())), strict=True))
    assert [expected.get((each.task, each.method)) for each in found] == [e.paired for e in found]
    assert [7, 8, 7, 9] == [each.paired.n for each in found if each.paired]
    clear = found[4].paired
    assert 4 * stats.wilcoxon(pairs["u", "bop"], method="exact").pvalue == pytest.approx(clear.p)
    assert {"real"} == {each.reference for each in found}


def test_no_reference_no_differences(store):
    """Where no method is the reference there is nothing to compare with."""
    store.create_study("s", study(methods=("ste", "bop")), "", "0")
    finish(store, "t", "ste", [80.0, 81.0, 82.0])
    found = compared(store)

    assert [] == found.differences
    assert {} == found.arrivals
    assert not terminal.read_curves(found)
    assert '<section id="comparisons"' not in build(Results(store, "s"), [])


def test_three_seeds_cannot(store, capsys):
    """With n = 3 there is no p, in the terminal and in the report."""
    store.create_study("s", study(), "", "0")
    finish(store, "t", "real", [90.0, 91.0, 92.0])
    finish(store, "t", "ste", [88.0, 89.5, 91.0])

    (ste, bop, _) = compared(store).differences
    print_results(Results(store, "s"))

    assert Cannot(3, 0) == ste.paired.p
    assert None is bop.paired
    row = next(
        r for r in capsys.readouterr().out.split("against real")[1].splitlines() if "ste" in r
    )
    low, high = interval([-2.0, -1.5, -1.0])
    cells = f"-1.50 {low:+.2f} to {high:+.2f} n = 3 cannot reach 0.05 -1.00 0% 3".split()
    assert ["ste", *cells] == row.split()
    assert "n = 3 cannot reach 0.05" in build(Results(store, "s"), [])


@pytest.mark.parametrize(("scale", "told"), [(1.0, "full scale"), (0.25, "0.25 of the published")])
def test_published_beside_measured(store, capsys, scale, told):
    """The judged mode's mean minus the published value, in its deviations, and the scale."""
    values = [
        {"method": "ste", "value": 86.0, "sigma": 0.25, "source": "A. Uthor"},
        {"method": "ste", "value": 51.0, "mode": "real"},
        {"method": "ste", "value": 3.0, "metric": "seconds_per_epoch"},
        {"method": "bop", "value": 90.0},
    ]
    fill(store, published=values, scale=scale)
    found = compared(store).published

    first, second, third = found
    assert (0.5, 2.0, scale == 1) == first.gap
    assert (-1.0, None, scale == 1) == second.gap
    assert (-5.5, None, scale == 1) == third.gap
    print_results(Results(store, "s"))
    out = capsys.readouterr().out
    assert f"published against measured ({told}" in out
    rows = out.split("published against measured")[1].splitlines()
    assert ["ste", "86", "±", "0.25", "86.50", "±", "2.12", "+0.50", "+2.0"] == rows[4].split()
    assert f"Published against measured: {told}" in build(Results(store, "s"), [])


def test_ranks_are_over_tasks(store):
    """Three tasks rank four methods by their means; more seeds make no more tasks."""
    tasks = ("t", "u", "v")
    store.create_study("s", study(tasks), "", "0")
    for number, task in enumerate(tasks):
        for place, method in enumerate(METHODS):
            finish(store, task, method, [90.0 - place - number, 91.0 - place - number])

    across = compared(store).across

    assert METHODS == across.methods
    assert ((1.0, 2.0, 3.0, 4.0), 3) == (across.ranking.ranks, across.ranking.tasks)
    assert stats.chi2.sf(9, 3) == pytest.approx(across.ranking.p)
    assert ("a", "a", "a", "") != across.letters
    for a, b in ((0, 1), (0, 3), (1, 3), (2, 3)):
        apart = abs(a - b) >= across.ranking.critical
        assert apart != bool(set(across.letters[a]) & set(across.letters[b]))


@pytest.mark.parametrize("state", [FAILED, DIVERGED])
def test_failures_rank_last(store, state):
    """A method half of whose runs ended badly is last, however good the others are; else it is not.

    A task that a method has not been run on leaves no ranks.
    """
    tasks = ("t", "u", "v")
    store.create_study("s", study(tasks, METHODS[:3], protocol={"seeds": 4}), "", "0")
    for task in tasks:
        finish(store, task, "real", [90.0] * 4)
        finish(store, task, "ste", [89.0] * 4)
    finish(store, "t", "bop", [99.0] * 4)
    finish(store, "u", "bop", [99.0] * 3)
    lose(store, "u", "bop", 4, state)
    unfinished = compared(store).across
    finish(store, "v", "bop", [99.0] * 2)
    for seed in (3, 4):
        lose(store, "v", "bop", seed, state)

    across = compared(store).across

    assert isinstance(unfinished.ranking, Refusal)
    assert "some are missing" in unfinished.ranking.reason
    assert ((1 + 2 / 3, 2 + 2 / 3, 1 + 2 / 3)) == pytest.approx(across.ranking.ranks)


def test_one_task_has_no_ranks_and_two_say_why(store, capsys):
    """Across one task there is nothing; what is too little is said in the terminal and report."""
    fill(store)
    assert (None, None) == ((one := compared(store)).across, one.areas)

    store.create_study("two", study(("t", "u")), "", "0")
    finish(store, "t", "real", [90.0], name="two")
    print_results(Results(store, "two"))

    said = "2 tasks cannot reach 0.05 in Friedman's test of 4 methods"
    assert said in capsys.readouterr().out
    assert said.replace("'", "&#39;") in build(Results(store, "two"), [])


def test_ways_to_the_target(store):
    """real is best at 90, 92 and 91: the target is 91. Runs gain a point an epoch.

    ste reaches it in epochs 1 and 3, and misses it once, bop's only run diverged. An epoch takes
    seed seconds times its number, twice that for ste; the first epoch's are warm-up and count.
    """
    store.create_study("s", study(), "", "0")
    facts = {"examples": {"train": 1050}}  # ten steps of 100
    finish(store, "t", "real", [90.0, 92.0, 91.0], facts=facts)
    finish(store, "t", "ste", [93.0, 91.0, 88.0], facts=facts)
    lose(store, "t", "bop", 1, DIVERGED)

    found = compared(store).arrivals

    real, ste, bop = (found["t", method] for method in METHODS[:3])
    assert {("t", method) for method in METHODS[:3]} == set(found)
    assert {91.0} == {way.target for way in found.values()}
    assert [(3, False), (2, True), (3, True)] == list(real.epochs.runs)
    assert [(1, True), (3, True), (3, False)] == list(ste.epochs.runs)
    assert [(math.inf, False)] == list(bop.epochs.runs) == list(bop.seconds.runs)
    assert [(math.inf, False), (6.0, True), (18.0, True)] == list(real.seconds.runs)
    assert [(2.0, True), (24.0, True), (math.inf, False)] == list(ste.seconds.runs)
    step = 10 * 0.1 * 20 / 28
    flips = [at for at, _ in ste.flips.runs]
    assert [step, step * (1 + 1 / 2 + 1 / 3), math.inf] == pytest.approx(flips)
    assert (3, 18.0, None) == (real.epochs.median, real.seconds.median, bop.epochs.median)


def test_epochs_by_which_nothing_is_selected_do_not_count(store):
    """A phase that is not selectable reaches no target, nor sets one; its time counts."""
    store.create_study("s", study(), "", "0")
    phases = [
        {"first": 1, "last": 2, "selectable": False},
        {"first": 3, "last": 3, "selectable": True},
    ]
    finish(store, "t", "real", [90.0])
    finish(store, "t", "ste", [99.0], facts={"phases": phases})

    ste = compared(store).arrivals["t", "ste"]

    assert (((3, True),), ((12.0, True),)) == (ste.epochs.runs, ste.seconds.runs)
    assert 0 == ste.flips.n


def test_runs_that_shared_the_machine_have_no_seconds(store):
    """They count for epochs; a method all of whose runs shared it is no miss in seconds."""
    store.create_study("s", study(), "", "0")
    finish(store, "t", "real", [90.0, 91.0], shared=True)
    lose(store, "t", "real", 3, FAILED)

    real = compared(store).arrivals["t", "real"]

    assert (3, 0) == (real.epochs.n, real.seconds.n)
    assert "" == terminal.median(real.seconds)


def test_areas_of_the_profiles(store):
    """In seconds, or in epochs where all runs shared the machine."""
    for name, shared in (("s", False), ("e", True)):
        store.create_study(name, study(("t", "u", "v"), METHODS[:3]), "", "0")
        for task in ("t", "u", "v"):
            for method, score in (("real", 90.0), ("ste", 92.0), ("bop", 80.0)):
                place = {"name": name, "values": {"of": name, "for": task}}
                finish(store, task, method, [score], shared=shared, **place)

    first = Comparisons(Results(store, "s")).areas
    second = Comparisons(Results(store, "e")).areas

    # real arrives in epoch 3 after 6 seconds, ste in epoch 1 after 2, bop never
    assert ("seconds", (1 / 3, 1.0, 0.0)) == (first.unit, pytest.approx(first.areas))
    assert ("epochs", (1 / 3, 1.0, 0.0)) == (second.unit, pytest.approx(second.areas))


def study_of(scores):
    """Comparisons of scores that stand in no database: {(task, method): {seed: accuracy}}."""
    made = Comparisons.__new__(Comparisons)
    made.reference, made.judged = "real", scores
    return made


def test_a_study_of_tasks_without_a_difference_rarely_names_one(monkeypatch):
    """Of 1,000 studies of two tasks, three methods and eight seeds at most 5 % name a difference.

    But for binomial error: three deviations of 5 % in 1,000 are 2.1 %. In 200 of them one method is
    made far better on one task, and is named there.
    """
    monkeypatch.setattr("bnnbench.statistics.paired.interval", lambda differences: None)
    random, named, found = np.random.default_rng(0), 0, 0
    for number in range(1_000):
        scores = {}
        for task in ("t", "u"):
            seeds = random.normal(90, 0.5, 8)
            for method in METHODS:
                noise = seeds + random.normal(size=8)
                scores[task, method] = dict(enumerate(noise.tolist()))
        named += any(each.paired.significant for each in study_of(scores).differences)
        if number < 200:
            scores["u", "bmd"] = {seed: score + 9 for seed, score in scores["u", "bmd"].items()}
            clear = [each for each in study_of(scores).differences if each.paired.significant]
            found += ("u", "bmd") in [(each.task, each.method) for each in clear]

    assert 0 < named <= 1_000 * (0.05 + 3 * (0.05 * 0.95 / 1_000) ** 0.5)
    assert found >= 195


@pytest.fixture
def wide(store):
    """A study with all tables: three tasks, five methods of long names, three seeds, tuning."""
    methods = ["real", *(f"binaryconnect-long{n}" for n in range(4))]
    named = [{"method": "real"}, *({"name": name, "method": "ste"} for name in methods[1:])]
    published = [{"method": methods[1], "value": 90.0, "sigma": 0.5, "source": "A. Uthor"}]
    tasks, protocol = ("t", "u", "v"), {"seeds": 3, "trials": 1}
    made = study(tasks, methods=methods, published=published, protocol=protocol)
    made = parse_study(made.model_dump() | {"methods": named}, "wide")
    store.create_study("s", made, "", "0")
    random = np.random.default_rng(0)
    for place, method in enumerate(methods):
        for task in tasks:
            scores = random.normal(90 - place, 0.3, 3)
            finish(store, task, method, scores.tolist(), facts={"examples": {"train": 1050}})
            lose(store, task, method, 0, PRUNED, role=TUNE)
    return Results(store, "s")


def shown(results, width, monkeypatch):
    """What the terminal shows in so many columns."""
    out = Console(width=width, record=True, file=io.StringIO())
    monkeypatch.setattr("bnnbench.cli.tables.console", lambda: out)
    print_results(results)
    return out.export_text()


def test_it_is_readable_in_100_columns(wide, monkeypatch):
    """No table is wider, no cell is broken, and where there is room the intervals are shown."""
    narrow, broad = (shown(wide, width, monkeypatch) for width in (100, 160))

    tables, _, notes = narrow.partition("against real: ")
    assert max(map(len, tables.splitlines())) <= 100
    assert max(len(line) for line in notes.splitlines() if "tuning took" not in line) <= 120
    head = next(line for line in broad.splitlines() if "judged with" in line)
    assert "95 % interval" in head
    assert "interval" not in narrow.partition("against real")[0]
    assert not [line for line in tables.splitlines() if re.search(r"±( {2,}| *$)", line)]
    for line in tables.splitlines():
        if line.strip().startswith("binaryconnect"):
            assert re.match(r" ?binaryconnect-long\d ", line), line


@pytest.mark.parametrize("cells", [["a", "ste"], ["a long name", "1.00 ± 0.25"]])
def test_what_a_table_wants(cells):
    """The columns of a table are as many as rich gives it where there is room."""
    made = terminal.numbers("title", *("a head", "b", "c")[: len(cells)])
    made.add_row(*cells, *["x"] * (len(made.columns) - len(cells)))
    out = Console(width=200, record=True, file=io.StringIO())

    out.print(made)

    assert max(len(line.rstrip()) for line in out.export_text().splitlines()) <= terminal.widest(
        made
    )
    assert out.measure(made).maximum == terminal.widest(made)


def test_terminal_and_report_show_the_same(wide, monkeypatch):
    """Every line of the terminal's tables of comparisons stands in a row of the report."""
    html = re.sub("&#39;", "'", build(wide, []))
    rows = [
        " ".join(cell for cell in re.findall(r"<td[^>]*>(.*?)</td>", row))
        for row in re.findall(r"<tr.*?>(<td.*?)</tr>", html)
    ]
    broad = shown(wide, 160, monkeypatch)
    heads = ("against real", "published against", "to 9", "to 8", "across 3")

    parts = [part for part in re.split(r"\n(?=\S)", broad) if part.strip().startswith(heads)]

    lines = [
        " ".join(line.split())
        for part in parts
        for line in part.splitlines()[4:]
        if re.match(r" ?(real|binary)", line)
    ]
    assert len(lines) == 3 * 4 + 3 + 3 * 5 + 5
    for line in lines:
        method, _, rest = line.partition(" ")
        assert any(method in row and rest in row for row in rows), line
    for note in terminal.across_notes(Comparisons(wide)):
        assert note.removeprefix("across tasks: ")[1:] in html


def test_a_large_study_reads_no_curves(wide, monkeypatch):
    """Beyond the limit the terminal leaves out what takes curves; the report has it."""
    monkeypatch.setattr(terminal, "CURVES", 10)
    monkeypatch.setattr(
        "bnnbench.comparisons.ways", lambda results: pytest.fail("curves were read")
    )

    text = shown(wide, 160, monkeypatch)

    assert "across 3 tasks" in text
    assert "on validation, the median" not in text


def test_letters():
    """There are as many as groups."""
    assert len({_letter(number) for number in range(80)}) == 80


def test_a_run_whose_validation_is_no_number(store):
    """An accuracy that is not a number reaches nothing and sets no target."""
    fill(store)
    entry = store.entries("s", method="real")[0]
    store.write(entry.run_id, [Measurement("accuracy", math.nan, 1, "validation", "real")])

    assert 91.0 == compared(store).arrivals["t", "ste"].target
