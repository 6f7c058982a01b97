"""Replay: train on what another run trained on, epoch by epoch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from torch import Tensor

from datawinnow.core import check
from datawinnow.core.card import card
from datawinnow.core.errors import ArgumentError
from datawinnow.core.selection import Selection
from datawinnow.dynamic._state import check_num_examples, num_examples
from datawinnow.dynamic.plan_log import PlanLog
from datawinnow.dynamic.policy import State, Stream


@card(
    "policy",
    "replay of a recorded plan",
    "selection by a smaller network, Coleman et al. 2020, Selection via Proxy: Efficient Data Selection for Deep "
    "Learning, arXiv 1906.11829; epoch by epoch as in cifar10-airbench, `airbench96_faster.py`",
    cost="time O(n) a plan, memory O(epochs * keep * n): 4 bytes an id",
)
@dataclass(frozen=True)
class Replay:
    """The ids of a recorded plan, in the recorded order with the recorded weights, whatever the network and the seed.

    What was paid for once, often by a small network, then serves other seeds, other settings and larger networks:
    ``log.break_even(full)`` says after how many runs it has paid for itself. Nothing is observed and nothing drawn,
    so two runs with other seeds train in the same order on the same examples, and differ in what else is random.

    Args:
        log: what was recorded, from ``recorded(policy).log()`` or ``PlanLog.load(path)``.
        after: past the last recorded epoch, ``"error"`` to stop there, or ``"cycle"`` to begin again with its first.
        fingerprint: of the dataset that is trained on; one that the plan was not made on is refused. None does not
            ask.

    Returns:
        A policy; each plan has the ids and weights of an epoch of ``log``, in its order.

    Raises:
        ArgumentError: not a `PlanLog`, another dataset, an option out of range; (at ``init``) another number of
            examples; (when planning) an epoch past the recorded ones with ``after="error"``.

    References:
        Coleman et al. 2020, arXiv 1906.11829 (a proxy chooses for a larger network); dynamic.md 7.

    >>> import torch
    >>> log = PlanLog.of([Selection.of(torch.tensor([2, 0]), 4), Selection.of(torch.tensor([3]), 4)], 4)
    >>> policy = Replay(log, after="cycle")
    >>> [policy.plan(epoch, policy.init(4), lambda *path: None)[0].index.tolist() for epoch in range(3)]
    [[2, 0], [3], [2, 0]]
    """

    log: PlanLog
    after: Literal["error", "cycle"] = "error"
    fingerprint: str | None = None
    needs: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        if not isinstance(self.log, PlanLog):
            raise ArgumentError(
                f"log must be a PlanLog, got {self.log!r}; record one with recorded(policy).log(), or read it with "
                "PlanLog.load(path)"
            )
        check.one_of("after", self.after, ("error", "cycle"))
        prints = (self.log.fingerprint, self.fingerprint)
        if None not in prints and prints[0] != prints[1]:
            raise ArgumentError(
                f"the plan was made on the dataset with fingerprint {prints[0]}, this one has {prints[1]}: its ids "
                "mean other examples here, so load that dataset, as it was loaded then, or record a plan on this one"
            )

    @property
    def expected(self) -> float:
        """Mean fraction of the examples that a recorded epoch trains on."""
        return self.log.expected

    def init(self, n: int) -> State:
        """No state beyond the number of examples."""
        if check_num_examples(n) != self.log.n:
            raise ArgumentError(
                f"the plan is about n={self.log.n} examples, but there are n={n}: record a plan on this dataset"
            )
        return {"n": n}

    def observe(self, state: State, index: Tensor, **signals: Any) -> State:
        """Nothing is observed."""
        return state

    def plan(self, epoch: int, state: State, stream: Stream) -> tuple[Selection, State]:
        """The recorded epoch, as it was."""
        num_examples(epoch, state)
        if epoch >= len(self.log) and self.after == "error":
            raise ArgumentError(
                f"the plan has {len(self.log)} epochs, and epoch {epoch} was asked for: train for {len(self.log)}, "
                'record a longer run, or begin again with Replay(log, after="cycle")'
            )
        return self.log.plan(epoch % len(self.log)), state
