"""Scores on probed and subset arrays, and k-means, as loops over plain floats in the order of the equations."""

import math
import statistics
from itertools import pairwise

import numpy as np


def grand_last(h, p, label):
    """Norm of the whole gradient matrix of one example: (P - y) outer [h, 1] (static.md 4)."""
    error = [v - (c == label) for c, v in enumerate(p)]
    gradient = [e * a for e in error for a in [*h, 1.0]]
    return math.sqrt(math.fsum(g * g for g in gradient))


def kl_step(rows):
    """static.md 4.2: the change between the predictions of one example after each two epochs."""
    return [
        sum(abs(b * (math.log(b + 1e-8) - math.log(a + 1e-8))) for a, b in zip(before, now, strict=True))
        for before, now in pairwise(rows)
    ]


def tdds(kl, j, g):
    """The closed form of static.md 4.2 for one example; ``kl`` holds T - 1 floats, or None."""
    epochs = len(kl) + 1
    spreads = []
    for k in range(epochs - j + 1):
        present = [v for v in kl[k : k + j - 1] if v is not None]
        if len(present) >= 2:
            mean = math.fsum(present) / len(present)
            square = math.fsum((v - mean) ** 2 for v in present) * (j - 1) / len(present)
            spreads.append(math.sqrt(square))
    if not spreads:
        return math.nan
    last = len(spreads) - 1
    return math.fsum(g * (1 - g) ** (last - k) * r for k, r in enumerate(spreads))


def moderate(rows, labels):
    out = []
    for row, label in zip(rows, labels, strict=True):
        same = [r for r, other in zip(rows, labels, strict=True) if other == label]
        middle = [statistics.median(column) for column in zip(*same, strict=True)]
        out.append(math.dist(row, middle))
    return out


def cosine_distance(a, b):
    return 1 - sum(x * y for x, y in zip(a, b, strict=True)) / (math.hypot(*a) * math.hypot(*b))


def memorization(trained, correct):
    """One example: lists over the runs."""
    inside = [c for t, c in zip(trained, correct, strict=True) if t]
    outside = [c for t, c in zip(trained, correct, strict=True) if not t]
    if not inside or not outside:
        return math.nan
    return sum(inside) / len(inside) - sum(outside) / len(outside)


def plus_plus(x, k, generator):
    """What plain k-means++ leaves: one row drawn a time by squared distance; ``generator`` is of numpy."""
    left = ((x - x[generator.integers(len(x))]) ** 2).sum(1)
    for _ in range(k - 1):
        draw = x[generator.choice(len(x), p=left / left.sum())]
        left = np.minimum(left, ((x - draw) ** 2).sum(1))
    return left.sum()


def pca_part(x, k):
    """Starting centres of Su and Dy 2007 by whole covariance matrices and their eigenvectors."""
    groups = [np.arange(len(x))]
    while len(groups) < k:
        squares = [((x[ids] - x[ids].mean(0)) ** 2).sum() for ids in groups]
        ids = groups.pop(int(np.argmax(squares)))
        centred = x[ids] - x[ids].mean(0)
        direction = np.linalg.eigh(centred.T @ centred)[1][:, -1]
        right = centred @ direction > 0
        groups += [ids[~right], ids[right]]
    return np.stack([x[ids].mean(0) for ids in groups])
