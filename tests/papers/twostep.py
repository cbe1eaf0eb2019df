"""ReActNet's two steps: Liu et al. (2020), with the gradient of Bi-Real Net's public code."""

from __future__ import annotations

from . import adam, xnor


def learning_rate(start, epoch, epochs):
    """Linear to 0; the scheduler has been stepped as the epoch begins, counted from 0."""
    return start * (epochs - (epoch + 1)) / epochs


def binary_activations(w, g, state, *, lr, decay):
    """The first step: real weights that decay."""
    return adam.step(w, [dx + decay * x for x, dx in zip(w, g, strict=True)], state, lr=lr)


def binary_weights(w, g, state, *, n, lr):
    """The second step."""
    return adam.step(w, xnor.handed(w, g, n, "detached"), state, lr=lr)
