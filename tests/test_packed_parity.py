"""Trained networks are packed, read back and compared with themselves, by method and network."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from bnnbench.errors import BnnbenchError, UsageError
from bnnbench.packed import load
from bnnbench.packed.file import read, write
from bnnbench.packed.network import PackedNetwork
from bnnbench.packing.again import check
from bnnbench.packing.export import as_safetensors, export, placed
from bnnbench.packing.integers import integers
from bnnbench.packing.modules import Layer
from bnnbench.packing.parity import ParityError
from bnnbench.plugins import load_plugins
from bnnbench.runs import Part
from tests.conftest import ROOT
from tests.packing import Bench, batch, images, run_of, train, trained

METHODS = [
    ("ste", {"lr": 1e-2}),
    ("binaryconnect", {"lr": 1e-2}),
    ("binaryconnect", {"lr": 1e-2, "scale": "glorot"}),
    ("binaryconnect", {"lr": 1e-2, "binarization": "stochastic"}),
    ("bop", {}),
    ("bop2", {}),
    ("xnor", {"lr": 1e-2}),
    ("two-step", {"lr": 1e-2, "decay": "step"}),
    ("bmd", {"lr": 1e-1}),
    ("bnew", {}),
    ("proxquant", {}),
    ("frozen-random", {"lr": 1e-1, "lr_end": 1e-2}),
]
REFUSED = {  #: the methods that train with more than two values a filter, and what these are
    "real": "real weights",
    "relaxed": "real weights",
    "ternary": "2 bits",
}
NETWORKS = [
    ("mlp", {"depth": 1, "width": 30, "activation": "sign", "dropout": 0.1, "last": "real"}, 8),
    ("mlp", {"depth": 2, "width": 33, "activation": "relu"}, 8),
    ("mlp", {"depth": 2, "width": 16, "activation": "rprelu", "first": "real"}, 8),
    ("binarynet", {"width": 5, "dense": 20, "activation": "sign", "pad_value": -1}, 8),
    ("binarynet", {"width": 5, "dense": 20, "activation": "sign", "pad_value": 1}, 8),
    ("binarynet", {"width": 5, "dense": 20, "activation": "sign", "bn_scale": False}, 16),
    (
        "binarynet",
        {"width": 4, "dense": 9, "activation": "hardtanh", "padding": "valid-first"},
        16,
    ),
    ("vgg-small", {"width": 6, "activation": "reste"}, 8),
    ("vgg-small", {"width": 4, "activation": "rsign"}, 8),
    ("vgg16", {"width": 4, "dense": 16, "activation": "sign"}, 32),
    ("nin", {"width": 8}, 8),
    ("resnet18", {"width": 4, "activation": "sign"}, 8),
    ("wrn22", {"width": 4, "blocks": 1}, 8),
    ("bnew-small", {"width": 4, "blocks": 1, "activation": "rsign"}, 16),
    ("bireal18", {"width": 4, "stem": "cifar"}, 8),
    ("bireal18", {"width": 4}, 32),
    ("bireal20", {"width": 4, "pad_value": -1}, 8),
    ("reactnet-a", {"width": 2, "stem": "cifar"}, 16),
    ("reactnet-18", {"width": 4, "stem": "cifar"}, 8),
    ("binarydensenet28", {"width": 4, "stem": "cifar"}, 8),
]


def named(cases):
    """What pytest is to call cases of a name and hyperparameters."""
    return [f"{name}-{'-'.join(str(v) for v in given.values())}" for name, given, *_ in cases]


def test_every_method_is_packed_or_refused():
    """The bundled methods are those that are packed below, and those that are refused: all."""
    plugins = load_plugins()
    found = [plugins.component("methods", name) for name in plugins.names("methods")]
    bundled = [c.name for c in found if c.plugin.distribution == "bnnbench"]
    packed = {method for method, _ in METHODS}
    assert sorted(bundled) == sorted([*packed, *REFUSED])


@pytest.mark.parametrize("method", REFUSED)
def test_methods_that_are_refused(method):
    """Before anything is trained, with the layer and what its weights are."""
    bench = Bench(images(8))
    told = f"judged by '{method}' and trains with more than two values a filter, as in 'dense1' "
    with pytest.raises(UsageError, match=f"{told}.{REFUSED[method]}.; export a run of a binary"):
        check(bench, run_of(bench, method))


def mlp(method, width=48):
    """A network that the method learns in: where binary weights never move, the last are real."""
    last = "real" if method == "frozen-random" else "binary"
    return Part("mlp", {"depth": 2, "width": width, "activation": "sign", "last": last})


@pytest.mark.parametrize(("method", "given"), METHODS, ids=named(METHODS))
def test_method(method, given, tmp_path):
    """Of every binary method the packed network predicts what the trained one does: all images.

    What it is compared with has the accuracy that training measured in the binary mode, and has
    learned something: three times what chance has.
    """
    architecture = mlp(method)
    network, data, accuracy = trained(method, architecture, epochs=8, **given)
    made = export(network, data, tmp_path / "m.safetensors")
    assert made.compared.accuracy == pytest.approx(accuracy["binary"], abs=0)
    assert accuracy["binary"] > 30
    assert (made.compared.examples, made.compared.differing) == (150, 0)
    outputs = [48, 10] if architecture.hyperparameters["last"] == "binary" else [48]
    assert made.integers == (len(outputs), 150 * sum(outputs), 0)
    packed = load(tmp_path / "m.safetensors")
    assert torch.equal(packed(data.test.inputs).argmax(1), network(data.test.inputs).argmax(1))


@pytest.mark.parametrize(("name", "given", "side"), NETWORKS, ids=named(NETWORKS))
def test_network(name, given, side, tmp_path):
    """Every architecture's trained network predicts the same once packed, with every scale.

    It tells zeros from ones, more often than three times in four.
    """
    epochs = 12 if name == "vgg16" else 6  # no shortcut goes past its 16 layers of signs
    network, data, accuracy = trained("bop2", Part(name, given), side, epochs, classes=2)
    made = export(network, data, tmp_path / "m.safetensors")
    assert (made.compared.examples, made.compared.differing) == (len(data.test), 0)
    assert made.compared.accuracy == accuracy["binary"]
    assert accuracy["binary"] > 75


@pytest.mark.parametrize("name", ["binarynet", "bireal20"])
def test_scaled_network(name, tmp_path):
    """Convolutions of XNOR-Net's weights, with a height for each filter, are packed too."""
    given = {"width": 4, "activation": "sign"}
    network, data, _ = trained("xnor", Part(name, given), epochs=1)
    made = export(network, data, tmp_path / "m.safetensors")
    assert made.compared.differing == 0
    assert made.integers.layers >= 8


def test_weights_with_a_shift(tmp_path):
    """AdaBin's filters, each with two values of its own, are packed, and their integers equal."""
    bench = Bench(images(8))
    bench.plugins = load_plugins(files=[ROOT / "examples/plugins/adabin/adabin.py"])
    run = run_of(bench, "adabin", mlp("adabin"), epochs=8)
    kept, accuracy = train(bench, run)
    made = export(placed(kept, bench.network(run)), bench.data, tmp_path / "m.safetensors")
    assert {"dense2.sum", "dense3.sum"} <= {row.name for row in made.packed.rows()}
    assert (made.compared.examples, made.compared.differing) == (150, 0)
    assert made.integers == (2, 150 * (48 + 10), 0)
    assert accuracy["binary"] > 30


def test_statistics_that_are_estimated_again(tmp_path):
    """With re-estimated statistics the packed network has those of its own binary weights."""
    bench = Bench(images(8))
    given = {"lr": 1e-2, "binarization": "stochastic"}
    run = replace(run_of(bench, "binaryconnect", **given), reestimate=3)
    kept, accuracy = train(bench, run)
    made = export(placed(kept, bench.network(run)), bench.data, tmp_path / "m.safetensors")
    assert made.compared.accuracy == accuracy["binary"] != accuracy["real"]


def test_segmentation(tmp_path):
    """A U-Net that says of each pixel whether there is ink says the same once packed."""
    shape = Part("unet", {"width": 4, "depth": 2, "activation": "sign"})
    network, data, accuracy = trained("bop", shape, epochs=2)
    made = export(network, data, tmp_path / "m.safetensors")
    assert made.compared.accuracy == accuracy["binary"] > 70
    outputs = made.packed(batch(data))
    assert outputs.shape == (64, 2, 8, 8)


def test_fused_steps_change_nothing(tmp_path):
    """What several nodes give at once is what they give one by one, bit for bit."""
    given = {"width": 5, "dense": 20, "activation": "sign", "pad_value": -1}
    network, data, _ = trained("bop", Part("binarynet", given), epochs=1)
    export(network, data, tmp_path / "m.safetensors")
    description, tensors = read(tmp_path / "m.safetensors")
    one_by_one = PackedNetwork(description, tensors, fused=False)
    fused = PackedNetwork(description, tensors)
    assert len(fused.steps) < len(one_by_one.steps)
    assert torch.equal(fused(batch(data)), one_by_one(batch(data)))


def flipped(draft_of):
    """A form that writes a file with one weight turned, its checksum right."""

    def form(path, description, tensors):
        name = next(n for n in tensors if n.startswith(draft_of) and n.endswith(".weight"))
        turned = tensors[name].copy()
        turned[:, 0] ^= 1
        return as_safetensors(path, description, {**tensors, name: turned})

    return form


def test_turned_weights_are_noticed(tmp_path):
    """A file that holds another network, by its checksum whole, is not written."""
    network, data, _ = trained()
    path = tmp_path / "m.safetensors"
    with pytest.raises(ParityError, match=r"on 150 examples \d+ predictions differ; nothing was"):
        export(network, data, path, form=flipped("dense3"))
    assert [*tmp_path.iterdir()] == []


def test_a_turned_weight_is_noticed_by_the_integers(tmp_path):
    """A single weight in a layer of bits shows in the integers, whatever the predictions say."""
    network, data, _ = trained()
    made = export(network, data, tmp_path / "m.safetensors")
    description, tensors = read(tmp_path / "m.safetensors")
    layers = {name: Layer(name, None) for name in ("dense2", "dense3")}
    assert integers(network, made.packed, layers, batch(data)) == (2, 64 * (48 + 10), 0)
    tensors["dense2.weight"][47, 5] ^= 128
    with pytest.raises(ParityError, match="those of 'dense2' are not"):
        integers(network, PackedNetwork(description, tensors), layers, batch(data))


def test_a_broken_bit_is_damage(tmp_path):
    """A file of which one bit is another is refused, wherever the bit is."""
    network, data, _ = trained()
    path = tmp_path / "m.safetensors"
    export(network, data, path)
    whole = path.read_bytes()
    places = np.random.RandomState(0).randint(8 * len(whole), size=60)
    for place in places:
        damaged = bytearray(whole)
        damaged[place // 8] ^= 1 << place % 8
        path.write_bytes(damaged)
        with pytest.raises(BnnbenchError, match=r"m\.safetensors cannot be used as a packed"):
            load(path)


CHILD = """
import sys, numpy, torch
from bnnbench.packed import load
packed = load(sys.argv[1])
numpy.save(sys.argv[2], packed(torch.from_numpy(numpy.load(sys.argv[3]))).numpy())
known = ("bnnbench.packed", "bnnbench.errors", "bnnbench.threads")
print(sorted(m for m in sys.modules if m.startswith("bnnbench") and not m.startswith(known)))
"""


def test_no_training_code(tmp_path):
    """A packed network runs in a process that never imports what trains; answers are the same."""
    network, data, _ = trained()
    made = export(network, data, tmp_path / "m.safetensors")
    inputs = batch(data)
    np.save(tmp_path / "in.npy", inputs.numpy())
    names = [str(tmp_path / name) for name in ("m.safetensors", "out.npy", "in.npy")]
    done = subprocess.run(
        [sys.executable, "-c", CHILD, *names], check=True, capture_output=True, text=True
    )
    assert done.stdout.strip() == "['bnnbench', 'bnnbench.hookspecs', 'bnnbench.spaces']"
    assert np.array_equal(np.load(tmp_path / "out.npy"), made.packed(inputs).numpy())


def test_the_file_is_small(tmp_path):
    """A binary weight takes a bit: 48 x 64, 48 x 48 and 10 x 48 of them, in rows of bytes."""
    network, data, _ = trained()
    size = export(network, data, tmp_path / "m.safetensors").packed.size()
    assert size["binary"] == 48 * 8 + 48 * 6 + 10 * 6
    assert size["thresholds"] == 48 * 5
    assert size["real"] == 4 * 4 * (48 + 10)
    weights, norms = 48 * 64 + 48 * 48 + 10 * 48, 4 * (48 + 48 + 10)
    assert size["float32"] == 4 * (weights + norms)


def test_writing_twice_gives_the_same_bytes(tmp_path):
    """A file depends on the network alone."""
    network, data, _ = trained()
    for name in "ab":
        export(network, data, tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    description, tensors = read(tmp_path / "a")
    write(tmp_path / "c", description, tensors)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "c").read_bytes()
