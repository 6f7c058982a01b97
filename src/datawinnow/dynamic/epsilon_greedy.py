"""Epsilon-greedy: the highest losses, and a share of the others at random."""

from __future__ import annotations

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
    decide_once_per_period,
    first_plan,
    is_kept,
    no_decision,
    nonzero_ids,
    plan_from_reasons,
    reason_codes,
    sample_without_replacement,
    topk_random_ties,
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
    "epsilon-greedy",
    "Raju et al. 2021, Accelerating Deep Learning with Dynamic Data Pruning, arXiv 2111.12621",
    cost="time O(n) a plan, memory O(n): 5 bytes an example",
)
@dataclass(frozen=True)
class EpsilonGreedy(OfRunningMean):
    """The examples of highest loss, and a share drawn from the rest.

    Of k kept, k - floor(epsilon * k) have the largest scores, and floor(epsilon * k) are drawn uniformly from the rest.
    The score is a running mean of the losses of an example's visits, s <- (1 - alpha) s + alpha x, with s = x at the
    first; an example that is not visited keeps its score. Decisions are made at epochs 0, period, 2 * period, ... from
    the losses before; while there are none, the epoch is as ``first`` says, and the first period is decided as soon as
    there are. An example that was never visited (dropped with a last batch) ranks first.

    The text of the paper was not available: the constants are those on which two independent implementations agree;
    one of them scores by the last loss, which is ``alpha=1``.

    Args:
        keep: fraction of the examples kept, in (0, 1].
        epsilon: share of the kept that is drawn at random, in [0, 1].
        period: epochs between decisions.
        alpha: weight of the **new** loss in the running mean, in (0, 1].
        first: ``"all"`` to train on everything until there are losses, or ``"random"`` for a random ``keep``.
        signal: what ranks the examples: ``"loss"``, or another signal observed of them: ``"error_norm"`` (L2 norm of
            softmax minus one-hot), ``"entropy"``, ``"margin_softmax"``, any of `record`, or a name of your own (high
            for hard examples), such as ``"reward"``.
        on_resize: what a visit at another size of the inputs does (`SizeSchedule`): ``"keep"`` moves the mean as any
            visit, with ``"reset"`` it counts as the first. Other values than ``"keep"`` need the signal
            ``input_size``, which `fit` gives.

    Returns:
        A policy; each plan but the first has exactly ``budget_of(keep, n)`` ids, weights of one.

    Raises:
        ArgumentError: an option out of range.

    References:
        Raju et al. 2021, arXiv 2111.12621.

    >>> from datawinnow.core.rng import stream
    >>> policy = EpsilonGreedy(keep=0.5, epsilon=0.0)
    >>> state = policy.observe(policy.init(4), torch.arange(4), loss=torch.tensor([0.1, 2.0, 0.2, 3.0]))
    >>> sorted(policy.plan(1, state, lambda *path: stream(0, *path))[0].index.tolist())
    [1, 3]
    """

    keep: float
    epsilon: float = 0.1
    period: int = 10
    alpha: float = 0.8
    first: FirstPlan = "all"
    signal: str = "loss"
    on_resize: MeanOnResize = "keep"
    needs: ClassVar[Any] = SignalNeeds()
    rescalable: ClassVar[bool] = True

    def __post_init__(self) -> None:
        self.check_mean_options()
        check.number("epsilon", self.epsilon, 0, 1)
        check.number("period", self.period, 1, 2**31, integer=True)

    def init(self, n: int) -> State:
        """``mean`` (n,) float32, NaN where never visited; the decision in force."""
        return {**super().init(n), **no_decision(n)}

    def plan(self, epoch: int, state: State, stream: Stream) -> tuple[Selection, State]:
        """The decision of the period, in the order of the epoch."""
        n = num_examples(epoch, state)
        if not any_observed(state, "mean"):
            return first_plan(self.first, self.keep, n, stream("epsilon_greedy", "first", epoch)), state
        state = decide_once_per_period(state, epoch, self.period, lambda block: self._decide(n, state, block, stream))
        return plan_from_reasons(get_tensor(state, "reason"), stream("epsilon_greedy", "order", epoch)), state

    def _decide(self, n: int, state: State, block: int, stream: Stream) -> Tensor:
        k = budget_of(self.keep, n)
        # 0.29 * 100 is 28.999... in binary: the 1e-9 keeps floor() from losing one.
        k_random = int(self.epsilon * k + 1e-9)
        draws = stream("epsilon_greedy", "choose", block)
        score = get_tensor(state, "mean").nan_to_num(nan=torch.inf)
        # `topk_random_ties` needs a count of at least 1.
        best = topk_random_ties(score, k - k_random, draws) if k > k_random else torch.arange(0)
        # if none is drawn, those below the cut had no chance of being chosen
        codes = reason_codes(n, Reason.NOT_DRAWN if k_random else Reason.BELOW_CUT, ranked=best)
        rest = nonzero_ids(~is_kept(codes))
        codes[sample_without_replacement(rest, k_random, draws)] = int(Reason.DRAWN)
        return codes
