"""The schedule of keep rates during training, and the number of tokens that a rate keeps."""

from __future__ import annotations

import math
from dataclasses import dataclass

from datawinnow.core import check
from datawinnow.core.budget import parse_fraction
from datawinnow.core.errors import ArgumentError

PAPER_EPOCHS = 300
"""Epochs of the paper's runs, by which its schedule is scaled to shorter ones."""


@dataclass(frozen=True)
class KeepSchedule:
    """Dense for ``hold`` epochs, then along half a cosine to the final rates within ``over`` epochs, constant after.

    The published runs hold 10 epochs and fall over 100, of 300.

    Args:
        hold: epochs at a rate of 1; may be fractional.
        over: epochs of the fall; 0 for a step.

    Raises:
        ArgumentError: a number below 0.
    """

    hold: float = 10.0
    over: float = 100.0

    def __post_init__(self) -> None:
        check.number("hold", self.hold, 0, 1e9)
        check.number("over", self.over, 0, 1e9)

    @classmethod
    def of(cls, epochs: float) -> KeepSchedule:
        """The paper's schedule scaled from its 300 epochs to ``epochs``.

        >>> KeepSchedule.of(30)
        KeepSchedule(hold=1.0, over=10.0)
        """
        scale = check.number("epochs", epochs, 1e-9, 1e9) / PAPER_EPOCHS
        return cls(10 * scale, 100 * scale)

    def share(self, epoch: float) -> float:
        """Position of an epoch between dense (0) and the final rates (1).

        >>> [round(KeepSchedule().share(epoch), 2) for epoch in (0, 10, 60, 110, 299)]
        [0.0, 0.0, 0.5, 1.0, 1.0]
        """
        if epoch >= self.hold + self.over:
            return 1.0
        return 0.0 if epoch <= self.hold else (1 - math.cos(math.pi * (epoch - self.hold) / self.over)) / 2

    def rate(self, final: float, epoch: float) -> float:
        """The keep rate at ``epoch`` on the way from 1 to ``final``."""
        share = self.share(epoch)
        # 1 - (1 - final) may differ from final in the last bit, which could change a count.
        return final if share == 1 else 1 - (1 - final) * share


def count_of(n: int, keep: float) -> int:
    """ceil(n * keep), where rounding errors make no further one, and at least 1.

    >>> [count_of(196, 0.9), count_of(177, 0.9), count_of(160, 0.9), count_of(100, 0.07)]
    [177, 160, 144, 7]
    """
    # 0.07 * 100 is 7.000000000000001 in binary; the tolerance is relative to n.
    return min(n, max(1, math.ceil(n * keep - 1e-9 * n)))


def counts_of(patches: int, keep: float, stages: int) -> list[int]:
    """Patches before the first stage and after each.

    >>> counts_of(196, 0.7, 3)
    [196, 138, 97, 68]
    """
    counts = [patches]
    for _ in range(stages):
        counts.append(count_of(counts[-1], keep))
    return counts


def check_keep(name: str, keep: float | str | None) -> float:
    """A keep rate in (0, 1], also as ``"70%"``; None is 1: nothing is left out.

    Raises:
        ArgumentError: something else.
    """
    if keep is None:
        return 1.0
    keep = parse_fraction(keep)
    if isinstance(keep, bool) or not isinstance(keep, (int, float)) or not 0 < keep <= 1:
        raise ArgumentError(f"`{name}=` must be in (0, 1], the fraction kept (1 switches the level off), got {keep!r}")
    return float(keep)
