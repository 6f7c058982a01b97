"""A selection made before training, as a policy."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from datawinnow.core.card import card
from datawinnow.core.errors import ArgumentError
from datawinnow.core.reason import Reason
from datawinnow.core.selection import Selection
from datawinnow.dynamic.plan import in_random_order, reason_codes
from datawinnow.dynamic.policy import State, Stream
from datawinnow.dynamic.state import StatelessPolicy, check_num_examples, num_examples


@card(
    "policy",
    "static subset",
    "the static baselines of Raju et al. 2021, Accelerating Deep Learning with Dynamic Data Pruning, arXiv 2111.12621",
    cost="time O(n) a plan, memory O(1)",
)
@dataclass(frozen=True)
class StaticSubset(StatelessPolicy):
    """The same selection in every epoch, reshuffled: static pruning as a policy.

    Args:
        selection: of any selector, or read from a file; its weights are used.

    Returns:
        A policy; each plan has the ids and weights of ``selection``, in another order.

    Raises:
        ArgumentError: not a `Selection`, an empty one, or (at ``init``) one with ids past the examples there are.

    References:
        Raju et al. 2021, arXiv 2111.12621.

    >>> from datawinnow.core.rng import stream
    >>> policy = StaticSubset(Selection.of(torch.tensor([5, 2]), 8))
    >>> sorted(policy.plan(3, policy.init(8), lambda *path: stream(0, *path))[0].index.tolist())
    [2, 5]
    """

    selection: Selection

    def __post_init__(self) -> None:
        if not isinstance(self.selection, Selection):
            raise ArgumentError(
                f"selection must be a Selection, got {self.selection!r}; make one with Selection.of(ids, n)"
            )
        if not len(self.selection):
            raise ArgumentError("selection is empty")

    def init(self, n: int) -> State:
        """No state beyond the number of examples, which must be that of the selection."""
        reason = self.selection.reason
        last = int(self.selection.index.max())
        # Without reasons the size of the dataset is unknown, and only ids past its end can be refused.
        if last >= check_num_examples(n) or (reason is not None and reason.numel() != n):
            about = last + 1 if reason is None else reason.numel()
            raise ArgumentError(f"selection is about {about} examples or more, but there are n={n}")
        return {"n": n}

    def fraction(self, epoch: int) -> float:
        """The size of the selection over the number of examples, which is that of its reasons.

        Raises:
            ArgumentError: the selection has no reasons.
        """
        if self.selection.reason is None:
            raise ArgumentError("the selection has no reasons, so the number of examples it is taken from is unknown")
        return len(self.selection) / self.selection.reason.numel()

    def plan(self, epoch: int, state: State, stream: Stream) -> tuple[Selection, State]:
        """The selection in the order of the epoch."""
        n, chosen = num_examples(epoch, state), self.selection
        index = in_random_order(chosen.index, stream("static_subset", epoch))
        # The weights follow their ids through the shuffle.
        place = index.new_zeros(n)
        place[chosen.index] = torch.arange(len(chosen))
        reason = reason_codes(n, Reason.BELOW_CUT, kept=chosen.index) if chosen.reason is None else chosen.reason
        return Selection(index, chosen.weight[place[index]], reason), state
