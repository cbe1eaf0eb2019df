"""Packed layers where numba may not compile, on plain processors, and without training code."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LAYERS = """
import numpy as np
from bnnbench.packed import product
from bnnbench.packed.bits import pack, pack_images, joined, unpack
from bnnbench.packed.convolution import BinaryConvolution, Geometry, RealConvolution, pack_filters
from bnnbench.packed.dense import BinaryDense, RealDense
from bnnbench.packed.thresholds import Thresholds
assert product.fastest() == {way!r}, product.fastest()
def signs(*shape):
    return np.random.default_rng(len(shape)).integers(0, 2, shape) * 2 - 1
x, w = signs(9, 150), signs(40, 150)[:, ::-1]
layer = BinaryDense(pack(w), 150)
assert (layer(pack(x)) == x @ w.T).all()
thresholds = Thresholds(np.full(40, 2, np.int32), np.resize([False, True], 40))
assert (unpack(layer.signs(pack(x), thresholds), 40) > 0).tolist() == (
    (x @ w.T >= 2) != thresholds.falls).tolist()
assert (RealDense(pack(w), 150)(3 * x.astype(np.float32)) == 3 * x @ w.T).all()
x, w = signs(2, 70, 3, 3), signs(5, 70, 3, 3)
sums = np.einsum("nchw,fchw->nf", x, w)
images = pack_images(x.astype(np.float32))
layer = BinaryConvolution(pack_filters(w), 70, Geometry((3, 3), padding=(1, 1)))
assert (layer(images)[:, 1, 1] == sums).all()
corner = np.einsum("nchw,fchw->nf", x[:, :, :2, :2], w[:, :, 1:, 1:])
assert (layer(images)[:, 0, 0] == corner).all()
layer = RealConvolution(pack_filters(w), 70, Geometry((3, 3)))
last = np.ascontiguousarray(x.transpose(0, 2, 3, 1)).astype(np.float32)
assert (layer(last)[:, 0, 0] == sums).all()
assert joined(images, 70).shape == (2, 10)
print("equal")
"""


def run(code, **environment):
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**os.environ, "PYTHONSAFEPATH": "", **environment},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("way", "environment"),
    [
        ("plain", {"NUMBA_DISABLE_JIT": "1"}),
        ("counts", {"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": ""}),
    ],
)
def test_every_processor_has_the_same_sums(way, environment):
    """By numpy alone where nothing is compiled, without any vectors on a plain processor."""
    done = run(LAYERS.format(way=way), **environment)
    assert done.stdout == "equal\n", done.stderr


def test_no_training_code_is_imported():
    """Nor what it stands on: numpy, numba and torch, and what ``import bnnbench`` itself brings."""
    code = """
import sys
import bnnbench
door = set(sys.modules)
import bnnbench.packed.bits, bnnbench.packed.convolution, bnnbench.packed.dense
import bnnbench.packed.pooling, bnnbench.packed.thresholds
new = {name for name in set(sys.modules) - door if not name.startswith("bnnbench.packed")}
ours = {name for name in new if name.startswith("bnnbench")}
print(sorted(ours - {"bnnbench.errors", "bnnbench.threads"}))
print(sorted(new & {"optuna", "sqlalchemy", "pluggy", "plotly", "pydantic", "sklearn", "click"}))
"""
    done = run(code)
    assert done.stdout == "[]\n[]\n", done.stdout + done.stderr


@pytest.mark.parametrize("threads", [1, 2])
def test_torch_keeps_its_threads(threads):
    """Layers run on as many threads as torch has, and leave it as many."""
    code = f"""
import numpy as np, torch
from bnnbench.packed import product
from bnnbench.packed.bits import pack
from bnnbench.packed.dense import BinaryDense
product.WORTH = 0
torch.set_num_threads({threads})
w = pack(np.ones((3, 100)))
assert (BinaryDense(w, 100)(w) == 100).all()
print(torch.get_num_threads())
"""
    done = run(code, NUMBA_NUM_THREADS="4")
    assert done.stdout.strip() == str(threads), done.stderr
