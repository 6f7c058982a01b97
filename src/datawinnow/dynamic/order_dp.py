"""OrderDP: the highest losses of a random pool, redrawn every epoch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from datawinnow.core import check
from datawinnow.core.budget import budget_of
from datawinnow.core.card import card
from datawinnow.core.errors import ArgumentError
from datawinnow.core.reason import Reason
from datawinnow.core.selection import Selection
from datawinnow.dynamic.plan import (
    first_plan,
    plan_from_reasons,
    reason_codes,
    sample_without_replacement,
    topk_random_ties,
)
from datawinnow.dynamic.policy import FirstPlan, State, Stream
from datawinnow.dynamic.signal import SignalNeeds, check_signal, observed_hardness
from datawinnow.dynamic.state import (
    any_observed,
    check_num_examples,
    get_tensor,
    num_examples,
    unobserved,
    with_values,
)


@card(
    "policy",
    "OrderDP",
    "Jin et al. 2026, OrderDP: A Theoretically Guaranteed Lossless Dynamic Data Pruning Framework, arXiv 2606.08574",
    cost="time O(n) a plan, memory O(n): 4 bytes an example",
)
@dataclass(frozen=True)
class OrderDP:
    """A random pool of the examples, and of it those whose last loss is highest.

    Every epoch draws ``pool`` of all ids uniformly and keeps the ``keep`` of all ids that rank highest in the pool, so
    an example of low loss is trained on when few with higher loss are in the pool. An example that was never visited
    ranks first. There are no weights (the paper's unbiasedness is about a surrogate loss) and no annealing. Before
    there are losses the epoch is a uniform draw of the same size, as in the paper's code, where all scores tie: the
    fraction kept is exact.

    Args:
        keep: fraction of **all** examples kept, in (0, pool]; the paper's code keeps 0.85 of its pool of 0.75.
        pool: fraction of the examples in the pool, in (0, 1].
        first: ``"random"`` for ``keep`` of the examples while there are no losses, or ``"all"``.
        signal: what ranks the examples: ``"loss"``, or another signal observed of them: ``"error_norm"`` (L2 norm of
            softmax minus one-hot), ``"entropy"``, ``"margin_softmax"``, any of `record`, or a name of your own (high
            for hard examples), such as ``"reward"``.

    Returns:
        A policy; each plan has exactly ``budget_of(keep, n)`` ids, weights of one.

    Raises:
        ArgumentError: an option out of range, ``keep`` above ``pool``.

    References:
        Jin et al. 2026, arXiv 2606.08574.

    >>> from datawinnow.core.rng import stream
    >>> policy = OrderDP(keep=0.5, pool=1.0)
    >>> state = policy.observe(policy.init(4), torch.arange(4), loss=torch.tensor([0.1, 2.0, 0.2, 3.0]))
    >>> sorted(policy.plan(1, state, lambda *path: stream(0, *path))[0].index.tolist())
    [1, 3]
    """

    keep: float
    pool: float = 0.75
    first: FirstPlan = "random"
    signal: str = "loss"
    needs: ClassVar[Any] = SignalNeeds()

    def __post_init__(self) -> None:
        budget_of(self.keep, 1)
        check.number("pool", self.pool, 1e-9, 1)
        check.one_of("first", self.first, ("all", "random"))
        check_signal(self.signal)
        if self.keep > self.pool:
            raise ArgumentError(
                f"keep={self.keep} cannot be more than pool={self.pool}, since the kept are chosen from the pool: "
                "raise the pool"
            )

    def fraction(self, epoch: int) -> float:
        """``keep``, and everything in epoch 0 with ``first="all"``."""
        return 1.0 if epoch == 0 and self.first == "all" else float(self.keep)

    def init(self, n: int) -> State:
        """``loss`` (n,) float32: the ``signal`` of the last visit, NaN where there was none."""
        return {"n": check_num_examples(n), "loss": unobserved(n)}

    def observe(self, state: State, index: Tensor, **signals: Any) -> State:
        """Remember the ``signal`` of the visited."""
        ids, values = observed_hardness(state, index, self.signal, signals)
        return with_values(state, ids, loss=values)

    def plan(self, epoch: int, state: State, stream: Stream) -> tuple[Selection, State]:
        """Another pool in each epoch."""
        n, draws = num_examples(epoch, state), stream("order_dp", epoch)
        if not any_observed(state, "loss"):
            return first_plan(self.first, self.keep, n, draws), state
        # The order of the draws is fixed: pool, then ties, then training order from the same generator.
        pool = sample_without_replacement(torch.arange(n), budget_of(self.pool, n), draws)
        # Indexing copied, so the in-place fill leaves the state alone.
        score = get_tensor(state, "loss")[pool].nan_to_num_(nan=torch.inf)
        kept = pool[topk_random_ties(score, budget_of(self.keep, n), draws)]
        codes = reason_codes(n, Reason.NOT_DRAWN, below_cut=pool, ranked=kept)
        return plan_from_reasons(codes, draws), state
