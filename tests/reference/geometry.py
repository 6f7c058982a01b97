"""Geometric selectors as loops over lists, in the order of the papers (condense.md 1.1 and 1.2; static.md 4.3, 4.4)."""

import itertools
import math


def distance(a, b):
    return math.sqrt(sum((x - y) ** 2 for x, y in zip(a, b, strict=True)))


def cosine(a, b):
    norms = math.sqrt(sum(x * x for x in a)) * math.sqrt(sum(y * y for y in b))
    return sum(x * y for x, y in zip(a, b, strict=True)) / norms if norms else 0.0


def mean_of(rows):
    return [sum(column) / len(rows) for column in zip(*rows, strict=True)]


def nearest(rows, i, k, apart=distance):
    """The k others nearest to i; ties to the smaller id."""
    rest = [j for j in range(len(rows)) if j != i]
    return sorted(rest, key=lambda j: (apart(rows[i], rows[j]), j))[:k]


def k_center(rows, budget, first, outliers=0, apart=distance, order=None):
    """Farthest first; with outliers=z, the one after the z farthest (or the last, where no more are left).

    Of equals the first in ``order`` (or the smaller id).
    """
    rank = {i: at for at, i in enumerate(range(len(rows)) if order is None else order)}
    chosen = [first]
    while len(chosen) < budget:
        left = [i for i in range(len(rows)) if i not in chosen]
        far = {i: min(apart(rows[i], rows[j]) for j in chosen) for i in left}
        left.sort(key=lambda i: (-far[i], rank[i]))
        chosen.append(left[min(outliers, len(left) - 1)])
    return chosen


def radius(rows, centres, outliers=0):
    """The farthest that any point but the ``outliers`` farthest is from its nearest centre."""
    far = sorted(min(distance(row, rows[c]) for c in centres) for row in rows)
    return far[len(rows) - 1 - outliers]


def best_centres(rows, budget, outliers=0):
    """Every set of centres with the smallest radius, and that radius, by trying all."""
    tried = {s: radius(rows, s, outliers) for s in itertools.combinations(range(len(rows)), budget)}
    best = min(tried.values())
    return [s for s, r in tried.items() if r <= best], best


def herding(rows, budget, take=min, order=None):
    """x_i = argmin || (i + 1) mu - sum of the chosen - x ||, without replacement; ``take=max`` is the wrong sign.

    Of equals the first in ``order`` (or the smaller id).
    """
    mu = mean_of(rows)
    total = [0.0] * len(mu)
    chosen = []
    for i in range(budget):
        left = [j for j in (range(len(rows)) if order is None else order) if j not in chosen]
        gap = {
            j: math.sqrt(sum(((i + 1) * m - t - x) ** 2 for m, t, x in zip(mu, total, rows[j], strict=True)))
            for j in left
        }
        pick = take(left, key=lambda j: gap[j])
        chosen.append(pick)
        total = [t + x for t, x in zip(total, rows[pick], strict=True)]
    return chosen


def kl(p, q):
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))


def symmetric_kl(p, q):
    return 0.5 * kl(p, q) + 0.5 * kl(q, p)


def cal_scores(rows, probs, k):
    """Mean over the k nearest j of KL(p_j || p_i)."""
    out = []
    for i in range(len(rows)):
        near = nearest(rows, i, k)
        out.append(sum(kl(probs[j], probs[i]) for j in near) / len(near))
    return out


def d2(score, rows, budget, k, gamma, gamma_forward=1.0, power=1):
    """Forward and reverse messages on the symmetric graph (static.md 4.3), with a matrix of edges."""
    n = len(rows)
    joined = [[False] * n for _ in range(n)]
    for i in range(n):
        for j in nearest(rows, i, k):
            joined[i][j] = joined[j][i] = True

    def message(i, j, rate):
        return math.exp(-rate * distance(rows[i], rows[j]) ** power)

    u = []
    for i in range(n):
        heard = sum(message(i, j, gamma_forward) * max(score[j], 1e-7) for j in range(n) if joined[i][j])
        u.append(score[i] + heard)
    chosen = []
    for _ in range(budget):
        left = [i for i in range(n) if i not in chosen]
        pick = max(left, key=lambda i: (u[i], -i))
        for j in range(n):
            if joined[pick][j] and j not in chosen:
                u[j] -= message(pick, j, gamma) * u[pick] if j != pick else 0
        chosen.append(pick)
    return chosen


def beta_pdf(x, a, b):
    return x ** (a - 1) * (1 - x) ** (b - 1) * math.gamma(a + b) / math.gamma(a) / math.gamma(b)


def boss(rows, score, budget, a, b, order):
    """Greedy facility location with similarities (0.5 + 0.5 cos) v_j (static.md 4.4); of equals the first of order."""
    low, high = min(score), max(score)
    v = [beta_pdf(min(max((s - low) / (high - low), 1e-6), 1 - 1e-6), a, b) for s in score]
    n = len(rows)
    best = [0.0] * n
    chosen = []
    for _ in range(budget):
        gain = {}
        for j in range(n):
            if j not in chosen:
                total = sum(max(0, (0.5 + 0.5 * cosine(rows[i], rows[j])) * v[j] - best[i]) for i in range(n))
                gain[j] = round(total, 6)  # the gains of two that are nearest to each other can be the same sum
        pick = max(gain, key=lambda j: (gain[j], -order.index(j)))
        chosen.append(pick)
        best = [max(best[i], (0.5 + 0.5 * cosine(rows[i], rows[pick])) * v[pick]) for i in range(n)]
    return chosen
