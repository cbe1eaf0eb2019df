"""What a network is made of: counts against published ones, loops and torch's; the command."""

from __future__ import annotations

import io
import itertools
import json
import math
import random
import subprocess
import sys

import pytest
import torch
from rich.console import Console
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from bnnbench.cli import main
from bnnbench.cli.architectures import SPARE, layers_table, sentences, totals_table
from bnnbench.errors import UsageError
from bnnbench.layers import BinaryActivation, BinaryConv2d, BinaryLinear
from bnnbench.plugins import Component, Plugin, load_plugins
from bnnbench.roles import places
from bnnbench.summary import Layer, Summary, summarize
from bnnbench_plugins.architectures.activations import Bias, RPReLU, RSign
from bnnbench_plugins.architectures.binarynet import binarynet
from bnnbench_plugins.architectures.mlp import mlp
from bnnbench_plugins.binarizers import Sign, SignHardTanh

MNIST = {"shape": (1, 28, 28), "classes": 10}
CIFAR = {"shape": (3, 32, 32), "classes": 10}
SMALL = {"shape": (2, 8, 8), "classes": 3}


def sign():
    return BinaryActivation(SignHardTanh())


def layers_of(network, shape):
    return {layer.name: layer for layer in summarize(network, shape).layers}


def by_bits(**macs):
    """ "w1a32 = 5" is 5 MACs of 1-bit weights with real inputs, the other kinds are 0."""
    return {f"{w}/{a}": macs.get(f"w{w}a{a}", 0) for w, a in itertools.product((1, 32), (1, 32))}


def test_the_mlp_of_binaryconnect():
    """2,910,208 binary weights, each used once; 3,082 units with 2 parameters and 2 statistics."""
    summary = summarize(mlp(**MNIST), (1, 28, 28))

    counts = summary.counts
    assert {"binary": 2_910_208, "real": 2 * 3082, "statistics": 2 * 3082} == {
        name: counts[name] for name in ("binary", "real", "statistics")
    }
    assert 2_910_208 == counts["macs"] == 784 * 1024 + 2 * 1024 * 1024 + 1024 * 10
    assert by_bits(w1a32=2_910_208) == summary.macs


@pytest.mark.parametrize(
    ("options", "binary", "millions", "first"),
    [
        ({}, 14_022_016, 617.0, 27 * 128 * 32 * 32),
        ({"padding": "valid-first"}, 10_352_000, 514.1, 27 * 128 * 30 * 30),
    ],
)
def test_the_networks_of_binaryconnect_and_bop(options, binary, millions, first):
    """Published counts: 14,022,016 and 10,352,000 binary weights, 617.0 and 514.1 million MACs.

    With signs all but the first layer's multiply bits.
    """
    real = summarize(binarynet(**CIFAR, **options), (3, 32, 32))
    signs = summarize(binarynet(**CIFAR, **options, activation="sign"), (3, 32, 32))

    assert [binary, 7700, 7700] == [real.counts[name] for name in ("binary", "real", "statistics")]
    assert millions == round(real.counts["macs"] / 1e6, 1)
    assert by_bits(w1a32=real.counts["macs"]) == real.macs
    assert by_bits(w1a32=first, w1a1=real.counts["macs"] - first) == signs.macs


def convolve(x, weight, stride, padding, dilation, groups):
    """A convolution in loops, on lists; returns its outputs and the number of multiply-adds."""
    outputs, (filters, inside, high, wide) = [], weight.shape
    x = nn.functional.pad(x, (padding,) * 4).tolist()
    rows, columns = (
        range(0, len(side) - dilation * (size - 1), stride)
        for side, size in ((x[0], high), (x[0][0], wide))
    )
    count = 0
    for f, top, left in itertools.product(range(filters), rows, columns):
        total, group = 0.0, f // (filters // groups)
        for c, i, j in itertools.product(range(inside), range(high), range(wide)):
            value = x[group * inside + c][top + dilation * i][left + dilation * j]
            total += value * weight[f, c, i, j].item()
            count += 1
        outputs.append(total)
    return outputs, count


@pytest.mark.parametrize("seed", range(8))
def test_macs_of_convolutions(seed):
    """The multiply-adds of a convolution in plain loops, which gives what torch gives."""
    chance = random.Random(seed)
    torch.manual_seed(seed)
    groups, sides = chance.choice([1, 2, 4]), (chance.randint(5, 8), chance.randint(5, 8))
    options = {
        "stride": chance.randint(1, 3),
        "padding": chance.randint(0, 2),
        "dilation": chance.randint(1, 2),
        "groups": groups,
    }
    kernel = (chance.randint(1, 3), chance.randint(1, 3))
    kind = chance.choice([nn.Conv2d, BinaryConv2d])
    layer = kind(4, 4 * chance.randint(1, 2), kernel, bias=False, **options)
    x = torch.randn(4, *sides)

    outputs, count = convolve(x, layer.weight, **options)
    summary = summarize(layer, (4, *sides))

    torch.testing.assert_close(
        layer(x[None]).flatten(), torch.tensor(outputs), rtol=1e-4, atol=1e-5
    )
    assert count == summary.counts["macs"]
    assert count == summary.macs["1/32" if kind is BinaryConv2d else "32/32"]


class Twice(nn.Module):
    """A layer that is used twice, the second time on signs."""

    def __init__(self, again):
        super().__init__()
        self.dense, self.again, self.scale = nn.Linear(6, 6), again, nn.Parameter(torch.ones(1))

    def forward(self, x):
        return self.again(self.dense(self.dense(input=self.again(x)))) * self.scale


@pytest.mark.parametrize(
    ("network", "shape"),
    [
        (nn.ConvTranspose2d(3, 4, 3, stride=2, groups=1), (3, 5, 4)),
        (nn.Conv1d(3, 6, 3, padding=1, groups=3), (3, 7)),
        (nn.Linear(4, 5), (3, 4)),
        (Twice(nn.ReLU()), (6,)),
        (binarynet(**SMALL, width=2, dense=4, activation="sign", pad_value=1), (2, 8, 8)),
    ],
)
def test_macs_as_torch_counts_them(network, shape):
    """Half of the floating-point operations of torch's own counter."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network.eval()(torch.zeros(1, *shape))

    assert counter.get_total_flops() == 2 * summarize(network, shape).counts["macs"] > 0


def test_a_layer_that_is_used_twice():
    """Its weights are kept once and multiplied twice; real inputs once are real inputs."""
    signs = layers_of(Twice(sign()), (6,))
    real = layers_of(Twice(nn.ReLU()), (6,))
    dense = nn.Linear(6, 6)
    after = layers_of(nn.Sequential(dense, sign(), dense), (6,))

    assert (42, 72, 2) == (signs["dense"].real, signs["dense"].macs, signs["dense"].calls)
    assert (32, 32) == (signs["dense"].input_bits, real["dense"].input_bits)
    assert (32, 2) == (after["0"].input_bits, after["0"].calls)
    assert ("Twice", 1, (6,)) == (signs[""].kind, signs[""].real, signs[""].output)


REAL = ["relu", "hardtanh", "rprelu"]
ONE_BIT = ["sign", "quadratic", "swish", "ede", "reste", "rsign"]


@pytest.mark.parametrize("build", [mlp, binarynet])
@pytest.mark.parametrize("activation", [*REAL, *ONE_BIT])
@pytest.mark.parametrize("width", [1, 3])
def test_bits_of_inputs(build, activation, width):
    """The image is real; then signs are of one bit, real activations never, however few."""
    network = build(**SMALL, width=width, activation=activation, last="real")
    found = [layer for layer in summarize(network, (2, 8, 8)).layers if layer.weight_bits]

    hidden = 1 if activation in ONE_BIT else 32
    assert [32] + [hidden] * (len(found) - 1) == [layer.input_bits for layer in found]
    assert [1] * (len(found) - 1) + [32] == [layer.weight_bits for layer in found]


@pytest.mark.parametrize(
    ("before", "bits"),
    [
        (nn.Sequential(sign(), nn.MaxPool2d(2)), 1),
        (nn.Sequential(sign(), nn.AvgPool2d(2)), 32),
        (nn.Sequential(sign(), nn.Flatten(), nn.Dropout(0.5)), 1),
        (nn.Sequential(sign(), nn.ConstantPad2d(1, 0.0)), 1),
        (nn.Sequential(sign(), nn.ReLU()), 1),
        (BinaryActivation(Sign(0.5)), 32),
        (nn.Sequential(nn.ReLU(), Bias(3), nn.Threshold(9.0, 0.0)), 32),
        (nn.Identity(), 32),
    ],
)
def test_bits_of_inputs_are_those_of_their_values(before, bits):
    """Pooled maxima of signs are signs, means are not; nothing but zeros is no signal."""
    shape = before(torch.zeros(1, 3, 4, 4)).shape
    network = nn.Sequential(before, nn.Flatten(), nn.Linear(math.prod(shape), 2))

    assert bits == layers_of(network, (3, 4, 4))["2"].input_bits


@pytest.mark.parametrize(
    ("options", "zeros"),
    [
        ({}, False),
        ({"padding": 1}, True),
        ({"padding": (0, 1)}, True),
        ({"padding": "same"}, True),
        ({"padding": "valid"}, False),
        ({"padding": 1, "padding_mode": "circular"}, False),
    ],
)
def test_zeros_among_signs(options, zeros):
    """A ring of zeros is a third value around signs, not around zeros and ones or real numbers."""
    layer = BinaryConv2d(2, 3, 3, **options)
    signs = nn.Sequential(sign(), layer)
    ones = nn.Sequential(nn.ReLU(), sign(), layer)
    step = nn.Sequential(sign(), nn.ReLU(), layer)
    ring = nn.Sequential(sign(), nn.ConstantPad2d(2, 0.0), layer)

    assert zeros is layers_of(signs, (2, 5, 5))["1"].zeros
    assert zeros is layers_of(ones, (2, 5, 5))["2"].zeros
    assert not layers_of(step, (2, 5, 5))["2"].zeros
    assert layers_of(ring, (2, 5, 5))["2"].zeros
    assert not layers_of(nn.Sequential(layer), (2, 5, 5))["0"].zeros


@pytest.mark.parametrize(("pad_value", "zeros"), [(0, True), (1, False), (-1, False)])
def test_zeros_of_binarynet(pad_value, zeros):
    """The hidden convolutions of the published network see three values, dense layers two."""
    network = binarynet(
        shape=(3, 16, 16), classes=2, width=8, dense=8, activation="sign", pad_value=pad_value
    )
    found = [layer for layer in summarize(network, (3, 16, 16)).layers if layer.weight_bits]

    assert [False] + [zeros] * 5 + [False] * 3 == [layer.zeros for layer in found]


class Odd(nn.Module):
    """What networks may hold besides plain layers."""

    def __init__(self):
        super().__init__()
        self.conv, self.same = BinaryConv2d(2, 3, 3, bias=True), nn.Conv2d(2, 3, 1)
        self.tied = nn.Conv2d(2, 3, 1)
        self.tied.weight = self.same.weight
        self.norm = nn.BatchNorm2d(3, affine=False)
        self.idle = BinaryLinear(5, 7)
        self.scales = nn.ParameterList([torch.ones(3, 1, 1), torch.ones(1)])
        self.register_buffer("mean", torch.zeros(11))
        self.register_buffer("scratch", torch.zeros(13), persistent=False)
        self.act = nn.Sequential(RPReLU(3), RSign(3))

    def forward(self, x):
        y = self.norm(self.conv(x)) + (self.same(x) + self.tied(x))[..., 1:-1, 1:-1]
        return {"y": self.act(y * self.scales[0] * self.scales[1])}


def test_nothing_is_lost_and_nothing_counted_twice():
    """Biases are real, tied weights are kept once, unused layers too; scratch is not kept."""
    network = Odd()
    layers = layers_of(network, (2, 6, 6))

    kept = {n: (layer.binary, layer.real, layer.statistics) for n, layer in layers.items()}
    assert kept == {
        "": (0, 0, 11),
        "conv": (54, 3, 0),
        "same": (0, 9, 0),
        "tied": (0, 3, 0),
        "norm": (0, 0, 6),
        "idle": (35, 7, 0),
        "scales": (0, 4, 0),
        "act": (0, 12, 0),
    }
    assert [None, None, (3, 4, 4)] == [layers[n].output for n in ("", "idle", "act")]
    assert (1, None, 0, 0) == (
        layers["idle"].weight_bits,
        layers["idle"].input_bits,
        layers["idle"].calls,
        layers["idle"].macs,
    )


@pytest.mark.parametrize("build", [mlp, binarynet])
@pytest.mark.parametrize("activation", ["sign", "rprelu"])
@pytest.mark.parametrize("first", ["binary", "real"])
def test_memory(build, activation, first):
    """A bit for each weight of a binary layer and 32 for each other number that is saved."""
    network = build(**SMALL, width=3, activation=activation, first=first)
    bits = all_real = 0
    for name, tensor in network.state_dict().items():
        if tensor.is_floating_point():
            owner = network.get_submodule(name.rpartition(".")[0])
            binary = isinstance(owner, BinaryLinear | BinaryConv2d) and name.endswith("weight")
            bits += tensor.numel() * (1 if binary else 32)
            all_real += tensor.numel() * 32

    summary = summarize(network, (2, 8, 8))

    assert bits == summary.counts["memory_bits"] == sum(x.memory_bits for x in summary.layers)
    assert all_real == summary.real_memory_bits
    assert all_real / bits == summary.compression
    assert sum(p.numel() for p in network.parameters()) == summary.parameters


def test_a_network_that_keeps_nothing():
    """It has no memory, and is as small as with real weights."""
    summary = summarize(nn.Sequential(nn.ReLU(), nn.Flatten()), (2, 3))

    assert (0, 0, 1.0) == (summary.counts["memory_bits"], summary.parameters, summary.compression)


def test_layers_that_are_listed():
    """Those that keep numbers or change the shape; a learned activation is one."""
    network = nn.Sequential(
        nn.Conv2d(2, 4, 3), nn.MaxPool2d(2), nn.ReLU(), RPReLU(4), nn.Dropout(), nn.Flatten(),
        nn.Sequential(RSign(36), nn.Sequential(nn.Linear(36, 36), nn.Identity())),
    )  # fmt: skip
    layers = layers_of(network, (2, 8, 8))

    assert ["0", "1", "3", "5", "6.0", "6.1.0"] == list(layers)
    assert ["Conv2d", "MaxPool2d", "RPReLU", "Flatten", "RSign", "Linear"] == [
        layer.kind for layer in layers.values()
    ]
    assert [(4, 6, 6), (4, 3, 3), (4, 3, 3), (36,), (36,), (36,)] == [
        layer.output for layer in layers.values()
    ]


def test_layers_are_told_apart():
    """By their whole names; modules in a list that is not called are layers of their own."""
    norms = nn.ModuleDict({"norm": nn.BatchNorm1d(3), "norm2": nn.BatchNorm1d(3)})
    network = nn.Sequential(nn.Linear(3, 3), nn.Identity())
    network[1].parts = norms
    network[1].forward = lambda x: norms["norm2"](norms["norm"](x))

    assert ["0", "1"] == list(layers_of(network, (3,)))
    network[1].dense = nn.Linear(2, 2)
    assert ["0", "1.parts.norm", "1.parts.norm2", "1.dense"] == list(layers_of(network, (3,)))


class Block(nn.Module):
    def __init__(self, name):
        super().__init__()
        self.conv = nn.Conv2d(2, 2, 1)
        self.add_module(name, nn.Sequential(nn.AvgPool2d(1), BinaryConv2d(2, 2, 1)))


def test_places():
    """First and last are those that are on no shortcut; a shortcut is known by its name."""
    network = nn.Sequential(Block("shortcut"), nn.BatchNorm2d(2), Block("shortcut2"))
    other = nn.Sequential(Block("shortcuts"), nn.ReLU())

    assert places(network) == {
        "0.conv.weight": "first",
        "2.conv.weight": "last",
        "0.shortcut.1.weight": "shortcut",
        "2.shortcut2.1.weight": "shortcut",
    }
    assert places(other) == {"0.conv.weight": "first", "0.shortcuts.1.weight": "last"}
    assert places(nn.Sequential(nn.Linear(1, 1))) == {"0.weight": "first"}
    assert places(nn.ReLU()) == {}
    assert [("0", "first"), ("2", "last")] == [
        (n, layer.place)
        for n, layer in layers_of(nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2)), (2,))
        .items()
    ]  # fmt: skip


def test_the_network_is_left_as_it_was():
    """Its modes, weights and statistics, the caller's random numbers; and no hook stays."""
    network = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3), nn.Dropout(), nn.Linear(3, 2))
    network[1].eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    state = torch.get_rng_state()

    summarize(network, (3,))

    assert state.equal(torch.get_rng_state())
    assert [True, True, False, True, True] == [m.training for m in network.modules()]
    assert all(value.equal(before[name]) for name, value in network.state_dict().items())
    assert not any(m._forward_hooks for m in network.modules())
    with pytest.raises(RuntimeError):
        summarize(network, (4,))
    assert [True, True, False, True, True] == [m.training for m in network.modules()]
    assert not any(m._forward_hooks for m in network.modules())


def printed(table, width):
    out = io.StringIO()
    Console(file=out, width=width).print(table, markup=False)
    return out.getvalue().splitlines()


@pytest.fixture
def deep():
    """A summary with long names and large numbers."""
    kinds = [("conv", "BinaryConv2d", "shortcut", 1), ("norm", "BatchNorm2d", "", None)]
    return Summary(
        tuple(
            Layer(
                f"stage{n}.block.branch.{name}", kind, place, (512, 112, 112), 1,
                2_359_296 if bits else 0, 1024, 0 if bits else 1024, bits, bits, True,
                115_605_504 if bits else 0,
            )
            for n in range(4)
            for name, kind, place, bits in kinds
        )
    )  # fmt: skip


@pytest.mark.parametrize("width", [70, 80, 100, 120, 160])
def test_tables_fit(deep, width):
    """No line is too long and no number is cut; what can be spared goes first, in its order."""
    lines = printed(layers_table(deep, width), width)
    heads = lines[1].split()
    text = "\n".join(lines)

    assert max(map(len, lines)) <= width
    for needed in ("9,437,184", "8,192", "462,422,016", "512x112x112", "1/1*"):
        assert needed in text
    assert "…" not in text
    missing = [head for head in SPARE if head not in heads]
    assert [*SPARE[: len(missing)]] == missing
    assert {70: 4, 80: 4, 160: 0}.get(width, len(missing)) == len(missing)
    assert width < 80 or all(f"stage{n}.block.branch.conv" in text for n in range(4))
    assert max(map(len, printed(totals_table(deep), 80))) <= 60


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Call bnnbench in an empty folder; returns the exit code, standard output and error."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments):
        code = main(["architectures", *arguments])
        out, err = capsys.readouterr()
        return code, out, err

    return call


SIGNS = ("--set", "activation=sign", "--set", "width=8", "--set", "last=real")


def test_the_table_shows_what_json_has(run):
    """Every number of the table is that of the JSON, row by row, and so are the totals."""
    call = ("show", "binarynet", "--shape", "3x8x8", "--classes", "7", *SIGNS)
    code, text, _ = run(*call)
    told = json.loads(run(*call, "--json")[1])

    assert 0 == code
    assert (told["architecture"], told["shape"], told["classes"]) == ("binarynet", [3, 8, 8], 7)
    assert told["hyperparameters"]["width"] == 8
    assert told["hyperparameters"]["bn_eps"] == 1e-4
    lines = text.splitlines()
    assert "binarynet with activation = 'sign', width = 8, last = 'real'" in lines[0]
    assert "inputs of 3x8x8, 7 classes (as asked)" in lines[0]
    rows = {line.split()[0]: line.split() for line in lines if line.split()}
    for layer in told["layers"]:
        expected = [layer["name"], layer["kind"], layer["place"]]
        star = "*" if layer["zeros"] else ""
        expected += [f"{layer['weight_bits']}/{layer['input_bits']}{star}"] * bool(layer["macs"])
        expected += ["x".join(map(str, layer["output"]))]
        expected += [f"{layer[n]:,}" for n in ("binary", "real", "statistics") if layer[n]]
        expected += [f"{layer['memory_bits'] / 8000:,.2f}"] * bool(layer["memory_bits"])
        expected += [f"{layer['macs']:,}"] * bool(layer["macs"])
        assert [word for word in expected if word] == rows[layer["name"]]
    totals = told["totals"]
    assert [f"{totals[n]:,}" for n in ("binary", "real", "statistics")] == rows["total"][1:4]
    assert f"{totals['macs']:,}" == rows["total"][5] == rows["MACs"][1]
    assert rows["parameters"][1] == f"{totals['binary'] + totals['real']:,}"
    assert rows["compression"][1] == f"{totals['compression']:.2f}"
    shown = {line.split()[1]: line.split()[2] for line in lines if line.startswith("   W/A ")}
    assert shown == {kind: f"{n:,}" for kind, n in totals["macs_by_bits"].items() if n}
    assert "zeros, as of padding, are a third value" in text
    for count in ("binary", "real", "statistics", "memory_bits", "macs"):
        assert totals[count] == sum(layer[count] for layer in told["layers"])


def test_options_are_shown(run):
    """The hyperparameters with their defaults, as "plugins show" has them."""
    out = run("show", "mlp", "--shape", "4", "--set", "width=2")[1]

    words = [" ".join(line.split()) for line in out.splitlines()]
    assert "depth int, >= 1 3 - number of hidden layers." in words
    assert not any("third value" in line for line in words)


@pytest.mark.parametrize(
    ("options", "shape", "classes"),
    [
        ((), (3, 32, 32), 10),
        (("--classes", "4"), (3, 32, 32), 4),
        (("--shape", "3,224,224"), (3, 224, 224), 1000),
        (("--shape", "2,9"), (2, 9), 10),
        (("--shape", "2,9", "--classes", "3"), (2, 9), 3),
        (("--dataset", "digits"), (1, 8, 8), 10),
    ],
)
def test_what_the_network_is_built_for(run, options, shape, classes):
    """A data set's inputs, those that are asked for, or the first customary ones."""
    size = ("--set", "width=2", "--set", "depth=1")
    told = json.loads(run("show", "mlp", *size, *options, "--json")[1])

    assert (list(shape), classes) == (told["shape"], told["classes"])
    assert math.prod(shape) * 2 == told["layers"][1]["binary"]
    assert classes == told["layers"][-1]["output"][0]


def picky(*, shape, classes):
    """Return a network for grey images only."""
    if shape != (1, 28, 28):
        raise UsageError(f"picky needs 1x28x28, got {shape}")
    return nn.Sequential(nn.Flatten(), nn.Linear(784, classes))


def late(*, shape, classes):
    """Return a network that fails when it is called."""
    return nn.Linear(5, classes)


def test_customary_shapes_are_tried(run, monkeypatch):
    """The first that the factory does not refuse is taken, and said."""
    monkeypatch.setattr("bnnbench_plugins.architectures.mlp.mlp", picky)

    out = run("show", "mlp")[1]

    assert out.startswith("mlp: inputs of 1x28x28, 10 classes (the first that it takes; --shape ")


WRONG = [
    (("show", "binarynte"), 2, "an architecture called 'binarynte'; did you mean 'binarynet'?"),
    (("show", "binarynet", "--shape", "784"), 2, "binarynet needs "),
    (("show", "mlp", "--shape", "0,3"), 2, "must be whole numbers above 0, as in 3,32,32, got"),
    (("show", "mlp", "--shape", "3,-2"), 2, "must be whole numbers above 0"),
    (("show", "mlp", "--classes", "0"), 2, "0 is not in the range x>=1"),
    (("show", "mlp", "--set", "width"), 2, "must be KEY=VALUE, as in width=64, got 'width'"),
    (("show", "mlp", "--set", "=3"), 2, "must be KEY=VALUE"),
    (("show", "mlp", "--set", "widht=3"), 2, "'widht'; did you mean 'width'?"),
    (("show", "mlp", "--set", "width=0"), 2, "mlp: width = 0: input should be greater"),
    (("show", "mlp", "--set", "width=abc"), 2, "mlp: width = 'abc': input should be"),
    (("show", "mlp", "--set", "first=ternary"), 2, "mlp: first = 'ternary': input"),
    (("show", "mlp", "--dataset", "digit"), 2, "did you mean 'digits'?"),
    (("show", "mlp", "--dataset", "digits", "--shape", "3"), 2, "give either --dataset or"),
    (("show", "mlp", "--dataset", "digits", "--classes", "3"), 2, "give either --dataset or"),
    (("shwo",), 2, "there is no command 'shwo'; did you mean 'show'?"),
]


@pytest.mark.parametrize(("call", "code", "message"), WRONG)
def test_wrong_call(run, call, code, message):
    """One line says what is wrong and what to do; the exit code is the documented one."""
    got, out, err = run(*call)

    assert (code, "") == (got, out)
    assert message in err
    assert 1 == len(err.strip().splitlines())
    assert err.startswith("error: ")


@pytest.mark.parametrize(
    ("factory", "options", "code", "message"),
    [
        (late, ("--shape", "7"), 5, "mlp fails with inputs of 7, 10 classes; take another --shape"),
        (late, (), 5, "mlp takes none of the customary inputs 3x32x32, 3x224x224, 1x"),
        (picky, ("--shape", "1,8,8"), 2, "picky needs 1x28x28, got (1, 8, 8)"),
        (picky, ("--classes", "3", "--shape", "3"), 2, "picky needs 1x28x28, got (3,)"),
    ],
)  # fmt: skip
def test_networks_that_do_not_fit(run, monkeypatch, factory, options, code, message):
    """A factory that refuses is a wrong call, 2; a network that fails is the plugin's fault, 5."""
    monkeypatch.setattr("bnnbench_plugins.architectures.mlp.mlp", factory)

    got, out, err = run("show", "mlp", *options)

    assert (code, "", 1) == (got, out, len(err.strip().splitlines()))
    assert err.startswith(f"error: {message}")


def components(path, monkeypatch, texts):
    """Components by reference into modules with these sources."""
    monkeypatch.syspath_prepend(path)
    for name, text in texts.items():
        (path / f"{name}.py").write_text(text)
    plugin = Plugin("p", "p", "p", "1")
    return lambda *references: [Component("architectures", r, plugin, r) for r in references]


def test_sentences(tmp_path, monkeypatch):
    """The module's, or the component's own where several share one; nothing is imported."""
    never = "raise RuntimeError('this module was imported')\n"
    made = components(
        tmp_path,
        monkeypatch,
        {
            "alone_net": f'"""One (A et al., 2016), of\ntwo lines. Its source."""\n{never}',
            "pair_net": f'"""Two networks."""\n{never}\n'
            'def small():\n    """Return the small one. It is small."""\n'
            'def general():\n    """Return a network from inputs to outputs."""\n'
            'def long():\n    """Return a long one,\n    from here to there."""\n'
            "def silent(): ...\n",
            "broken_net": '"""Never closed',
        },
    )

    assert sentences(made("alone_net:a")) == ["One (A et al., 2016), of two lines."]
    assert sentences(made(*(f"pair_net:{n}" for n in ("small", "long", "general", "silent")))) == [
        "The small one.",
        "A long one.",
        "Two networks.",
        "Two networks.",
    ]
    assert sentences(made("broken_net:a", "no_such_package.net:a", "no_such_net:a")) == [""] * 3
    direct = Component("architectures", "picky", Plugin("p", "p", "p", "1"), picky)
    assert sentences([direct]) == [
        "What a network is made of: counts against published ones, loops and torch's; the command."
    ]


def test_list(run):
    """Every architecture has a line with a sentence that says what it is."""
    code, out, _ = run("list")

    told = {words[0]: words[1:] for line in out.splitlines() if (words := line.split())}
    assert 0 == code
    for name in load_plugins().names("architectures"):
        assert told[name][0][0].isupper(), name
    assert "BinaryConnect" in " ".join(told["mlp"])


def test_commands_in_a_process_of_their_own(tmp_path):
    """The list does without torch; JSON is all that is printed for machines."""
    script = (
        "import sys\nfrom bnnbench.cli import main\n"
        "assert 0 == main(['architectures', 'list'])\n"
        "assert not {'torch', 'sqlalchemy', 'optuna'} & set(sys.modules)\n"
        "print('JSON')\n"
        "sys.exit(main(['architectures', 'show', 'mlp', '--shape', '1,28,28', '--json']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=tmp_path
    )

    told = json.loads(done.stdout.partition("JSON\n")[2])
    assert ("", 2_910_208) == (done.stderr, told["totals"]["binary"])
