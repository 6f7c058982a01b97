"""What a stage cost: wall seconds, examples passed forward and backward, FLOPs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Cost:
    """Cost of a stage; costs add.

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
        return self.backward + self.forward / 3

    def share(self, part: float) -> Cost:
        """``part`` (0 to 1) of this cost: what a score that read only the first epochs is charged."""
        return Cost(self.seconds * part, round(self.forward * part), round(self.backward * part), self.flops * part)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Cost:
        """From what `as_dict` gave."""
        return cls(float(value["seconds"]), int(value["forward"]), int(value["backward"]), float(value["flops"]))


def break_even(scoring: float, full: float, pruned: float) -> float | None:
    """Number of training runs after which scoring has paid for itself; None if it never does.

    With one scoring run serving R pruned runs, R * pruned + scoring = R * full at R = scoring / (full - pruned).

    >>> break_even(scoring=23.0, full=30.0, pruned=20.0)
    2.3
    """
    return scoring / (full - pruned) if pruned < full else None
