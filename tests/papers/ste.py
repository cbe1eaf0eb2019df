"""The straight-through estimator: Courbariaux, Hubara et al. (2016), algorithm 1 and equation 4."""

from __future__ import annotations

from . import adam


def binarize(w):
    """The sign, +1 for 0."""
    return [1.0 if x >= 0 else -1.0 for x in w]


def masked(w, g):
    """Equation 4: the gradient passes where |w| <= 1, the edge included."""
    return [dx if abs(x) <= 1 else 0.0 for x, dx in zip(w, g, strict=True)]


def step(w, g, state, *, lr, S, hardtanh):
    """Return the latents after Adam's step, stretched by S and clipped to [-1, 1]."""
    moved = adam.step(w, masked(w, g) if hardtanh else g, state, lr=lr)
    stretched = [old + S * (new - old) for old, new in zip(w, moved, strict=True)]
    return [max(-1.0, min(1.0, x)) for x in stretched]
