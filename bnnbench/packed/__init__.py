"""Really binary networks: one bit per weight and activation, products by XNOR and popcount.

Computation on packed bits that needs no training code. See docs/packed.md. ``load`` returns the
network of a file that 'bnnbench export' wrote; docs/packed-format.md says what is in it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bnnbench.packed.network import PackedNetwork as PackedNetwork
    from bnnbench.packed.network import load as load


def __getattr__(name: str) -> Any:
    """Import what runs a file when it is asked for: the kernels alone need less."""
    if name in ("PackedNetwork", "load"):
        from bnnbench.packed import network

        return getattr(network, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
