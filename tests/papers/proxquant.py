"""ProxQuant: Bai, Wang and Liberty (2019), the binary prox with its clip."""

from __future__ import annotations

from . import adam


def sign(x):
    """The sign, +1 for 0."""
    return 1.0 if x >= 0 else -1.0


def prox(w, r):
    """The point nearest to w, by r times the distance to -1 or +1: a soft threshold around it."""
    moved = []
    for x in w:
        d = abs(x) - 1
        left = max(abs(d) - r, 0.0)
        moved.append(sign(x) * (1 + sign(d) * left))
    return moved


def strength(lr, reg, epoch):
    """R as published."""
    return lr * reg * epoch


def step(w, g, state, *, lr, r):
    """Return the weights after Adam's step, the prox and the clip."""
    moved = prox(adam.step(w, g, state, lr=lr), r)
    return [max(-1.0, min(1.0, x)) for x in moved]
