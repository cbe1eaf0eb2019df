"""Adam, as algorithm 1 of Kingma and Ba (2015) has it, weight by weight."""

from __future__ import annotations

import math


def step(w, g, state, *, lr, beta1=0.9, beta2=0.999, eps=1e-8):
    """Return the moved weights; ``state`` is a dict, empty before the first step."""
    state.setdefault("t", 0)
    state.setdefault("m", [0.0] * len(w))
    state.setdefault("v", [0.0] * len(w))
    state["t"] += 1
    t, m, v = state["t"], state["m"], state["v"]
    moved = []
    for i in range(len(w)):
        m[i] = beta1 * m[i] + (1 - beta1) * g[i]
        v[i] = beta2 * v[i] + (1 - beta2) * g[i] * g[i]
        m_hat = m[i] / (1 - beta1**t)
        v_hat = v[i] / (1 - beta2**t)
        moved.append(w[i] - lr * m_hat / (math.sqrt(v_hat) + eps))
    return moved
