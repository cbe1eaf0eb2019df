"""Exports and frames: what SQL says, exactly, in every format, whatever the names are."""

from __future__ import annotations

import csv
import hashlib
import json
import math
import os
import random
import re
import sqlite3
import statistics
import struct
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pyarrow import parquet

from bnnbench import binding, load_study, tidy
from bnnbench.cli import main
from bnnbench.columns import CLEAN
from bnnbench.dictionary import LAYERS, MEASUREMENTS, RESULTS, RUNS, TABLES, described
from bnnbench.errors import StoreError, UsageError
from bnnbench.export import export
from bnnbench.formats import FORMATS
from bnnbench.measurements import Measurement
from bnnbench.results import Results
from bnnbench.store import BASE, DONE, FAILED, PRUNED, TUNE

from .conftest import ROOT
from .small_study import enter, fill, record, study

DOCUMENT = (ROOT / "docs" / "export.md").read_text(encoding="utf-8")
HOSTILE = ["=1+1", "+1", "-1", "@SUM(A1)", "\tx", "\r=1", "\n=1", "'quoted", "a,b", 'say "x"']
HOSTILE += ["two\nlines", "two\r\nlines", "end\r", "Ж 漢 \u2028 😀", "</table>", "NaN", "null", " "]
TRACEBACK = 'Traceback (most recent call last):\n  File "x.py", line 1\nValueError: a, "b"\n'


def measure(store, entry, seed, epochs=3):
    """Random numbers of every kind, some of them no numbers."""
    values = random.Random(seed)
    for epoch in range(1, epochs + 1):
        drawn = [values.uniform(-1, 1) * 10.0 ** values.randint(-300, 300) for _ in range(4)]
        store.write(
            entry.run_id,
            [
                Measurement("loss", drawn[0], epoch, "train", phase=epoch // 2),
                Measurement("loss", math.nan, epoch, "validation", "real"),
                Measurement("accuracy", drawn[1], epoch, "validation", "binary"),
                Measurement("flip_step", drawn[2], epoch),
                Measurement("flip_step", drawn[3], epoch, layer="dense1.weight"),
                Measurement("pi", math.inf, epoch, layer="dense1.weight"),
            ],
        )


def begun(store, method, number, **place):
    entry = enter(store, method, number, **place)
    store.start_run(entry.run_id, {"judged": "binary", "task": "segmentation"}, {"device": "cpu"})
    measure(store, entry, number)
    return entry


@pytest.fixture
def full(store):
    """The small study with runs in every role and state; entered in no order."""
    fill(store)
    store.end_run(begun(store, "ste", 7, role=TUNE).run_id, PRUNED, error="pruned")
    failed = begun(store, "bop", 6)
    store.write(failed.run_id, [Measurement("flip_step", math.nan, 4)])
    store.end_run(failed.run_id, FAILED, error=TRACEBACK)
    store.enter("s", "t", "bop", TUNE, 0, replace(failed.run, seed=40))  # no trial has its number
    begun(store, "real", 5)  # goes on running
    enter(store, "bop", 4)
    base = begun(store, "base", 3, role=BASE)
    told = [("selected_epoch", 2), ("activation_bits", 32)]
    measured = [Measurement(metric, value, 2) for metric, value in told]
    store.write(base.run_id, [*measured, Measurement("accuracy", 33.3, 2, "test", "binary")])
    store.end_run(base.run_id, DONE, shared=True)
    return store


@pytest.fixture
def sql(tmp_path):
    """Ask the database without any of our code."""

    def ask(query):
        connection = sqlite3.connect(tmp_path / "bnnbench.db")
        try:
            return connection.execute(query).fetchall()
        finally:
            connection.close()

    return ask


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Call bnnbench in the folder of the database; returns exit code, output and error."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("BNNBENCH_STORAGE", raising=False)

    def call(*arguments):
        return main([*arguments]), *capsys.readouterr()

    return call


def read_csv(path):
    """A table by the csv module: its header and its rows, all of them texts."""
    with path.open(encoding="utf-8", newline="") as file:
        header, *rows = csv.reader(file)
    return header, rows


def told(kind, cell):
    """The value that a cell of a CSV file stands for."""
    if kind == "text":
        return cell.removeprefix("'")
    if cell == "":
        return None
    if kind == "flag":
        return {"true": True, "false": False}[cell]
    return {"integer": int, "number": float, "json": json.loads}[kind](cell)


def from_csv(path, table):
    header, rows = read_csv(path)
    assert table.names == header
    kinds = [column.kind for column in table.columns]
    return [[told(*pair) for pair in zip(kinds, row, strict=True)] for row in rows]


def from_jsonl(path, table):
    lines = path.read_text(encoding="ascii").splitlines()
    rows = [json.loads(line, parse_constant=pytest.fail) for line in lines]
    assert all(table.names == list(row) for row in rows)
    return [list(row.values()) for row in rows]


def from_parquet(path, table):
    found = parquet.read_table(path)
    assert table.names == found.column_names
    nested = [column.name for column in table.columns if column.kind == "json"]
    rows = found.to_pylist()
    for row in rows:
        row |= {name: json.loads(row[name]) for name in nested}
    return [list(row.values()) for row in rows]


READERS = {"csv": from_csv, "jsonl": from_jsonl, "parquet": from_parquet}


def exported(store, folder, form="csv", table=RUNS):
    """A table of an export, read again: a dict for each row."""
    export(store, "s", folder, form)
    rows = READERS[form](folder / f"{table.name}.{form}", table)
    return [dict(zip(table.names, row, strict=True)) for row in rows]


PLACES = """
    SELECT e.task, e.method, e.role, e.number, r.key, r.state, r.error, r.shared, r.spec,
           r.finished_at - r.started_at, r.environment, r.facts, r.id
    FROM bnnbench_entries e JOIN bnnbench_runs r ON r.id = e.run_id
    ORDER BY e.task, e.method, e.role, e.number
"""


def numbers(sql):
    """Everything measured, read from both tables by SQL and struct: by run, then by kind."""
    found = {}
    loose = "SELECT run_id, metric, split, mode, layer, epoch, phase, value"
    for run, *kind, epoch, phase, value in sql(f"{loose} FROM bnnbench_measurements"):
        found.setdefault(run, {})[*kind, epoch] = (phase, value)
    packed = "SELECT run_id, metric, split, mode, layer, points FROM bnnbench_series"
    for run, *kind, points in sql(packed):
        for epoch, phase, value in struct.iter_unpack("<iid", points):
            known = None if math.isnan(value) else value
            found.setdefault(run, {})[*kind, epoch] = (phase, known)
    return found


@pytest.mark.parametrize("form", FORMATS)
def test_runs_are_those_of_the_database(full, sql, tmp_path, form):
    """A row for each run, by task, method, role and number, with what SQL says of it."""
    rows = exported(full, tmp_path / "out", form)

    expected = sql(PLACES)
    assert len(rows) == len(expected) == 12
    assert {"pruned", "failed", "running", "pending", "done"} == {row["state"] for row in rows}
    for row, (*place, error, shared, spec, wall, environment, facts, _) in zip(
        rows, expected, strict=True
    ):
        spec, facts = json.loads(spec), json.loads(facts)
        names = ("task", "method", "role", "number", "key", "state")
        assert place == [row[name] for name in names]
        assert (error, bool(shared), wall) == (row["error"], row["shared"], row["wall_seconds"])
        assert (environment or "") == row["environment"]
        for part in ("dataset", "architecture", "loss"):
            assert spec[part]["name"] == row[part]
            assert spec[part]["hyperparameters"] == row[f"{part}_hyperparameters"]
        assert spec["method"] == {
            "name": row["component"],
            "hyperparameters": row["hyperparameters"],
        }
        for name in ("seed", "epochs", "batch_size", "select", "reestimate", "code"):
            assert spec[name] == row[name], name
        assert (facts.get("judged", ""), facts.get("task", "")) == (row["judged"], row["kind"])
        assert facts.get("synthetic") == row["synthetic"]
    devices = {row["device"] for row in rows if row["state"] == "failed"}
    assert ({"cpu"}, {"s"}) == (devices, {row["study"] for row in rows})


def test_outcomes_follow_from_the_measurements(full, sql, tmp_path):
    """Accuracies, bits, flips and seconds of a run are those of plain sums over its numbers."""
    rows = exported(full, tmp_path / "out")

    found, ids = numbers(sql), [place[-1] for place in sql(PLACES)]
    ended = 0
    for row, run in zip(rows, ids, strict=True):
        if row["state"] not in ("done", "pruned", "failed"):
            assert row["flips"] is row["selected_epoch"] is row["test_accuracy"] is None
            continue
        ended += 1
        mine = {kind: value for kind, (_, value) in found[run].items() if not kind[3]}
        flips = [v for (metric, *_), v in mine.items() if metric == "flip_step"]
        if row["state"] == "failed":  # one of its numbers is none
            assert row["flips"] is None is flips[-1]
        else:
            assert statistics.fmean(flips) == pytest.approx(row["flips"], rel=1e-12)
        seconds = [v for (metric, *_), v in mine.items() if metric == "seconds.train"]
        assert (statistics.median(seconds) if seconds else None) == row["seconds_per_epoch"]
        epoch = next((v for (metric, *_), v in mine.items() if metric == "selected_epoch"), None)
        assert epoch == row["selected_epoch"]
        for split in ("validation", "test"):
            by_mode = {
                mode: value
                for (metric, where, mode, _, at), value in mine.items()
                if (metric, where, at) == ("accuracy", split, epoch)
            }
            told = row[f"{split}_by_mode"]
            assert by_mode == (told if split == "validation" else told.get("accuracy", {}))
            assert by_mode.get(row["judged"]) == row[f"{split}_accuracy"]
        bits = {mode: v for (metric, _, mode, *_), v in mine.items() if metric == "weight_bits"}
        assert (bits, bits.get(row["judged"])) == (row["weight_bits_by_mode"], row["weight_bits"])
        assert row["activation_bits"] == (32.0 if epoch else None)
    assert 9 == ended


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("table", [MEASUREMENTS, LAYERS], ids=lambda table: table.name)
def test_measurements_are_those_of_the_database(full, sql, tmp_path, table, form):
    """Every number that SQL finds is there once, bit for bit, by run, kind and epoch."""
    rows = exported(full, tmp_path / "out", form, table)

    found, expected = numbers(sql), []
    for *_, key, _, _, _, _, _, _, _, run in sql(PLACES):
        for (metric, split, mode, layer, epoch), (phase, value) in sorted(
            found.get(run, {}).items(), key=lambda item: item[0]
        ):
            if bool(layer) is (table is LAYERS):
                expected.append([key, epoch, phase, split, mode, layer, metric, value])
    assert len(expected) > 40
    assert expected == [list(row.values()) for row in rows]
    assert any(row["value"] is None for row in rows)


def test_a_run_in_two_places_is_measured_once(full, tmp_path):
    """A run that stands under two methods has two rows, and each of its numbers one."""
    twin = full.entries("s", task="t", method="bop", role="confirm", number=1)[0].run
    before = len(exported(full, tmp_path / "one", table=MEASUREMENTS))
    full.enter("s", "t", "twin", "confirm", 1, twin)

    rows = exported(full, tmp_path / "out")

    assert 13 == len(rows)
    assert 2 == sum(row["key"] == twin.key for row in rows)
    assert before == len(exported(full, tmp_path / "two", table=MEASUREMENTS))


def test_results_are_those_of_the_test_split(full, sql, tmp_path):
    """Means and deviations of the table of results are those of the runs that SQL finds."""
    rows = exported(full, tmp_path / "out", table=RESULTS)

    found = numbers(sql)
    expected = {}
    for _, method, role, _, _, state, *_, run in sql(PLACES):
        if (role, state) == ("confirm", "done"):
            for (metric, split, mode, *_), (_, value) in found[run].items():
                if (metric, split) == ("accuracy", "test"):
                    expected.setdefault((method, mode), []).append(value)
    told = {(row["method"], row["mode"]): row for row in rows}
    assert expected.keys() == told.keys()
    asked = [method for _, method, role, *_ in sql(PLACES) if role == "confirm"]
    for place, values in expected.items():
        assert statistics.fmean(values) == told[place]["test_mean"]
        assert statistics.stdev(values) == told[place]["test_sd"]
        counts = [told[place][name] for name in ("test_n", "done", "asked")]
        assert [len(values), len(values), asked.count(place[0])] == counts
    assert {"failed": 1} == told["bop", "binary"]["ended_badly"]
    assert [2.0, 1.0] == [told["ste", "binary"]["ratio_mean"], told["real", "real"]["ratio_mean"]]


def hostile(store):
    """A study in which every text that a user may choose is hostile."""
    store.create_study("s", study(), "command", "0")
    for number, name in enumerate(HOSTILE):
        entry = enter(store, f"m{name}", number, task=f"{name}", values={name: name, "x": math.inf})
        facts = {"judged": name, "remark": name}
        store.start_run(entry.run_id, facts, {"processor": name, "packages": {name: name}})
        measured = Measurement("accuracy", 0.1 + number, 1, "validation", name, name)
        store.write(entry.run_id, [measured])
        store.end_run(entry.run_id, FAILED, error=name)
    return store


@pytest.mark.parametrize("form", FORMATS)
def test_hostile_names_survive(store, tmp_path, form):
    """Commas, quotes, line breaks, other scripts and formulas are read as they were chosen."""
    rows = exported(hostile(store), tmp_path / "out", form)

    assert sorted(HOSTILE) == [row["task"] for row in rows]
    for row in rows:
        name = row["task"]
        assert {name} == {row[k] for k in ("judged", "remark", "processor", "error")}
        assert (f"m{name}", {name: name}) == (row["method"], row["packages"])
        told = {"lr": 0.1, "for": f"{name} confirm", name: name, "x": "inf"}
        assert told == row["hyperparameters"]
    layers = READERS[form](tmp_path / "out" / f"layers.{form}", LAYERS)
    assert [[name] * 2 for name in sorted(HOSTILE)] == [row[4:6] for row in layers]


def test_no_cell_is_a_formula(store, tmp_path):
    """In CSV no text begins with what a spreadsheet computes, or with less than its apostrophe."""
    export(hostile(store), "s", tmp_path / "out")

    for table in TABLES:
        _, rows = read_csv(tmp_path / "out" / f"{table.name}.csv")
        texts = [n for n, column in enumerate(table.columns) if column.kind in ("text", "json")]
        assert not [row[n] for row in rows for n in texts if row[n].startswith((*"=+-@\t\r\n",))]
    guarded = {row[1] for row in read_csv(tmp_path / "out" / "runs.csv")[1] if row[1][0] == "'"}
    assert {f"'{name}" for name in HOSTILE[:8]} == guarded


@pytest.mark.parametrize("form", FORMATS)
def test_same_database_same_bytes(full, tmp_path, monkeypatch, form):
    """Two exports are equal byte for byte, in another process and by other portions too."""
    export(full, "s", tmp_path / "a", form)
    monkeypatch.setattr(tidy, "TOGETHER", 2)
    export(full, "s", tmp_path / "b", form)
    code = "import sys; from bnnbench.cli import main; sys.exit(main(sys.argv[1:]))"
    arguments = ["study", "export", "s", "-o", "c", "--format", form, "--storage", "bnnbench.db"]

    subprocess.run([sys.executable, "-c", code, *arguments], check=True, cwd=tmp_path)

    a, b, c = ({p.name: p.read_bytes() for p in (tmp_path / f).iterdir()} for f in "abc")
    assert {"README.md", *(f"{table.name}.{form}" for table in TABLES)} == a.keys()
    assert a == b == c


def test_few_runs_are_read_at_once(full, tmp_path, monkeypatch):
    """Series are read by portions of runs, and written before the next are read."""
    asked, read = [], binding.read
    monkeypatch.setattr(tidy, "TOGETHER", 3)
    monkeypatch.setattr(
        binding, "read", lambda c, runs, **w: asked.append(len(runs)) or read(c, runs, **w)
    )

    readings = tidy.Tidy(full, "s").measurements()
    next(readings)

    assert [3] == asked
    assert len(list(readings)) > 40
    assert [3, 3, 3, 3] == asked


def listing(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("trouble", [KeyboardInterrupt, OSError(28, "No space left on device")])
def test_a_broken_export_leaves_the_one_before_whole(full, tmp_path, monkeypatch, trouble):
    """What stops the writing of a table leaves every file as it was, and no draft."""
    export(full, "s", tmp_path / "out")
    before = listing(tmp_path / "out")
    record(full, "bop", 9, {"binary": 1.0})

    def stops(self):
        yield from []
        raise trouble

    with monkeypatch.context() as broken:
        broken.setattr(tidy.Tidy, "layers", stops)
        with pytest.raises((KeyboardInterrupt, UsageError)) as error:
            export(full, "s", tmp_path / "out")

    assert before == listing(tmp_path / "out")
    if error.type is UsageError:
        assert "out cannot be written: No space left on device; give -o" in str(error.value)
    export(full, "s", tmp_path / "out")
    assert before["runs.csv"] != (tmp_path / "out" / "runs.csv").read_bytes()


def test_files_are_on_the_disk_before_their_names_are(full, tmp_path, monkeypatch):
    """Each draft is written through, and only then the first file is replaced."""
    happened = []
    fsync, replace_ = os.fsync, Path.replace

    def synced(descriptor):
        happened.append(("synced", os.fstat(descriptor).st_ino))
        fsync(descriptor)

    def replaced(path, target):
        happened.append(("replaced", path.stat().st_ino))
        return replace_(path, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "replace", replaced)

    export(full, "s", tmp_path / "out")

    written = sorted(path.stat().st_ino for path in (tmp_path / "out").iterdir())
    ends = (sorted(happened[: len(written)]), sorted(happened[len(written) :]))
    assert tuple([(w, n) for n in written] for w in ("synced", "replaced")) == ends


def test_runs_of_a_former_best_count_nowhere(full, tmp_path):
    """They are rows with the role they have; all that is counted is as if they were not there."""
    export(full, "s", tmp_path / "before")
    for seed, state in ((1, DONE), (2, FAILED)):
        entry = begun(full, "ste", seed, role="former 1", values={"lr": 0.7})
        full.write(entry.run_id, [Measurement("accuracy", 1.0, 2, "test", "binary")])
        full.end_run(entry.run_id, state)

    export(full, "s", tmp_path / "after")

    (header, before), (_, after) = (
        read_csv(tmp_path / name / "runs.csv") for name in ("before", "after")
    )
    role = header.index("role")
    assert 2 == [row[role] for row in after].count("former 1")
    assert before == [row for row in after if row[role] != "former 1"]
    assert (tmp_path / "before" / "results.csv").read_bytes() == (
        tmp_path / "after" / "results.csv"
    ).read_bytes()
    frames = load_study("s", full.url.render_as_string())
    assert 2 == (frames.runs()["role"] == "former 1").sum()
    assert "`former 1`" in described()


@pytest.mark.parametrize("name", ["README.md", "runs.csv", "dictionary.csv"])
def test_only_exports_are_replaced(full, run, tmp_path, name):
    """A file of somebody else, or one that was changed, stays unless it is forced."""
    (tmp_path / "s-export").mkdir()
    path = tmp_path / "s-export" / name
    path.write_bytes(b"mine \xff\n")

    code, out, err = run("study", "export", "s")

    assert (2, "") == (code, out)
    assert re.fullmatch(rf"error: \S+{name} is no export\S*; --force .* -o .*\n", err)
    assert {name: b"mine \xff\n"} == listing(tmp_path / "s-export")
    assert 0 == run("study", "export", "s", "--force")[0] == run("study", "export", "s")[0]
    with path.open("ab") as file:
        file.write(b"more")
    code, _, err = run("study", "export", "s")
    changed = name != "README.md"  # which is ours by its first line
    assert (2 if changed else 0, changed) == (code, "changed since" in err)
    assert 0 == run("study", "export", "s", "--force")[0]


def test_formats_lie_side_by_side(full, tmp_path):
    """The README has the checksums of all the formats that were written into a folder."""
    for form in [*FORMATS, *FORMATS]:
        export(full, "s", tmp_path, form)
    (tmp_path / "runs.csv").unlink()
    export(full, "s", tmp_path, "jsonl")

    told = re.findall(r"^([0-9a-f]{64})  (\S+)$", (tmp_path / "README.md").read_text(), re.M)

    files = {f"{table.name}.{form}" for table in TABLES for form in FORMATS} - {"runs.csv"}
    assert files == {name for _, name in told}
    for digest, name in told:
        assert digest == hashlib.sha256((tmp_path / name).read_bytes()).hexdigest()


def test_the_command(full, run, tmp_path, monkeypatch):
    """The folder is NAME-export unless another is given; its path is what is printed."""
    assert (0, f"{tmp_path / 's-export'}\n", "") == run("study", "export", "s")
    monkeypatch.setenv("BNNBENCH_STORAGE", str(tmp_path / "bnnbench.db"))
    monkeypatch.chdir("/")
    folder = tmp_path / "deep" / "er"
    assert (0, f"{folder}\n", "") == run("study", "export", "s", "-o", str(folder))
    assert listing(tmp_path / "s-export") == listing(folder)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["t"], "error: there is no study named 't' in this database; "),
        (["s", "-o", "bnnbench.db"], "error: bnnbench.db cannot be written: "),
        (["s", "-o", "bnnbench.db/x"], "error: bnnbench.db/x cannot be written: "),
        (["s", "-o", "occupied"], "error: occupied/runs.csv must be a file, or not be there; "),
        (["s", "-o", "occupied", "--force"], "error: occupied/runs.csv must be a file, "),
        (["s", "--format", "xml"], "error: Invalid value for '--format': "),
    ],
)
def test_errors_are_one_line(full, run, tmp_path, arguments, said):
    """What cannot be exported is told in a line, and nothing is left behind."""
    (tmp_path / "occupied" / "runs.csv").mkdir(parents=True)
    before = sorted(path for path in tmp_path.rglob("*") if "bnnbench.db-" not in path.name)

    code, out, err = run("study", "export", *arguments)

    assert (2, "", 1) == (code, out, err.count("\n"))
    assert err.startswith(said)
    after = sorted(path for path in tmp_path.rglob("*") if "bnnbench.db-" not in path.name)
    assert before == after


def test_missing_packages_are_told_with_the_way_out(full, run, tmp_path, monkeypatch):
    """Without pyarrow or pandas a line says what to install; CSV and JSON Lines need neither."""
    for name in ("pandas", "pyarrow"):
        monkeypatch.setitem(sys.modules, name, None)

    code, _, err = run("study", "export", "s", "--format", "parquet")

    assert 2 == code
    assert "error: pyarrow is not installed; pip install 'bnnbench[frames]'" in err
    assert not (tmp_path / "s-export").exists()
    with pytest.raises(UsageError, match=r"^pandas is not installed; pip install 'bnnbench\[fra"):
        load_study("s", tmp_path / "bnnbench.db")
    assert [0, 0] == [run("study", "export", "s", "--format", f)[0] for f in ("csv", "jsonl")]


def test_frames_are_the_tables(full, tmp_path, monkeypatch):
    """Each frame has the rows of its table, and types that know what is missing."""
    monkeypatch.setenv("BNNBENCH_STORAGE", str(tmp_path / "bnnbench.db"))
    loaded = load_study("s")
    frames = [loaded.runs(), loaded.measurements(), loaded.layers(), loaded.results()]

    types = {"integer": "Int64", "number": "float64", "flag": "boolean", "json": "object"}
    for table, frame in zip(TABLES, frames, strict=False):
        assert table.names == list(frame.columns)
        for column in table.columns:
            expected = types.get(column.kind, pd.Series(["x"], dtype="str").dtype)
            assert expected == frame[column.name].dtype, column.name
        known = frame.astype(object).where(frame.notna(), None).to_numpy().tolist()
        assert list(tidy.Tidy(full, "s").rows(table)) == known
    assert "<study 's' in sqlite:///" in repr(loaded)


def test_frames_are_filtered(full, tmp_path):
    """Metrics, splits, modes and layers are chosen by one name or several."""
    loaded = load_study("s", f"sqlite:///{tmp_path / 'bnnbench.db'}")
    every, layers = loaded.measurements(), loaded.layers()

    one = loaded.measurements("accuracy", split="validation", mode="binary")
    two = loaded.measurements(metric=("loss", "selected_epoch"))

    chosen = every[(every.metric == "accuracy") & (every.split == "validation")]
    pd.testing.assert_frame_equal(one, chosen[chosen["mode"] == "binary"].reset_index(drop=True))
    chosen = every[every.metric.isin(["loss", "selected_epoch"])].reset_index(drop=True)
    pd.testing.assert_frame_equal(two, chosen)
    dense2 = loaded.layers("flip_step", layer="dense2.weight")
    assert 0 < len(dense2) == (layers.layer == "dense2.weight").sum()
    assert 0 == loaded.layers("flip_step", layer="dense2.weight").value.max()
    for ask, said in [
        (lambda: loaded.measurements("acuracy"), "the metric 'acuracy'; did you mean 'accuracy'"),
        (lambda: loaded.measurements(["loss", "x"]), "the metric 'x'; known: acc"),
        (lambda: loaded.layers("accuracy"), "the metric 'accuracy'; known: flip_step, pi"),
    ]:
        with pytest.raises(UsageError, match=re.escape(f"no run of study 's' has {said}")):
            ask()


def test_frames_of_a_study_that_was_never_run(store, tmp_path):
    """There are no rows, but all the columns with their types; results have a line a method."""
    store.create_study("s", study(), "command", "0")
    loaded = load_study("s", tmp_path / "bnnbench.db")

    for table, frame in [(RUNS, loaded.runs()), (MEASUREMENTS, loaded.measurements("loss"))]:
        assert (0, table.names) == (len(frame), list(frame.columns))
    assert "float64" == loaded.layers().value.dtype
    assert ["real", "ste", "bop"] == list(loaded.results().method)
    with pytest.raises(UsageError, match="no study named 'x'"):
        load_study("x", tmp_path / "bnnbench.db")
    with pytest.raises(StoreError, match="there is no database"):
        load_study("s", tmp_path / "none.db")


def test_results_are_those_of_the_report(full, tmp_path):
    """The frame of results has the figures from which the terminal's table and the report are."""
    frame = load_study("s", tmp_path / "bnnbench.db").results()

    rows = Results(full, "s").rows()
    assert len(frame) == len(rows) == 5
    for told, row in zip(frame.itertuples(), rows, strict=True):
        assert (row.method, row.mode, row.seconds) == (told.method, told.mode, told.seconds)
        for name in ("test", "validation", "flips", "ratio"):
            spread = getattr(row, name)
            mean, sd = getattr(told, f"{name}_mean"), getattr(told, f"{name}_sd")
            if spread is None:
                assert (True, 0) == (np.isnan(mean), getattr(told, f"{name}_n"))
            else:
                assert tuple(spread) == (mean, sd, getattr(told, f"{name}_n"))


def test_importing_bnnbench_is_cheap(full, tmp_path):
    """``import bnnbench`` brings no torch, pandas or database; nor does a study bring torch."""
    heavy = "{'torch', 'pandas', 'pyarrow', 'sqlalchemy', 'numpy', 'click'}"
    code = (
        f"import sys, bnnbench; print(sorted({heavy} & {{*sys.modules}}));"
        "bnnbench.load_study('s', 'bnnbench.db').runs();"
        "print({'torch', 'optuna', 'plotly'} & {*sys.modules})"
    )

    told = subprocess.run(
        [sys.executable, "-c", code], check=True, cwd=tmp_path, capture_output=True, text=True
    )

    assert ["[]", "set()"] == told.stdout.splitlines()


def test_the_dictionary_is_that_of_the_files(full, tmp_path):
    """Each column of each file is explained, in the table, in the README and in docs/export.md."""
    export(full, "s", tmp_path / "out")
    _, rows = read_csv(tmp_path / "out" / "dictionary.csv")
    headers = {table.name: read_csv(tmp_path / "out" / f"{table.name}.csv")[0] for table in TABLES}

    explained = [(table, column) for table, column, *_ in rows]
    assert [(table, name) for table, names in headers.items() for name in names] == explained
    assert all(kind in CLEAN and meaning for _, _, kind, _, meaning in rows)
    readme = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    for document in (readme, DOCUMENT):
        for table, column, kind, unit, meaning in rows:
            lines = document.partition(f"### {table}\n")[2].partition("\n### ")[0]
            assert f"\n| `{column}` | {kind} | {unit} | {told('text', meaning)} |\n" in lines
    assert DOCUMENT.endswith(described())


def test_parquet_has_units_and_meanings(full, tmp_path):
    """A field of a Parquet file carries its unit and its meaning."""
    export(full, "s", tmp_path, "parquet")

    for table in TABLES:
        schema = parquet.read_schema(tmp_path / f"{table.name}.parquet")
        told = [(f.name, f.metadata[b"unit"], f.metadata[b"meaning"]) for f in schema]
        assert [(c.name, c.unit.encode(), c.meaning.encode()) for c in table.columns] == told


def test_the_document_works(store, run, tmp_path):
    """The commands of docs/export.md run, and so does its notebook."""
    store.create_study("quickstart", study(), "command", "0")
    for method in ("real", "ste"):
        record(store, method, 1, {"binary": 80.0, "real": 90.0}, name="quickstart")
    record(store, "ste", 0, {"binary": 70.0}, name="quickstart", role=TUNE)
    (commands,) = re.findall(r"```sh\n(.*?)```", DOCUMENT, re.DOTALL)
    (notebook,) = re.findall(r"```python\n(.*?)```", DOCUMENT, re.DOTALL)

    for command in commands.splitlines():
        program, *words = command.split()
        assert ("bnnbench", 0) == (program, run(*words)[0])
    said = {}
    exec(notebook, said)

    assert 6 == len(listing(tmp_path / "quickstart-export"))
    assert 11 == len(listing(tmp_path / "tables"))
    assert [0.1] == list(said["trials"]["hp.lr"])
    assert (80.0 + 70.0) / 2 == said["means"]["t", "ste", "binary", 3]
    assert ["real", "real", "ste", "ste", "bop"] == list(said["table"].method)


def test_exports_need_no_database_of_their_own_making(tmp_path, run):
    """Without a database nothing is made, neither a folder nor a database."""
    code, _, err = run("study", "export", "s")

    assert (4, 1) == (code, err.count("\n"))
    assert [] == list(tmp_path.iterdir())
