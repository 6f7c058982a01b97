"""`RankStability`: when a recording may stop, because its ranking of the examples by DUAL is stable."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from datawinnow.core import check
from datawinnow.core.errors import ArgumentError
from datawinnow.methods import Method
from datawinnow.record import Recorder
from datawinnow.scores.dual import dual

WINDOW = 10
"""Epochs of DUAL's window."""
THRESHOLD = 0.5
"""Agreement at which a ranking counts as stable."""


def split_half_agreement(p_label: Any, *, window: int = WINDOW) -> float:
    """Agreement of two disjoint halves of the last ``window`` epochs on which examples are worth keeping.

    Spearman's rank correlation of DUAL over the first half with DUAL over the second, each half a window. The halves
    share no epoch: a ranking agrees with its own past, which it is computed from, long before it is stable.

    Args:
        p_label: (epochs, n) float, probability of the given label.
        window: epochs read, at least 4; of an odd number the first is left out.

    Returns:
        In [-1, 1]; NaN with fewer epochs than ``window``, or where all examples score alike.

    Raises:
        ArgumentError: a window below 4, values that are NaN or no probabilities.

    >>> import torch
    >>> worth = torch.rand(50, generator=torch.Generator().manual_seed(0))
    >>> recorded = torch.stack([worth * (epoch % 2) for epoch in range(10)])
    >>> round(split_half_agreement(recorded, window=8), 2)
    1.0
    """
    check.number("window", window, 4, 1 << 20, integer=True)
    values: Tensor = check.array("p_label", p_label, "epochs,n")
    half = window // 2
    check.probabilities("p_label", values)
    if len(values) < window or values.shape[1] < 2:
        return math.nan
    # each half is exactly one window; of an odd number the first epoch is left out
    before, after = dual(values[-2 * half : -half], window=half), dual(values[-half:], window=half)
    # the rank correlation of a constant is undefined
    if bool((before == before[0]).all()) or bool((after == after[0]).all()):
        return math.nan
    # here, since it takes a second to import, and only early stopping needs it
    from scipy.stats import spearmanr

    return float(spearmanr(before.numpy(), after.numpy()).statistic)


@dataclass(frozen=True)
class RankStability:
    """A rule for ending a recording.

    Attributes:
        threshold: the agreement (`split_half_agreement`) at which it ends, in (0, 1].
        min_epochs: epochs that are recorded in any case, since scores read a window of them. (The agreement needs
            ``window`` of them anyway.)
        window: epochs that the agreement is computed from.

    Raises:
        ArgumentError: a number out of range.
    """

    threshold: float = THRESHOLD
    min_epochs: int = WINDOW
    window: int = WINDOW

    def __post_init__(self) -> None:
        check.number("min_epochs", self.min_epochs, 1, 1 << 20, integer=True)
        check.number("window", self.window, 4, 1 << 20, integer=True)
        # `check.number` allows both ends, and an agreement of 0 would end every recording
        if check.number("until_stable", self.threshold, 0, 1) == 0:
            raise ArgumentError("until_stable must be above 0: it is the agreement at which recording stops")

    def __call__(self, p_label: Tensor) -> bool:
        """Whether a recording of these (epochs, n) probabilities of the label is stable; reads the last ``window``."""
        return split_half_agreement(torch.as_tensor(p_label), window=self.window) >= self.threshold

    def is_reached(self, recorder: Recorder, epochs: int) -> bool:
        """Whether a recording may end after its first ``epochs``; reads only the rows that it needs."""
        if epochs < max(self.min_epochs, self.window):
            return False
        return self(recorder.rows("p_label", epochs - self.window, epochs))

    def check_epochs(self, epochs: int) -> None:
        """Refuse a recording too short for this rule ever to end it.

        Raises:
            ArgumentError: it is.
        """
        if epochs < self.window:
            raise ArgumentError(
                f"until_stable compares two halves of {self.window} epochs, and only {epochs} are to be recorded: "
                "record more, or leave it out"
            )


def stability_for(
    method: Method, *, keep: float, epochs: int, n: int = 1000, threshold: float = THRESHOLD
) -> RankStability:
    """`RankStability` with the fewest epochs that ``method`` can read; arguments as of `Method.dry_run`.

    >>> from datawinnow.methods import create_method
    >>> stability_for(create_method("dual", score_options={"window": 12}), keep=0.3, epochs=30).min_epochs
    12
    """
    # by trying: how many epochs a method reads follows from its options
    for min_epochs in range(min(WINDOW, epochs), epochs):
        try:
            method.dry_run(keep=keep, epochs=min_epochs, n=n)
        except ArgumentError:
            continue
        return RankStability(threshold, min_epochs)
    return RankStability(threshold, epochs)
