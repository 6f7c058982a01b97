"""What a stage cost: wall seconds, examples passed forward and backward, FLOPs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Cost:
    """Cost of a stage. Costs add up.

    Attributes:
        seconds: wall time.
        forward: examples passed forward only (no backward pass).
        backward: examples trained on (forward and backward).
        flops: floating-point operations by torch's own counter.
    """

    seconds: float = 0.0
    forward: int = 0
    backward: int = 0
    flops: float = 0.0

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            self.seconds + other.seconds,
            self.forward + other.forward,
            self.backward + other.backward,
            self.flops + other.flops,
        )

    @property
    def passes(self) -> float:
        """Examples passed, in units of one trained example: a forward pass alone counts a third."""
        # the backward pass costs about two forward passes, so a trained example costs three
        return self.backward + self.forward / 3

    def share(self, fraction: float) -> Cost:
        """A fraction, from 0 to 1, of this cost: the charge of a score that reads only the first epochs."""
        return Cost(
            self.seconds * fraction,
            round(self.forward * fraction),
            round(self.backward * fraction),
            self.flops * fraction,
        )

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Cost:
        """The inverse of `as_dict`."""
        return cls(float(value["seconds"]), int(value["forward"]), int(value["backward"]), float(value["flops"]))


NO_COST = Cost()


def break_even(scoring: float, full: float, pruned: float) -> float:
    """Number of training runs on a selection after which finding it has paid for itself.

    One scoring run serves R pruned runs: R * pruned + scoring = R * full at R = scoring / (full - pruned).

    Args:
        scoring: cost of finding the selection, once, in any unit.
        full: cost of one training run on all the data, in the same unit.
        pruned: cost of one training run on the selection, in the same unit.

    Returns:
        R; infinite where a pruned run costs no less than a full one, so that scoring never pays.

    >>> break_even(scoring=23.0, full=30.0, pruned=20.0)
    2.3
    """
    return scoring / (full - pruned) if pruned < full else math.inf
