"""Two networks with the same signs: the trained one is told those that the packed one has.

    z_i    what the trained network takes the sign of, the i-th time, told the signs before it
    s_i    the packed network's sign there
    e_i    what rounding may make of z_i, see :mod:`bnnbench.packing.rounding`

Either s_i = sign(z_i), or |z_i| <= e_i. With all s_i told, the outputs are equal within rounding.
Two networks of which this holds are the same function: what a sign within rounding of 0 is, nobody
can say, and all that comes after it follows from it.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import torch

from bnnbench.packed.values import real
from bnnbench.packing.rounding import bounds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from torch import Tensor, nn

    from bnnbench.packing.lowering import Draft


class Answer(Protocol):
    """A packed network; ``watch`` is told its nodes' results, those of the signs at least."""

    def __call__(self, inputs: Tensor, watch: Callable[[str, Any], None] | None = None) -> Tensor:
        """Return the outputs of a batch."""
        ...


class Told(NamedTuple):
    """How many signs are others, which are beyond rounding, and the outputs of both networks.

    ``beyond`` are the names of the activations that have such signs.
    """

    turned: int
    beyond: list[str]
    got: Tensor
    want: Tensor


class _Seen(NamedTuple):
    """What a sign was taken of, the trained network's own sign, and the name of the packed one."""

    z: Tensor
    own: Tensor
    name: str


@torch.no_grad()
def told(trained: nn.Module, packed: Answer, draft: Draft, inputs: Tensor) -> Told:
    """Return how two networks compare if the trained one is told the other's signs.

    Args:
        trained: in evaluation mode.
        packed: its packed form.
        draft: the nodes of the trained network, without thresholds.
        inputs: of the network.
    """
    signs: dict[str, Tensor] = {}
    names = {name for each in draft.signs.values() for name in each}

    def watch(name: str, value: Any) -> None:
        if name in names:
            signs[name] = real(value)

    got = packed(inputs, watch)
    with _telling(trained, draft, signs) as seen:
        want = trained(inputs)
    errors = bounds([*draft.nodes.values()], draft.tensors, inputs, signs)
    turned, beyond = 0, []
    for z, own, name in seen:
        is_other = own != signs[name]
        turned += int(is_other.sum())
        if not (z.abs() <= errors[name])[is_other].all():
            beyond.append(name)
    return Told(turned, beyond, got, want)


@contextmanager
def _telling(
    trained: nn.Module, draft: Draft, signs: Mapping[str, Tensor]
) -> Iterator[list[_Seen]]:
    """Let a network's activations give these signs; yield what they would have given."""
    seen: list[_Seen] = []
    left = {module: [*names] for module, names in draft.signs.items()}

    def hook(module: str) -> Any:
        def tell(_module: nn.Module, given: tuple[Tensor], own: Tensor) -> Tensor:
            name = left[module].pop(0)
            if name not in signs:  # nothing that the outputs need
                return own
            seen.append(_Seen(given[0], own, name))
            return signs[name]

        return tell

    handles = [trained.get_submodule(m).register_forward_hook(hook(m)) for m in draft.signs]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()
