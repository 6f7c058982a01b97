"""Learning-rate schedules: functions from progress in [0, 1] to a factor on the peak learning rate."""

from __future__ import annotations

import math
from collections.abc import Callable

from datawinnow.core.card import resolve


def cosine(progress: float) -> float:
    """Half a cosine from 1 to 0 (arXiv 1608.03983 without restarts).

    >>> cosine(0.0), cosine(0.5), cosine(1.0)
    (1.0, 0.5, 0.0)
    """
    # rounded, so that 1, 0.5 and 0 are exact; the minimum is for progress that rounds above 1
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
"""The schedules by name."""


def schedule_of(schedule: str | Callable[[float], float]) -> Callable[[float], float]:
    """The schedule of a name in `SCHEDULES`; a function is returned as it is.

    Raises:
        ArgumentError: an unknown name.
    """
    return resolve(schedule, SCHEDULES, kind="schedule")
