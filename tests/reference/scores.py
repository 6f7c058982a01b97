"""Scores as loops over plain floats, one example at a time, in the order of the equations (static.md 1.2 and 4)."""

import math
from itertools import pairwise


def windows(p, j):
    """(mean, unbiased standard deviation) of each window of one trajectory; None entries are left out."""
    out = []
    for k in range(len(p) - j + 1):
        present = [v for v in p[k : k + j] if v is not None]
        if len(present) < 2:
            continue
        m = math.fsum(present) / len(present)
        u = math.sqrt(math.fsum((v - m) ** 2 for v in present) / (len(present) - 1))
        out.append((m, u))
    return out


def dual(p, j):
    terms = [(1 - m) * u for m, u in windows(p, j)]
    return math.fsum(terms) / len(terms) if terms else math.nan


def dyn_unc(p, j):
    terms = [u for _, u in windows(p, j)]
    return math.fsum(terms) / len(terms) if terms else math.nan


def dual_ring(p, j):
    """The streaming form (static.md 5): a ring of J values and two accumulators."""
    ring, total, count = [0.0] * j, 0.0, 0
    for t, value in enumerate(p):
        ring[t % j] = value
        if t >= j - 1:
            m = math.fsum(ring) / j
            u = math.sqrt(math.fsum((v - m) ** 2 for v in ring) / (j - 1))
            total += (1 - m) * u
            count += 1
    return total / count


def forgetting(correct, *, never_learned="max"):
    """``correct`` is a list of True, False, or None for an epoch not seen."""
    present = [a for a in correct if a is not None]
    if not present:
        return math.nan
    if True not in present and never_learned == "max":
        return float(len(correct))
    return float(sum(1 for before, now in pairwise(present) if before and not now))


def mean(values):
    present = [v for v in values if v is not None]
    return math.fsum(present) / len(present) if present else math.nan
