"""Several studies in one report: what each alone says, said together."""

from __future__ import annotations

import itertools
import random
import sys

import pytest

from bnnbench.cli import main
from bnnbench.comparisons import Comparisons
from bnnbench.errors import UsageError
from bnnbench.plugins import load_plugins
from bnnbench.results import Results
from bnnbench.store import BASE, DIVERGED, FAILED, TUNE
from bnnbench.studyfile import parse_study
from bnnbench.together import results_of, told_apart
from bnnbench_reports import command, page, records, repeat, tables
from bnnbench_reports.readings import scores

from .conftest import TINY
from .small_study import EPOCHS, enter, record


def study(tasks=("t",), **changes):
    """A study of some tasks."""
    task = {"dataset": "digits", "architecture": "mlp", "epochs": EPOCHS}
    values = {"title": "Small", "source": "nobody", "protocol": {"seeds": 2}}
    values["tasks"] = [task | {"name": name} for name in tasks]
    return parse_study(values | changes, "small")


def made(store, name, tasks, methods, **changes):
    """A study of which up to two seeds are done, with accuracies at random."""
    chance = random.Random(name)
    values = study(tasks, methods=methods, **changes)
    store.create_study(name, values, f"bnnbench study create {name}", "0")
    seeds = range(1, 1 + min(2, values.protocol.seeds))
    for t, m, seed in itertools.product(values.tasks, values.methods, seeds):
        judged = "real" if m.name == "real" else "binary"
        test = {judged: chance.uniform(50, 99)}
        record(store, m.name, seed, test, judged=judged, name=name, task=t.name)


REAL, STE, BOP = {"method": "real"}, {"method": "ste"}, {"method": "bop"}


def named(results):
    return [t.name for t in results.study.tasks], [m.name for m in results.study.methods]


def test_one_study_is_as_it_is_by_itself(store):
    """Nothing stands between a study alone and its results."""
    made(store, "a", ["t"], [REAL, STE])

    assert Results is type(results_of(store, ["a"]))
    assert [page.build(Results(store, "a"), [])] == [page.build(results_of(store, ["a"]), [])]


@pytest.mark.parametrize(
    ("first", "second", "names"),
    [
        (["t"], ["u"], ["t", "u"]),
        (["t"], ["t"], ["a/t", "b/t"]),
        (["t", "u"], ["v"], ["a/t", "a/u", "b/v"]),
    ],
)
def test_tasks_have_their_studies_names_where_they_must(store, first, second, names):
    """Single tasks of different names keep them."""
    made(store, "a", first, [REAL])
    made(store, "b", second, [REAL])

    assert names == named(results_of(store, ["a", "b"]))[0]


def test_rows_are_those_of_each_study(store):
    """Every number of a line is that of the study alone; a method has lines in its studies only."""
    made(store, "a", ["t", "u"], [REAL, STE], protocol={"seeds": 2})
    made(store, "b", ["t"], [BOP, REAL], protocol={"seeds": 3})
    together = results_of(store, ["a", "b"])
    alone = [(name, row) for name in ("a", "b") for row in Results(store, name).rows()]

    found = {(row.task, row.method, row.mode): row for row in together.rows()}

    assert len(alone) == len(found) == 6
    for name, row in alone:
        here = found[f"{name}/{row.task}", row.method, row.mode]
        for key in ("test", "validation", "flips", "seconds", "asked", "done", "judged", "ratio"):
            assert getattr(row, key) == getattr(here, key), key
    assert (["a/t", "a/u", "b/t"], ["real", "ste", "bop"]) == named(together)
    assert 2 * 4 + 3 * 2 == sum(together.asked.values())
    assert ("a/t", "bop") not in together.asked
    assert "unfinished: 12 of 14 runs" == page.unfinished(together)
    assert "bnnbench study run b" == page.finishing(together)


def test_a_run_of_two_studies_counts_in_both(store):
    """What is shared in the database has its curve, its score and its time on both tasks."""
    made(store, "a", ["t"], [REAL, STE])
    store.create_study("b", study(methods=[REAL, STE]), "", "0")
    for entry in store.entries("a"):
        store.enter("b", "t", entry.method, entry.role, entry.number, entry.run)
    together, alone = results_of(store, ["a", "b"]), Results(store, "a")

    curves = [(c.entry.task, c.entry.method, c.entry.number) for c in together.curves("loss")]

    wanted = [(c.entry.method, c.entry.number) for c in alone.curves("loss")]
    assert [(t, *each) for t in ("a/t", "b/t") for each in wanted] == curves
    by_task = {}
    for each in scores(together):
        by_task.setdefault(each.task, []).append(each[1:])
    assert by_task["a/t"] == by_task["b/t"] == [each[1:] for each in scores(alone)]
    seconds = records.seconds_by_bucket(together)
    assert seconds["a/t", "ste"] == seconds["b/t", "ste"]
    assert seconds["a/t", "ste"] == records.seconds_by_bucket(alone)["t", "ste"]


RELAXED = {"method": "ste", "start_from": "before"}


@pytest.mark.parametrize(
    ("mine", "theirs", "names"),
    [
        ({"method": "bop"}, {"method": "bop"}, ["bop"]),
        ({"method": "bop", "hyperparameters": {"gamma": 0.1}}, BOP, ["bop (a)", "bop (b)"]),
        (BOP | {"search": {"gamma": [0.1]}}, BOP, ["bop (a)", "bop (b)"]),
        ({"name": "x", "method": "bop"}, {"name": "x", "method": "ste"}, ["x (a)", "x (b)"]),
        (BOP | {"judged": "real"}, BOP, ["bop (a)", "bop (b)"]),
        (RELAXED, RELAXED, ["ste (a)", "ste (b)"]),
    ],
)
def test_methods_are_one_if_described_alike(mine, theirs, names):
    """Else they bear their study's name; what a method starts from is part of it."""
    kinds = {"a": 1, "b": 2}  # the run that they may start from is shorter in one study
    runs = {name: {"before": {"method": "ste", "epochs": n}} for name, n in kinds.items()}
    one = study(methods=[REAL, mine], runs=runs["a"])
    two = study(methods=[theirs], runs=runs["b"])

    found = told_apart([("a", one), ("b", two)])

    assert names == [n for n in dict.fromkeys(found.values()) if n != "real"]
    assert "real" == found["a", "real"]
    alike = told_apart([("a", one), ("b", study(methods=[mine], runs=runs["a"]))])
    assert {"real", one.methods[1].name} == set(alike.values())


def test_methods_told_apart_have_their_own_runs(store):
    """Nobody's runs are anybody else's."""
    made(store, "a", ["t"], [REAL, BOP | {"hyperparameters": {"gamma": 0.1}}])
    made(store, "b", ["u"], [REAL, BOP])
    together = results_of(store, ["a", "b"])

    cells = {(e.task, e.method) for e in together.entries}

    assert {("t", "real"), ("u", "real"), ("t", "bop (a)"), ("u", "bop (b)")} == cells
    assert cells == set(together.asked)
    assert ["bop (a)"] == [e.method for e in together.cell("t", "bop (a)")][:1]


def test_what_stands_beside_the_numbers(store):
    """Published values, notes, departures, scale and bases are those of their studies."""
    published = {"method": "ste", "value": 80.0, "source": "A"}
    made(store, "a", ["t", "u"], [REAL, STE], published=[published], departures=["Shorter."])
    own = {"method": "ste", "value": 70.0, "task": "t"}
    made(store, "b", ["t"], [STE], published=[own], scale=0.1)
    record(store, "before", 1, {"binary": 60.0}, role=BASE, name="b")
    record(store, "ste", 3, {"binary": 1.0}, name="b", facts={"synthetic": True})
    together = results_of(store, ["a", "b"])

    beside = {
        (b.task, b.published.value, b.gap.full_scale) for b in Comparisons(together).published
    }

    assert {("a/t", 80.0, True), ("a/u", 80.0, True), ("b/t", 70.0, False)} == beside
    assert {"b/t": "synthetic data"} == together.notes
    assert ("a: Shorter.",) == together.study.departures
    assert ["b/t"] == [base.entry.task for base in together.bases()]
    assert ["before"] == [base.entry.method for base in together.bases()]
    assert 60.0 == together.bases()[0].validation
    said = repeat.limits(together)
    assert (
        "The runs had full scale (a), 0.1 of the published training (b); the study departs from its"
        " source in 1 point, see below."
    ) == said


def test_the_reference_is_the_first_that_there_is(store):
    """A study without one takes the other's, where it has that method."""
    made(store, "a", ["t"], [STE, BOP])
    made(store, "b", ["u"], [REAL, STE], protocol={"seeds": 2, "reference": "ste"})
    made(store, "c", ["v"], [REAL, BOP])

    together = results_of(store, ["a", "b", "c"])

    assert "ste" == together.study.reference
    pairs = {(d.task, d.method) for d in Comparisons(together).differences if d.paired}
    assert {("t", "bop"), ("u", "real")} == pairs


def test_events_and_coverage_are_all_there(store):
    """What happened is told by time, with the study; only what is asked for can be missing."""
    made(store, "a", ["t"], [REAL, STE], protocol={"seeds": 1})
    made(store, "b", ["u"], [BOP], protocol={"seeds": 4})
    store.end_run(enter(store, "bop", 3, name="b", task="u").run_id, FAILED, error="no")
    store.end_run(enter(store, "bop", 0, name="b", task="u", role=TUNE).run_id, DIVERGED)
    for name, text in (("b", "one"), ("a", "two"), ("b", "three")):
        store.log(name, "odd", text)
    together = results_of(store, ["a", "b"])

    lines = tables.coverage_table(together).rows

    assert [("t", "real"), ("t", "ste"), ("u", "bop")] == [line[:2] for line in lines]
    assert ("4", "2", "1", "0", "1") == lines[2][2:7]
    assert ["b: one", "a: two", "b: three"] == [text for *_, text in together.events]
    assert ["b: one", "a: two", "b: three"] == [
        row[2] for row in records.events_table(together).rows
    ]


def test_how_to_repeat_them(store):
    """The commands of each study, then the report of all; what differs is told with its study."""
    made(store, "a", ["t"], [STE], protocol={"seeds": 2, "trials": 3})
    made(store, "b", ["u"], [STE], protocol={"seeds": 1, "seconds": 60.0, "select": "last"})
    together = results_of(store, ["a", "b"])

    assert [
        "bnnbench study create a",
        "bnnbench study run a",
        "bnnbench study create b",
        "bnnbench study run b",
        "bnnbench report a b",
    ] == repeat.commands(together)
    assert "1 to 2 (a), 1 (b)" == repeat.seeds(together)
    protocol = repeat.protocol(together)
    assert "3 (a), as many as train for 60 s (b)" == protocol.trials
    assert ("0", "tpe", "best (a), last (b)") == (
        protocol.seed,
        protocol.sampler,
        protocol.select,
    )
    both = repeat.files_of(together)
    assert both.startswith("# study a\n")
    assert "\n# study b\n" in both
    assert ["torch==2.13.0"] == repeat.requirements(together)


def test_storage_is_told_once_after_an_extension():
    """The option is that of the command that created the study."""
    created = "bnnbench study create s --storage x.db && bnnbench study extend s --storage x.db"

    class Some:
        name, command = "s", created

    Some.parts = [Some]

    assert [
        created,
        "bnnbench study run s --storage x.db",
        "bnnbench report s --storage x.db",
    ] == repeat.commands(Some)


def test_a_page_of_two_studies_with_every_figure(store):
    """No figure fails; the page names both studies, and all their tasks."""
    made(store, "a", ["t", "u"], [REAL, STE], title="One")
    made(store, "b", ["t"], [REAL, BOP | {"hyperparameters": {"gamma": 0.1}}], title="Two")
    made(store, "c", ["w"], [REAL, BOP])

    html = page.build(results_of(store, ["a", "b", "c"]), command.figures(load_plugins()))

    assert 'class="card failed"' not in html
    assert "<title>One + Two + Small</title>" in html
    for text in ("a/t", "a/u", "b/t", "c/w", "bop (b)", "bop (c)", "complete: 16 runs"):
        assert text in html, text


def test_a_study_is_named_once(store):
    """Twice the same study would count its runs twice; a study that is not there is named."""
    made(store, "a", ["t"], [REAL])

    with pytest.raises(UsageError, match="a study is named once, got 'a' twice"):
        results_of(store, ["a", "a"])
    with pytest.raises(UsageError, match="no study named 'b'"):
        results_of(store, ["a", "b"])
    assert isinstance(results_of(store, ["a"]), Results)


def test_the_command_with_studies_that_were_really_run(tmp_path, monkeypatch, capsys):
    """Two small studies of the digits, trained, in one file; the first alone in another."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("BNNBENCH_STORAGE", raising=False)
    (tmp_path / "a.toml").write_text(TINY.replace("trials = 2", "trials = 0"))
    other = TINY.replace('"bop"', '"ste"').replace("seeds = 2", "seeds = 1")
    (tmp_path / "b.toml").write_text(other)

    def call(*words):
        monkeypatch.setattr(sys, "argv", ["bnnbench", *words])
        code = main(list(words))
        return code, *capsys.readouterr()

    for name in ("a", "b"):
        assert 0 == call("study", "create", name, "--from", f"{name}.toml")[0]
    refused = call("report", "a", "b")
    assert 0 == call("study", "run", "a")[0]
    half = call("report", "a", "b", "-o", "half.html")
    assert 0 == call("study", "run", "b")[0]

    whole, alone = call("report", "a", "b"), call("report", "a")

    assert (2, "study 'a' has no finished") == (refused[0], refused[2][7:32])
    assert (0, 0, 0) == (half[0], whole[0], alone[0])
    assert f"{tmp_path / 'a+b.html'}\n" == whole[1]
    assert "unfinished: 4 of 6 runs" in (tmp_path / "half.html").read_text()
    html = (tmp_path / "a+b.html").read_text()
    assert "complete: 6 runs" in html
    for text in ("a/t", "b/t", "bnnbench report a b", "bnnbench study create b --from b.toml"):
        assert text in html, text
    assert "<td>a/t" in html
    assert "<td>a/t" not in (tmp_path / "a.html").read_text()
