"""Rules for one weight in plain arithmetic, which run on tensors or, compiled, in one pass.

A rule is a plain function of numbers. It may use ``+ - * /``, comparisons, ``&``, ``|``, ``abs``,
its own module's functions and those of this module; it has no ``if``, no loop and no attribute.
An optimizer that has one (:class:`Moves`) and a binarizer that has one (:class:`Projects`) are
taken together into a single pass over the weights on CPU, which also counts the flips. Whatever has
none is trained by its torch operations, with the same meaning.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, runtime_checkable

if TYPE_CHECKING:
    from torch import Tensor

Rule = Callable[..., Any]


def where(condition: Any, x: Any, y: Any) -> Any:
    """Return x where the condition holds, else y."""
    import torch

    return torch.where(condition, x, y)


def clip(x: Any, low: Any, high: Any) -> Any:
    """Return x, or the bound that it is beyond."""
    return x.clamp(low, high)


def sqrt(x: Any) -> Any:
    """Return the square root."""
    return x.sqrt()


def tanh(x: Any) -> Any:
    """Return the hyperbolic tangent; compiled for float32, within 4e-7 of it."""
    return x.tanh()


def passed(w: Any, g: Any, *numbers: float) -> Any:
    """The rule of a gradient that is handed on as it is."""
    return g


@dataclass(frozen=True)
class Projection:
    r"""A binarizer for one weight.

    ``forward``: (w, \*numbers) to the weight that the network computes with. With ``random`` it is
    (w, u, \*numbers), and u a number of [0, 1) drawn by :func:`bnnbench.chance.uniform`.
    ``backward``: (w, g, \*numbers) to the pseudo-gradient. Both are functions of a module, since
    what is compiled is kept for each of them; ``numbers`` may change at every step.
    """

    forward: Rule
    backward: Rule = passed
    numbers: tuple[float, ...] = ()
    random: bool = False


@runtime_checkable
class Projects(Protocol):
    """A :class:`bnnbench.interfaces.Binarizer` that has a rule."""

    def elementwise(self, latent: Tensor) -> Projection:
        """Return the rule for a layer's latent."""
        ...


@runtime_checkable
class Moves(Protocol):
    r"""A torch optimizer that has a rule: (w, g, \*moments, \*numbers) to w and the moments.

    ``moments`` are the keys of its state, tensors like the weight that begin as 0. A rule without
    moments returns w alone. The class that defines ``step`` must define ``rule`` too: a subclass
    with a step of its own is never moved by the rule that it inherits.
    """

    moments: ClassVar[tuple[str, ...]]
    rule: ClassVar[Rule]

    def numbers(self, group: Mapping[str, Any], step: int) -> tuple[float, ...]:
        """Return the rule's numbers for a group at a step, counted from 1."""
        ...


def has_rule(thing: object, name: str) -> bool:
    """Whether a thing's very class defines a rule: one inherited may not be what it does.

    >>> class Plain: rule = abs
    >>> class Changed(Plain): pass
    >>> has_rule(Plain(), "rule"), has_rule(Changed(), "rule")
    (True, False)
    """
    return name in vars(type(thing))
