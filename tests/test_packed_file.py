"""Files of packed networks that are damaged, made up, or not what they say: one line, no harm."""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from bnnbench.errors import DataError, UsageError
from bnnbench.packed import load
from bnnbench.packed.file import FORMAT, digest, read

F32 = np.float32


def plain():
    """The description and the tensors of a network: dense, norm, sign, dense, threshold, dense."""
    nodes = [
        {"op": "flatten", "name": "flat", "inputs": ["input"]},
        {"op": "binary_dense", "name": "d1", "inputs": ["flat"], "features": 4, "outputs": 3},
        {"op": "norm", "name": "n1", "inputs": ["d1"], "channels": 3, "eps": 1e-5},
        {"op": "sign", "name": "s1", "inputs": ["n1"]},
        {"op": "binary_dense", "name": "d2", "inputs": ["s1"], "features": 3, "outputs": 9},
        {"op": "threshold", "name": "t2", "inputs": ["d2"], "channels": 9},
        {"op": "binary_dense", "name": "d3", "inputs": ["t2"], "features": 9, "outputs": 2},
    ]
    description = {
        "shape": [1, 2, 2],
        "classes": 2,
        "nodes": nodes,
        "float32": 400,
        "preprocessing": {"kind": "bytes", "said": "x"},
    }
    tensors = {
        "d1.weight": np.array([[1], [2], [15]], np.uint8),
        "n1.mean": np.zeros(3, F32),
        "n1.variance": np.ones(3, F32),
        "n1.weight": np.ones(3, F32),
        "n1.bias": np.zeros(3, F32),
        "d2.weight": np.arange(9, dtype=np.uint8)[:, None] % 8,
        "t2.least": np.arange(-4, 5, dtype=np.int32),
        "t2.falls": np.zeros(9, np.uint8),
        "d3.weight": np.array([[255, 1], [7, 0]], np.uint8),
        "preprocessing.table": np.arange(256, dtype=F32)[None] / 255,
    }
    return description, tensors


def pictures():
    """Another: convolution, norm, sign, convolution, pooling, threshold, flatten, dense."""
    window = {"kernel": [2, 2], "stride": [2, 2]}
    kernel = {"kernel": [3, 3], "padding": [1, 1]}
    first = {"channels": 1, "filters": 4, "kernel": [2, 2]}
    nodes = [
        {"op": "binary_conv", "name": "c1", "inputs": ["input"], **first, "pad_value": 0},
        {"op": "bias", "name": "b1", "inputs": ["c1"], "channels": 4},
        {"op": "sign", "name": "s1", "inputs": ["b1"]},
        {"op": "binary_conv", "name": "c2", "inputs": ["s1"], "channels": 4, "filters": 2, **kernel}
        | {"groups": 2, "pad_value": -1},
        {"op": "max_pool", "name": "p2", "inputs": ["c2"], **window},
        {"op": "threshold", "name": "t2", "inputs": ["p2"], "channels": 2},
        {"op": "flatten", "name": "f", "inputs": ["t2"]},
        {"op": "binary_dense", "name": "d3", "inputs": ["f"], "features": 8, "outputs": 2},
    ]
    description = {"shape": [1, 5, 5], "classes": 2, "nodes": nodes, "float32": 1}
    tensors = {
        "c1.weight": np.arange(4, dtype=np.uint8)[:, None],
        "b1.bias": np.zeros(4, F32),
        "c2.weight": np.array([[7, 1, 0], [255, 255, 3]], np.uint8),
        "t2.least": np.zeros(2, np.int32),
        "t2.falls": np.array([0, 1], np.uint8),
        "d3.weight": np.array([[1], [9]], np.uint8),
    }
    return description | {"preprocessing": {"kind": "none"}}, tensors


def saved(path, description, tensors, /, **header):
    """Write a file with a checksum that is right."""
    text = description if isinstance(description, str) else json.dumps(description)
    told = {"version": "1", "description": text, "digest": digest(text, tensors), **header}
    save_file(tensors, path, {FORMAT: json.dumps(told)})
    return path


@pytest.fixture
def path(tmp_path):
    return tmp_path / "m.safetensors"


def changed(**values):
    """A change of nodes by name: NAME__FIELD = value; a field that is None is removed."""

    def change(description, tensors):
        for key, value in values.items():
            name, field = key.split("__")
            node = next(n for n in description["nodes"] if n["name"] == name)
            node[field] = value
            if value is None:
                del node[field]

    return change


def top(**values):
    return lambda description, tensors: description.update(values)


def tensor(name, array):
    def change(description, tensors):
        tensors.pop(name, None)
        if array is not None:
            tensors[name] = array

    return change


def node(**values):
    return lambda description, tensors: description["nodes"].append(values)


def narrow(description, tensors):
    """A threshold for fewer channels than there are, its tensors of its size."""
    changed(t2__channels=8)(description, tensors)
    for name in ("t2.least", "t2.falls"):
        tensors[name] = tensors[name][:8]


DAMAGES = {
    "fewer channels": (narrow, "'t2', a threshold, cannot take .9,. .it is made for 8 channels."),
    "unknown operation": (
        changed(s1__op="exec"),
        "Input tag 'exec' found using 'op' does not match",
    ),
    "no operation": (changed(s1__op=None), "nodes.3: Unable to extract tag"),
    "unknown field": (changed(s1__code="import os"), "Extra inputs are not permitted"),
    "a missing field": (changed(d1__features=None), "d1?.*features: Field required"),
    "a name that is a path": (changed(s1__name="../s1"), "String should match pattern"),
    "two nodes of a name": (changed(t2__name="d1", d3__inputs=["d1"]), "two nodes are named 'd1'"),
    "a node named input": (changed(t2__name="input"), "two nodes are named 'input'"),
    "an unknown input": (changed(d2__inputs=["s9"]), "'d2' takes 's9', which no node before it"),
    "a cycle": (changed(d1__inputs=["d3"]), "'d1' takes 'd3', which no node before it gives"),
    "itself": (changed(n1__inputs=["n1"]), "'n1' takes 'n1', which no node before it gives"),
    "no inputs": (changed(s1__inputs=[]), "inputs"),
    "too many inputs": (changed(s1__inputs=["n1", "n1"]), "inputs"),
    "no nodes": (top(nodes=[]), "nodes: Tuple should have at least 1 item"),
    "a shape of nothing": (top(shape=[]), "shape: Tuple should have at least 1 item"),
    "a side of nothing": (top(shape=[1, 0, 2]), "shape.1: Input should be greater than or equal"),
    "an absurd shape": (top(shape=[2**24, 2**24, 2**24]), "n?preprocessing.table|cannot take"),
    "no classes": (top(classes=0), "classes: Input should be greater than or equal to 1"),
    "other classes": (top(classes=3), "ends with ints of shape"),
    "absurd features": (changed(d1__features=2**40), "features: Input should be less than"),
    "other features": (changed(d1__features=5), "'d1', a binary_dense, cannot take"),
    "more outputs": (changed(d1__outputs=4), "'d1.weight' must be U8"),
    "other channels": (changed(t2__channels=8), "'t2.falls' must be U8"),
    "an infinite number": (changed(n1__eps=1e400), "eps: Input should be a finite number"),
    "a missing tensor": (tensor("n1.mean", None), "the tensor 'n1.mean' is missing"),
    "a spare tensor": (tensor("s1.weight", np.zeros(1, F32)), "no node has a tensor 's1.weight'"),
    "another type": (tensor("n1.mean", np.zeros(3)), "must be F32 .3,., got float64"),
    "another shape": (tensor("n1.mean", np.zeros((3, 1), F32)), "must be F32 .3,., got float32"),
    "no number": (tensor("n1.mean", np.full(3, np.nan, F32)), "numbers that are not finite"),
    "bits beyond": (tensor("d1.weight", np.full((3, 1), 16, np.uint8)), "beyond its 4 weights"),
    "a threshold of reals": (
        changed(s1__op="threshold", s1__channels=3),
        "'s1', a threshold, cannot take .3,. .it compares integers.",
    ),
    "a pool of a row": (
        node(op="max_pool", name="p", inputs=["d3"], kernel=[2, 2], stride=[1, 1]),
        "'p', a max_pool, cannot take .2,. .it takes images.",
    ),
    "a result that is too large": (
        node(op="pad", name="p", inputs=["input"], image=[2**20] * 4),
        "'p', a pad, cannot take .1, 2, 2.",
    ),
    "an end of bits": (node(op="sign", name="p", inputs=["d3"]), "ends with bits"),
    "a sum of two shapes": (node(op="add", name="p", inputs=["d3", "t2"]), "'p', a add, cannot"),
    "too few parts": (node(op="concat", name="p", inputs=["d3"]), "at least 2 items"),
    "an unknown preprocessing": (top(preprocessing={"kind": "eval"}), "preprocessing.kind"),
    "a table too many": (top(preprocessing={"kind": "none"}), "no node has a tensor 'preproc"),
    "a table for a row": (top(shape=[4]), "bytes become inputs that are images"),
    "a number as a text": (changed(d1__features="4"), "features: Input should be a valid integer"),
    "another word": (top(hello=1), "hello: Extra inputs are not permitted"),
}


def test_whole(path):
    """The network that the following tests damage is a good one; plain Python gives its outputs."""
    description, tensors = plain()
    packed = load(saved(path, description, tensors))
    inputs = torch.tensor([[[[0.5, -1.0], [2.0, 0.25]]], [[[-1.0, -1.0], [0.0, 3.0]]]])
    assert torch.equal(packed(inputs), torch.tensor(expected(inputs, tensors)))


def expected(inputs, tensors):
    """The outputs of the plain network, number by number."""

    def weight(name, row, column):
        return 1 if tensors[name][row, column // 8] >> (column % 8) & 1 else -1

    outputs = []
    for x in inputs.flatten(1).tolist():
        first = [sum(weight("d1.weight", m, k) * x[k] for k in range(4)) for m in range(3)]
        signs = [1 if y >= 0 else -1 for y in first]  # the norm is the identity, but for its size
        second = [sum(weight("d2.weight", m, k) * signs[k] for k in range(3)) for m in range(9)]
        bits = [1 if y >= m - 4 else -1 for m, y in enumerate(second)]
        third = [sum(weight("d3.weight", m, k) * bits[k] for k in range(9)) for m in range(2)]
        outputs.append([float(y) for y in third])
    return outputs


def test_integers_that_two_nodes_take(path):
    """Where a threshold and another node take a layer's integers, both are given them."""
    description, tensors = plain()
    inputs = torch.tensor([[[[0.5, -1.0], [2.0, 0.25]]]])
    before = torch.tensor(expected(inputs, tensors))
    beside = {"op": "dense", "name": "r", "inputs": ["d2"], "features": 9, "outputs": 2}
    description["nodes"].insert(5, beside)
    description["nodes"].append({"op": "add", "name": "a", "inputs": ["d3", "r"]})
    tensors["r.weight"] = np.zeros((2, 9), F32)
    tensors["r.weight"][:, 4] = [1, 10]  # of weights - - +: 4 is 100 in binary
    # rows of d1: + - - -, - + - -, + + + +, whose sums are -0.75, -3.75 and 1.75
    fifth = 1 + 1 + 1
    packed = load(saved(path, description, tensors))
    assert torch.equal(packed(inputs), before + torch.tensor([[1.0, 10.0]]) * fifth)


@pytest.mark.parametrize("name", DAMAGES)
def test_damage(name, path):
    """What is not as it must be is named in one line; nothing is computed."""
    description, tensors = plain()
    change, told = DAMAGES[name]
    change(description, tensors)
    if name == "a threshold of reals":
        tensors |= {"s1.least": np.zeros(3, np.int32), "s1.falls": np.zeros(3, np.uint8)}
    with pytest.raises(DataError, match=told) as caught:
        load(saved(path, description, tensors))
    assert "\n" not in str(caught.value)
    assert "export it again with 'bnnbench export'" in str(caught.value)


@pytest.mark.parametrize(
    ("header", "told"),
    [
        ({"version": 1}, "its version is 1; this bnnbench reads version 1"),
        ({"description": ["x"]}, "its header has no description"),
        ({"version": "2"}, "its version is '2'; this bnnbench reads version 1"),
        ({"version": "1.0"}, "its version is '1.0'"),
        ({"digest": "0"}, "its checksum is another"),
    ],
)
def test_header(header, told, path):
    """A file of another format or version, or with another checksum, is refused."""
    with pytest.raises(DataError, match=told):
        load(saved(path, *plain(), **header))


@pytest.mark.parametrize("text", ["", "[]", "null", "{", '{"nodes": 1}', "[" * 5000, '"\\ud800"'])
def test_text_that_is_no_description(text, path):
    """A header with any text in place of the description is refused in one line."""
    with pytest.raises(DataError, match="cannot be used as a packed network") as caught:
        load(saved(path, text, plain()[1]))
    assert "\n" not in str(caught.value)


def test_no_header(path):
    """A safetensors file of somebody else is refused."""
    save_file(plain()[1], path)
    with pytest.raises(DataError, match="its header has no entry 'bnnbench-packed'"):
        load(path)
    for text in ("", "[1]", "{", "[" * 9999, "null"):
        save_file(plain()[1], path, {FORMAT: text})
        with pytest.raises(DataError, match="its header is no JSON") as caught:
            load(path)
        assert "\n" not in str(caught.value)


def test_no_file(path):
    """A file that is not there is named, and what makes one."""
    with pytest.raises(DataError, match=r"there is no packed network at .*m\.safetensors; export"):
        load(path)
    with pytest.raises(DataError, match="cannot be used as a packed network"):
        load(path.parent)


def test_cut_and_lengthened(path):
    """A file that is cut off anywhere, or has something behind it, is refused."""
    whole = saved(path, *plain()).read_bytes()
    for end in [*range(0, len(whole), 61), len(whole) - 1]:
        path.write_bytes(whole[:end])
        with pytest.raises(DataError, match="it is no safetensors file"):
            load(path)
    for more in (b"\0", b"PK\3\4" * 9):
        path.write_bytes(whole + more)
        with pytest.raises(DataError, match="it is no safetensors file"):
            load(path)


#: values of the right types
NEAR = st.integers(-1, 6) | st.lists(st.integers(0, 6), min_size=1, max_size=3) | st.booleans()


def ran(path):
    """Load a network and let it run."""
    packed = load(path)
    packed(torch.zeros(2, *packed.shape))


def said(work, path):
    """What a file is refused with, or nothing."""
    try:
        work(path)
    except DataError as error:
        return str(error)
    return ""


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 2**65) | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=4,
)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_anything_in_place_of_anything(tmp_path_factory, data):
    """Any value in any place of the description gives a network or one line, nothing else."""
    path = tmp_path_factory.mktemp("x") / "m"
    description, tensors = data.draw(st.sampled_from([plain, pictures]))()
    node = data.draw(st.sampled_from(description["nodes"]) | st.just(description))
    node[data.draw(st.sampled_from([*node, "more"]))] = data.draw(JSON | NEAR)
    assert "\n" not in said(ran, saved(path, description, tensors))


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(place=st.integers(0, 10**9), byte=st.integers(0, 255))
def test_any_byte_in_place_of_any(tmp_path_factory, place, byte):
    """A changed byte is found; one that is not changed, or says the same, does no harm."""
    path = saved(tmp_path_factory.mktemp("x") / "m", *plain())
    before = read(path)
    damaged = bytearray(path.read_bytes())
    damaged[place % len(damaged)] = byte
    path.write_bytes(damaged)
    error = said(read, path)
    assert "\n" not in error
    if not error:
        after = read(path)
        assert after[0] == before[0]
        assert all(np.array_equal(after[1][name], array) for name, array in before[1].items())


def test_inputs_of_another_shape(path):
    """Inputs that do not fit are refused by their shape and type."""
    packed = load(saved(path, *plain()))
    for wrong in (torch.zeros(1, 4), torch.zeros(1, 1, 2, 2, dtype=torch.float64)):
        with pytest.raises(UsageError, match=r"takes float32 inputs \(batch, 1, 2, 2\), got"):
            packed(wrong)
    assert packed(torch.zeros(0, 1, 2, 2)).shape == (0, 2)


def test_preprocessing(path):
    """Raw bytes become inputs by the table; where there is none, it says who prepares them."""
    description, tensors = plain()
    packed = load(saved(path, description, tensors))
    raw = np.array([[[[0, 255], [51, 1]]]], np.uint8)
    assert torch.equal(packed.preprocess(raw), torch.from_numpy(raw.astype(F32) / 255))
    for wrong in (raw.astype(F32), raw[0]):
        with pytest.raises(UsageError, match=r"raw images must be uint8 \(batch, 1, 2, 2\)"):
            packed.preprocess(wrong)
    description["preprocessing"] = {"kind": "none", "said": "digits"}
    del tensors["preprocessing.table"]
    with pytest.raises(UsageError, match=r"how raw images become inputs \(digits\)"):
        load(saved(path, description, tensors)).preprocess(raw)


def test_the_file_is_as_documented(path):
    """A file needs nothing but a reader of safetensors and JSON to be understood."""
    description, tensors = plain()
    saved(path, description, copy.deepcopy(tensors))
    found = load_file(path)
    assert found.keys() == tensors.keys()
    whole = path.read_bytes()
    header = json.loads(whole[8 : 8 + int.from_bytes(whole[:8], "little")])
    told = json.loads(header["__metadata__"]["bnnbench-packed"])
    assert json.loads(told["description"]) == description
