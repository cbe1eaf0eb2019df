"""BNEW: Paren and Poudel (2022), in the step order of the official programs."""

from __future__ import annotations

from . import adam


def strength(start, epoch, epochs):
    """Lambda in an epoch: it is set anew as an epoch ends, so that the first two are alike."""
    lam = start / epochs
    for ended in range(epoch):
        lam = min(start * (ended + 1) / epochs, 1.0)
    return min(lam, 1.0)


def strength_by_step(start, t, steps):
    """Lambda in step t: it grows as the learning rate falls."""
    return min(start * t / (steps - 1), 1.0)


def learning_rate(start, t, steps):
    """Linear, 0 in the last step."""
    return start * (1 - t / (steps - 1))


def expand(w, lam):
    """A step on the regularizer, then the projection on the hull."""
    return [max(-1.0, min(1.0, (1 + 2 * lam) * x)) for x in w]


def step(w, g, state, *, lr, lam, order="reg_then_adam"):
    """Return the weights after the expansion and Adam's step, in this order or the other."""
    if order == "reg_then_adam":
        return adam.step(expand(w, lam), g, state, lr=lr)
    return expand(adam.step(w, g, state, lr=lr), lam)


def growth(lams):
    """How much a weight without a gradient has grown after so many strengths."""
    grown = 1.0
    for lam in lams:
        grown *= 1 + 2 * lam
    return grown


def lock(w, *, filters=None):
    """The signs; with a number of filters, times the mean of the absolute weights of each."""
    if filters is None:
        return [1.0 if x >= 0 else -1.0 for x in w]
    size = len(w) // filters
    locked = []
    for first in range(0, len(w), size):
        taken = w[first : first + size]
        mean = sum(abs(x) for x in taken) / size
        locked += [mean if x >= 0 else -mean for x in taken]
    return locked
