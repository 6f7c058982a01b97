"""When a recording may stop: its ranking of the examples by DUAL has settled."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from scipy.stats import spearmanr
from torch import Tensor

from datawinnow.core import check
from datawinnow.core.errors import ArgumentError
from datawinnow.methods import Method
from datawinnow.record import Recorder
from datawinnow.scores.dual import dual

WINDOW = 10
"""Epochs of DUAL's window."""
ENOUGH = 0.5
"""Agreement from which a ranking counts as settled; LOG.md has what stopping there cost (issue [4])."""


def agreement(p_label: Any, *, window: int = WINDOW) -> float:
    """How far two disjoint halves of the last ``window`` epochs agree on which examples are worth keeping.

    Spearman's rank correlation of DUAL over the first half with DUAL over the second, a window each. The halves share
    no epoch: a ranking that is compared with its own past, which it is made of, agrees with it long before it has
    settled.

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
    >>> round(agreement(recorded, window=8), 2)
    1.0
    """
    check.number("window", window, 4, 1 << 20, integer=True)
    values: Tensor = check.array("p_label", p_label, "epochs,n")
    half = window // 2
    check.probabilities("p_label", values)
    if len(values) < window or values.shape[1] < 2:
        return math.nan
    before, after = dual(values[-2 * half : -half], window=half), dual(values[-half:], window=half)
    if bool((before == before[0]).all()) or bool((after == after[0]).all()):
        return math.nan
    return float(spearmanr(before.numpy(), after.numpy()).statistic)


@dataclass(frozen=True)
class Settled:
    """Whether a recording may stop.

    Attributes:
        enough: agreement from which on it may, in (0, 1].
        first: never before so many epochs: scores read a window of them. (An agreement needs ``window`` in any case.)
        window: epochs that the agreement is of.

    Raises:
        ArgumentError: a number out of range.
    """

    enough: float = ENOUGH
    first: int = WINDOW
    window: int = WINDOW

    def __post_init__(self) -> None:
        check.number("first", self.first, 1, 1 << 20, integer=True)
        check.number("window", self.window, 4, 1 << 20, integer=True)
        if check.number("until_stable", self.enough, 0, 1) == 0:
            raise ArgumentError("until_stable must be above 0: it is the agreement at which recording stops")

    def __call__(self, p_label: Tensor) -> bool:
        """Whether a recording of these (epochs, n) probabilities of the label may stop; its last ``window`` will do."""
        return agreement(torch.as_tensor(p_label), window=self.window) >= self.enough

    def of(self, recorder: Recorder, epochs: int) -> bool:
        """Whether a recording may stop after its first ``epochs``; reads no more of it than it needs."""
        if epochs < max(self.first, self.window):
            return False
        return self(recorder.rows("p_label", epochs - self.window, epochs))

    def check_epochs(self, epochs: int) -> None:
        """Refuse a recording too short for this ever to act.

        Raises:
            ArgumentError: it is.
        """
        if epochs < self.window:
            raise ArgumentError(
                f"until_stable compares two halves of {self.window} epochs, and only {epochs} are to be recorded: "
                "record more, or leave it out"
            )


def settled_for(method: Method, *, keep: float, epochs: int, n: int = 1000, enough: float = ENOUGH) -> Settled:
    """`Settled`, never before ``method`` can read what is recorded; arguments as of `Method.dry_run`.

    >>> from datawinnow.methods import create_method
    >>> settled_for(create_method("dual", score_options={"window": 12}), keep=0.3, epochs=30).first
    12
    """
    for first in range(min(WINDOW, epochs), epochs):
        try:
            method.dry_run(keep=keep, epochs=first, n=n)
        except ArgumentError:
            continue
        return Settled(enough, first=first)
    return Settled(enough, first=epochs)
