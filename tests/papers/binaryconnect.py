"""BinaryConnect: Courbariaux, Bengio and David (2015), algorithm 1 and equations 1 to 3.

The step is stretched as in the public code: the optimizer's whole step, times S.
"""

from __future__ import annotations

import math


def hard_sigmoid(x):
    """Equation 3."""
    return max(0.0, min(1.0, (x + 1.0) / 2.0))


def binarize(w, *, H):
    """Equation 1: +H where w >= 0."""
    return [H if x >= 0 else -H for x in w]


def binarize_by_chance(w, u, *, H):
    """Equation 2, with u drawn from U[0, 1): +H where u < hard_sigmoid(w / H)."""
    return [H if draw < hard_sigmoid(x / H) else -H for x, draw in zip(w, u, strict=True)]


def glorot(fan_in, fan_out):
    """The coefficient c by which the public code scales a layer."""
    return math.sqrt(1.5 / (fan_in + fan_out))


def learning_rate(start, end, epoch, epochs):
    """Decay by the same factor each epoch; ``epoch`` counts from 0."""
    decay = (end / start) ** (1.0 / epochs)
    return start * decay**epoch


def step(w, g, state, *, move, S, H, **rates):
    """Return the latents after ``move`` (of Adam or SGD), stretched by S and clipped to [-H, H]."""
    moved = move(w, g, state, **rates)
    stretched = [old + S * (new - old) for old, new in zip(w, moved, strict=True)]
    return [max(-H, min(H, x)) for x in stretched]
