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
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    from torch import Tensor

Rule = Callable[..., Any]


def where(condition: Any, x: Any, y: Any) -> Any:
    """Return x where the condition holds, else y."""
    import torch

    return torch.where(condition, x, y)


def clip(x: Any, low: Any, high: Any) -> Any:
    """Return x, or the bound that it is beyond."""
    return x.clamp_min(low).clamp_max(high)  # one may be a number, the other a tensor


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


@dataclass(frozen=True)
class Movement:
    r"""An optimizer's step for one weight.

    ``rule``: (w, g, \*moments, \*numbers) to w and the moments; without moments to w alone. It is a
    function of a module. ``moments`` are keys of the optimizer's state, tensors like the weight
    that begin as 0; ``numbers`` may change at every step.
    """

    rule: Rule
    numbers: tuple[float, ...] = ()
    moments: tuple[str, ...] = ()


@runtime_checkable
class Projects(Protocol):
    """A :class:`bnnbench.interfaces.Binarizer` that has a rule."""

    def elementwise(self, latent: Tensor) -> Projection:
        """Return the rule for a layer's latent."""
        ...


@runtime_checkable
class Moves(Protocol):
    """A torch optimizer that has a rule.

    The class that defines ``step`` must define this too: a subclass with a step of its own is never
    moved by the rule that it inherits.
    """

    def elementwise(self, group: Mapping[str, Any], step: int) -> Movement:
        """Return the rule for a group of parameters at a step, counted from 1."""
        ...


def has_rule(thing: object) -> bool:
    """Whether a thing's very class has a rule: one inherited may not be what it does.

    >>> class Plain:
    ...     def elementwise(self): ...
    >>> class Changed(Plain): ...
    >>> has_rule(Plain()), has_rule(Changed())
    (True, False)
    """
    return "elementwise" in vars(type(thing))
