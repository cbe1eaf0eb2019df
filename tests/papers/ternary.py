"""Ternary weight networks: Li, Zhang and Liu (2016), one delta and alpha a layer."""

from __future__ import annotations


def parts(w, threshold):
    """Delta and alpha."""
    delta = threshold * sum(abs(x) for x in w) / len(w)
    above = [abs(x) for x in w if abs(x) > delta]
    return delta, sum(above) / len(above)


def ternarize(w, threshold):
    """-alpha, 0 or alpha."""
    delta, alpha = parts(w, threshold)
    return [alpha if x > delta else -alpha if x < -delta else 0.0 for x in w]


def binarize(w, threshold):
    """-alpha or alpha, +alpha for 0."""
    _, alpha = parts(w, threshold)
    return [alpha if x >= 0 else -alpha for x in w]
