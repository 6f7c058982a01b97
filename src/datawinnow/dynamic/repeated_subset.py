"""RS2: repeated random subsets, without or with replacement across epochs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from datawinnow.core import check
from datawinnow.core.budget import budget_of
from datawinnow.core.card import card
from datawinnow.core.reason import Reason
from datawinnow.core.selection import Selection
from datawinnow.dynamic.plan import in_random_order, plan_uniform
from datawinnow.dynamic.policy import State, Stream
from datawinnow.dynamic.state import StatelessPolicy, num_examples


@card(
    "policy",
    "RS2",
    "Okanovic et al. 2023, Repeated Random Sampling for Minimizing the Time-to-Accuracy of Learning, arXiv 2305.18424",
    cost="time O(n) a plan, memory O(1)",
)
@dataclass(frozen=True)
class RepeatedSubset(StatelessPolicy):
    """Consecutive chunks of one permutation, so that every example is visited before any is visited again.

    A pass is ``ceil(n / k)`` epochs over one permutation, k of its ids an epoch. Where k does not divide n, the last
    chunk of a pass continues at the start of the same permutation: those ids occur twice in the pass (as in the
    paper's code, so that every epoch has k). Pass and chunk are functions of the epoch, so a resume changes nothing.
    Without replacement this is training on all the data with the schedule compressed into ``keep`` times the epochs,
    which makes it the reference for every method here.

    Args:
        keep: fraction of the examples kept, in (0, 1].
        replacement: draw each epoch independently, ids distinct within an epoch; the paper recommends False.

    Returns:
        A policy; each plan has exactly ``budget_of(keep, n)`` ids, weights of one.

    Raises:
        ArgumentError: ``keep`` outside (0, 1], ``replacement`` not a bool.

    References:
        Okanovic et al. 2023, arXiv 2305.18424, algorithm 1.

    >>> from datawinnow.core.rng import stream
    >>> policy, state = RepeatedSubset(keep=0.25), {"n": 8}
    >>> chunks = [policy.plan(e, state, lambda *path: stream(0, *path))[0].index for e in range(4)]
    >>> torch.cat(chunks).sort().values.tolist()
    [0, 1, 2, 3, 4, 5, 6, 7]
    """

    keep: float
    replacement: bool = False
    rescalable: ClassVar[bool] = True

    def __post_init__(self) -> None:
        budget_of(self.keep, 1)
        check.one_of("replacement", self.replacement, (False, True))

    def fraction(self, epoch: int) -> float:
        """``keep`` in every epoch."""
        return float(self.keep)

    def plan(self, epoch: int, state: State, stream: Stream) -> tuple[Selection, State]:
        """The chunk of this epoch."""
        n = num_examples(epoch, state)
        k = budget_of(self.keep, n)
        if self.replacement:
            return plan_uniform(n, k, stream("rs2", "replacement", epoch)), state
        # ceil(n / k) epochs a pass; both follow from the epoch alone, so a resume needs no position.
        pass_, chunk = divmod(epoch, -(-n // k))
        order = in_random_order(torch.arange(n), stream("rs2", pass_))
        # The last chunk of a pass wraps around to the start of the same permutation.
        index = torch.cat([order[chunk * k : chunk * k + k], order[: max(0, chunk * k + k - n)]])
        return Selection.of(index, n, kept=Reason.DRAWN, dropped=Reason.NOT_DRAWN), state
