"""Sampling with probability proportional to a power of the loss, in fixed number."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from datawinnow.core import check
from datawinnow.core.budget import budget_of
from datawinnow.core.card import card
from datawinnow.core.reason import Reason
from datawinnow.core.selection import Selection
from datawinnow.dynamic.plan import (
    first_plan,
    in_random_order,
    nonzero_ids,
    plan_from_reasons,
    reason_codes,
    sample_without_replacement,
)
from datawinnow.dynamic.policy import FirstPlan, State, Stream
from datawinnow.dynamic.running import MeanOnResize, OfRunningMean
from datawinnow.dynamic.signal import SignalNeeds
from datawinnow.dynamic.state import (
    any_observed,
    get_tensor,
    num_examples,
)


@card(
    "policy",
    "chance by loss",
    "Katharopoulos and Fleuret 2017, Biased Importance Sampling for Deep Neural Network Training, arXiv 1706.00043; "
    "drawn in fixed number as by Hartley and Rao 1962",
    cost="time O(n log n) a plan, memory O(n): 4 bytes an example",
)
@dataclass(frozen=True)
class LossPower(OfRunningMean):
    """Another draw in every epoch, in which an example's probability is proportional to its loss to the power ``a``.

    The score is a running mean of the losses of an example's visits, s <- (1 - alpha) s + alpha x, with s = x at the
    first. With k kept, pi_i = min(1, c s_i^a), and c such that the pi sum to k: examples at 1 are certain, and the
    others share the rest. A score below ``floor`` times the mean of all counts as that value, so that learned examples
    are visited again. An example that was never visited is certain (of more than k such, k are drawn uniformly).

    Exactly k are drawn, and each with exactly its pi, by systematic sampling: the pi are laid end to end in a random
    order, and the examples whose segment holds one of the points u, u + 1, ..., u + k - 1 are chosen, u uniform in
    [0, 1).

    ``weighted`` gives each kept example the weight 1 / pi (Horvitz and Thompson), so that the expected sum of weighted
    losses is the sum of all losses. Their **mean over the kept** is n / m of the mean over all: averaging a batch of
    weighted losses makes every step n / m as long, with m / n as many steps (as with `InfoBatch`). A weight can be
    large, for a = 1 up to (1 + floor) n / (k floor): with weights a ``floor`` of 0.1 or more keeps steps in bounds.

    Args:
        keep: fraction of the examples kept, in (0, 1].
        a: power of the loss: 0 for a uniform draw, 1 for chances in proportion.
        alpha: weight of the **new** loss in the running mean, in (0, 1].
        weighted: give weights 1 / pi; without them training is biased towards hard examples.
        first: ``"all"`` to train on everything until there are losses, or ``"random"`` for a random ``keep``.
        floor: lowest score, as a fraction of the mean of all, in (0, 1].
        signal: what ranks the examples: ``"loss"``, or another signal observed of them: ``"error_norm"`` (L2 norm of
            softmax minus one-hot), ``"entropy"``, ``"margin_softmax"``, any of `record`, or a name of your own (high
            for hard examples), such as ``"reward"``.
        on_resize: what a visit at another size of the inputs does (`SizeSchedule`): ``"keep"`` moves the mean as any
            visit, with ``"reset"`` it counts as the first. Other values than ``"keep"`` need the signal
            ``input_size``, which `fit` gives.

    Returns:
        A policy; each plan but the first has exactly ``budget_of(keep, n)`` ids.

    Raises:
        ArgumentError: an option out of range.

    References:
        Katharopoulos and Fleuret 2017, arXiv 1706.00043 (the loss as importance, and biased use without weights);
        Hartley and Rao 1962, Annals of Mathematical Statistics 33, 350-374 (systematic sampling in random order).

    >>> from datawinnow.core.rng import stream
    >>> policy = LossPower(keep=0.5, weighted=True)
    >>> state = policy.observe(policy.init(4), torch.arange(4), loss=torch.tensor([1.0, 1.0, 1.0, 9.0]))
    >>> plan, _ = policy.plan(1, state, lambda *path: stream(0, *path))
    >>> sorted(round(w, 4) for w in plan.weight.tolist())
    [1.0, 3.0]
    """

    keep: float
    a: float = 1.0
    alpha: float = 0.8
    weighted: bool = False
    first: FirstPlan = "all"
    floor: float = 0.01
    signal: str = "loss"
    on_resize: MeanOnResize = "keep"
    needs: ClassVar[Any] = SignalNeeds()

    def __post_init__(self) -> None:
        self.check_mean_options()
        check.number("a", self.a, 0, 100)
        check.one_of("weighted", self.weighted, (False, True))
        check.number("floor", self.floor, 1e-9, 1)

    def plan(self, epoch: int, state: State, stream: Stream) -> tuple[Selection, State]:
        """Another draw in each epoch."""
        n, draws = num_examples(epoch, state), stream("loss_power", epoch)
        if not any_observed(state, "mean"):
            return first_plan(self.first, self.keep, n, draws), state
        power = lambda mean, k: chances(mean, k, self.a, self.floor)  # noqa: E731
        return plan_by_chance(get_tensor(state, "mean"), budget_of(self.keep, n), power, draws, self.weighted), state


def plan_by_chance(
    score: Tensor,
    k: int,
    chance_of: Callable[[Tensor, int], Tensor],
    draws: torch.Generator,
    weighted: bool = False,
) -> Selection:
    """``k`` examples drawn with given chances; those never visited are certain (of more than k such, k are drawn).

    Args:
        score: (n,) float32, NaN where never visited.
        k: how many, 1 to n.
        chance_of: function of (m,) scores and a number to (m,) float64 chances that sum to that number.
        draws: source of the draw.
        weighted: give weights 1 / chance.
    """
    n, new = score.numel(), nonzero_ids(score.isnan())
    # More unvisited than places: a uniform draw of them, and no example with a score has a chance in this epoch.
    if new.numel() >= k:
        codes = reason_codes(n, Reason.ZERO_WEIGHT, not_drawn=new, drawn=sample_without_replacement(new, k, draws))
        return plan_from_reasons(codes, draws)
    seen = nonzero_ids(~score.isnan())
    chance = chance_of(score[seen], k - new.numel())
    sure = chance >= 1
    codes = reason_codes(n, Reason.NOT_DRAWN, kept=new, ranked=seen[sure])
    rest, left = nonzero_ids(~sure), k - new.numel() - int(sure.sum())
    codes[seen[rest[systematic(chance[rest], left, draws)]]] = int(Reason.DRAWN)
    weight = torch.ones(n)
    if weighted:
        # Certain examples have a chance of 1 and so a weight of 1; the floor keeps 1 / chance finite.
        weight[seen] = (1 / chance).float()
    return plan_from_reasons(codes, draws, weight)


def chances(score: Tensor, k: int, a: float, floor: float) -> Tensor:
    """(m,) float64 inclusion probabilities proportional to ``score ** a``, capped at one, that sum to ``k``.

    Args:
        score: (m,) float; negative ones count as 0.
        k: how many will be drawn, 1 to m.
        a: the power.
        floor: lowest score, as a fraction of the mean.
    """
    if k >= score.numel():
        return torch.ones(score.numel(), dtype=torch.float64)
    size = score.to(torch.float64).clamp(min=0)
    # The mean of all losses before the floor is applied.
    size.clamp_(min=floor * float(size.mean()))
    top = float(size.max())
    size = size.div_(top) if top > 0 else torch.ones_like(size)  # no power of it can overflow
    if a != 1:
        size = size.pow_(a)
    certain, c = -1, 0.0
    while True:  # each iteration makes more examples certain; a few suffice, since the rest to share shrinks
        # Examples whose chance would pass 1 become certain; c then grows for the others, which may make more certain.
        high = size * c >= 1 - 1e-8
        if int(high.sum()) == certain:
            return (size * c).masked_fill_(high, 1.0)
        certain = int(high.sum())
        rest = float(size.masked_fill(high, 0.0).sum())
        c = (k - certain) / rest if rest > 0 else c


def systematic(chance: Tensor, k: int, generator: torch.Generator) -> Tensor:
    """(k,) int64 positions drawn without replacement, position i with probability ``chance[i]`` exactly.

    Args:
        chance: (m,) float64, each below one, summing to ``k`` (but for rounding).
        k: how many.
        generator: source of the draw.
    """
    if k <= 0:
        return torch.arange(0)
    # A random order each time: in a fixed one neighbours would hardly ever be drawn together.
    order = in_random_order(torch.arange(chance.numel()), generator)
    ends = chance[order].cumsum(0).clamp_(max=k)
    ends[-1] = k  # rounding must not lose the last point
    u = 1 - torch.rand((), dtype=torch.float64, generator=generator)  # in (0, 1]: at 0 both ends would hold a point
    # Number of points u + j up to each end, less one: it rises by one exactly at the segments that hold a point.
    points = ends.sub_(u).floor_()
    contains_point = points > torch.cat([points.new_full((1,), -1.0), points[:-1]])
    return order[nonzero_ids(contains_point)]
