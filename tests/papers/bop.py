"""Bop: Helwegen et al. (2019), algorithm 1."""

from __future__ import annotations


def sign(x):
    """-1, 0 or +1."""
    return (x > 0) - (x < 0)


def binarize(w):
    """The weights before the first step."""
    return [1.0 if x >= 0 else -1.0 for x in w]


def adaptivity(start, factor, stages, t, steps):
    """Gamma in step t of so many: multiplied by ``factor`` as each of equal stages ends."""
    gamma = start
    for stage in range(1, stages):
        if t >= stage * steps / stages:
            gamma *= factor
    return gamma


def rescaled(gamma, tau, steps, published=500_000):
    """What gamma and tau of the published number of steps become in so many."""
    longer = published / steps
    return min(gamma * longer, 1.0), tau * longer**0.5


def step(w, g, state, *, gamma, tau):
    """Return the weights, flipped where the averaged gradient is strong and has their sign."""
    m = state.setdefault("m", [0.0] * len(w))
    moved = []
    for i in range(len(w)):
        m[i] = (1 - gamma) * m[i] + gamma * g[i]
        flips = abs(m[i]) > tau and sign(m[i]) == sign(w[i])
        moved.append(-w[i] if flips else w[i])
    return moved
