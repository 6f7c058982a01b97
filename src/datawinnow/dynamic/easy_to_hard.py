"""Easy to hard: a fixed number of examples, of the lowest losses at first and of the highest at the end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from datawinnow.core import check
from datawinnow.core.budget import budget_of
from datawinnow.core.card import card
from datawinnow.core.reason import Reason
from datawinnow.core.selection import Selection
from datawinnow.dynamic.plan import (
    first_plan,
    nonzero_ids,
    plan_from_reasons,
    reason_codes,
    sample_without_replacement,
    topk_random_ties,
)
from datawinnow.dynamic.policy import FirstPlan, State, Stream
from datawinnow.dynamic.running import MeanOnResize, OfRunningMean
from datawinnow.dynamic.signal import SignalNeeds
from datawinnow.dynamic.state import any_observed, get_tensor, num_examples


@card(
    "policy",
    "easy to hard",
    "Xiao et al. 2024, Dynamic Data Pruning for Automatic Speech Recognition, arXiv 2406.18373",
    cost="time O(n) a plan, memory O(n): 4 bytes an example",
)
@dataclass(frozen=True)
class EasyToHard(OfRunningMean):
    """In every epoch a stretch of the examples sorted by loss, which moves from the easy end to the hard one.

    The score is a running mean of the losses of an example's visits. With k kept of n and progress
    t = epoch / (epochs - 1), the stretch has the k examples from rank round(t (n - k)) on, the easiest having rank 0:
    the easiest in the first epoch with losses, the hardest in the last. An example that was never visited is kept (of
    more than k such, k are drawn). The losses of examples outside the stretch are those of their last visit.

    The paper reports that easy to hard at 70% equals training on everything in speech recognition, and that keeping
    the hard alone fails; how it moves from one to the other was not available, and the even move is ours. In speech
    the length of an example confounds its loss: choose among utterances of similar length.

    Args:
        keep: fraction of the examples kept, in (0, 1].
        epochs: length of the run.
        alpha: weight of the **new** loss in the running mean, in (0, 1].
        first: ``"all"`` to train on everything until there are losses, or ``"random"`` for a random ``keep``.
        signal: what ranks the examples, as of `UCB`.
        on_resize: what a visit at another size of the inputs does to the running mean, as of `LossPower`.

    Returns:
        A policy; each plan but the first has exactly ``budget_of(keep, n)`` ids, weights of one.

    Raises:
        ArgumentError: an option out of range.

    References:
        Xiao et al. 2024, arXiv 2406.18373.

    >>> import torch
    >>> from datawinnow.core.rng import stream
    >>> policy = EasyToHard(keep=0.5, epochs=3)
    >>> state = policy.observe(policy.init(4), torch.arange(4), loss=torch.tensor([0.1, 2.0, 0.2, 3.0]))
    >>> [sorted(policy.plan(e, state, lambda *path: stream(0, *path))[0].index.tolist()) for e in (0, 1, 2)]
    [[0, 2], [1, 2], [1, 3]]
    """

    keep: float
    epochs: int
    alpha: float = 0.8
    first: FirstPlan = "all"
    signal: str = "loss"
    on_resize: MeanOnResize = "keep"
    needs: ClassVar[Any] = SignalNeeds()

    def __post_init__(self) -> None:
        self.check_mean_options()
        check.number("epochs", self.epochs, 1, 2**31, integer=True)

    @property
    def run_epochs(self) -> int:
        """Length of the run."""
        return self.epochs

    def plan(self, epoch: int, state: State, stream: Stream) -> tuple[Selection, State]:
        """The stretch of this epoch."""
        n, draws = num_examples(epoch, state), stream("easy_to_hard", epoch)
        mean = get_tensor(state, "mean")
        if not any_observed(state, "mean"):
            return first_plan(self.first, self.keep, n, draws), state
        new, seen = nonzero_ids(mean.isnan()), nonzero_ids(~mean.isnan())
        new = sample_without_replacement(new, min(new.numel(), budget_of(self.keep, n)), draws)
        k = budget_of(self.keep, n) - new.numel()
        codes = reason_codes(n, Reason.BELOW_CUT, kept=new)
        if k:
            t = min(1.0, epoch / (self.epochs - 1)) if self.epochs > 1 else 0.0
            start = int(t * (seen.numel() - k) + 0.5)
            # The k hardest of the start + k easiest; ties are drawn at either cut.
            easy = seen[topk_random_ties(-mean[seen], start + k, draws)]
            codes[easy[topk_random_ties(mean[easy], k, draws)]] = int(Reason.RANKED)
        return plan_from_reasons(codes, draws), state
