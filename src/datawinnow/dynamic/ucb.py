"""UCB: the highest sum of running mean and running variance of the loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args

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
    no_decision,
    plan_from_reasons,
    reason_codes,
    topk_random_ties,
)
from datawinnow.dynamic.policy import FirstPlan, State, Stream
from datawinnow.dynamic.running import OnResize, initial_moments, rank_within_size, with_moments
from datawinnow.dynamic.signal import SignalNeeds, check_signal
from datawinnow.dynamic.state import (
    any_observed,
    check_num_examples,
    get_tensor,
    num_examples,
)


@card(
    "policy",
    "UCB",
    "Raju et al. 2021, Accelerating Deep Learning with Dynamic Data Pruning, arXiv 2111.12621",
    cost="time O(n) a plan, memory O(n): 9 bytes an example",
)
@dataclass(frozen=True)
class UCB:
    """The examples whose loss is high or varies: running mean plus ``c`` times running variance.

    On a visit with loss x: v <- (1 - alpha) v + alpha (x - m)^2, then m <- (1 - alpha) m + alpha x, with the old m in
    the first; the first visit sets m = x, v = 0. Score = m + c v: the variance and not its root, no visit count and
    no logarithm of time, so this is not UCB1. An example that is not visited keeps m and v; the only exploration is
    that the score of a kept example falls. Decisions are made at epochs 0, period, 2 * period, ... from the losses
    before; while there are none, the epoch is as ``first`` says, and the first period is decided as soon as there are.
    (Published code decides the first period while all scores tie, and drops the first ids: of images sorted by class,
    entire classes.) An example that was never visited (dropped with a last batch) ranks first.

    The text of the paper was not available: the constants are those on which two independent implementations agree.

    Args:
        keep: fraction of the examples kept, in (0, 1].
        period: epochs between decisions.
        alpha: weight of the **new** value in mean and variance, in (0, 1].
        c: weight of the variance.
        first: ``"all"`` to train on everything until there are losses, or ``"random"`` for a random ``keep``.
        signal: what ranks the examples: ``"loss"``, or another signal observed of them: ``"error_norm"`` (L2 norm of
            softmax minus one-hot), ``"entropy"``, ``"margin_softmax"``, any of `record`, or a name of your own (high
            for hard examples), such as ``"reward"``.
        on_resize: what a visit at another size of the inputs does (`SizeSchedule`): ``"keep"`` moves mean and variance
            as any visit, so that the variance holds the jump of the loss; ``"reset_variance"`` sets the variance to 0;
            with ``"reset"`` the visit counts as the first; ``"rank"`` moves both, and compares each score with those
            last seen at the same size only. Other values than ``"keep"`` need the signal ``input_size``, which `fit`
            gives.

    Returns:
        A policy; each plan but the first has exactly ``budget_of(keep, n)`` ids, weights of one.

    Raises:
        ArgumentError: an option out of range.

    References:
        Raju et al. 2021, arXiv 2111.12621.

    >>> from datawinnow.core.rng import stream
    >>> policy, ids = UCB(keep=0.5), torch.arange(4)
    >>> state = policy.observe(policy.init(4), ids, loss=torch.tensor([1.0, 1.0, 3.0, 1.0]))
    >>> state = policy.observe(state, ids, loss=torch.tensor([1.0, 2.5, 0.5, 1.0]))
    >>> sorted(policy.plan(10, state, lambda *path: stream(0, *path))[0].index.tolist())
    [1, 2]
    """

    keep: float
    period: int = 10
    alpha: float = 0.8
    c: float = 1.0
    first: FirstPlan = "all"
    signal: str = "loss"
    on_resize: Literal["keep", "reset_variance", "reset", "rank"] = "keep"
    needs: ClassVar[Any] = SignalNeeds()

    def __post_init__(self) -> None:
        budget_of(self.keep, 1)
        check.number("period", self.period, 1, 2**31, integer=True)
        check.number("alpha", self.alpha, 1e-9, 1)
        check.number("c", self.c, 0, 1e9)
        check.one_of("first", self.first, ("all", "random"))
        check_signal(self.signal)
        check.one_of("on_resize", self.on_resize, (*get_args(OnResize), "rank"))

    def fraction(self, epoch: int) -> float:
        """``keep``, and everything in epoch 0 with ``first="all"``."""
        return 1.0 if epoch == 0 and self.first == "all" else float(self.keep)

    def init(self, n: int) -> State:
        """``mean`` (n,) float32, NaN where never visited, ``variance`` (n,) float32; the decision in force."""
        n = check_num_examples(n)
        return {"n": n, **initial_moments(n, self.on_resize), **no_decision(n)}

    def observe(self, state: State, index: Tensor, **signals: Any) -> State:
        """Move mean and variance of the visited towards their ``signal``."""
        return with_moments(state, index, self.signal, signals, alpha=self.alpha, on_resize=self.on_resize)

    def plan(self, epoch: int, state: State, stream: Stream) -> tuple[Selection, State]:
        """The decision of the period, in the order of the epoch."""
        n = num_examples(epoch, state)
        if not any_observed(state, "mean"):
            return first_plan(self.first, self.keep, n, stream("ucb", "first", epoch)), state
        # The draw depends on the number of the period and not on the epoch, so a decision made late is the same.
        state = decide_once_per_period(state, epoch, self.period, lambda block: self._decide(n, state, block, stream))
        return plan_from_reasons(get_tensor(state, "reason"), stream("ucb", "order", epoch)), state

    def _decide(self, n: int, state: State, block: int, stream: Stream) -> Tensor:
        # NaN (never visited) ranks first.
        score = get_tensor(state, "mean").add(get_tensor(state, "variance"), alpha=self.c).nan_to_num_(nan=torch.inf)
        if self.on_resize == "rank":
            score = rank_within_size(score, get_tensor(state, "size"))
        kept = topk_random_ties(score, budget_of(self.keep, n), stream("ucb", "choose", block))
        return reason_codes(n, Reason.BELOW_CUT, ranked=kept)
