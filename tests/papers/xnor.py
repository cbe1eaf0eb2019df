"""XNOR-Net: Rastegari et al. (2016), the order and the gradients of the public programs."""

from __future__ import annotations

from . import adam


def filters(w, n):
    """Cut a layer's weights into filters of n."""
    return [w[i : i + n] for i in range(0, len(w), n)]


def constrain(w, n):
    """Take the mean off each filter (its weights are its input channels), then clip."""
    moved = []
    for f in filters(w, n):
        mean = sum(f) / n
        moved += [max(-1.0, min(1.0, x - mean)) for x in f]
    return moved


def sign(x):
    """+1 for 0."""
    return 1.0 if x >= 0 else -1.0


def height(f):
    """Alpha of a filter."""
    return sum(abs(x) for x in f) / len(f)


def binarize(w, n):
    """Alpha sign(w), filter by filter."""
    return [height(f) * sign(x) for f in filters(w, n) for x in f]


def torch7(f, g):
    """The official code's: the clip leaves the edge out, and centring has a factor of its own."""
    n, alpha = len(f), height(f)
    factors = [((alpha if -1 < x < 1 else 0.0) + 1 / n) * (1 - 1 / n) for x in f]
    return [dx * m for dx, m in zip(g, factors, strict=True)]


def exact(f, g):
    """The Jacobian of alpha(w) clip(w), worked out entry by entry, times g."""
    n, alpha = len(f), height(f)
    handed = []
    for i in range(n):
        column = [sign(f[j]) * sign(f[i]) / n for j in range(n)]
        column[i] += alpha if -1 <= f[i] <= 1 else 0.0
        handed.append(sum(dx * entry for dx, entry in zip(g, column, strict=True)))
    return handed


def alpha(f, g):
    """Larq's: the clip's gradient, times alpha."""
    return [dx * height(f) if -1 <= x <= 1 else 0.0 for x, dx in zip(f, g, strict=True)]


def detached(f, g):
    """Bi-Real Net's: the clip's gradient alone."""
    return [dx if -1 <= x <= 1 else 0.0 for x, dx in zip(f, g, strict=True)]


GRADIENTS = {"torch7": torch7, "exact": exact, "alpha": alpha, "detached": detached}


def handed(w, g, n, gradient):
    """What the latents of a layer are handed."""
    pairs = zip(filters(w, n), filters(g, n), strict=True)
    return [dx for f, df in pairs for dx in GRADIENTS[gradient](f, df)]


def regime(epoch, epochs):
    """The factors of the learning rate and of the weight decay; epochs counted from 0, of 55."""
    at = 55 * epoch / epochs
    rate = 1.0 if at < 18 else 0.5 if at < 29 else 0.1 if at < 43 else 0.05 if at < 52 else 0.01
    return rate, 1.0 if at < 29 else 0.0


def boosted_adam(w, g, state, *, lr, decay, boost):
    """Adam on boost g + decay w."""
    total = [boost * dx + decay * x for x, dx in zip(w, g, strict=True)]
    return adam.step(w, total, state, lr=lr)


def step(w, g, state, *, n, gradient, **rates):
    """Return the latents after a step of Adam, centred and clipped."""
    return constrain(boosted_adam(w, handed(w, g, n, gradient), state, **rates), n)
