"""InfoBatch: drop a random share of the well-learned examples, and give the rest of them larger weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from datawinnow.core import check
from datawinnow.core.budget import budget_of
from datawinnow.core.card import card
from datawinnow.core.reason import Reason
from datawinnow.core.selection import Selection
from datawinnow.dynamic.plan import (
    nonzero_ids,
    plan_everything,
    plan_from_reasons,
    reason_codes,
    sample_without_replacement,
)
from datawinnow.dynamic.policy import State, Stream
from datawinnow.dynamic.signal import SignalNeeds, check_signal, observed_hardness
from datawinnow.dynamic.state import (
    any_observed,
    check_num_examples,
    get_tensor,
    num_examples,
    unobserved,
    with_values,
)

BELOW_MEAN = 0.65
"""Share of the examples assumed to have a loss below the mean of all. Measured on CIFAR late in training 0.71 and 0.84;
an exponential distribution has 0.63."""


@card(
    "policy",
    "InfoBatch",
    "Qin et al. 2023, InfoBatch: Lossless Training Speed Up by Unbiased Dynamic Data Pruning, arXiv 2303.04947",
    cost="time O(n) a plan, memory O(n): 4 bytes an example",
)
@dataclass(frozen=True)
class InfoBatch:
    """Soft pruning: a random share of the well-learned examples, weighted to represent those that are dropped.

    With s the loss of each example's last visit: examples with s below the mean of all are well learned; a random 1 - r
    of them is kept with weight 1 / (1 - r), all others with weight one. Epoch 0, before there are losses, and every
    epoch from ``delta * epochs`` on have everything with weights of one.

    The 40% that the paper saves come from ``form="percentile"``: below the 20th percentile (1 - r)^2 of the examples
    are kept, from there to the 85th 1 - r, above it all; at r = 0.5 a quarter and a half, with weights of 4 and 2.

    Weights are the size of a group over the number kept of it (1 / (1 - r) up to rounding), so the expected sum of
    weighted losses is the sum of all losses. Their **mean over the kept** is n / m of the mean over
    all: averaging a batch of weighted losses makes every step n / m as long, with m / n as many steps.

    Args:
        epochs: length of the run, which sets where pruning ends.
        drop: the paper's r, the probability in [0, 1) that a well-learned example is **dropped**.
        delta: fraction of the run after which all examples are trained on, in [0, 1].
        form: ``"mean"`` (published package) or ``"percentile"`` (published ImageNet code).
        signal: what ranks the examples: ``"loss"``, or another signal observed of them: ``"error_norm"`` (L2 norm of
            softmax minus one-hot), ``"entropy"``, ``"margin_softmax"``, any of `record`, or a name of your own (high
            for hard examples), such as ``"reward"``.

    Returns:
        A policy. The number of ids in a plan depends on the losses; weights are at least one.

    Raises:
        ArgumentError: an option out of range.

    References:
        Qin et al. 2023, arXiv 2303.04947, section 2 and table 7.

    >>> from datawinnow.core.rng import stream
    >>> policy = InfoBatch(epochs=10)
    >>> state = policy.observe(policy.init(5), torch.arange(5), loss=torch.tensor([0.1, 0.1, 0.1, 0.1, 9.0]))
    >>> plan, _ = policy.plan(1, state, lambda *path: stream(0, *path))
    >>> len(plan), sorted(plan.weight.tolist())
    (3, [1.0, 2.0, 2.0])
    """

    epochs: int
    drop: float = 0.5
    delta: float = 0.875
    form: Literal["mean", "percentile"] = "mean"
    signal: str = "loss"
    needs: ClassVar[Any] = SignalNeeds()

    def __post_init__(self) -> None:
        check.number("epochs", self.epochs, 1, 2**31, integer=True)
        check.number("drop", self.drop, 0, 1 - 1e-6)
        check.number("delta", self.delta, 0, 1)
        check.one_of("form", self.form, ("mean", "percentile"))
        check_signal(self.signal)

    @property
    def run_epochs(self) -> int:
        """Length of the run."""
        return self.epochs

    def fraction(self, epoch: int) -> float:
        """Everything in epoch 0 and once pruning is over; between, of the mean form an estimate."""
        if epoch == 0 or epoch >= self.delta * self.epochs - 1e-9:
            return 1.0
        keep = 1 - self.drop
        if self.form == "mean":
            return 1 - BELOW_MEAN * self.drop
        # Below the 20th percentile keep^2, up to the 85th keep, above it all.
        return 0.2 * keep**2 + 0.65 * keep + 0.15

    def init(self, n: int) -> State:
        """``loss`` (n,) float32: the ``signal`` of the last visit, NaN where there was none."""
        return {"n": check_num_examples(n), "loss": unobserved(n)}

    def observe(self, state: State, index: Tensor, **signals: Any) -> State:
        """Remember the ``signal`` of the visited, unweighted."""
        ids, values = observed_hardness(state, index, self.signal, signals)
        return with_values(state, ids, loss=values)

    def plan(self, epoch: int, state: State, stream: Stream) -> tuple[Selection, State]:
        """Another draw in each epoch; an example that was never visited is kept."""
        n = num_examples(epoch, state)
        # not "epoch == delta * epochs": a fractional boundary is never equal, and weights would stay
        if epoch >= self.delta * self.epochs - 1e-9 or not any_observed(state, "loss"):
            return plan_everything(n, stream("info_batch", "order", epoch)), state
        draws, codes, weight = stream("info_batch", epoch), reason_codes(n, Reason.KEPT), torch.ones(n)
        for group, keep in self._groups(get_tensor(state, "loss")):
            if group.numel():
                kept = sample_without_replacement(group, budget_of(keep, group.numel()), draws)
                # Both groups and the order draw from one generator: changing the order of these lines changes plans.
                codes[group] = int(Reason.NOT_DRAWN)
                codes[kept] = int(Reason.DRAWN)
                # Not 1 / keep: with the actual numbers the weights of a group sum to its size exactly.
                weight[kept] = group.numel() / kept.numel()
        return plan_from_reasons(codes, draws, weight), state

    def _groups(self, loss: Tensor) -> list[tuple[Tensor, float]]:
        """Ids of each group that is drawn from, and the share of it to keep; comparisons with NaN are False."""
        keep = 1 - self.drop
        if self.form == "mean":
            seen = loss[~loss.isnan()] if bool(loss.sum().isnan()) else loss
            # in float64 the mean of equal floats is that float, and none of them is below it
            return [(nonzero_ids(loss < float(seen.mean(dtype=torch.float64))), keep)]
        low, high = percentiles(loss[~loss.isnan()], (0.2, 0.85))
        return [(nonzero_ids(loss < low), keep**2), (nonzero_ids((loss >= low) & (loss < high)), keep)]


def percentiles(values: Tensor, shares: tuple[float, float]) -> tuple[float, float]:
    """Two quantiles with linear interpolation, by partition: `torch.quantile` sorts, and takes 16M numbers at most."""
    raw, last = values.numpy(), values.numel() - 1
    # Linear interpolation between the order statistics at floor(q (n - 1)) and the one above, as NumPy has it.
    below = [int(share * last) for share in shares]
    ranks = sorted({r for b in below for r in (b, min(b + 1, last))})
    placed = np.partition(raw, ranks)
    low, high = (
        float(placed[b]) + (share * last - b) * (float(placed[min(b + 1, last)]) - float(placed[b]))
        for share, b in zip(shares, below, strict=True)
    )
    return low, high
