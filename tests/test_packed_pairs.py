"""Every architecture, and every method on those that the bundled studies train it on, is packed.

Each pair of a method and an architecture is trained for a few steps, made narrow where it has a
width, packed, read back, and compared on every test image and every integer. Methods that cannot
be packed are refused, with a reason.
"""

from __future__ import annotations

import pytest

from bnnbench.errors import UsageError
from bnnbench.packing import again
from bnnbench.packing.export import export
from bnnbench.plugins import load_plugins
from bnnbench.runs import Part
from bnnbench.studyfile import read_study
from tests.packing import Bench, images, run_of, trained
from tests.test_packed_parity import METHODS, NETWORKS

PLUGINS = load_plugins()
#: the methods that train with more than two values a filter, and what these are
REFUSED = {"real": "real weights", "relaxed": "real weights", "ternary": "2 bits"}
#: the architectures of which no other test trains one: those of a published width, and images out
OTHERS = [
    ("bc-vgg", {}, 8),
    ("bc-vgg-svhn", {}, 8),
    ("bop-binarynet", {}, 16),
    ("unet", {"width": 4, "depth": 2, "activation": "sign"}, 8),
]
SMALL = {name: (given, side) for name, given, side in [*reversed(NETWORKS), *OTHERS]}


def bundled(kind):
    """The names that bnnbench itself registers."""
    found = (PLUGINS.component(kind, name) for name in PLUGINS.names(kind))
    return {each.name for each in found if each.plugin.distribution == "bnnbench"}


def of_studies():
    """Each method with each architecture that a bundled study trains it on."""
    for name in PLUGINS.names("studies"):
        study = read_study(PLUGINS.get("studies", name))
        for task in study.tasks:
            yield from ((each.component, task.architecture.name) for each in study.methods)
            for run in study.runs.values():
                yield run.as_method("run").component, run.on(task).architecture.name


WANTED = {pair for pair in of_studies() if pair[0] not in REFUSED}
WANTED |= {("bop2", name) for name in bundled("architectures")}
ELSEWHERE = {(name, "mlp") for name, _ in METHODS} | {("bop2", name) for name, *_ in NETWORKS}


@pytest.mark.parametrize(("method", "architecture"), sorted(WANTED - ELSEWHERE))
def test_pair(method, architecture, tmp_path):
    """The packed network predicts what the trained one does, with the accuracy of its run."""
    given, side = SMALL[architecture]
    epochs = 4 if given else 2  # of one step each; what has no width is large
    shape = Part(architecture, given)
    network, data, accuracy = trained(method, shape, side, epochs, sizes=(50, 50))

    made = export(network, data, tmp_path / "m.safetensors")

    assert (made.compared.examples, made.compared.differing) == (50, 0)
    assert made.compared.accuracy == accuracy["binary"]
    assert made.packed.size()["binary"] > 0


def test_no_architecture_is_forgotten():
    """Every bundled architecture has its small form, in which it is trained and packed."""
    assert {*SMALL} == bundled("architectures")


def test_no_method_is_forgotten():
    """Every bundled method is packed or refused, and none is both."""
    packed = [*dict.fromkeys(name for name, _ in METHODS)]
    assert sorted([*packed, *REFUSED]) == sorted(bundled("methods"))


@pytest.mark.parametrize("method", REFUSED)
def test_methods_that_are_refused(method):
    """Before anything is trained again, with the layer and what its weights are."""
    bench = Bench(images(8, 50, 50))
    told = f"judged by '{method}' and trains with more than two values a filter, as in 'dense1' "
    with pytest.raises(UsageError, match=f"{told}.{REFUSED[method]}.; export a run of a binary"):
        again.check(bench, run_of(bench, method))
