"""Whether a packed network is the trained one: on a whole split, and layer by layer.

    predictions    the class of the largest output, equal on every example (and every pixel)
    outputs        within ROUNDING of the largest of the example's outputs
    integers       what each binary layer makes of bits, given the inputs that it has in the
                   trained network: equal, all of them

A sum of real numbers has another rounding where it is taken in another order. Where such a sum lies
within that of 0, a sign may turn, and the outputs of that example differ by more than rounding.
Such examples are counted: at most STRAY of all, and their predictions are equal too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from bnnbench.errors import BnnbenchError
from bnnbench.evaluation import batches_of
from bnnbench.metrics import TALLIES
from bnnbench.packed import nodes as ops
from bnnbench.packed.plan import Plan
from bnnbench.packed.shapes import BITS
from bnnbench.packed.values import bits, real
from bnnbench.packing.modules import pair

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import Tensor, nn

    from bnnbench.interfaces import Examples, Task
    from bnnbench.packed.network import PackedNetwork

ROUNDING = 1e-4  #: of the largest of an example's outputs
STRAY = 0.01  #: the share of examples in which a sign may turn by rounding
LOOKED_AT = 256  #: examples whose integers are compared
WAY_OUT = "nothing was written, docs/packed-format.md says what may lead to this"


class ParityError(BnnbenchError):
    """A packed network is not the trained one."""


@dataclass
class Compared:
    """What was compared: examples, the largest difference of outputs and the largest output.

    ``strays`` are examples whose outputs differ by more than rounding, ``differing`` those whose
    predictions do. ``accuracy`` is the trained network's, in percent.
    """

    examples: int = 0
    differing: int = 0
    strays: int = 0
    difference: float = 0.0
    largest: float = 0.0
    accuracy: float = 0.0

    def add(self, got: Tensor, want: Tensor) -> None:
        """Compare the outputs of a batch."""
        off = (got - want).flatten(1).abs().amax(1)
        size = want.flatten(1).abs().amax(1)
        is_stray = ~(off <= ROUNDING * size.clamp(min=1e-6))
        self.examples += len(want)
        self.strays += int(is_stray.sum())
        wrong = (got.argmax(1) != want.argmax(1)).reshape(len(want), -1)
        self.differing += int(wrong.any(1).sum())
        close = off[~is_stray]
        self.difference = max(self.difference, close.max().item() if len(close) else 0.0)
        self.largest = max(self.largest, size.max().item())

    def check(self) -> None:
        """Refuse a network that is another.

        Raises:
            ParityError: in one line, how far it is off.
        """
        told = f"on {self.examples} examples"
        if self.differing:
            raise ParityError(
                f"a packed network must predict what the trained one does, but {told}"
                f" {self.differing} predictions differ; {WAY_OUT}"
            )
        if self.strays > STRAY * self.examples:
            raise ParityError(
                f"outputs must be equal within rounding, but {told} those of {self.strays} differ"
                f" by more than {ROUNDING:g} of the largest; {WAY_OUT}"
            )


@torch.no_grad()
def compared(
    trained: nn.Module, packed: Callable[[Tensor], Tensor], examples: Examples, task: Task
) -> Compared:
    """Return how the outputs of two networks compare on a whole split."""
    found, tally = Compared(), TALLIES[task]()
    for inputs, targets in batches_of(examples):
        want = trained(inputs)
        found.add(packed(inputs), want)
        tally.add(want, targets)
    found.accuracy = tally.metrics()["accuracy"].item()
    return found


@torch.no_grad()
def integers(
    trained: nn.Module, packed: PackedNetwork, layers: Mapping[str, str], inputs: Tensor
) -> tuple[int, int]:
    """Compare what binary layers make of bits; return how many layers and how many integers.

    Args:
        trained: the trained network, with the weights that were packed.
        packed: the packed network.
        layers: the packed nodes of its binary layers, by their names in the trained network.
        inputs: of the network.

    Raises:
        ParityError: an integer differs.
    """
    seen = _watched(trained, [*layers], inputs)
    plan = Plan(packed.description, packed.tensors, packed.results, fused=False)
    nodes = {node.name: node for node in packed.description.nodes}
    steps = {step.name: step for step in plan.steps()}
    count = total = 0
    for name, made in layers.items():
        node = nodes.get(made)
        if node is None or name not in seen or packed.results[node.inputs[0]].kind != BITS:
            continue
        module: Any = trained.get_submodule(name)
        x, y = seen[name]
        got = real(steps[made].run(bits(_without_border(node, module, x))))
        if not _are(got, module, y):
            raise ParityError(
                f"the integers of a binary layer must be equal, those of {name!r} are not;"
                f" {WAY_OUT}"
            )
        count, total = count + 1, total + got.numel()
    return count, total


def _watched(
    network: nn.Module, names: list[str], inputs: Tensor
) -> dict[str, tuple[Tensor, Tensor]]:
    """The input and the output of some layers."""
    seen: dict[str, tuple[Tensor, Tensor]] = {}

    def hook(name: str) -> Any:
        return lambda _module, given, result: seen.__setitem__(name, (given[0], result))

    handles = [network.get_submodule(n).register_forward_hook(hook(n)) for n in names]
    try:
        network(inputs)
    finally:
        for handle in handles:
            handle.remove()
    return seen


def _without_border(node: Any, module: Any, x: Tensor) -> Tensor:
    """What a layer is given, without the border that the packed layer adds itself."""
    if not isinstance(node, ops.BinaryConv):
        return x
    rows, columns = (p - q for p, q in zip(node.padding, pair(module.padding), strict=True))
    return x[:, :, rows : x.shape[2] - rows, columns : x.shape[3] - columns]


def _are(whole: Tensor, module: Any, y: Tensor) -> bool:
    """Whether the output of a layer of +-scale is made of these whole numbers.

    They are what is left of it without bias and scale, rounded: the scale is multiplied in before
    the sum, whose terms float32 rounds. Filters with a shift, or of zeros, have none.
    """
    weight = module.weight.flatten(1)
    scale = weight.abs().amax(1)
    plain = (weight.abs() == scale[:, None]).all(1) & (scale > 0)
    shape = (1, -1, *[1] * (y.ndim - 2))
    bias = 0 if module.bias is None else module.bias.view(shape)
    found = ((y - bias) / scale.view(shape)).round()
    return torch.equal(found[:, plain], whole[:, plain])
