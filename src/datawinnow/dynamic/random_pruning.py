"""Uniform random pruning: another subset in every epoch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from datawinnow.core.budget import budget_of
from datawinnow.core.card import card
from datawinnow.core.selection import Selection
from datawinnow.dynamic.plan import plan_uniform
from datawinnow.dynamic.policy import State, Stream
from datawinnow.dynamic.state import StatelessPolicy, num_examples


@card(
    "policy",
    "uniform random, redrawn every epoch",
    "Raju et al. 2021, Accelerating Deep Learning with Dynamic Data Pruning, arXiv 2111.12621",
    cost="time O(n) a plan, memory O(1)",
)
@dataclass(frozen=True)
class RandomPruning(StatelessPolicy):
    """A uniform random subset, redrawn every epoch.

    The baseline that any scored policy must beat. No weights and no annealing: wrap it in ``rescaled`` and
    ``annealed`` for the form that comes within 0.1 points of InfoBatch (its table 5).

    Args:
        keep: fraction of the examples kept, in (0, 1].

    Returns:
        A policy; each plan has exactly ``budget_of(keep, n)`` ids, weights of one.

    Raises:
        ArgumentError: ``keep`` outside (0, 1].

    References:
        Raju et al. 2021, arXiv 2111.12621.

    >>> from datawinnow.core.rng import stream
    >>> policy = RandomPruning(keep=0.5)
    >>> plan, _ = policy.plan(0, policy.init(8), lambda *path: stream(0, *path))
    >>> len(plan)
    4
    """

    keep: float
    rescalable: ClassVar[bool] = True

    def __post_init__(self) -> None:
        budget_of(self.keep, 1)

    def fraction(self, epoch: int) -> float:
        """``keep`` in every epoch."""
        return float(self.keep)

    def plan(self, epoch: int, state: State, stream: Stream) -> tuple[Selection, State]:
        """Another draw in each epoch."""
        n = num_examples(epoch, state)
        return plan_uniform(n, budget_of(self.keep, n), stream("random_pruning", epoch)), state
