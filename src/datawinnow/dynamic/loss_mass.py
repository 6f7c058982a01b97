"""An adaptive share: as many examples as hold a set mass of the loss."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar, get_args

from torch import Tensor

from datawinnow.core import check
from datawinnow.core.budget import budget_of
from datawinnow.core.card import card
from datawinnow.core.reason import Reason
from datawinnow.core.selection import Selection
from datawinnow.dynamic.plan import nonzero_ids, plan_everything, plan_from_reasons, reason_codes, topk_random_ties
from datawinnow.dynamic.policy import State, Stream
from datawinnow.dynamic.running import OnResize, initial_moments, with_moments
from datawinnow.dynamic.signal import SignalNeeds, check_signal
from datawinnow.dynamic.state import any_observed, check_num_examples, get_tensor, num_examples


@card(
    "policy",
    "share by mass of the loss",
    "of this project; the score is that of Raju et al. 2021, Accelerating Deep Learning with Dynamic Data Pruning, "
    "arXiv 2111.12621",
    cost="time O(n log n) a plan, memory O(n): 8 bytes an example",
)
@dataclass(frozen=True)
class LossMass:
    """The fewest examples that hold a share ``mass`` of the sum of all scores, in every epoch.

    The score is that of `UCB`: running mean plus ``c`` times running variance of the loss. Few examples are dropped
    while everything is unlearned and the scores are alike, more as the losses part; the number follows from the data,
    and no ``keep`` has to be chosen. Negative scores count as 0. An example that was never visited is kept besides.

    Args:
        mass: share of the sum of the scores that the kept hold, in (0, 1].
        min_keep: smallest fraction of the examples kept, in (0, 1].
        alpha: weight of the **new** value in mean and variance, in (0, 1].
        c: weight of the variance.
        signal: what ranks the examples, as of `UCB`; ``mass`` wants one that is 0 for what is learned.
        on_resize: what a visit at another size of the inputs does, as of `UCB`.

    Returns:
        A policy. The number of ids in a plan depends on the losses; weights of one.

    Raises:
        ArgumentError: an option out of range.

    References:
        Raju et al. 2021, arXiv 2111.12621 (the score).

    >>> import torch
    >>> from datawinnow.core.rng import stream
    >>> policy = LossMass(mass=0.9, min_keep=0.25)
    >>> state = policy.observe(policy.init(4), torch.arange(4), loss=torch.tensor([0.5, 6.0, 0.5, 3.0]))
    >>> sorted(policy.plan(1, state, lambda *path: stream(0, *path))[0].index.tolist())
    [1, 3]
    """

    mass: float = 0.95
    min_keep: float = 0.3
    alpha: float = 0.8
    c: float = 1.0
    signal: str = "loss"
    on_resize: OnResize = "keep"
    needs: ClassVar[Any] = SignalNeeds()

    def __post_init__(self) -> None:
        check.number("mass", self.mass, 1e-9, 1)
        check.number("min_keep", self.min_keep, 1e-9, 1)
        check.number("alpha", self.alpha, 1e-9, 1)
        check.number("c", self.c, 0, 1e9)
        check_signal(self.signal)
        check.one_of("on_resize", self.on_resize, get_args(OnResize))

    def fraction(self, epoch: int) -> float:
        """Everything in epoch 0; later that of exponentially distributed losses (0.7 for a mass of 0.95)."""
        return 1.0 if epoch == 0 else max(self.min_keep, _exponential_share(self.mass))

    def init(self, n: int) -> State:
        """``mean`` (n,) float32, NaN where never visited, and ``variance`` (n,) float32."""
        n = check_num_examples(n)
        return {"n": n, **initial_moments(n, self.on_resize)}

    def observe(self, state: State, index: Tensor, **signals: Any) -> State:
        """Move mean and variance of the visited towards their ``signal``."""
        return with_moments(state, index, self.signal, signals, alpha=self.alpha, on_resize=self.on_resize)

    def plan(self, epoch: int, state: State, stream: Stream) -> tuple[Selection, State]:
        """Everything until there are losses, then the examples that hold the mass."""
        n, draws = num_examples(epoch, state), stream("loss_mass", epoch)
        if not any_observed(state, "mean"):
            return plan_everything(n, draws), state
        score = get_tensor(state, "mean").add(get_tensor(state, "variance"), alpha=self.c)
        seen = nonzero_ids(~score.isnan())
        count = max(_smallest_count(score[seen], self.mass), budget_of(self.min_keep, n) - (n - seen.numel()))
        codes = reason_codes(n, Reason.BELOW_CUT, kept=nonzero_ids(score.isnan()))
        if count > 0:
            codes[seen[topk_random_ties(score[seen], count, draws)]] = int(Reason.RANKED)
        return plan_from_reasons(codes, draws), state


def _smallest_count(score: Tensor, mass: float) -> int:
    """The fewest of the largest scores (m,) that hold a share ``mass`` of the sum; all where the sum is 0."""
    sums = score.double().clamp(min=0).sort(descending=True).values.cumsum(0)
    total = float(sums[-1])
    if total <= 0:
        return score.numel()
    # Sums that reach the mass on paper must not miss it by a rounding error.
    return min(score.numel(), int((sums < mass * total * (1 - 1e-12)).sum()) + 1)


def _exponential_share(mass: float) -> float:
    """The share p of exponentially distributed numbers, the largest, that hold ``mass`` of the sum: p (1 - ln p)."""
    low, high = 0.0, 1.0
    for _ in range(60):
        p = (low + high) / 2
        low, high = (p, high) if p * (1 - math.log(p)) < mass else (low, p)
    return high
