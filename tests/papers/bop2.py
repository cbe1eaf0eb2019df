"""Second-order Bop: Suarez-Ramirez et al. (2021), biased and unbiased."""

from __future__ import annotations

import math


def linear(start, end, t, steps):
    """From start in step 0 to end in the last of so many steps."""
    return start + (end - start) * t / (steps - 1)


def step(w, g, state, *, gamma, sigma, tau, unbiased):
    """Return the weights, flipped where their averaged gradient is strong for its spread."""
    m = state.setdefault("m", [0.0] * len(w))
    v = state.setdefault("v", [0.0] * len(w))
    moved = []
    for i in range(len(w)):
        m[i] = (1 - gamma) * m[i] + gamma * g[i]
        v[i] = (1 - sigma) * v[i] + sigma * g[i] ** 2
        mean, spread = m[i], math.sqrt(v[i])
        if unbiased:
            mean, spread = m[i] / gamma, math.sqrt(v[i] / sigma)
        moved.append(-w[i] if w[i] * mean / (spread + 1e-10) > tau else w[i])
    return moved
