"""Expected fraction of the data that a policy trains on, which converts a budget of passes into epochs."""

from __future__ import annotations

from typing import Any

from datawinnow.core import check
from datawinnow.dynamic.policy import epoch_fraction, run_epochs_of

LATE_EPOCH = 2**31 - 1
"""An epoch after every warm-up, for a run of unknown length."""


def expected_fraction(policy: Any, epochs: int | None = None) -> float:
    """Mean fraction of the examples that an epoch trains on.

    Exact (but for rounding to whole examples) for policies with ``keep`` and the wrappers around them. Approximate
    for those whose size depends on the losses: `InfoBatch` assumes 65% of the examples below the mean (its percentile
    form is exact), `SeTa` exponentially distributed losses. ``guarded`` counts as the policy in it, which has as many
    examples as without it. Your own policy may have a method ``fraction(epoch)`` or an attribute ``expected``.

    Args:
        policy: a policy, wrapped or not.
        epochs: length of the run; by default that of an ``annealed``, ``shrinking``, `InfoBatch` or `SeTa` in the
            policy. Without one, the fraction once first epochs and warm-up are over: for ``UCB(keep=0.5)`` 0.5,
            whereas with ``epochs=10`` its first epoch on everything makes it 0.55.

    Returns:
        A number in (0, 1].

    Raises:
        ArgumentError: the fraction of the data that the policy trains on is unknown.

    >>> from datawinnow.dynamic import UCB, annealed
    >>> expected_fraction(UCB(keep=0.5)), expected_fraction(UCB(keep=0.5), epochs=10)
    (0.5, 0.55)
    >>> expected_fraction(annealed(UCB(keep=0.5, first="random"), epochs=8))
    0.5625
    """
    length = run_epochs_of(policy) if epochs is None else check.number("epochs", epochs, 1, 2**31, integer=True)
    if length is None:
        return epoch_fraction(policy, LATE_EPOCH)
    # The mean over epochs, not the value at a late one: warm-up, annealing and a shrinking keep all count.
    return sum(epoch_fraction(policy, epoch) for epoch in range(length)) / length
