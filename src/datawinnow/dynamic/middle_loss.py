"""Sampling of the middle: examples of average loss often, the easiest and the hardest seldom."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from datawinnow.core import check
from datawinnow.core.budget import budget_of
from datawinnow.core.card import card
from datawinnow.core.selection import Selection
from datawinnow.dynamic.loss_power import chances, plan_by_chance
from datawinnow.dynamic.plan import first_plan
from datawinnow.dynamic.policy import FirstPlan, State, Stream
from datawinnow.dynamic.running import MeanOnResize, OfRunningMean
from datawinnow.dynamic.signal import SignalNeeds
from datawinnow.dynamic.state import any_observed, get_tensor, num_examples


@card(
    "policy",
    "middle of the losses",
    "You et al. 2024, Robust Time Series Forecasting with Non-Heavy-Tailed Gaussian Loss-Weighted Sampler, "
    "arXiv 2406.13871; drawn in fixed number as by Hartley and Rao 1962",
    cost="time O(n log n) a plan, memory O(n): 4 bytes an example",
)
@dataclass(frozen=True)
class MiddleLoss(OfRunningMean):
    """Another draw in every epoch, in which examples of average loss are likely and both tails are not.

    The score is a running mean s of the losses of an example's visits. With mu and sigma the mean and the standard
    deviation of the scores of all, an example's chance is proportional to s exp(-(s - mu)^2 / (2 (width sigma)^2)),
    but at least ``floor`` times the mean of these, so that every example is visited again. Exactly k are drawn, as by
    `LossPower`; chances that would pass 1 are 1, and an example that was never visited is certain.

    The paper draws windows of time series; of its text only the abstract was available, so the width of one standard
    deviation is ours. Hard examples are avoided, wrong labels with them, and so is what is learned already.

    Args:
        keep: fraction of the examples kept, in (0, 1].
        width: standard deviation of the chances, in standard deviations of the scores.
        times_loss: multiply the Gaussian by the score, as the paper does; without it both tails are treated alike.
        alpha: weight of the **new** loss in the running mean, in (0, 1].
        weighted: give weights 1 / chance, with which the expected sum of losses is that of all.
        first: ``"all"`` to train on everything until there are losses, or ``"random"`` for a random ``keep``.
        floor: smallest chance, as a fraction of the mean one, in (0, 1].
        signal: what the middle is of, as of `UCB`.
        on_resize: what a visit at another size of the inputs does to the running mean, as of `LossPower`.

    Returns:
        A policy; each plan but the first has exactly ``budget_of(keep, n)`` ids.

    Raises:
        ArgumentError: an option out of range.

    References:
        You et al. 2024, arXiv 2406.13871 (running loss times Gaussian); Hartley and Rao 1962, Annals of Mathematical
        Statistics 33, 350-374 (systematic sampling in random order).

    >>> from datawinnow.core.rng import stream
    >>> policy = MiddleLoss(keep=0.5, width=0.3)
    >>> state = policy.observe(policy.init(4), torch.arange(4), loss=torch.tensor([0.0, 1.0, 1.0, 2.0]))
    >>> sorted(policy.plan(1, state, lambda *path: stream(0, *path))[0].index.tolist())
    [1, 2]
    """

    keep: float
    width: float = 1.0
    times_loss: bool = True
    alpha: float = 0.8
    weighted: bool = False
    first: FirstPlan = "all"
    floor: float = 0.01
    signal: str = "loss"
    on_resize: MeanOnResize = "keep"
    needs: ClassVar[Any] = SignalNeeds()

    def __post_init__(self) -> None:
        self.check_mean_options()
        check.number("width", self.width, 1e-6, 1e6)
        check.one_of("times_loss", self.times_loss, (False, True))
        check.one_of("weighted", self.weighted, (False, True))
        check.number("floor", self.floor, 1e-9, 1)

    def plan(self, epoch: int, state: State, stream: Stream) -> tuple[Selection, State]:
        """Another draw in each epoch."""
        n, draws = num_examples(epoch, state), stream("middle_loss", epoch)
        if not any_observed(state, "mean"):
            return first_plan(self.first, self.keep, n, draws), state
        return plan_by_chance(
            get_tensor(state, "mean"),
            budget_of(self.keep, n),
            lambda score, k: chances(self._density(score), k, 1.0, self.floor),
            draws,
            self.weighted,
        ), state

    def _density(self, score: Tensor) -> Tensor:
        """(m,) float64, at least 0: what the chances are proportional to."""
        s = score.double()
        distance = s - s.mean()
        sigma = float(distance.square().mean().sqrt())
        # Losses that are all equal have no tails.
        gauss = torch.exp(-0.5 * (distance / (self.width * sigma)).square()) if sigma > 0 else torch.ones_like(s)
        return gauss * s.clamp(min=0) if self.times_loss else gauss
