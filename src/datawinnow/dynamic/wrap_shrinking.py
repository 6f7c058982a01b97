"""`shrinking`: a keep that changes during training, by a `ChangingKeep`."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from datawinnow.core import check
from datawinnow.core.budget import budget_of
from datawinnow.core.changing_keep import ChangingKeep, Shape
from datawinnow.core.errors import ArgumentError
from datawinnow.core.selection import Selection
from datawinnow.dynamic.budget import expected_fraction
from datawinnow.dynamic.example_swap import ExampleSwap
from datawinnow.dynamic.policy import Policy, State, Stream, epoch_fraction
from datawinnow.dynamic.wrap import Wrapper


@dataclass(frozen=True)
class KeepByEpoch(Wrapper):
    """The policy with another ``keep`` in each epoch, from ``start`` in the first to ``end`` in the last.

    The keep follows a `ChangingKeep` of t = epoch / (epochs - 1), capped at 1. Each epoch has exactly
    ``budget_of(keep, n)`` ids where the policy has; a policy with a ``period`` takes the keep of the epoch in which it
    decides and holds it until the next decision. A ``start`` below ``end`` grows. With `RepeatedSubset` the chunks of a
    pass no longer tile it, since they differ in size.

    Last epochs on everything: ``annealed(shrinking(policy, 26, end=0.3), 30)`` reaches ``end`` just before them.

    Args:
        policy: a policy whose ``keep`` is read at every decision (not `ExampleSwap`, whose number is fixed); its value
            of ``keep`` is not used. Other wrappers go around this one, not inside.
        epochs: length of the run; every later epoch has ``end``.
        end: fraction of the examples kept in the last epoch, in (0, 1].
        start: fraction kept in the first, in (0, 1].
        shape: ``"linear"``, ``"cosine"``, ``"step"`` or ``"oscillating"`` (to ``end`` and back several times).
        count: levels of ``"step"`` (default 3) or number of oscillations (default 4).

    Raises:
        ArgumentError: a policy without ``keep`` or that refuses one of the two, an option out of range.

    >>> from datawinnow.core.rng import stream
    >>> from datawinnow.dynamic.random_pruning import RandomPruning
    >>> policy = shrinking(RandomPruning(keep=1.0), epochs=4, end=0.25)
    >>> [len(policy.plan(epoch, {"n": 8}, lambda *path: stream(0, *path))[0]) for epoch in range(5)]
    [8, 6, 4, 2, 2]
    >>> policy.expected
    0.625
    """

    policy: Policy
    epochs: int
    end: float
    start: float = 1.0
    shape: Shape = "linear"
    count: int | None = None

    def __post_init__(self) -> None:
        self._check_policy()
        check.number("epochs", self.epochs, 1, 2**31, integer=True)
        schedule = self.schedule
        fields: dict[str, Any] = getattr(self.policy, "__dataclass_fields__", {})
        if "keep" not in fields or isinstance(self.policy, ExampleSwap):
            raise ArgumentError(
                f"shrinking() needs a policy that reads its keep at every decision, such as UCB(keep=0.5), got "
                f"{type(self.policy).__name__}; put warm_up(), annealed() and every() around shrinking(), not inside"
            )
        for keep in (schedule.start, schedule.end):  # what the policy refuses it refuses now, not in the last epoch
            self.with_keep(keep)

    @property
    def schedule(self) -> ChangingKeep:
        """The keep by progress."""
        return ChangingKeep(self.start, self.end, self.shape, self.count)

    @property
    def run_epochs(self) -> int:
        """Length of the run."""
        return self.epochs

    def fraction(self, epoch: int) -> float:
        """That of the policy with the ``keep`` of the epoch in which it decided."""
        period = getattr(self.policy, "period", 1)
        decided = max(min(epoch, 1), epoch // period * period)  # the first period once there are losses, in epoch 1
        return epoch_fraction(self.with_keep(self.keep_at(decided)), epoch)

    @property
    def expected(self) -> float:
        """Mean fraction of the examples that an epoch of the run trains on."""
        return expected_fraction(self)

    def keep_at(self, epoch: int) -> float:
        """The ``keep`` of ``epoch``, if a decision is made in it."""
        # epochs - 1, so that the last epoch has exactly `end`; a run of one epoch has `start`.
        t = min(1.0, epoch / (self.epochs - 1)) if self.epochs > 1 else float(epoch > 0)
        return self.schedule.at(t)

    def plan(self, epoch: int, state: State, stream: Stream) -> tuple[Selection, State]:
        """The plan of the policy with the keep of this epoch."""
        check.number("epoch", epoch, 0, 2**31, integer=True)
        return self.with_keep(self.keep_at(epoch)).plan(epoch, state, stream)

    def with_keep(self, keep: float) -> Policy:
        """The policy with this ``keep``."""
        budget_of(keep, 1)
        policy: Any = self.policy
        return dataclasses.replace(policy, keep=keep)  # type: ignore[no-any-return]


shrinking = KeepByEpoch
"""The name to call, also for a keep that grows: ``shrinking(UCB(keep=1.0, period=1), epochs=30, end=0.4)``."""
