"""Packed networks in ONNX give what the trained ones do, in onnxruntime."""

from __future__ import annotations

import importlib.util
import json

import numpy as np
import pytest
import torch

from bnnbench.errors import UsageError
from bnnbench.packed.description import Description
from bnnbench.packed.network import PackedNetwork
from bnnbench.packed.values import real
from bnnbench.packing.export import export
from bnnbench.packing.onnx import Runner, as_onnx, check_extra
from bnnbench.packing.parity import ParityError
from bnnbench.runs import Part

from .packing import batch, trained
from .test_packed_file import pictures

onnx = pytest.importorskip("onnx", reason="the extra 'onnx' is not installed")
pytest.importorskip("onnxruntime", reason="the extra 'onnx' is not installed")

NETWORKS = [
    ("mlp", {"depth": 2, "width": 33, "activation": "sign"}, 8),
    ("mlp", {"depth": 2, "width": 16, "activation": "rprelu", "first": "real"}, 8),
    ("binarynet", {"width": 5, "dense": 20, "activation": "sign", "pad_value": -1}, 8),
    ("binarynet", {"width": 4, "dense": 9, "activation": "hardtanh", "bn_scale": False}, 8),
    ("vgg-small", {"width": 6, "pad_value": 1}, 8),
    ("nin", {"width": 8}, 8),
    ("bnew-small", {"width": 4, "blocks": 1, "activation": "rsign"}, 16),
    ("bireal18", {"width": 4}, 32),
    ("bireal20", {"width": 4}, 8),
    ("reactnet-a", {"width": 2, "stem": "cifar"}, 16),
    ("binarydensenet28", {"width": 4, "stem": "cifar"}, 8),
]


@pytest.mark.parametrize(("name", "given", "side"), NETWORKS, ids=[n[0] for n in NETWORKS])
@pytest.mark.parametrize("method", ["bop", "xnor"])
def test_network(name, given, side, method, tmp_path):
    """onnxruntime predicts from the file what the trained network does, on all test images."""
    network, data, _ = trained(method, Part(name, given), side, epochs=1)
    path = tmp_path / "m.onnx"
    made = export(network, data, path, form=as_onnx)
    assert (made.compared.examples, made.compared.differing) == (150, 0)
    onnx.checker.check_model(str(path), full_check=True)
    want = network(data.test.inputs)
    torch.testing.assert_close(Runner(path)(data.test.inputs), want, rtol=1e-4, atol=1e-4)


def test_thresholds_that_fall(tmp_path):
    """A threshold with channels of both directions gives the signs that the packed network has."""
    told, tensors = pictures()
    description = Description.model_validate_json(json.dumps(told))
    run = as_onnx(tmp_path / "m.onnx", description, tensors)
    inputs = torch.randn(60, 1, 5, 5, generator=torch.Generator().manual_seed(0))
    outputs = PackedNetwork(description, tensors)(inputs)
    assert len(outputs.unique()) > 3
    assert torch.equal(run(inputs), outputs)


def test_signs_are_told(tmp_path):
    """Who watches is told each activation's signs, those of the packed network; outputs stay."""
    network, data, _ = trained()
    runs = []

    def form(*given):
        runs.append(as_onnx(*given))
        return runs[0]

    made = export(network, data, tmp_path / "m.onnx", form=form)
    theirs, ours, inputs = {}, {}, batch(data)
    outputs = runs[0](inputs, theirs.__setitem__)
    made.packed(inputs, lambda name, value: ours.__setitem__(name, real(value)))
    assert [*theirs] == ["sign1", "sign2"]
    assert all(torch.equal(theirs[name], ours[name]) for name in theirs)
    assert torch.equal(outputs, runs[0](inputs))


def test_any_batch(tmp_path):
    """The model takes batches of any size."""
    network, data, _ = trained()
    export(network, data, tmp_path / "m.onnx", form=as_onnx)
    run = Runner(tmp_path / "m.onnx")
    inputs = batch(data, 7)
    one_by_one = torch.cat([run(inputs[k : k + 1]) for k in range(7)])
    torch.testing.assert_close(run(inputs), one_by_one)


def test_weights_are_signs(tmp_path):
    """Binary weights are int8 of +1 and -1 in the model, and standard operators alone use them."""
    network, data, _ = trained()
    export(network, data, tmp_path / "m.onnx", said="digits", form=as_onnx)
    model = onnx.load(tmp_path / "m.onnx")
    arrays = {a.name: onnx.numpy_helper.to_array(a) for a in model.graph.initializer}
    for name in ("dense1", "dense2", "dense3"):
        weight = arrays[f"{name}.weight"]
        assert weight.dtype == np.int8
        assert np.array_equal(weight, network.get_submodule(name).weight.numpy())
    assert {operator.domain for operator in model.graph.node} == {""}
    told = {entry.key: json.loads(entry.value) for entry in model.metadata_props}
    assert told["classes"] == 10
    assert told["preprocessing"] == {"kind": "none", "said": "digits"}


def test_turned_weights_are_noticed(tmp_path):
    """A model that holds another network is not written."""
    network, data, _ = trained()

    def form(path, description, tensors):
        tensors["dense3.weight"] = tensors["dense3.weight"] ^ 1
        return as_onnx(path, description, tensors)

    with pytest.raises(ParityError, match="predictions differ; nothing was written"):
        export(network, data, tmp_path / "m.onnx", form=form)
    assert [*tmp_path.iterdir()] == []


def test_missing_extra(monkeypatch):
    """Without the extra the format is refused with the command that installs it."""
    real = importlib.util.find_spec
    for name in ("onnx", "onnxruntime"):
        monkeypatch.setattr(
            importlib.util,
            "find_spec",
            lambda wanted, n=name: None if wanted == n else real(wanted),
        )
        with pytest.raises(UsageError, match=f"package '{name}'.*pip install 'bnnbench.onnx.'"):
            check_extra()
