"""What the shorter full run costs for the accuracy of another run: the factor that choosing saves."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence

from datawinnow.core.interval import Interval, interval


def passes_needed(curve: Sequence[tuple[float, float]], accuracy: float) -> float | None:
    """Passes at which a curve of (passes, accuracy), sorted, first reaches an accuracy; None if outside of it.

    >>> passes_needed([(15, 0.70), (60, 0.80)], 0.75)
    30.0
    >>> passes_needed([(10, 0.95), (30, 0.93), (60, 0.94)], 0.935)  # reached before it begins
    """
    best = curve[0][1] if curve else math.inf  # of all so far: a shorter run may be better than a longer one
    for (before, _), (after, high) in itertools.pairwise(curve):
        if best <= accuracy <= high and best < high:
            share = (accuracy - best) / (high - best)
            # Accuracy is interpolated over the logarithm of the passes, in which learning curves are nearly straight.
            return round(math.exp((1 - share) * math.log(before) + share * math.log(after)), 6)
        best = max(best, high)
    return None


def cost_factor(
    reference: Mapping[float, Mapping[int, float]], accuracy_by_seed: Mapping[int, float], budget: float
) -> Interval | None:
    """Passes that the reference needs for the same accuracy over those of a run, paired by seed.

    Args:
        reference: passes -> seed -> accuracy of the shorter full run.
        accuracy_by_seed: seed -> accuracy of the run.
        budget: passes of the run.

    Returns:
        The natural logarithm of the factor, as a mean over seeds with its interval; None without seeds, and where the
        accuracy of a seed lies outside of its reference's.

    >>> factor = cost_factor({15: {0: 0.70}, 30: {0: 0.80}}, {0: 0.75}, budget=15)
    >>> round(math.exp(factor.mean), 3)
    1.414
    """
    logs = []
    for seed, accuracy in accuracy_by_seed.items():
        curve = [(passes, reference[passes][seed]) for passes in sorted(reference) if seed in reference[passes]]
        needs = passes_needed(curve, accuracy)
        if needs is None:
            return None
        logs.append(math.log(needs / budget))
    return interval(logs) if logs else None
