"""StopMastered (IES): stop training on examples whose loss has stopped bending."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from datawinnow.core import check
from datawinnow.core.card import card
from datawinnow.core.reason import Reason
from datawinnow.core.selection import Selection
from datawinnow.dynamic.plan import nonzero_ids, plan_from_reasons, reason_codes, revisited_ids
from datawinnow.dynamic.policy import State, Stream
from datawinnow.dynamic.signal import SignalNeeds, check_signal, observed_hardness
from datawinnow.dynamic.state import check_num_examples, get_tensor, num_examples, unobserved, with_values


@card(
    "policy",
    "IES",
    "Yuan et al. 2025, Instance-Dependent Early Stopping, arXiv 2502.07547",
    cost="time O(n) a plan, memory O(n): 16 bytes an example",
)
@dataclass(frozen=True)
class StopMastered:
    """Train on an example until its loss stops bending: the mean second difference of its last visits is small.

    With l the losses of an example's visits, d = l_t - 2 l_(t-1) + l_(t-2). An example is mastered when the mean of
    |d| over its last three visits is below ``delta``, so not before five visits, and is then left out. A loss that
    falls in a straight line counts as mastered. The published ``delta`` is 0.001 on CIFAR-10 and twice that on
    CIFAR-100, for losses of 200 epochs.

    The published code, which has no licence, runs a forward pass over the examples left out after each epoch, in
    evaluation mode with augmentation, and writes these losses into one history with those of training; an example may
    so come back. Here each example left out is **revisited** once in ``look`` epochs, by training on it, and comes
    back if its losses bend again. (That code also tests on images with the augmentation of training, and reports the
    best epoch: its accuracies are not comparable.)

    Args:
        delta: bound on the mean second difference, in the unit of the loss.
        look: epochs in which every example is visited at least once, at least 2.
        signal: whose differences, as of `UCB`.

    Returns:
        A policy. The number of ids in a plan depends on the losses; weights of one.

    Raises:
        ArgumentError: an option out of range.

    References:
        Yuan et al. 2025, arXiv 2502.07547, with its published code.

    >>> from datawinnow.core.rng import stream
    >>> policy, ids = StopMastered(), torch.arange(2)
    >>> state = policy.init(2)
    >>> for step in range(5):  # the first falls in a straight line, the second jumps
    ...     state = policy.observe(state, ids, loss=torch.tensor([1 - 0.1 * step, step % 2]))
    >>> plans = [policy.plan(epoch, state, lambda *path: stream(0, *path))[0] for epoch in (5, 6)]
    >>> sorted(len(plan) for plan in plans), all(1 in plan.index for plan in plans)  # the first is visited in its turn
    ([1, 2], True)
    """

    delta: float = 1e-3
    look: int = 10
    signal: str = "loss"
    needs: ClassVar[Any] = SignalNeeds()

    def __post_init__(self) -> None:
        check.number("delta", self.delta, 0, 1e9)
        check.number("look", self.look, 2, 2**31, integer=True)
        check_signal(self.signal)

    @property
    def across_sizes(self) -> str:
        """What is compared with a fixed number although it changes with the size of the inputs."""
        return f"delta={self.delta:g} is compared with changes of the loss, which jumps where the size changes"

    def fraction(self, epoch: int) -> float:
        """1: how many are mastered is not known in advance, and less is passed than this says."""
        return 1.0

    def init(self, n: int) -> State:
        """``loss`` and ``before`` of the last two visits, ``bend`` and ``bend_before``; (n,) float32, NaN for none.

        A negative ``bend`` is that of a mastered example.
        """
        n = check_num_examples(n)
        return {"n": n, **{name: unobserved(n) for name in ("loss", "before", "bend", "bend_before")}}

    def observe(self, state: State, index: Tensor, **signals: Any) -> State:
        """Take the second differences of the visited, and judge them."""
        ids, x = observed_hardness(state, index, self.signal, signals)
        loss, before, last, last_before = (
            get_tensor(state, name)[ids] for name in ("loss", "before", "bend", "bend_before")
        )
        # Above 0, since the sign says whether an example is mastered.
        bend = (x - 2 * loss + before).abs().clamp(min=1e-30)
        # Comparisons with NaN, of fewer than five visits, are False.
        mastered = (bend + last.abs() + last_before) / 3 < self.delta
        return with_values(
            state, ids, loss=x, before=loss, bend=torch.where(mastered, -bend, bend), bend_before=last.abs()
        )

    def plan(self, epoch: int, state: State, stream: Stream) -> tuple[Selection, State]:
        """What is not mastered, and the examples whose turn it is."""
        n, draws = num_examples(epoch, state), stream("stop_mastered", epoch)
        mastered = get_tensor(state, "bend") < 0
        codes = reason_codes(n, Reason.BELOW_CUT, kept=nonzero_ids(~mastered))
        due = revisited_ids(n, epoch, self.look, lambda cycle: stream("stop_mastered", "look", cycle))
        codes[due[mastered[due]]] = int(Reason.DRAWN)
        return plan_from_reasons(codes, draws), state
