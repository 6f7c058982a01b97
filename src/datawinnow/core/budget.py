"""Budgets: the fraction kept as a number of examples, and its split among classes."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from datawinnow.core.errors import ArgumentError

NumberT = TypeVar("NumberT", float, float | None)


def budget_of(keep: float, n: int) -> int:
    """Number of examples kept of ``n``; ``keep`` is the fraction **kept**.

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
    # True is an int in Python, and would keep everything
    if isinstance(keep, bool) or not isinstance(keep, (int, float)) or not 0 < keep <= 1:
        hint = percent = ""
        if isinstance(keep, float) and keep < 10:
            percent = f" ({100 * keep:g}%; at most 100%)"
        if isinstance(keep, (int, float)) and not isinstance(keep, bool) and 1 < keep <= 100:
            hint = f"; for {keep:g} in a hundred give {keep / 100:g} or {keep:g}%" if keep >= 2 else ""
        raise ArgumentError(
            f"keep must be in (0, 1], got {keep!r}{percent}: it is the fraction of examples kept, so "
            f"`keep=0.3` drops 70%{hint}"
        )
    if n < 1:
        raise ArgumentError(f"cannot keep a fraction of n={n} examples: the dataset is empty")
    # 1e-9 guards against products such as 0.29 * 100 = 28.999999999999996
    return min(n, max(1, math.floor(keep * n + 0.5 + 1e-9)))


def check_budget(budget: int, n: int, *, items: str = "examples") -> int:
    """Return ``budget`` if it is an integer with ``1 <= budget <= n``.

    Args:
        budget: number to keep.
        n: number to choose from.
        items: what is counted, for the error.

    Raises:
        ArgumentError: it is not.
    """
    if isinstance(budget, bool) or not isinstance(budget, int):
        raise ArgumentError(
            f"budget must be an integer number of examples, got {budget!r}; turn a fraction into one with "
            "datawinnow.core.budget.budget_of(keep, n)"
        )
    if not 1 <= budget <= n:
        raise ArgumentError(f"budget must be between 1 and the {n} {items}, got {budget}")
    return budget


def shares(
    total: int, weights: Sequence[float], *, limits: Sequence[int] | None = None, order: Sequence[int] | None = None
) -> list[int]:
    """Split ``total`` in proportion to ``weights`` by largest remainders, so that the shares sum to it.

    Args:
        total: number to split.
        weights: one non-negative weight a share.
        limits: upper limit of each share (for example the size of a class); the excess is split among the others.
        order: numbers of the shares, the one that ties of remainders go to first; by default the earlier share.

    Returns:
        One integer a share, with sum ``total``.

    Raises:
        ArgumentError: a negative weight, all weights zero, or ``total`` above the sum of ``limits``.

    >>> shares(10, [1, 1, 1])
    [4, 3, 3]
    """
    if any(w < 0 or not math.isfinite(w) for w in weights) or sum(weights) <= 0:
        raise ArgumentError(f"weights must be non-negative numbers with a positive sum, got {list(weights)!r}")
    caps = [total] * len(weights) if limits is None else list(limits)
    if total < 0 or total > sum(c for c, w in zip(caps, weights, strict=True) if w > 0):
        raise ArgumentError(f"cannot split {total} into shares of at most {caps}")
    split = [0] * len(weights)
    left = total
    # a round ends the split unless shares reach their limits; those are closed, so that the loop ends
    while left:
        open_ = [i for i, w in enumerate(weights) if w > 0 and split[i] < caps[i]]
        scale = sum(weights[i] for i in open_)
        exact = {i: left * weights[i] / scale for i in open_}
        # 1e-9 as in `budget_of`: a product such as 2.9999999999999996 stands for 3
        full = [i for i in open_ if split[i] + math.floor(exact[i] + 1e-9) >= caps[i]]
        if full:  # set these to their limits and split the rest among the others
            for i in full:
                take = caps[i] - split[i]
                split[i] += take
                left -= take
            continue
        for i in open_:
            split[i] += math.floor(exact[i] + 1e-9)
        rest = left - sum(math.floor(exact[i] + 1e-9) for i in open_)
        rank = {share: i for i, share in enumerate(range(len(weights)) if order is None else order)}
        # rounded: remainders of equal weights, which rounding tells apart, are ties too
        by_remainder = sorted(open_, key=lambda i: (-round(exact[i] - math.floor(exact[i] + 1e-9), 9), rank[i]))
        for i in by_remainder[:rest]:
            split[i] += 1
        left = 0
    return split


def parse_fraction(text: str | NumberT) -> NumberT:
    """A fraction as users write it: a number, ``"0.3"`` or ``"30%"``; its range is checked where it is used.

    Raises:
        ArgumentError: no number.

    >>> parse_fraction("30%"), parse_fraction("0.3"), parse_fraction(0.3), parse_fraction(None)
    (0.3, 0.3, 0.3, None)
    """
    if not isinstance(text, str):
        return text
    number, percent, rest = text.strip().replace(" ", "").partition("%")
    try:
        if rest:
            raise ValueError(rest)
        return float(number) / 100 if percent else float(number)
    except ValueError:
        raise ArgumentError(f"a fraction is a number such as 0.3, or 30%, got {text!r}") from None


def parse_percentages(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options of a method or policy with each text such as ``"30%"`` as the fraction; all else as it is.

    >>> parse_percentages({"keep": "30%", "mode": "full"})
    {'keep': 0.3, 'mode': 'full'}
    """
    return {
        name: parse_fraction(value) if isinstance(value, str) and re.fullmatch(r"\s*[\d.]+\s*%\s*", value) else value
        for name, value in options.items()
    }
