"""Means over seeds and what can be said of them, paired by seed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from datawinnow.core.interval import LEVEL, Interval, critical, interval, within

__all__ = ["LEVEL", "Difference", "Interval", "break_even", "critical", "difference", "interval", "within"]


@dataclass(frozen=True)
class Difference:
    """A method minus its reference, paired by seed.

    Attributes:
        interval: of the differences, one a seed that both have.
        verdict: ``"wins"``, ``"loses"``, ``"within noise"`` (the interval includes 0), or with one seed, where noise
            cannot be told from a difference, ``"ahead, 1 seed"``, ``"behind, 1 seed"``, ``"equal, 1 seed"``.
    """

    interval: Interval
    verdict: str


def difference(values: Mapping[int, float], reference: Mapping[int, float]) -> Difference | None:
    """``values`` minus ``reference``, paired by seed.

    Args:
        values: seed -> accuracy of the method.
        reference: seed -> accuracy of what it is compared with.

    Returns:
        The difference and a verdict, or None when no seed is in both.
    """
    seeds = sorted(values.keys() & reference.keys())
    if not seeds:
        return None
    found = interval([values[seed] - reference[seed] for seed in seeds])
    if found.half is None:
        word = "ahead" if found.mean > 0 else "behind" if found.mean < 0 else "equal"
        return Difference(found, f"{word}, 1 seed")
    verdict = "wins" if found.low > 0 else "loses" if found.high < 0 else "within noise"
    return Difference(found, verdict)


def break_even(scoring: float, train: float, full: float) -> float:
    """Training runs on the selection after which its scoring has paid for itself.

    Args:
        scoring: cost of finding the selection, once, in any unit.
        train: cost of one training run on the selection, in the same unit.
        full: cost of one training run on all the data, in the same unit.

    Returns:
        ``scoring / (full - train)``; infinite ("never") when a run on the selection costs as much as a full one.

    >>> break_even(scoring=300_000, train=90_000, full=300_000)  # 30 epochs, keep 0.3
    1.4285714285714286
    """
    return scoring / (full - train) if full > train else math.inf
