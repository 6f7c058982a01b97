"""Selectors as loops, in the order of the papers (static.md 1.3 and 4.1)."""


def beta_parameters(mu_d, n, budget, c_d, total):
    r = 1 - budget / n
    b = 15 * (1 - mu_d) * (1 - r**c_d)
    return total - b, b


def successive(weights, count, uniform):
    """Draw one after the other, each with probability proportional to its weight among those left."""
    left = dict(enumerate(weights))
    chosen = []
    for _ in range(count):
        at = uniform() * sum(left.values())
        pick = None
        for i, w in left.items():
            pick = i
            at -= w
            if at < 0:
                break
        chosen.append(pick)
        del left[pick]
    return chosen


def ccs_budgets(sizes, budget):
    """How many of each bin CCS draws: from the least populated bin up, min(size, left // bins left)."""
    taken = [0] * len(sizes)
    order = sorted(range(len(sizes)), key=lambda b: sizes[b])
    left = budget
    for position, b in enumerate(order):
        taken[b] = min(sizes[b], left // (len(order) - position))
        left -= taken[b]
    return taken


def ccs_bin(score, low, high, bins):
    """Equal-width bins over [low, high]; the maximum belongs to the last."""
    if high == low:
        return 0
    return min(bins - 1, int((score - low) / (high - low) * bins))
