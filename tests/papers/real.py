"""Real weights, moved by Adam: the network computes with what is stored."""

from __future__ import annotations

from . import adam


def step(w, g, state, *, lr):
    """Return the weights after Adam's step."""
    return adam.step(w, g, state, lr=lr)
