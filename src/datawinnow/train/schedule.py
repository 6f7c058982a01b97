"""Learning-rate schedules by step: a function of progress, so that they end where they should."""

from __future__ import annotations

import math
from collections.abc import Callable

from datawinnow.core.card import resolve


def cosine(progress: float) -> float:
    """Half a cosine from 1 to 0 (arXiv 1608.03983 without restarts).

    >>> cosine(0.0), cosine(0.5), cosine(1.0)
    (1.0, 0.5, 0.0)
    """
    return max(0.0, round(0.5 * (1 + math.cos(math.pi * min(1.0, progress))), 15))


def one_cycle(progress: float, peak: float = 0.3, start: float = 1 / 25) -> float:
    """Up from ``start`` to 1 by half a cosine over the first ``peak`` of the run, then down to 0 (arXiv 1708.07120)."""
    if progress < peak:
        return start + (1 - start) * (1 - cosine(progress / peak))
    return cosine((progress - peak) / (1 - peak))


def constant(progress: float) -> float:
    """1 throughout."""
    del progress
    return 1.0


SCHEDULES: dict[str, Callable[[float], float]] = {f.__name__: f for f in (cosine, one_cycle, constant)}


def schedule_of(what: str | Callable[[float], float]) -> Callable[[float], float]:
    """A schedule by name, or a function from progress in [0, 1] to a factor on the learning rate."""
    return resolve(what, SCHEDULES, kind="schedule")


def counts_of(epochs: float, m: int, batch: int) -> list[int]:
    """How many of ``m`` examples each epoch passes, ``round(epochs * m)`` together.

    A rest smaller than half a batch is left out: batch norm cannot work on one or two.

    Args:
        epochs: passes over the examples, whole or not.
        m: how many examples.
        batch: examples a step.

    >>> counts_of(2, 1000, 100), counts_of(1.25, 1000, 100), counts_of(1.01, 1000, 100), counts_of(0.01, 1000, 100)
    ([1000, 1000], [1000, 250], [1000], [10])
    """
    whole, rest = divmod(max(1, round(epochs * m)), m)
    return [m] * whole + ([rest] if not whole or 2 * rest >= batch else [])
