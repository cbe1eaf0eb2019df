"""Mirror descent: the rules of md-bnn, weight by weight.

Steps of the dual variable are Adam's, or plain ones of gradient descent.
"""

from __future__ import annotations

import math

from . import adam


def sharpness_by_step(final, updates, t, steps):
    """Beta in step t of so many: multiplied after step 0 and then at equal intervals."""
    interval = steps / updates
    beta, factor = 1.0, final ** (1 / updates)
    for done in range(updates):
        if t > done * interval + 1e-9:
            beta *= factor
    return beta


def sharpness_by_epoch(final, epoch, epochs):
    """Beta in an epoch: 1 in the first, in which it is not yet multiplied, and in the second."""
    beta, factor = 1.0, final ** (1 / (epochs - 2))
    for _ in range(1, epoch):
        beta *= factor
    return beta


def learning_rate(start, factor, t, steps):
    """The scheduler is stepped after iteration 0 and after each 3/10 of the iterations."""
    rate = start
    for stair in range(4):
        if t > stair * 3 * steps / 10:
            rate *= factor
    return rate


def weights(w, *, beta):
    """What the network computes with."""
    return [math.tanh(beta * x) for x in w]


def stable(w, g, state, *, lr):
    """MD-tanh-S: the dual variable moves by the gradient at the weight."""
    return adam.step(w, g, state, lr=lr)


def through(w, g, state, *, lr, beta):
    """GD-tanh: it moves by its own gradient, by the chain rule."""
    slopes = [beta * (1 - b * b) for b in weights(w, beta=beta)]
    return adam.step(w, [x * s for x, s in zip(g, slopes, strict=True)], state, lr=lr)


def levels(u0, u1, g, state, *, lr, beta):
    """MD-softmax-S with the levels -1 and +1, each with a dual variable of its own.

    The derivative of the weight by the level's probability, q g, moves its dual variable as it is.
    """
    u0 = adam.step(u0, [-x for x in g], state.setdefault(-1, {}), lr=lr)
    u1 = adam.step(u1, g, state.setdefault(1, {}), lr=lr)
    return u0, u1, level_weights(u0, u1, beta=beta)


def level_weights(u0, u1, *, beta):
    """The mean level under the softmax of the dual variables."""
    seen = []
    for x0, x1 in zip(u0, u1, strict=True):
        e0, e1 = math.exp(beta * x0), math.exp(beta * x1)
        seen.append((e1 - e0) / (e1 + e0))
    return seen


def closed(b, x):
    """MD-tanh: the closed form, for steps x of the dual variable."""
    moved = []
    for weight, way in zip(b, x, strict=True):
        a = (1 + weight) / (1 - weight + 1e-20) * math.exp(-2 * way)
        moved.append((a - 1) / (a + 1))
    return moved


def closed_adam(b, g, state, *, lr, beta, beta1=0.9, beta2=0.999, eps=1e-8):
    """MD-tanh with Adam's moments, the corrections of which are in the learning rate."""
    state.setdefault("t", 0)
    m = state.setdefault("m", [0.0] * len(b))
    v = state.setdefault("v", [0.0] * len(b))
    state["t"] += 1
    rate = lr * math.sqrt(1 - beta2 ** state["t"]) / (1 - beta1 ** state["t"])
    x = []
    for i in range(len(b)):
        m[i] = beta1 * m[i] + (1 - beta1) * g[i]
        v[i] = beta2 * v[i] + (1 - beta2) * g[i] ** 2
        x.append(rate * beta * m[i] / (math.sqrt(v[i]) + eps))
    return closed(b, x)
