"""`bnnbench deploy`: networks of a study packed, checked and timed."""

from __future__ import annotations

import re
import shlex
import statistics

import pytest
import torch
from torch import nn

from bnnbench.cli import main
from bnnbench.deployments import BATCHES, WAYS, Deployment, Refusal, Timing, kept
from bnnbench.energy import Meter
from bnnbench.layers import BinaryActivation, BinaryConv2d, BinaryLinear, binary_layers
from bnnbench.packed.values import real
from bnnbench.packing import largest, layers, timing
from bnnbench.store import Store
from bnnbench.summary import summarize
from bnnbench_plugins.binarizers import SignHardTanh

from .conftest import ROOT
from .test_packing import binarized, packed

STUDY = """
[task]
dataset = "digits"
architecture = { name = "mlp", depth = 2, width = 32, activation = "sign" }
epochs = 2
[protocol]
seeds = 2
[[methods]]
method = "real"
[[methods]]
method = "ste"
[[methods]]
name = "stochastic"
method = "binaryconnect"
hyperparameters = { binarization = "stochastic" }
"""


def dense():
    layers = (BinaryLinear(64, 16), BinaryActivation(SignHardTanh()), BinaryLinear(16, 10))
    return nn.Sequential(*layers).eval()


def test_a_dense_network_is_timed_in_all_ways():
    """Medians between their quartiles; the best is no slower than PyTorch as it comes."""
    network = dense()
    weights = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    before = torch.get_float32_matmul_precision()

    found = timing.timed(network, network, torch.randn(5, 64), rounds=3)

    assert list(WAYS) == [each.way for each in found]
    assert all(0 < each.low <= each.median <= each.high for each in found)
    assert {5} == {each.batch for each in found}
    times = {each.way: each.median for each in found}
    assert times["fp32-best"] <= times["fp32"]
    assert before == torch.get_float32_matmul_precision()
    assert all(torch.equal(weights[n], tensor) for n, tensor in network.state_dict().items())


def test_convolutions_have_no_8_bit_way():
    """They are timed in the others, with channels last among the best."""
    network = nn.Sequential(BinaryConv2d(3, 4, 3), nn.Flatten(), nn.Linear(4 * 36, 10)).eval()

    found = timing.timed(network, network, torch.randn(2, 3, 8, 8), rounds=3)

    assert [each.way for each in found] == ["packed", "fp32", "fp32-best", "bf16"]


def test_a_way_that_cannot_compute_is_left_out():
    """An activation that knows float32 alone takes no part in bfloat16."""

    class Picky(nn.Module):
        def forward(self, x):
            if x.dtype != torch.float32:
                raise RuntimeError("float32 alone")
            return x

    network = nn.Sequential(Picky(), dense()).eval()

    assert "bf16" not in [t.way for t in timing.timed(network, network, torch.randn(1, 64), 3)]


def test_the_8_bit_network_is_the_network():
    """Its weights are those of the other, rounded; what it is given is left as it was."""
    torch.manual_seed(0)
    network, x = dense(), torch.randn(20, 64)

    whole = timing._in_bytes(network)

    # the first layer's sums: signs may turn behind it
    pairs = zip(whole[0](x).flatten().tolist(), network[0](x).flatten().tolist(), strict=True)
    assert statistics.correlation(*zip(*pairs, strict=True)) > 0.999
    assert isinstance(network[0], BinaryLinear)


def turns(*ms, joules=None):
    return [timing.Turn(each, joules and joules * each) for each in ms]


def test_the_best_of_made_up_times():
    """Of the candidates the one with the least median; the default is one of them."""
    found = {
        "packed": turns(1.0, 2.0, 3.0),
        "fp32": turns(5.0, 6.0, 7.0),
        "fp32-best medium": turns(4.0, 4.0, 4.0, joules=0.5),
    }

    packed, plain, best = timing._best_of(found, 100)

    assert packed == Timing("packed", 100, 2.0, 1.5, 2.5)
    assert best == Timing("fp32-best", 100, 4.0, 4.0, 4.0, 2.0, 2.0, 2.0)
    slower = found | {"fp32-best medium": turns(9.0, 9.0, 9.0)}
    assert plain._replace(way="fp32-best") == timing._best_of(slower, 100)[2]
    assert plain.median == 6.0


class Steady:
    """A meter that counts how often a network was called: two joules each time."""

    def __init__(self, network):
        self.calls = 0
        network.register_forward_hook(self.count)

    def count(self, *_):
        self.calls += 1

    def read(self):
        return self.calls

    def joules(self, before, after):
        return 2.0 * (after - before)


def test_energy_is_that_of_an_example():
    """Two joules a call are 0.4 for each of five examples, however often a turn calls."""
    network = dense()

    found = timing.timed(
        network, network, torch.randn(5, 64), 3, wanted=("packed", "fp32"), meter=Steady(network)
    )

    assert [t.way for t in found] == ["packed", "fp32", "fp32-best"]
    for each in found:
        assert (each.joules, each.joules_low, each.joules_high) == pytest.approx((0.4,) * 3)


def test_energy_that_cannot_be_read():
    """Nothing is made up."""
    network = dense()
    meter = Steady(network)
    meter.joules = lambda before, after: None

    found = timing.timed(network, network, torch.randn(5, 64), 3, meter=meter)

    assert {None} == {each.joules for each in found}


def alone(network, shape, classes):
    """The layers of a network that is packed without a file."""
    made = packed(network, shape, classes)
    nodes = {name: name for name in binary_layers(network)}
    return layers.Alone(made, nodes)


def images_of(pad):
    """Convolutions that grow, the last on real inputs; then dense layers."""
    border = [nn.ConstantPad2d(1, pad)] if pad else []
    edge = 0 if pad else 1
    parts = [
        BinaryConv2d(3, 4, 3, bias=False), BinaryActivation(SignHardTanh()),
        *border, BinaryConv2d(4, 6, 3, padding=edge, bias=False),
        BinaryActivation(SignHardTanh()), BinaryConv2d(6, 6, 1, bias=False), nn.ReLU(),
        BinaryConv2d(6, 40, 3, bias=False), BinaryActivation(SignHardTanh()), nn.Flatten(),
        BinaryLinear(640, 7, bias=False), BinaryActivation(SignHardTanh()), BinaryLinear(7, 5),
    ]  # fmt: skip
    return binarized(nn.Sequential(*parts))


@pytest.mark.parametrize("pad", [0, -1])
def test_the_largest_layers_are_timed(pad):
    """Of each kind the one of the most products: among those of bits, where there are any.

    3x3 on 4 channels, 6 filters at 6 x 6 places; the later one of 40 filters has real inputs.
    """
    network = images_of(pad)
    found = alone(network, (3, 8, 8), 5)

    timed = largest.timed_layers(
        network, found, summarize(network, (3, 8, 8)).layers, torch.randn(100, 3, 8, 8), 3
    )

    conv, last = timed
    assert (conv.kind, conv.shape, conv.bits) == ("convolution", "4×6×6 → 6×6×6, 3×3", "1/1")
    assert conv.macs == 36 * 6 * 4 * 9 or pad
    assert (last.kind, last.shape, last.bits, last.macs) == ("dense", "640 → 7", "1/1", 4480)
    for layer in timed:
        ways = [(t.batch, t.way) for t in layer.timings]
        assert ways == [(b, w) for b in BATCHES for w in ("packed", "fp32", "fp32-best")]
        assert all(0 < t.low <= t.median <= t.high for t in layer.timings)


def test_layers_of_real_inputs_where_there_are_no_others():
    """They are marked so."""
    network = binarized(
        nn.Sequential(BinaryLinear(9, 4, bias=False), nn.ReLU(), BinaryLinear(4, 2))
    )
    summary = summarize(network, (9,))

    (layer,) = largest.timed_layers(
        network, alone(network, (9,), 2), summary.layers, torch.randn(100, 9), 3
    )

    assert (layer.name, layer.bits, layer.shape, layer.macs) == ("0", "1/32", "9 → 4", 36)


@pytest.mark.parametrize("pad", [0, 1])
def test_what_is_timed_is_the_layer(pad):
    """Of what a layer is given in the network, the packed one makes what the trained one does."""
    network = images_of(pad)
    found = alone(network, (3, 8, 8), 5)
    seen = layers.watched(network, [*found.nodes], torch.randn(4, 3, 8, 8))

    for name, (x, y) in seen.items():
        module = network.get_submodule(name)
        bias = 0 if module.bias is None else module.bias
        made = real(found.run(name, found.given(name, module, x)))
        torch.testing.assert_close(made + bias, y, rtol=1e-5, atol=1e-5)
    assert {name for name in seen if found.takes_bits(name)} < {*seen}


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A study whose weights were kept."""
    folder = tmp_path_factory.mktemp("deploy")
    (folder / "s.toml").write_text(STUDY)
    url = ("--storage", str(folder / "bnnbench.db"))
    assert 0 == main(["study", "create", "s", "--from", str(folder / "s.toml"), *url])
    assert 0 == main(["study", "run", "s", "--threads", "1", "--keep-weights", *url])
    return folder, url


def test_every_method_is_packed_or_refused(done, capsys):
    """Binary modes are packed; real weights are refused in a sentence; both are kept."""
    folder, url = done

    assert 0 == main(["deploy", "s", "--rounds", "3", *url])

    out = capsys.readouterr().out
    store = Store(str(folder / "bnnbench.db"), create=False)
    entries = {e.run_id: e for e in store.entries("s")}
    runs = {entries[run].method: run for run in kept(store, "s")}
    found = {method: kept(store, "s")[run] for method, run in runs.items()}
    assert {1} == {entries[run].number for run in runs.values()}
    assert isinstance(found["real"], Refusal)
    assert "real is judged by 'real'" in out
    assert ("energy: not measured" in out) == (Meter().read() is None)
    for name in ("ste", "stochastic"):
        each = found[name]
        assert isinstance(each, Deployment)
        assert (0, 500) == (each.differing, each.examples)
        assert each.accuracy == store.value(runs[name], "accuracy", split="test", mode="binary")
        assert set(BATCHES) == {t.batch for t in each.timings}
        weights = 64 * 32 + 32 * 32 + 32 * 10
        assert weights == each.macs["1/1"] + each.macs["1/32"]
        assert each.float32 > 4 * weights
        assert weights / 8 <= each.bytes["binary"] < weights / 4
        (layer,) = each.layers
        assert (layer.name, layer.shape, layer.bits, layer.macs) == (
            *("dense2", "32 → 32", "1/1"),
            1024,
        )
    store.engine.dispose()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--method", "stee"], "there is no method 'stee' in this study; did you mean 'ste'?"),
        (["--task", "mnist"], "there is no task 'mnist' in this study"),
    ],
)
def test_wrong_names(done, capsys, options, said):
    """One line, with the nearest name."""
    assert 2 == main(["deploy", "s", *options, *done[1]])

    assert said in capsys.readouterr().err


def test_nothing_done_yet(done, capsys):
    """There is no network before there is a run."""
    folder, url = done
    assert 0 == main(["study", "create", "empty", "--from", str(folder / "s.toml"), *url])

    assert 6 == main(["deploy", "empty", *url])

    assert "'bnnbench study run empty'" in capsys.readouterr().err


def test_the_documented_commands_work(tmp_path, monkeypatch, capsys):
    """All commands of docs/packed-format.md, one after the other, on a small study of that name."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small.toml").write_text(STUDY.replace('method = "ste"', 'method = "bop"'))
    assert main(["study", "create", "quickstart", "--from", "small.toml"]) == 0
    text = (ROOT / "docs" / "packed-format.md").read_text()
    shell = "".join(re.findall(r"^```sh\n(.*?)^```", text, flags=re.M | re.S))
    commands = [shlex.split(line) for line in shell.splitlines()]

    assert len(commands) >= 5
    for program, *words in commands:
        assert program == "bnnbench"
        assert main(words) == 0, capsys.readouterr().err
    assert 'id="deployment"' in (tmp_path / "quickstart.html").read_text()
