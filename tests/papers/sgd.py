"""Stochastic gradient descent with momentum; the velocity does not hold the learning rate."""

from __future__ import annotations


def step(w, g, state, *, lr, momentum=0.0):
    """Return the moved weights; ``state`` is a dict, empty before the first step."""
    u = state.setdefault("u", [0.0] * len(w))
    for i in range(len(w)):
        u[i] = momentum * u[i] + g[i]
    return [w[i] - lr * u[i] for i in range(len(w))]
