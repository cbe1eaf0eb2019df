"""Inputs that somebody else made: refused in one line or read as they say, never anything else.

Each test tries 150 of them; ``BNNBENCH_FUZZ=5000`` tries as many as that. What is found to be wrong
is shrunk by hypothesis and kept in its database, so that the next run begins with it.
"""

from __future__ import annotations

import contextlib
import gzip
import importlib.metadata
import io
import json
import math
import os
import signal
import struct
import sys
import threading
import tomllib
import warnings
import zlib
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import scipy.io
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bnnbench import hookimpl
from bnnbench.cells import cells
from bnnbench.checkpoints import BEFORE, TRAINING, Checkpoints
from bnnbench.errors import BnnbenchError, DataError, PluginError, UsageError
from bnnbench.experiments import Workbench
from bnnbench.plugins import GROUP, KINDS, Plugins, load_plugins
from bnnbench.studies import Study, check_name
from bnnbench.studyfile import parse_study, read_study
from bnnbench_plugins.datasets.idx import read_idx
from bnnbench_plugins.datasets.matlab import arrays
from bnnbench_plugins.datasets.records import read_records

from .conftest import ROOT, TINY
from .test_checkpoints import RUN, equal, weights

CASES = int(os.environ.get("BNNBENCH_FUZZ", "150"))
SECONDS = 30  #: for one case, on any machine
FEW = {HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large}
fuzzed = settings(max_examples=CASES, deadline=None, suppress_health_check=FEW)


@contextlib.contextmanager
def in_time():
    """A case that hangs fails."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def late(*_):
        raise TimeoutError(f"more than {SECONDS} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def outcome(read, allowed=BnnbenchError):
    """What reading gives, or None if it is refused in one line."""
    said = None
    with in_time():
        try:
            return read()
        except allowed as error:
            said = str(error)
    assert said
    assert "\n" not in said
    return None


@st.composite
def changes(draw, whole):
    """A text or bytes with a few pieces cut, doubled, exchanged, or put in."""
    kind = type(whole)
    pieces = st.binary(max_size=9) if kind is bytes else st.text(max_size=9)
    for _ in range(draw(st.integers(1, 4))):
        at, length = draw(st.integers(0, len(whole))), draw(st.integers(0, 12))
        how = draw(st.sampled_from(["cut", "double", "put", "over", "end", "flip"]))
        before, piece, after = whole[:at], whole[at : at + length], whole[at + length :]
        if how == "end":
            whole = before
        elif how == "flip" and kind is bytes and piece:
            bit = draw(st.integers(0, 7))
            whole = before + bytes([piece[0] ^ 1 << bit]) + piece[1:] + after
        else:
            new = {"cut": kind(), "double": piece + piece}.get(how)
            whole = before + (draw(pieces) if new is None else new) + after
            if how == "put":
                whole = before + piece + whole[len(before) :]
    return whole


# study files

STUDIES = [TINY, *(path.read_text() for path in sorted((ROOT / "studies").glob("*.toml")))]
VALUES = tomllib.loads(TINY)
KEYS = ["task", "tasks", "methods", "protocol", "name", "dataset", "epochs", "method", "optimizer"]
KEYS += ["binarizer", "trials", "seeds", "published", "runs", "probes", "space", "low", "high"]
WORDS = ["digits", "mlp", "real", "bop", "sign", "t", "sign+bop", "../x", "a/b", "\x00", "", "ste"]
plain = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-5, 5),
    st.integers(),
    st.floats(),
    st.sampled_from(WORDS),
    st.text(max_size=6),
)
trees = st.recursive(
    plain,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(st.one_of(st.sampled_from(KEYS), st.text(max_size=5)), inner, max_size=4),
    ),
    max_leaves=12,
)


@st.composite
def changed_values(draw):
    """The values of a study file of which a few are exchanged, put in or taken out."""
    values = json.loads(json.dumps(VALUES))
    for _ in range(draw(st.integers(1, 3))):
        here = values
        while isinstance(here, dict | list) and here and draw(st.booleans()):
            keys = sorted(here) if isinstance(here, dict) else range(len(here))
            key = draw(st.sampled_from(keys))
            if not isinstance(here[key], dict | list) or not here[key]:
                here[key] = draw(trees)
                break
            here = here[key]
        if isinstance(here, dict):
            here[draw(st.sampled_from(KEYS))] = draw(trees)
        elif isinstance(here, list):
            here.append(draw(trees))
    return values


@pytest.fixture(scope="module")
def workbench():
    return Workbench(load_plugins())


def is_a_study(study, workbench) -> bool:
    """Whether what was accepted comes back from the database; then it is planned or refused."""
    text = study.model_dump_json()
    outcome(lambda: cells("s", study, workbench))
    return isinstance(study, Study) and text == Study.model_validate_json(text).model_dump_json()


@fuzzed
@given(text=st.sampled_from(STUDIES).flatmap(changes))
def test_study_files(tmp_path, workbench, text):
    """Changed texts of study files, those of bundled studies among them."""
    path = tmp_path / "study.toml"
    path.write_text(text, encoding="utf-8", errors="surrogatepass", newline="")
    study = outcome(lambda: read_study(str(path)), UsageError)

    assert study is None or is_a_study(study, workbench)


@fuzzed
@given(content=st.one_of(st.binary(max_size=60), changes(TINY.encode()), st.text().map(str.encode)))
def test_study_files_of_bytes(tmp_path, workbench, content):
    """Bytes that need be no text at all."""
    path = tmp_path / "study.toml"
    path.write_bytes(content)
    study = outcome(lambda: read_study(str(path)), UsageError)

    assert study is None or is_a_study(study, workbench)


@fuzzed
@given(values=st.one_of(changed_values(), st.dictionaries(st.sampled_from(KEYS), trees)))
def test_values_of_studies(workbench, values):
    """Values of any type in any place."""
    study = outcome(lambda: parse_study(values, "x"), UsageError)

    assert study is None or is_a_study(study, workbench)


@pytest.mark.parametrize("key", ["\n", "a\rb", "\x1b[2J"])
def test_key_that_cannot_be_printed(key):
    """Such a key is shown escaped: an error is one line, and moves no cursor."""
    with pytest.raises(UsageError) as error:
        parse_study({**VALUES, key: 1}, "x")

    assert str(error.value).isprintable()


@fuzzed
@given(name=st.one_of(st.text(), st.sampled_from(WORDS), st.from_regex(r"[\w./-]{1,9}\n?")))
def test_names_of_studies(name):
    """A name is letters, digits and -_. only: it is no path, and stands in Optuna's names."""
    if outcome(lambda: check_name(name), UsageError) is not None:
        assert set(name) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.")
        assert name not in ("", ".", "..")


# data files


def idx(array):
    header = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.tobytes()


IMAGES = np.arange(60, dtype=np.uint8).reshape(5, 4, 3)
PACKED = gzip.compress(idx(IMAGES), mtime=0)


def plainly(content):
    """An IDX file of three dimensions, read by hand; None if it is none."""
    if len(content) < 16 or content[:4] != bytes([0, 0, 8, 3]):
        return None
    shape = tuple(int.from_bytes(content[at : at + 4], "big") for at in (4, 8, 12))
    values = list(content[16:])
    return (shape, values) if math.prod(shape) == len(values) else None


@fuzzed
@given(content=st.one_of(changes(idx(IMAGES)), st.binary(max_size=40)))
def test_idx(tmp_path, content):
    """What is in the gzip file is read as a plain reader reads it, or refused."""
    path = tmp_path / "x.gz"
    path.write_bytes(gzip.compress(content, 1))

    found = outcome(lambda: read_idx(path, 3), DataError)

    told = None if found is None else (found.shape, found.ravel().tolist())
    assert plainly(content) == told


@fuzzed
@given(content=st.one_of(changes(PACKED), st.binary(max_size=40)))
def test_idx_of_a_damaged_gzip_file(tmp_path, content):
    """A changed gzip file is refused, or has the same array."""
    path = tmp_path / "x.gz"
    path.write_bytes(content)

    found = outcome(lambda: read_idx(path, 3), DataError)

    if found is not None:
        assert (found == IMAGES).all()


def cifar(count=3, labels=1):
    draw = np.random.default_rng(0)
    marks = np.arange(count * labels).reshape(count, labels) % 3
    return b"".join(
        bytes(map(int, mark)) + draw.integers(0, 256, 3072, dtype=np.uint8).tobytes()
        for mark in marks
    )


@fuzzed
@given(data=st.data(), labels=st.integers(1, 2), incomplete=st.booleans())
def test_cifar(tmp_path, data, labels, incomplete):
    """Records are refused, or are what stands at their places in the file."""
    path = tmp_path / "x.bin"
    content = data.draw(st.one_of(changes(cifar(3, labels)), st.binary(max_size=40)))
    path.write_bytes(content)
    bounds = (3,) * labels
    counts = tuple(np.bincount(list(cifar(3, labels)[labels - 1 :: 3072 + labels]), minlength=3))

    found = outcome(lambda: read_records(path, bounds, counts, incomplete=incomplete), DataError)

    if found is not None:
        images, classes = found
        size = 3072 + labels
        rows = [content[at : at + size] for at in range(0, len(content), size)]
        assert [list(row[labels:]) for row in rows] == images.reshape(len(rows), -1).tolist()
        assert [row[labels - 1] for row in rows] == classes.tolist()
        assert max(max(row[:labels]) for row in rows) < 3
        assert len(content) % size == 0


def mat(packed):
    file = io.BytesIO()
    draw = np.random.default_rng(0).integers
    content = {"X": draw(0, 256, (4, 3, 2, 3), dtype=np.uint8), "y": np.array([[1.5], [2.0]])}
    scipy.io.savemat(file, content, do_compression=packed)
    return file.getvalue()


MATS = [mat(packed=False), mat(packed=True)]


@st.composite
def repacked(draw):
    """A file whose compressed part is whole, and its content changed."""
    inner = draw(changes(zlib.decompress(MATS[1][136 : 136 + element_size(MATS[1])])))
    packed = zlib.compress(inner)
    return MATS[1][:128] + struct.pack("<II", 15, len(packed)) + packed


def element_size(content):
    return struct.unpack("<I", content[132:136])[0]


@fuzzed
@given(content=st.one_of(changes(MATS[0]), changes(MATS[1]), repacked(), st.binary(max_size=300)))
def test_mat(tmp_path, content):
    """An array is refused, or is the one that scipy reads."""
    path = tmp_path / "x.mat"
    path.write_bytes(content)

    found = outcome(lambda: [(a.name, a.whole()) for a in arrays(path)], DataError)

    if found:
        theirs = scipys(content)
        for name, array in found:
            if theirs and name in theirs:
                assert theirs[name].shape == array.shape
                assert theirs[name].dtype == array.dtype
                assert theirs[name].tobytes() == array.tobytes()


def test_mat_with_dimensions_that_are_cut(tmp_path):
    """What such a file gave once: an error of numpy's."""
    path = tmp_path / "x.mat"
    for size in range(1, 12):
        path.write_bytes(MATS[0].replace(struct.pack("<II", 5, 16), struct.pack("<II", 5, size), 1))
        with pytest.raises(DataError, match=r"dimensions of \d+ bytes, not of 4 each|whole MATLAB"):
            list(arrays(path))


def scipys(content):
    """What scipy reads, of names that occur once; nothing where it cannot."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            return scipy.io.loadmat(io.BytesIO(content))
    except Exception:
        return None


# checkpoints

STATE = {"epoch": 3, "x": torch.arange(6.0).reshape(2, 3), "y": [torch.ones(2), None, "z"]}


def kept_bytes(folder):
    kept = Checkpoints(folder)
    kept.save_training(RUN, STATE)
    kept.save_weights(weights())
    return [path.read_bytes() for path in sorted(folder.glob("*.safetensors"))]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """The bytes of a training and of weights."""
    return kept_bytes(tmp_path_factory.mktemp("kept"))


@st.composite
def headers(draw, whole):
    """A checkpoint with another header."""
    size = int.from_bytes(whole[:8], "little")
    text = draw(changes(whole[8 : 8 + size]))
    length = draw(st.sampled_from([len(text), size, 0, 2**63, len(text) + 1]))
    return length.to_bytes(8, "little") + text + whole[8 + size :]


@fuzzed
@given(data=st.data())
def test_checkpoints(tmp_path, files, data):
    """A training is refused with a warning, or is what was kept; so are weights, with an error."""
    kept = Checkpoints(tmp_path)
    for kind, whole in ((TRAINING, files[0]), ("weights", files[1])):
        changed = st.one_of(changes(whole), headers(whole), st.binary(max_size=60))
        content = data.draw(changed)
        (tmp_path / f"{RUN.key}.{kind}.safetensors").write_bytes(content)

    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        training = outcome(lambda: kept.training(RUN), DataError)
    found = outcome(lambda: kept.weights(RUN.key), DataError)

    assert (training is None) == (len(said) == 1)
    assert training is None or equal(STATE, training)
    if found is not None:
        wanted = weights()
        assert wanted[3:] == found[3:]
        assert equal(dict(sorted(wanted.network.items())), dict(sorted(found.network.items())))
        assert equal(dict(wanted.latents), dict(found.latents))
    assert not (tmp_path / f"{RUN.key}.{BEFORE}.safetensors").exists()


# plugins


class Anything:
    """What a plugin may register by mistake."""

    def __repr__(self):
        return "anything"


def function():
    """A component that can be called."""


targets = st.one_of(
    plain, st.just(function), st.just(Anything()), st.sampled_from(["os:path", "x:y", ":", "a:"])
)
offers = st.lists(st.tuples(st.one_of(st.text(max_size=5), st.sampled_from("abc")), targets))


def plugin_of(name, requires, hooks, version):
    """A plugin whose module has any metadata, and registers anything."""
    module = ModuleType("fuzzed")
    for kind, (offered, is_marked) in hooks.items():
        hook = hook_of(offered)
        vars(module)[f"register_{kind}"] = hookimpl(hook) if is_marked else hook
        hook.__name__ = f"register_{kind}"
    if requires is not ...:
        module.requires_api = requires
    dist = SimpleNamespace(name="dist", version=version)
    return SimpleNamespace(name=name, value="fuzzed", dist=dist, load=lambda: module)


def hook_of(offered):
    def hook(register):
        for name, target in offered:
            register(name, target)

    return hook


@fuzzed
@given(
    name=st.text(max_size=6),
    requires=st.one_of(st.just(...), plain, st.sampled_from(["1.0", "0.1", "1", "1.0.0", "9.9"])),
    hooks=st.dictionaries(
        st.one_of(st.sampled_from([*KINDS, "commands", "nonsense"])),
        st.tuples(offers, st.booleans()),
        max_size=3,
    ),
    version=st.one_of(st.none(), st.text(max_size=5)),
)
def test_plugins(name, requires, hooks, version):
    """A plugin is used whole or left out whole, with one line of reason."""
    with in_time():
        plugins = Plugins([plugin_of(name, requires, hooks, version)])

    (plugin,) = plugins.plugins
    registered = {(kind, n) for kind in KINDS for n in plugins.names(kind)}
    if plugin.status == "ok":
        wanted = {(kind, n) for kind, (offered, _) in hooks.items() for n, _ in offered}
        assert wanted == registered
        assert all(n and "/" not in n and "\n" not in n for _, n in registered)
    else:
        assert plugin.reason
        assert "\n" not in plugin.reason
        assert not registered
    for kind, n in registered:
        outcome(lambda kind=kind, n=n: plugins.get(kind, n), PluginError)


METADATA = "Metadata-Version: 2.1\nName: stranger\nVersion: 1.0\n\nSome words.\n"
ENTRIES = f"[{GROUP}]\nstranger = no_such_module\n[{GROUP}.commands]\nother = no_such_module:x\n"


@fuzzed
@given(
    metadata=st.one_of(changes(METADATA), st.text(max_size=40)),
    entries=st.one_of(changes(ENTRIES), st.just(ENTRIES), st.text(max_size=40)),
)
def test_metadata_of_distributions(tmp_path, metadata, entries):
    """A distribution whose files are damaged costs itself alone."""
    folder = tmp_path / "stranger-1.0.dist-info"
    folder.mkdir(exist_ok=True)
    for name, text in (("METADATA", metadata), ("entry_points.txt", entries)):
        (folder / name).write_text(text, encoding="utf-8", errors="replace", newline="")
    found = importlib.metadata.Distribution.at(folder)
    try:
        points = [p for p in found.entry_points if p.group == GROUP]
    except Exception:  # Python's own reader cannot, and bnnbench has no say in it
        return

    with in_time():
        plugins = Plugins(points)

    assert len(points) == len(plugins.plugins)
    for plugin in plugins.plugins:
        assert "failed" == plugin.status
        assert "\n" not in plugin.reason
        assert "no_such_module" in sys.modules or plugin.reason


def test_cases_of_a_run():
    """The number of cases is what the variable says, 150 without it."""
    assert CASES == int(os.environ.get("BNNBENCH_FUZZ", 150))
    assert CASES == fuzzed.max_examples
    assert Path(__file__).exists()
