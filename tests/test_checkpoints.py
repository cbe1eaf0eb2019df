"""Checkpoints: what is read is what was written, whole or not at all, and nothing is executed."""

from __future__ import annotations

import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bnnbench.checkpoints import Checkpoints, Weights
from bnnbench.errors import DataError
from bnnbench.runs import Part, Run
from bnnbench.schedules import Progress

RUN = Run(Part("d"), Part("a"), Part("l"), Part("m", {"lr": 0.1}), 1, 2, 10)
OTHER = Run(Part("d"), Part("a"), Part("l"), Part("m", {"lr": 0.2}), 1, 2, 10)
STATE = {"epoch": 1, "x": torch.arange(6.0).reshape(2, 3)}
DTYPES = [torch.float32, torch.float64, torch.int64, torch.bool, torch.uint8]


def weights(run=RUN):
    network = {"one.weight": torch.ones(2, 3), "norm.bias": torch.zeros(2)}
    latents = {"one.weight": torch.full((2, 3), 0.25)}
    return Weights(run, network, latents, "binary", 1, Progress(5, 10, 1, 2))


def equal(a, b):
    """Same structure, types and bits."""
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b) and a.dtype == b.dtype
    if isinstance(a, dict):
        return list(a) == list(b) and all(equal(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return type(a) is type(b) and len(a) == len(b) and all(map(equal, a, b))
    return type(a) is type(b) and (a == b or a != a)


tensors = st.builds(
    lambda seed, shape, dtype: (
        torch.rand(shape, generator=torch.Generator().manual_seed(seed)) * 9 - 3
    ).to(dtype),
    st.integers(0, 999),
    st.lists(st.integers(0, 3), max_size=3),
    st.sampled_from(DTYPES),
)
trees = st.recursive(
    st.one_of(tensors, st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(st.one_of(st.text(max_size=5), st.integers(0, 9)), inner, max_size=3),
    ),
    max_leaves=8,
)


@given(tree=trees)
def test_any_state_comes_back(tmp_path_factory, tree):
    """Tensors, numbers (also infinite ones), texts, lists, tuples and dicts, bit for bit."""
    kept = Checkpoints(tmp_path_factory.mktemp("c"))

    kept.save_training(RUN, {"tree": tree})

    assert equal({"tree": tree}, kept.training(RUN))


def test_a_state_holds_no_objects(tmp_path):
    """What a pickle would take is refused."""
    with pytest.raises(TypeError, match="the state of a training may hold tensors"):
        Checkpoints(tmp_path).save_training(RUN, {"x": object()})


def test_weights_come_back(tmp_path):
    """The network, the latents and how they are judged."""
    kept = Checkpoints(tmp_path / "new")
    assert not kept.has_weights(RUN.key)

    kept.save_weights(weights())

    found = kept.weights(RUN.key)
    assert kept.has_weights(RUN.key)
    assert (RUN, "binary", 1) == (found.run, found.judged, found.draws)
    assert weights().progress == found.progress
    assert equal(dict(weights().network), dict(sorted(found.network.items(), reverse=True)))
    assert equal(dict(weights().latents), found.latents)


def test_missing_and_damaged_weights_are_one_line(tmp_path):
    """Cut, overwritten, renamed: each is said, none is half loaded."""
    kept = Checkpoints(tmp_path)
    with pytest.raises(DataError, match=r"is missing; run its study again"):
        kept.weights(RUN.key)
    kept.save_weights(weights())
    path = tmp_path / f"{RUN.key}.weights.safetensors"
    whole = path.read_bytes()
    flipped = whole[:-1] + bytes([whole[-1] ^ 1])  # one bit of one number
    for bad in (flipped, whole[:-5], b"", b"\x80\x04pickle", json.dumps({}).encode()):
        path.write_bytes(bad)
        assert not kept.has_weights(RUN.key)
        with pytest.raises(DataError, match=r"is damaged .*; delete it and run its study again"):
            kept.weights(RUN.key)
    path.unlink()
    kept.save_weights(weights(OTHER))
    (tmp_path / f"{OTHER.key}.weights.safetensors").rename(path)
    assert not kept.has_weights(RUN.key)
    with pytest.raises(DataError, match=f"must hold the weights of run {RUN.key}"):
        kept.weights(RUN.key)


def test_a_state_that_does_not_fit_is_no_state(tmp_path, monkeypatch):
    """Damaged, of another torch, or none at all: the run begins anew, and the first two say so."""
    kept = Checkpoints(tmp_path)
    assert kept.training(RUN) is None
    kept.save_training(RUN, STATE)
    assert equal(STATE, kept.training(RUN))
    assert kept.training(OTHER) is None
    with monkeypatch.context() as other:
        other.setattr(torch, "__version__", "9.0.0")
        with pytest.warns(UserWarning, match=r"of torch 2\..*, this is 9.0.0; the run begins anew"):
            assert kept.training(RUN) is None
    (tmp_path / f"{RUN.key}.training.safetensors").write_bytes(b"cut")
    with pytest.warns(UserWarning, match=r"is damaged \(.*\); the run begins anew"):
        assert kept.training(RUN) is None


def test_a_write_that_is_broken_off_changes_nothing(tmp_path, monkeypatch):
    """The old file stays whole, and nothing is left lying about."""
    kept = Checkpoints(tmp_path)
    kept.save_training(RUN, STATE)

    def power_cut(descriptor):
        raise OSError("no more power")

    monkeypatch.setattr("os.fsync", power_cut)
    with pytest.raises(OSError, match="no more power"):
        kept.save_training(RUN, {"epoch": 2})

    assert equal(STATE, kept.training(RUN))
    assert 1 == len(list(tmp_path.iterdir()))


def test_forgetting(tmp_path):
    """A finished run keeps its weights and forgets its training; a deleted one keeps nothing."""
    kept = Checkpoints(tmp_path)
    kept.save_weights(weights())
    kept.save_training(RUN, STATE)

    kept.forget_training(RUN.key)
    assert kept.has_weights(RUN.key)
    assert kept.training(RUN) is None
    (tmp_path / f"{RUN.key}.training.77.part").write_bytes(b"of a killed process")
    kept.forget(RUN.key)
    kept.forget(RUN.key)
    assert not list(tmp_path.iterdir())
