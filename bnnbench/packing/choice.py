"""Which network of a run is packed: that of its binary mode, where it was trained for it.

A method may be judged by other weights than binary ones. Its binary mode is worth packing where the
network computed with two values for each filter in training (stochastic BinaryConnect); one that
was trained with more (ternary or real weights) is another network, and is refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bnnbench.errors import UsageError
from bnnbench.evaluation import weight_bits
from bnnbench.schedules import Progress
from bnnbench.seeds import RandomState

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from bnnbench.latents import Latents
    from bnnbench.methods import Method

BINARY = "binary"  #: the mode that is packed
LAST = Progress(999, 1000, 999, 1000)  #: of a training that is as good as over


def check_mode(method: Method, name: str, latents: Latents) -> None:
    """Refuse a method whose networks are not made of binary weights.

    Args:
        method: with the mode by which the run is judged.
        name: the method's name.
        latents: those of a network of its, trained or not.

    Raises:
        UsageError: a layer has more than two values for each filter.
    """
    if not len(latents):
        raise UsageError("a network without a binary layer has nothing to be packed")
    if method.judged == BINARY:
        return
    binarizer = method.phases[-1].binarizer.build(LAST)
    with RandomState(0).in_force():
        views = latents.views(binarizer.forward)
    layer, bits = _widest(views)
    if bits > 1:
        raise UsageError(
            f"only binary weights can be packed, but {name} is judged by {method.judged!r} and"
            f" trains with more than two values a filter, as in {layer!r} ({_told(bits)}); export a"
            " run of a binary method"
        )


def _widest(views: Mapping[str, Tensor]) -> tuple[str, int]:
    """The first layer whose weights have the most bits, and how many."""
    bits = {name: weight_bits({name: view}) for name, view in views.items()}
    widest = max(bits.values())
    return next(name for name, count in bits.items() if count == widest), widest


def _told(bits: int) -> str:
    return "real weights" if bits == 32 else f"{bits} bits"
