"""``bnnbench export`` and ``bnnbench packed``: what is written, what is said, what is refused."""

from __future__ import annotations

import json
import sqlite3
import sys
import warnings
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import pytest

from bnnbench.checkpoints import Checkpoints
from bnnbench.cli import main
from bnnbench.cli.runs import find
from bnnbench.errors import UsageError
from bnnbench.packed import load
from bnnbench.packed.description import Provenance
from bnnbench.runs import Run

STUDY = """
title = "small"
[task]
name = "t"
dataset = "digits"
architecture = { name = "mlp", depth = 1, width = 24, activation = "sign" }
epochs = 2
batch_size = 100
[protocol]
trials = 0
seeds = 2
[[methods]]
method = "bop"
[[methods]]
name = "coins"
method = "binaryconnect"
hyperparameters = { binarization = "stochastic" }
[[methods]]
method = "real"
[[methods]]
method = "ternary"
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A study that has run, the weights of its runs kept."""
    made = tmp_path_factory.mktemp("study")
    (made / "s.toml").write_text(STUDY)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(made)
        patch.delenv("BNNBENCH_STORAGE", raising=False)
        assert main(["study", "create", "s", "--from", "s.toml"]) == 0
        assert main(["study", "run", "s", "--keep-weights", "--threads", "1"]) == 0
    return made


@pytest.fixture
def run(folder, monkeypatch, capsys):
    """Call bnnbench in the study's folder; returns the exit code, standard output and error."""
    monkeypatch.chdir(folder)
    monkeypatch.delenv("BNNBENCH_STORAGE", raising=False)

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["bnnbench", *arguments])
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            code = main(list(arguments))
        out, err = capsys.readouterr()
        return code, out, err

    return call


def stored(folder):
    """All rows of the database, by table."""
    with closing(sqlite3.connect(folder / "bnnbench.db")) as database:
        names = database.execute("select name from sqlite_master where type = 'table'").fetchall()
        return {n: sorted(map(repr, database.execute(f"select * from {n}"))) for (n,) in names}


def weights_of(folder, method, seed):
    """The file in which a run's weights are kept."""
    checkpoints = Checkpoints(folder / "bnnbench.db.checkpoints")
    for path in checkpoints.folder.glob("*.binary.safetensors"):
        run = checkpoints.binary(path.name.split(".")[0]).run
        if (run.method.name, run.seed) == (method, seed):
            return path
    raise AssertionError((method, seed))


def test_export_of_kept_weights(run, folder, tmp_path):
    """The file has the run's accuracy and key; what was compared and its size are said."""
    path = tmp_path / "m.safetensors"
    code, out, err = run("export", "s/t/bop/1", "-o", str(path))
    assert (code, err) == (0, "")
    assert "trained again" not in out
    assert "checked on all 500 test examples: 0 predictions differ" in out
    assert "checked layer by layer: 2,560 integers of a binary layer, all equal" in out
    made = load(path).description.provenance
    again = Run.from_json(made.run)
    assert (again.key, again.seed, made.key, made.seed) == (made.key, 1, again.key, 1)
    assert (made.study, made.task, made.method, made.mode, made.judged) == (
        *("s", "t", "bop"),
        *("binary", "binary"),
    )
    assert f"{made.accuracy:.2f}" in run("study", "show", "s")[1] or made.accuracy > 0
    assert [*tmp_path.iterdir()] == [path]


def test_export_trains_again(run, folder, tmp_path):
    """Without weights the run is trained again, says so, and the file is the same bit for bit.

    Nothing that is stored changes, and the weights are there the next time.
    """
    first, again = tmp_path / "a", tmp_path / "b"
    assert run("export", "s/t/bop/2", "-o", str(first))[0] == 0
    kept = {path: path.read_bytes() for path in folder.glob("bnnbench.db.checkpoints/*.binary.*")}
    before = stored(folder)
    for path in kept:
        path.unlink()
    code, out, _ = run("export", "s/t/bop/2", "-o", str(again), "--threads", "1")
    assert code == 0
    assert out.startswith("no weights were kept of s/t/bop/2: it is trained again, 2 epochs\n")
    assert "the same as before" in out
    assert first.read_bytes() == again.read_bytes()
    assert stored(folder) == before
    assert before["bnnbench_runs"]
    assert "trained again" not in run("export", "s/t/bop/2", "-o", str(again), "--force")[1]
    for path, content in kept.items():
        path.write_bytes(content)


def test_export_refuses_another_result(run, folder, tmp_path, monkeypatch):
    """A training that comes to other accuracies than the stored ones is not exported."""
    from bnnbench.cli import pack

    real = pack._stored
    monkeypatch.setattr(
        pack, "_stored", lambda *given: {place: v + 0.2 for place, v in real(*given).items()}
    )
    monkeypatch.setattr(Checkpoints, "binary", lambda self, key: None)
    code, _, err = run("export", "s/t/bop/1", "-o", str(tmp_path / "m"))
    assert code == 1
    assert "must repeat bit for bit to be exported, but epoch 1 has the validation accuracy" in err
    assert [*tmp_path.iterdir()] == []


@pytest.fixture
def claims(monkeypatch):
    """Let the test accuracy that is stored of a run be another, by so many points."""
    from bnnbench.cli import pack

    real = pack._provenance

    def claim(by):
        def provenance(*given):
            made = real(*given)
            stored = made.accuracy + by
            return made.model_copy(update={"accuracy": stored, "stored_accuracy": stored})

        monkeypatch.setattr(pack, "_provenance", provenance)

    return claim


@pytest.mark.parametrize("form", ["safetensors", "onnx"])
@pytest.mark.parametrize("by", [0.2, -1.0])
def test_kept_weights_of_another_machine(run, claims, by, form, tmp_path):
    """Kept weights that come to another accuracy by rounding are exported; the file has both."""
    if form == "onnx":
        pytest.importorskip("onnxruntime", reason="the extra 'onnx' is not installed")
    path = tmp_path / "m"
    assert run("export", "s/t/bop/1", "-o", str(path))[2] == ""
    measured = load(path).description.provenance.accuracy
    claims(by)
    code, _, err = run("export", "s/t/bop/1", "-o", str(path), "--force", "--format", form)
    assert code == 0
    stored = f"{measured + by:.4f} %, here it is {measured:.4f} %"
    assert err.startswith(f"warning: the stored test accuracy is {stored}: the weights were kept")
    assert err.count("\n") == 1
    if form == "onnx":
        (told,) = (p for p in onnx_properties(path) if p.key == "provenance")
        made = json.loads(told.value)
        assert (made["accuracy"], made["stored_accuracy"]) == (measured, measured + by)
        return
    made = load(path).description.provenance
    assert (made.accuracy, made.stored_accuracy) == (measured, measured + by)
    said = f"test accuracy binary: {measured:.2f} % (in training {measured + by:.2f} %)"
    assert said in run("packed", "show", str(path))[1]


def onnx_properties(path):
    import onnx

    return onnx.load(path).metadata_props


@pytest.mark.parametrize(("by", "is_kept"), [(1.2, True), (-30, True), (0.2, False), (-0.2, False)])
def test_weights_of_another_network(run, claims, monkeypatch, by, is_kept, tmp_path):
    """Kept weights that are off by more than rounding, and trained ones by anything, are refused.

    In one line, and what was there before stays.
    """
    path = tmp_path / "m"
    path.write_text("before")
    claims(by)
    if not is_kept:
        monkeypatch.setattr("bnnbench.packing.again.kept", lambda *_given: None)
    code, out, err = run("export", "s/t/bop/1", "-o", str(path), "--force", "--threads", "1")
    assert (code, err.count("\n")) == (1, 1)
    within = ", within 1 for rounding" if is_kept else ""
    assert f"must have the accuracy that is stored of it{within}, but run" in err
    assert "or run the study anew here" in err
    assert "checked" not in out
    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == {"m": "before"}


def test_files_from_before_there_were_two_accuracies():
    """A provenance without the stored accuracy is read."""
    fields = dict.fromkeys(("study", "task", "method", "run", "key", "mode", "judged"), "x")
    numbers = {"seed": 1, "accuracy": 90.0, "judged_accuracy": None, "versions": {}}
    assert Provenance.model_validate(fields | numbers).stored_accuracy is None


@pytest.mark.parametrize("form", ["safetensors", "onnx"])
@pytest.mark.parametrize("layer", ["dense1", "dense2"])
def test_another_network_is_not_written(run, monkeypatch, layer, form, tmp_path):
    """A network that is packed wrong, by a weight of each filter, is refused in one line.

    No file is left, and what was there before stays; the same command is right without the fault.
    """
    if form == "onnx":
        pytest.importorskip("onnxruntime", reason="the extra 'onnx' is not installed")
    from bnnbench.packing import modules

    real = modules.signs_of

    def wrong(weight, name):
        found = real(weight, name)
        if name == layer:
            found.bits[:, 3] ^= True
        return found

    path, there = tmp_path / "m", tmp_path / "there"
    there.write_text("before")
    with monkeypatch.context() as patch:
        patch.setattr(modules, "signs_of", wrong)
        for words in (("-o", str(path)), ("-o", str(there), "--force")):
            code, out, err = run("export", "s/t/bop/1", *words, "--format", form)
            assert (code, out, err.count("\n")) == (1, "", 1)
            assert "; nothing was written, docs/packed-format.md says what may" in err
    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == {"there": "before"}
    assert run("export", "s/t/bop/1", "-o", str(path), "--format", form)[0] == 0


def test_damaged_weights_are_not_used(run, folder, tmp_path):
    """A file of weights that is damaged is passed over with a warning: the run is trained again."""
    path = weights_of(folder, "bop", 2)
    whole = path.read_bytes()
    path.write_bytes(whole[:-3])
    code, out, err = run("export", "s/t/bop/2", "-o", str(tmp_path / "m"), "--threads", "1")
    assert (code, "it is trained again, 2 epochs" in out) == (0, True)
    assert err.startswith("warning: the checkpoint")
    assert Checkpoints(path.parent).binary(path.name.split(".")[0]) is not None


def test_published_mode_that_cannot_be_packed(run, tmp_path):
    """Of stochastic BinaryConnect, judged with real weights, the binary mode is exported."""
    path = tmp_path / "m"
    code, out, _ = run("export", "s/t/coins/1", "-o", str(path))
    assert code == 0
    assert out.startswith("coins is judged by its 'real' weights (test accuracy ")
    made = load(path).description.provenance
    assert made.judged == "real"
    assert f"this is its 'binary' mode ({made.accuracy:.2f} %)" in out
    assert made.judged_accuracy != made.accuracy


@pytest.mark.parametrize(("method", "bits"), [("real", "real weights"), ("ternary", "2 bits")])
def test_methods_that_are_not_binary(run, method, bits, tmp_path):
    """Real and ternary weights are refused by the method's name and a layer's, in one line."""
    code, out, err = run("export", f"s/t/{method}/1", "-o", str(tmp_path / "m"))
    assert (code, out) == (2, "")
    assert f"but {method} is judged by {method!r} and trains with more than two values" in err
    assert f"as in 'dense1' ({bits})" in err


WRONG = {
    ("x",): "no study or key is named 'x'; known: s",
    ("ss",): "no study or key is named 'ss'; did you mean 's'?",
    ("s",): "a run is named STUDY/TASK/METHOD/SEED, got 's'; there are s/t/bop/1, s/t/coins/1,",
    ("s/t/real",): "got 's/t/real'; there are s/t/real/1, s/t/real/2",
    ("s/u",): "s has no task 'u'; known: t",
    ("s/t/bopp/1",): "s/t has no method 'bopp'; did you mean 'bop'?",
    ("s/t/bop/3",): "s/t/bop has no seed '3'; known: 1, 2",
    ("s/t/bop/1/2",): "s/t/bop/1 has no further part '2'",
    ("abcd0123",): "no study or key is named 'abcd0123'",
    ("s/t/bop/1", "-o", "no/folder"): "a file needs a folder, no is none; name another with -o",
    ("s/t/bop/1", "-o", "s.toml"): "s.toml is there already; --force replaces a file",
    ("s/t/bop/1", "-o", "bnnbench.db.checkpoints", "--force"): "is there already",
    ("s/t/bop/1", "--format", "onx"): "'onx' is not one of 'safetensors', 'onnx'",
}


@pytest.mark.parametrize("words", WRONG, ids=" ".join)
def test_wrong_words(run, words):
    """Names and files that are wrong are answered in one line, with what there is."""
    code, _, err = run("export", *words)
    assert (code, err.count("\n")) == (2, 1)
    assert WRONG[words] in err


def test_key(run, folder, tmp_path):
    """A run is found by how its key begins, as long as no other key begins so."""
    key = weights_of(folder, "bop", 2).name.split(".")[0]
    path = tmp_path / "m"
    assert run("export", key[:6], "-o", str(path))[0] == 0
    assert load(path).description.provenance.key == key


def test_default_name(run, folder):
    """Without -o the file is named after the run, and is not replaced unless that is asked for."""
    assert run("export", "s/t/bop/1")[0] == 0
    path = folder / "t-bop-1.safetensors"
    before = path.stat().st_mtime_ns
    assert run("export", "s/t/bop/1")[0] == 2
    assert path.stat().st_mtime_ns == before
    assert run("export", "s/t/bop/1", "--force")[0] == 0
    path.unlink()


def test_show(run, tmp_path):
    """A file's table has its nodes, and below it the sizes and where it comes from."""
    path = tmp_path / "m.safetensors"
    run("export", "s/t/bop/1", "-o", str(path))
    code, out, _ = run("packed", "show", str(path))
    assert code == 0
    (row,) = (line for line in out.splitlines() if "binary_dense" in line and "dense1" in line)
    assert row.split() == ["dense1", "binary_dense", "real", "24", "1,536", "192"]
    assert (
        "one bit a weight 222, thresholds 0, real 544; in float32 7,648: 10.0 times as many"
        in " ".join(out.split())
    )
    assert "inputs as prepared by: digits (preprocessing = 'signed')" in out
    assert "from s/t/bop/1, run " in out
    code, _, err = run("packed", "show", "s.toml")
    assert (code, err.count("\n")) == (3, 1)
    assert "cannot be used as a packed network: it is no safetensors file" in err


def test_kept_weights_are_no_leftovers(run):
    """A database with kept weights is sound."""
    code, out, _ = run("db", "check")
    assert code == 0
    assert "leftover" not in out.lower() or "0 leftover" in out.lower()


def test_help(run):
    """The help names the commands and what a run is called."""
    assert "really binary network" in run("--help")[1]
    assert "STUDY/TASK/METHOD/SEED" in run("export", "--help")[1]
    assert "--keep-weights" in run("study", "run", "--help")[1]


def test_description_is_json(run, tmp_path):
    """The provenance holds the whole description of the run as JSON."""
    path = tmp_path / "m.safetensors"
    run("export", "s/t/bop/1", "-o", str(path))
    whole = Path(path).read_bytes()
    entries = json.loads(whole[8 : 8 + int.from_bytes(whole[:8], "little")])["__metadata__"]
    header = json.loads(entries["bnnbench-packed"])
    assert header["version"] == "1"
    told = json.loads(json.loads(header["description"])["provenance"]["run"])
    assert told["architecture"]["hyperparameters"]["width"] == 24


def fake(*runs):
    """A store with runs of (study, key, state, role)."""
    entries = {}
    for study, key, state, role in runs:
        number = len(entries.setdefault(study, [])) + 1
        entry = SimpleNamespace(
            task="t",
            method="m",
            number=number,
            role=role,
            state=state,
            run=SimpleNamespace(key=key),
        )
        entries[study].append(entry)
    studies = [SimpleNamespace(name=name) for name in entries]
    return SimpleNamespace(studies=lambda: studies, entries=lambda study: entries[study])


def test_keys_that_begin_alike():
    """The beginning of two keys is refused; that of one run in two studies is not."""
    store = fake(
        ("s", "abcd1" + "0" * 15, "done", "confirm"),
        ("s", "abcd2" + "0" * 15, "done", "tune"),
        ("u", "abcd1" + "0" * 15, "done", "confirm"),
    )
    with pytest.raises(UsageError, match="'abcd' is how 2 keys begin; give more of its digits"):
        find(store, "abcd")
    assert find(store, "abcd1").name == "s/t/m/1"
    assert find(store, "abcd2").entry.role == "tune"  # a trial, by its key alone
    with pytest.raises(UsageError, match="s/t/m has no seed '2'; known: 1"):
        find(store, "s/t/m/2")


def test_a_study_that_is_named_like_a_key():
    """A study's name goes before a key."""
    store = fake(("abcd", "abcd1" + "0" * 15, "done", "confirm"))
    with pytest.raises(UsageError, match="there is abcd/t/m/1"):
        find(store, "abcd")


@pytest.mark.parametrize("state", ["pending", "running", "failed", "diverged"])
def test_runs_that_are_not_done(state):
    """A run that has not come to its end, or to a bad one, is refused with its state."""
    store = fake(("s", "abcd1" + "0" * 15, state, "confirm"))
    for name in ("s/t/m/1", "abcd1"):
        with pytest.raises(UsageError, match=f"s/t/m/1 is {state}; see 'bnnbench study show s'"):
            find(store, name)
    with pytest.raises(UsageError, match="there is none yet that is done"):
        find(store, "s")


def test_onnx(run, tmp_path):
    """An ONNX model is compared as a packed file is; it says that its weights are bytes."""
    pytest.importorskip("onnxruntime", reason="the extra 'onnx' is not installed")
    path = tmp_path / "m.onnx"
    code, out, err = run("export", "s/t/bop/1", "-o", str(path), "--format", "onnx")
    assert (code, err) == (0, "")
    assert "checked on all 500 test examples: 0 predictions differ" in out
    assert f"m.onnx: {path.stat().st_size:,} bytes, one for each binary weight" in out
    code, _, err = run("packed", "show", str(path))
    assert (code, "it is no safetensors file" in err) == (3, True)
