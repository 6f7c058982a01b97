"""Submodular functions and greedy, as loops from the equations (Python numbers only)."""

import itertools
import math


def dot(x, y):
    return sum(a * b for a, b in zip(x, y, strict=True))


def distance(x, y):
    return math.sqrt(sum((a - b) ** 2 for a, b in zip(x, y, strict=True)))


def cosine_similarity(x, y):
    norms = math.sqrt(dot(x, x) * dot(y, y))
    if norms == 0:
        return 1.0 if x is y else 0.5
    return 0.5 + 0.5 * dot(x, y) / norms


def rbf_similarity(x, y, gamma):
    return math.exp(-gamma * distance(x, y) ** 2)


def mean_squared_distance(xs):
    """Over all ordered pairs, an example with itself too."""
    return sum(distance(x, y) ** 2 for x in xs for y in xs) / len(xs) ** 2


def table(xs, similarity):
    return [[similarity(x, y) for y in xs] for x in xs]


def facility_location(s, chosen):
    """sum_i max_{j in S} s_ij."""
    return sum(max((s[i][j] for j in chosen), default=0.0) for i in range(len(s)))


def graph_cut(s, chosen, lam):
    """sum_{i in V, j in S} s_ij - lam sum_{i, j in S} s_ij."""
    first = sum(s[i][j] for i in range(len(s)) for j in chosen)
    return first - lam * sum(s[i][j] for i in chosen for j in chosen)


def log_det(k, chosen):
    """The log of det K_S by Gaussian elimination; K_S is positive definite."""
    a = [[k[i][j] for j in chosen] for i in chosen]
    total = 0.0
    for p in range(len(a)):
        total += math.log(a[p][p])
        for r in range(p + 1, len(a)):
            f = a[r][p] / a[p][p]
            for c in range(p, len(a)):
                a[r][c] -= f * a[p][c]
    return total


def greedy(f, n, budget, digits=9, order=None):
    """Add what raises f most; gains that agree to so many digits tie: the first in ``order`` (or the smaller id)."""
    rank = {j: at for at, j in enumerate(range(n) if order is None else order)}
    chosen = []
    for _ in range(budget):
        now = f(chosen)
        gains = {j: round(f([*chosen, j]) - now, digits) for j in range(n) if j not in chosen}
        largest = max(gains.values())
        chosen.append(min((j for j, gain in gains.items() if gain == largest), key=rank.__getitem__))
    return chosen


def best(f, n, budget):
    """The largest value of any set of that size."""
    return max(f(list(chosen)) for chosen in itertools.combinations(range(n), budget))


def joined(s, k):
    """Pairs of which either is among the k most similar of the other (no ties), and each with itself."""
    n = len(s)
    near = [sorted((j for j in range(n) if j != i), key=lambda j, i=i: -s[i][j])[:k] for i in range(n)]
    return {(i, j) for i in range(n) for j in range(n) if i == j or j in near[i] or i in near[j]}


def last_layer_gradient(h, p, y):
    """The derivative of CE by (W, b) for one example, flat: row c is (p_c - [c = y]) (h, 1)."""
    return [(p[c] - (c == y)) * value for c in range(len(p)) for value in [*h, 1.0]]


def craig(gradients, budget, order=None):
    """Algorithm 1: picks that lower L(S) = sum_i min_{j in S} d_ij most, and the sizes of their clusters."""
    n = len(gradients)
    d = [[distance(a, b) for b in gradients] for a in gradients]
    auxiliary = max(map(max, d))  # L of the empty set, S = {s0}

    def minus_l(chosen):
        return -sum(min((d[i][j] for j in chosen), default=auxiliary) for i in range(n))

    chosen = greedy(minus_l, n, budget, order=order)
    sizes = [0] * budget
    for i in range(n):
        at = chosen.index(i) if i in chosen else min(range(budget), key=lambda k: d[i][chosen[k]])
        sizes[at] += 1
    return chosen, sizes
