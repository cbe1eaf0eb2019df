"""`bnnbench deploy`: networks of a study packed, checked and timed."""

from __future__ import annotations

import re
import shlex
import statistics

import pytest
import torch
from torch import nn

from bnnbench.cli import main
from bnnbench.deployments import BATCHES, WAYS, Deployment, Refusal, kept
from bnnbench.layers import BinaryActivation, BinaryConv2d, BinaryLinear
from bnnbench.packing import timing
from bnnbench.store import Store
from bnnbench_plugins.binarizers import SignHardTanh

from .conftest import ROOT

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


def test_the_best_of_made_up_times():
    """Of the candidates the one with the least median; the default is one of them."""
    found = {"packed": [1.0, 2.0, 3.0], "fp32": [5.0, 6.0, 7.0], "fp32-best medium": [4.0] * 3}

    packed, plain, best = timing._best_of(found, 100)

    assert packed == ("packed", 100, 2.0, 1.5, 2.5)
    assert (plain.median, best.median) == (6.0, 4.0)
    slower = found | {"fp32-best medium": [9.0] * 3}
    assert 6.0 == timing._best_of(slower, 100)[2].median


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
    store.engine.dispose()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--method", "stee"], "study s has no method 'stee'; did you mean 'ste'?"),
        (["--task", "mnist"], "study s has no task 'mnist'"),
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
