"""A mean over seeds and its 95% Student interval, without scipy or torch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from datawinnow.core.errors import ArgumentError

LEVEL = 0.95
"""Coverage of every interval in tables and plots."""


@dataclass(frozen=True)
class Interval:
    """A mean over seeds with its two-sided 95% Student interval.

    Attributes:
        mean: arithmetic mean of the ``n`` values, in their unit.
        half: half the width of the interval; None with one value, which has no interval.
        n: number of values (seeds, or pairs of seeds).
    """

    mean: float
    half: float | None
    n: int

    @property
    def low(self) -> float:
        """Lower end; the mean itself when there is no interval."""
        return self.mean - (self.half or 0.0)

    @property
    def high(self) -> float:
        """Upper end; the mean itself when there is no interval."""
        return self.mean + (self.half or 0.0)


def central_probability(t: float, df: int) -> float:
    """P(|T| <= t) for Student's t with ``df`` degrees of freedom, by its closed form for whole ``df``.

    Args:
        t: a non-negative number.
        df: degrees of freedom, at least 1.

    Returns:
        A probability.

    Raises:
        ArgumentError: ``df`` below 1 or ``t`` negative.

    Source: Abramowitz and Stegun, Handbook of Mathematical Functions, 26.7.3 (odd) and 26.7.4 (even).

    >>> round(central_probability(1.0, 1), 12)  # Cauchy: half of it lies within 1
    0.5
    """
    if df < 1 or t < 0:
        raise ArgumentError(f"central_probability(t, df) needs t >= 0 and df >= 1, got t={t!r} and df={df!r}")
    theta = math.atan(t / math.sqrt(df))
    cosine_squared = math.cos(theta) ** 2
    odd = df % 2
    term = math.cos(theta) if odd else 1.0
    total = 0.0
    # exponents of the cosine: 1, 3, .. df-2 when odd; 0, 2, .. df-2 when even
    for k in range(1 + odd, df + odd, 2):
        total += term
        term *= cosine_squared * k / (k + 1)
    inner = math.sin(theta) * total
    return 2 / math.pi * (theta + inner) if odd else inner


@cache
def critical(df: int, level: float = LEVEL) -> float:
    """The t for which P(|T| <= t) = ``level``, by bisection of `central_probability`.

    Args:
        df: degrees of freedom, at least 1.
        level: in (0, 1).

    Returns:
        The two-sided critical value, to about 1e-12 of itself.

    Raises:
        ArgumentError: ``df`` below 1 or ``level`` outside (0, 1).

    >>> round(critical(4), 3)
    2.776
    """
    if df < 1 or not 0 < level < 1:
        raise ArgumentError(f"critical(df, level) needs df >= 1 and level in (0, 1), got df={df!r}, level={level!r}")
    low, high = 0.0, 1.0
    # double the upper end until it encloses the level
    while central_probability(high, df) < level:
        low, high = high, high * 2
    for _ in range(200):
        middle = (low + high) / 2
        # the two ends are neighbouring floats: nothing lies between them
        if middle in (low, high):
            break
        low, high = (middle, high) if central_probability(middle, df) < level else (low, middle)
    return (low + high) / 2


def best_of(half: float, n: int, k: int) -> float:
    """Half width of intervals of ``k`` means that hold together with 95%: what the best of ``k`` must exceed.

    Bonferroni: each at 1 - 0.05 / k.

    Args:
        half: half of the 95% interval of one alone.
        n: values behind it, at least 2.
        k: how many it is the best of, at least 1.

    >>> round(best_of(1.0, 5, 5), 2)
    1.66
    """
    return half * critical(n - 1, 1 - (1 - LEVEL) / max(k, 1)) / critical(n - 1)


def interval(values: Sequence[float]) -> Interval:
    """Mean and 95% interval: half = t(n-1) * s / sqrt(n), s with n-1 in its denominator.

    Args:
        values: one number a seed.

    Returns:
        An `Interval`; with one value, ``half`` is None.

    Raises:
        ArgumentError: no values, or one that is not finite.

    >>> interval([0.8]).half is None
    True
    """
    if not values or not all(math.isfinite(value) for value in values):
        raise ArgumentError(f"an interval needs finite numbers, at least one, got {list(values)!r}")
    n = len(values)
    # fsum is exact, so the order of the seeds does not change the mean
    mean = math.fsum(values) / n
    if n == 1:
        return Interval(mean, None, 1)
    variance = math.fsum((value - mean) ** 2 for value in values) / (n - 1)
    return Interval(mean, critical(n - 1) * math.sqrt(variance / n), n)
