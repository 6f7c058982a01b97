"""Policies and batch selectors as loops, in the order of the papers (dynamic.md 1.1 to 1.12)."""

import itertools
import math


def running(visits, alpha):
    """Mean and variance of one example after its visits, by the equations of UCB."""
    mean, variance = visits[0], 0.0
    for x in visits[1:]:
        variance = (1 - alpha) * variance + alpha * (x - mean) ** 2
        mean = (1 - alpha) * mean + alpha * x
    return mean, variance


def highest(scores, count):
    """Ids of the largest, where none tie."""
    return set(sorted(range(len(scores)), key=lambda i: -scores[i])[:count])


def info_batch_groups(losses, form, drop):
    """(ids, share of them to keep) of each group that is drawn from."""
    if form == "mean":
        threshold = sum(losses) / len(losses)
        return [([i for i, s in enumerate(losses) if s < threshold], 1 - drop)]
    low, high = quantile(losses, 0.2), quantile(losses, 0.85)
    easy = [i for i, s in enumerate(losses) if s < low]
    middle = [i for i, s in enumerate(losses) if low <= s < high]
    return [(easy, (1 - drop) ** 2), (middle, 1 - drop)]


def quantile(values, share):
    """Linear interpolation between order statistics."""
    line = sorted(values)
    place = share * (len(line) - 1)
    below = math.floor(place)
    above = min(below + 1, len(line) - 1)
    return line[below] + (place - below) * (line[above] - line[below])


def chunk(permutation, k, number):
    """The ids that RS2 hands out in round ``number`` of a pass; the last goes on from the start."""
    n = len(permutation)
    return [permutation[(number * k + j) % n] for j in range(k)]


def best_division_on_a_line(values, k):
    """Groups of ids, by rising loss, of the least sum of squared distances to the groups' means; and that sum."""
    order, n = sorted(range(len(values)), key=lambda i: values[i]), len(values)
    spread = {}
    for i in range(n):
        total = squares = 0.0
        for j in range(i, n):
            total, squares = total + values[order[j]], squares + values[order[j]] ** 2
            spread[i, j + 1] = max(0.0, squares - total**2 / (j + 1 - i))
    best = [(spread[0, j], [0, j]) if j else (0.0, [0]) for j in range(n + 1)]  # by the number of values so far
    for _ in range(1, min(k, n)):
        best = [
            min([best[j], *((best[i][0] + spread[i, j], [*best[i][1], j]) for i in range(1, j))]) for j in range(n + 1)
        ]
    inertia, ends = best[n]
    return [order[a:b] for a, b in itertools.pairwise(ends)], inertia


def forgetting(answers, period):
    """Times that one example went from right to wrong; the maximum if it was never right."""
    if not any(answers):
        return period
    return sum(1 for before, after in itertools.pairwise(answers) if before and not after)


def backprop_chance(history, batch, window, beta, minimum):
    """P of selective backprop: the share of recent losses not above its own, to a power."""
    recent = (history + batch)[-window:]
    return [max(minimum, (sum(1 for other in recent if other <= x) / len(recent)) ** beta) for x in batch]


def div_bs(gradients, count):
    """Greedy picks by Gram-Schmidt on the gradients themselves, lists of floats."""

    def dot(a, b):
        return sum(x * y for x, y in zip(a, b, strict=True))

    b = len(gradients)
    residual = [sum(column) / b for column in zip(*gradients, strict=True)]
    basis, picked = [], []
    for _ in range(count):
        best = max((i for i in range(b) if i not in picked), key=lambda i: abs(dot(gradients[i], residual)))
        direction = list(gradients[best])
        for e in basis:
            projection = dot(direction, e)
            direction = [d - projection * x for d, x in zip(direction, e, strict=True)]
        length = math.sqrt(dot(direction, direction))
        direction = [d / length for d in direction]
        projection = dot(residual, direction)
        residual = [r - projection * d for r, d in zip(residual, direction, strict=True)]
        basis.append(direction)
        picked.append(best)
    return picked


def loss_power_chances(scores, k, a, floor):
    """Inclusion probabilities in proportion to a power, capped at one: the largest leave while they have too much."""
    mean = sum(scores) / len(scores)
    sizes = [max(s, floor * mean) ** a for s in scores]
    certain = set()
    while True:
        rest = sum(size for i, size in enumerate(sizes) if i not in certain)
        chance = [1.0 if i in certain else (k - len(certain)) * size / rest for i, size in enumerate(sizes)]
        over = {i for i, p in enumerate(chance) if p >= 1} | certain
        if over == certain or len(over) == len(sizes):
            return [1.0 if i in over else p for i, p in enumerate(chance)]
        certain = over


def laid_out(chance, order, u):
    """Systematic sampling: whoever's stretch of the line holds one of u, u + 1, u + 2 ..."""
    end, draw = 0.0, []
    for i in order:
        begin, end = end, end + chance[i]
        if any(begin < u + j <= end for j in range(len(order))):
            draw.append(i)
    return draw


def two_bells(values, rounds=2000):
    """Shares, means and deviations of two normal distributions by expectation maximisation over all values."""
    n = len(values)
    middle = sum(values) / n
    deviation = math.sqrt(sum((v - middle) ** 2 for v in values) / n)
    share, centre, spread = (
        [0.2, 0.8],
        [middle - 1.5 * deviation, middle + 0.4 * deviation],
        [0.6 * deviation, 0.8 * deviation],
    )
    for _ in range(rounds):
        segments = []
        for v in values:
            height = [
                s / d * math.exp(-(((v - c) / d) ** 2) / 2) for s, c, d in zip(share, centre, spread, strict=True)
            ]
            segments.append([h / sum(height) for h in height])
        for j in (0, 1):
            mass = sum(p[j] for p in segments)
            share[j] = mass / n
            centre[j] = sum(p[j] * v for p, v in zip(segments, values, strict=True)) / mass
            spread[j] = math.sqrt(
                sum(p[j] * (v - centre[j]) ** 2 for p, v in zip(segments, values, strict=True)) / mass
            )
    return share, centre, spread


def hidden(losses, correct, p_label, count, confidence):
    """KAKURENBO: ids among the ``count`` lowest losses that were right and sure; the others are moved back."""
    candidates = sorted(range(len(losses)), key=lambda i: losses[i])[:count]
    moved_back = {i for i in candidates if not (correct[i] and p_label[i] >= confidence)}
    return set(candidates) - moved_back


def mastered(losses, delta):
    """IES: whether the mean of the last three second differences of an example's losses is below ``delta``."""
    second = [losses[t] - 2 * losses[t - 1] + losses[t - 2] for t in range(2, len(losses))]
    return len(second) >= 3 and sum(abs(d) for d in second[-3:]) / 3 < delta


def middle_sizes(scores, width, times_loss):
    """A Gaussian of each score around the mean, times the score."""
    mean = sum(scores) / len(scores)
    deviation = (sum((s - mean) ** 2 for s in scores) / len(scores)) ** 0.5
    return [(s if times_loss else 1.0) * math.exp(-((s - mean) ** 2) / (2 * (width * deviation) ** 2)) for s in scores]


def holding(scores, mass, fewest):
    """The fewest ids, of the largest scores, that hold a share ``mass`` of the sum; at least ``fewest``."""
    order = sorted(range(len(scores)), key=lambda i: -scores[i])
    kept, total = [], 0.0
    for i in order:
        if total >= mass * sum(scores) and len(kept) >= fewest:
            break
        kept.append(i)
        total += scores[i]
    return set(kept)
