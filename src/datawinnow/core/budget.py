"""From a fraction that users say to whole numbers of examples that methods take."""

from __future__ import annotations

import math
from collections.abc import Sequence

from datawinnow.core.errors import ArgumentError


def budget_of(keep: float, n: int) -> int:
    """The number of examples kept out of ``n`` when the fraction ``keep`` is **kept**.

    Args:
        keep: fraction kept, in (0, 1].
        n: number of examples.

    Returns:
        ``round(keep * n)`` with halves up, at least 1.

    Raises:
        ArgumentError: ``keep`` outside (0, 1], or no examples.

    >>> budget_of(0.1, 50_000)
    5000
    """
    if isinstance(keep, bool) or not isinstance(keep, (int, float)) or not 0 < keep <= 1:
        raise ArgumentError(
            f"keep must be in (0, 1], got {keep!r}: it is the fraction of examples kept, so keep=0.3 drops 70%"
        )
    if n < 1:
        raise ArgumentError(f"cannot keep a fraction of n={n} examples: the dataset is empty")
    # 1e-9 guards against products such as 0.29 * 100 = 28.999999999999996
    return min(n, max(1, math.floor(keep * n + 0.5 + 1e-9)))


def check_budget(budget: int, n: int, *, what: str = "examples") -> int:
    """``budget`` as an int, if ``1 <= budget <= n``.

    Raises:
        ArgumentError: not an integer, below 1, or more than there are.
    """
    if isinstance(budget, bool) or not isinstance(budget, int):
        raise ArgumentError(
            f"budget must be an integer number of examples, got {budget!r}; turn a fraction into one with "
            "datawinnow.core.budget.budget_of(keep, n)"
        )
    if not 1 <= budget <= n:
        raise ArgumentError(f"budget must be between 1 and the {n} {what} there are, got {budget}")
    return budget


def shares(total: int, weights: Sequence[float], *, most: Sequence[int] | None = None) -> list[int]:
    """Split ``total`` in proportion to ``weights`` by largest remainders, so that the parts always sum to it.

    Args:
        total: what to split.
        weights: one non-negative weight a part; ties of remainders go to the earlier part.
        most: the most each part can take (for example the size of a class); what a full part cannot take is split
            again among the others.

    Returns:
        One integer a part, summing to ``total``.

    Raises:
        ArgumentError: a negative weight, all weights zero, or ``total`` above the sum of ``most``.

    >>> shares(10, [1, 1, 1])
    [4, 3, 3]
    """
    if any(w < 0 or not math.isfinite(w) for w in weights) or sum(weights) <= 0:
        raise ArgumentError(f"weights must be non-negative numbers with a positive sum, got {list(weights)!r}")
    caps = [total] * len(weights) if most is None else list(most)
    if total < 0 or total > sum(c for c, w in zip(caps, weights, strict=True) if w > 0):
        raise ArgumentError(f"cannot split {total} into parts that hold at most {caps}")
    parts = [0] * len(weights)
    left = total
    while left:
        open_ = [i for i, w in enumerate(weights) if w > 0 and parts[i] < caps[i]]
        scale = sum(weights[i] for i in open_)
        exact = {i: left * weights[i] / scale for i in open_}
        full = [i for i in open_ if parts[i] + math.floor(exact[i] + 1e-9) >= caps[i]]
        if full:  # fill these to the brim and split the rest anew
            for i in full:
                take = caps[i] - parts[i]
                parts[i] += take
                left -= take
            continue
        for i in open_:
            parts[i] += math.floor(exact[i] + 1e-9)
        rest = left - sum(math.floor(exact[i] + 1e-9) for i in open_)
        order = sorted(open_, key=lambda i: (-(exact[i] - math.floor(exact[i] + 1e-9)), i))
        for i in order[:rest]:
            parts[i] += 1
        left = 0
    return parts
