"""The pass that torch compiles for a GPU is that of the CPU, and needs no compiler to be right."""

from __future__ import annotations

import functools
import itertools
from types import FunctionType

import numpy as np
import pytest
import torch

from bnnbench import elementwise, fused, updates
from bnnbench.elementwise import passed, where
from bnnbench.latents import Latents
from bnnbench.updates import OnePass
from bnnbench_plugins.binarizers import Sign
from bnnbench_plugins.optimizers import ClippedAdam

from .papers.chance import uniform
from .test_updates import Moved, every_pair, network

FEW = ("bc-sgd", "bc-stochastic")


@pytest.fixture
def uncompiled(monkeypatch):
    """Passes run operation by operation."""
    monkeypatch.setattr(fused, "compiled", fused.passing)


@pytest.fixture
def graphs(monkeypatch):
    """Torch takes passes apart, as for a GPU, and their operations run as they are; the graphs."""
    found = []

    def backend(graph, inputs):
        found.append(graph)
        return graph.forward

    fused.compiled.cache_clear()
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend=backend))
    yield found
    fused.compiled.cache_clear()


def torchs(word):
    """A function of torch, whose last bit is its own, on numpy's arrays."""
    return lambda array: word(torch.from_numpy(array)).numpy()


WORDS = {
    "where": np.where, "clip": np.clip, "sqrt": torchs(torch.sqrt), "tanh": torchs(torch.tanh),
}  # fmt: skip


def by_numpy(function):
    """A rule with numpy's words in place of torch's, and so what it calls."""
    names = function.__globals__
    called = {name: names[name] for name in function.__code__.co_names if name in names}
    called = {k: f for k, f in called.items() if isinstance(f, FunctionType)}
    words = {k: WORDS[k] for k, f in called.items() if f.__module__ == elementwise.__name__}
    own = {k: by_numpy(f) for k, f in called.items() if k not in words}
    return FunctionType(function.__code__, {**names, **own, **words}, function.__name__)


def expected(rules, tensors, moments, numbers, key):
    """The latent, the next weight, the moments and the flips, from the plain rules."""
    rule, forward, backward, random = rules
    order = sorted(range(tensors[0].ndim), key=tensors[0].stride, reverse=True)

    def laid(tensor):
        return tensor.detach().permute(order).contiguous().flatten().numpy().copy()

    w, g = map(laid, tensors[:2])
    of_rule, of_pull, of_view = ([w.dtype.type(n) for n in some] for some in numbers)
    moved = by_numpy(rule)(w, by_numpy(backward)(w, g, *of_pull), *map(laid, moments), *of_rule)
    new, *rest = moved if isinstance(moved, tuple) else (moved,)
    drawn = [np.array([uniform(i, *key) for i in range(len(w))], w.dtype)] if random else []
    shape = [tensors[0].shape[axis] for axis in order]
    back = np.argsort(order).tolist()
    found = (new, by_numpy(forward)(new, *drawn, *of_view), *rest)
    flips = sum((new >= 0) != (w >= 0))
    return [torch.from_numpy(a).view(shape).permute(back) for a in found], flips


def checked(latents, optimizer):
    """The update of a GPU, on the CPU, each pass of which is compared with the plain rules."""

    def run(rules, tensors, moments, numbers, key):
        arrays, flips = expected(rules, tensors, moments, numbers, key)
        counted = fused.run(rules, tensors, moments, numbers, key)
        for array, tensor in zip(arrays, (tensors[0], tensors[2], *moments), strict=True):
            assert torch.equal(tensor.detach(), array)
        assert flips == int(counted)
        return counted

    update = OnePass(latents, optimizer)
    update.run = run
    return update


@every_pair
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_it_is_the_plain_rule(name, dtype, uncompiled):
    """Bit for bit, at every step: latents, weights, moments and flips."""
    moved = Moved(checked, name, dtype=dtype)
    flips = 0

    for _ in moved.go(4):
        flips += sum(map(int, moved.latents.flips.by_layer().values()))

    assert flips > 0


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_any_memory_order(memory_format, uncompiled):
    """A weight's random number belongs to its place in memory, as on the CPU."""
    list(Moved(checked, "bc-stochastic", memory_format=memory_format).go(3))


def test_graphs_serve_all_steps_and_layers(graphs):
    """Whatever its numbers become, a pass has a graph for dense layers, one for convolutions, and
    one for a layer of a single weight.
    """
    moved = Moved(checked, "bnew")
    for step, _ in enumerate(moved.go(4)):
        for group in moved.optimizer.param_groups:
            group.update(lr=0.01 / (step + 2), lam=0.01 * step)

    assert 3 == len(graphs)


def test_many_methods_in_one_process(graphs):
    """Torch's limit of graphs holds for each pass, not for all that a process ever uses."""
    with torch._dynamo.config.patch(recompile_limit=3):
        for name in FEW:
            list(Moved(checked, name).go(2))

    assert 3 * len(FEW) == len(graphs)


def test_without_a_compiler(monkeypatch):
    """It is said once, and training goes on by the operations one by one."""

    def missing(graph, inputs):
        raise RuntimeError("Failed to find C compiler.\nPlease specify via CC")

    fused.compiled.cache_clear()
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend=missing))

    with pytest.warns(RuntimeWarning, match="moved uncompiled: .*C compiler") as said:
        list(Moved(checked, "bc-adam").go(3))

    assert 1 == len(said)
    fused.compiled.cache_clear()


def test_what_breaks_later_is_not_hidden(monkeypatch):
    """Once a pass has worked, its failure is one: it may have moved some weights already."""

    def once(plain, **options):
        calls = itertools.count()

        def quick(*tensors):
            if next(calls):
                raise MemoryError("full")
            return plain(*tensors)

        return quick

    monkeypatch.setattr(torch, "compile", once)
    works = fused.Pass(lambda w: w + 1)
    assert 3 == works(2)
    with pytest.raises(MemoryError, match="full"):
        works(2)


def _least(w, g, low, share):
    return where(w < low, low, w - share * g)


def test_numbers_keep_their_places():
    """Each rule gets its own numbers, in order; so does a binarizer without any."""
    w, g = torch.tensor([0.5, -3.0, 0.25]), torch.tensor([1.0, 1.0, -8.0])
    out = torch.empty(3)
    whole = fused.passing((_least, _twice, _halved, False), (2, 1, 3))
    told = torch.tensor([-1.0, 0.25, 0.5, 2.0, 10.0, 0.0])

    flips = whole(w, g, out, told, torch.zeros(2, dtype=torch.int32))

    assert [0.375, -1.0, 1.25] == w.tolist()  # w - 0.25 (0.5 g), at least -1
    assert [10.75, 8.0, 12.5] == out.tolist()
    assert 0 == flips


@pytest.mark.parametrize("zero", [0.0, -0.0])
def test_zero_is_a_plus(zero):
    """A weight that leaves 0 for the negative flips, one that comes to 0 from there flips."""
    w, g = torch.tensor([zero, -1.0, 1.0]), torch.tensor([2.0, -1.0, 1.0])
    whole = fused.passing((_least, _twice, passed, False), (2, 0, 3))
    told = torch.tensor([-9.0, 1.0, 1.0, 0.0, 0.0])

    flips = whole(w, g, torch.empty(3), told, torch.zeros(2, dtype=torch.int32))

    assert [-2, 0, 0] == w.tolist()
    assert 2 == flips


def _halved(w, g, share):
    return share * g


def _twice(w, times, more, nothing):
    return times * w + more + nothing


@pytest.mark.parametrize(
    ("device", "found", "expected"),
    [("cuda", {"triton"}, True), ("cuda", {"numba"}, False), ("cpu", {"numba"}, True),
     ("cpu", {"triton"}, False), ("meta", {"numba", "triton"}, False)],
)  # fmt: skip
def test_where_there_is_a_compiler(device, found, expected, monkeypatch):
    """A pass needs the compiler of its own device, and a device that has one."""
    latents = Latents(network())
    optimizer = ClippedAdam(latents.groups())
    types = type("Pretended", (), {"type": device})
    latent = type("Latent", (), {"dtype": torch.float32, "device": types, "stride": tuple})
    monkeypatch.setattr(updates, "find_spec", lambda name: name if name in found else None)
    monkeypatch.setattr(torch, "empty_like", lambda like: like)
    monkeypatch.setattr(latents, "tensors", {"a": latent()})

    assert expected == updates.can_compile(latents, Sign(), optimizer)


def test_a_gpu_compiles_later(monkeypatch):
    """What is worth a compilation on the CPU is not yet worth it on a GPU."""
    latents = Latents(network())
    optimizer = ClippedAdam(latents.groups())
    monkeypatch.setattr(updates, "OnePass", lambda *parts: "compiled")
    monkeypatch.setattr(updates, "can_compile", lambda *parts: True)
    steps = {device: -(-worth // len(latents)) for device, worth in
             (("cpu", updates.WORTH), ("cuda", updates.WORTH_GPU))}  # fmt: skip

    def way(device, count):
        monkeypatch.setattr(updates, "_device", lambda latents: device)
        return updates.update_of(latents, Sign(), optimizer, "auto", count)

    for device, count in steps.items():
        assert "compiled" == way(device, count)
        assert "compiled" != way(device, count - 1)
    assert steps["cpu"] < steps["cuda"]
