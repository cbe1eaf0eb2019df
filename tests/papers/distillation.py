"""Losses with a teacher, in plain floats: examples are rows of outputs, volumes lists of channels.

Distribution: the distributional loss of Liu et al. (2020). Hinton: Hinton, Vinyals and Dean (2015).
Attention: Martinez et al. (2020), each map divided by its maximum as in the public code.
"""

from __future__ import annotations

import math


def softmax(z, temperature=1.0):
    """Probabilities of a row of outputs."""
    top = max(z)
    powers = [math.exp((x - top) / temperature) for x in z]
    return [power / sum(powers) for power in powers]


def cross_entropy(p, z, temperature=1.0):
    """Of a row's distribution against given probabilities."""
    return -sum(a * math.log(b) for a, b in zip(p, softmax(z, temperature), strict=True) if a)


def one_hot(target, classes):
    """The label as probabilities."""
    return [1.0 if k == target else 0.0 for k in range(classes)]


def mean(values):
    """The mean."""
    return sum(values) / len(values)


def distribution(student, teacher):
    """The cross-entropy with the teacher's distribution, mean over the rows."""
    return mean(
        [cross_entropy(softmax(t), s) for s, t in zip(student, teacher, strict=True)],
    )


def distribution_gradient(student, teacher):
    """By the student's outputs: the difference of the distributions, over the number of rows."""
    n = len(student)
    return [
        [(p - q) / n for p, q in zip(softmax(s), softmax(t), strict=True)]
        for s, t in zip(student, teacher, strict=True)
    ]


def divergence(student, teacher, temperature):
    """Kullback and Leibler's, from the teacher's distribution to the student's, mean over rows."""
    rows = []
    for s, t in zip(student, teacher, strict=True):
        p, q = softmax(t, temperature), softmax(s, temperature)
        rows.append(sum(a * math.log(a / b) for a, b in zip(p, q, strict=True)))
    return mean(rows)


def labels(student, targets):
    """The cross-entropy with the labels, mean over the rows."""
    return mean(
        [
            cross_entropy(one_hot(target, len(s)), s)
            for s, target in zip(student, targets, strict=True)
        ]
    )


def hinton(student, teacher, targets, *, weight, temperature):
    """Labels and teacher, weighted; T^2 keeps the teacher's part of the gradient in proportion."""
    soft = temperature**2 * divergence(student, teacher, temperature)
    return (1 - weight) * labels(student, targets) + weight * soft


def hinton_gradient(student, teacher, targets, *, weight, temperature):
    """By the student's outputs: two differences of distributions."""
    n, rows = len(student), []
    for s, t, target in zip(student, teacher, targets, strict=True):
        hard, y = softmax(s), one_hot(target, len(s))
        soft, q = softmax(s, temperature), softmax(t, temperature)
        rows.append(
            [
                ((1 - weight) * (hard[k] - y[k]) + weight * temperature * (soft[k] - q[k])) / n
                for k in range(len(s))
            ]
        )
    return rows


def attention_map(volume):
    """One example's map: the mean of squares over channels, its largest value 1."""
    places = range(len(volume[0]))
    raw = [mean([channel[i] ** 2 for channel in volume]) for i in places]
    return [x / max(raw) if max(raw) else 0.0 for x in raw]


def matching(student, teacher):
    """The mean squared difference of the maps of one layer, over examples and places."""
    differences = []
    for s, t in zip(student, teacher, strict=True):
        pairs = zip(attention_map(s), attention_map(t), strict=True)
        differences += [(a - b) ** 2 for a, b in pairs]
    return mean(differences)
