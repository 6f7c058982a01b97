"""`ChangingKeep`: a fraction kept that changes during training."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

from datawinnow.core import budget
from datawinnow.core.errors import ArgumentError

Shape = Literal["linear", "cosine", "step", "oscillating"]
COUNTS = {"step": 3, "oscillating": 4}
"""Shapes that count something, with their default: levels of steps, returns to the start."""


@dataclass(frozen=True)
class ChangingKeep:
    """The fraction kept as a function of the progress t of training, from 0 in the first epoch to 1 in the last.

    ``"linear"`` is (1 - t) start + t end; ``"cosine"`` the same with (1 - cos(pi t)) / 2 in place of t; ``"step"`` goes
    from start to end in ``count`` levels that hold equally long; ``"oscillating"`` goes from start to end and back
    ``count`` times, as a cosine, and so ends at start.

    Args:
        start: fraction of the examples kept in the first epoch, in (0, 1].
        end: fraction kept in the last (in the middle of each oscillation), in (0, 1].
        shape: ``"linear"``, ``"cosine"``, ``"step"`` or ``"oscillating"``.
        count: levels of ``"step"``, at least 2 (default 3), or oscillations, at least 1 (default 4).

    Raises:
        ArgumentError: an option out of range, or a ``count`` for a shape that counts nothing.

    >>> [ChangingKeep(1.0, 0.4, "step").at(t) for t in (0.0, 0.4, 1.0)]
    [1.0, 0.7, 0.4]
    """

    start: float
    end: float
    shape: Shape = "linear"
    count: int | None = None

    def __post_init__(self) -> None:
        for name, value in (("end", self.end), ("start", self.start)):
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value <= 1:
                raise ArgumentError(f"{name} must be in (0, 1], got {value!r}: it is the fraction of examples kept")
        if self.shape not in get_args(Shape):
            raise ArgumentError(f"shape must be one of {', '.join(map(repr, get_args(Shape)))}, got {self.shape!r}")
        if self.count is None:
            return
        smallest = 2 if self.shape == "step" else 1
        if self.shape not in COUNTS:
            raise ArgumentError(
                f"a keep that goes {self.shape} from start to end counts nothing: leave out {self.count}"
            )
        if isinstance(self.count, bool) or not isinstance(self.count, int) or self.count < smallest:
            raise ArgumentError(f"count must be a whole number of at least {smallest}, got {self.count!r}")

    @classmethod
    def from_text(cls, text: str) -> ChangingKeep:
        """A schedule from ``START..END``, ``START..END:SHAPE`` or ``START..END:SHAPE:COUNT``.

        Raises:
            ArgumentError: other text.

        >>> ChangingKeep.from_text("30%..1:step:5")
        ChangingKeep(start=0.3, end=1.0, shape='step', count=5)
        """
        ends, _, rest = text.strip().partition(":")
        start, dots, end = ends.partition("..")
        shape, _, count = rest.partition(":")
        if not dots or (count and not count.isdecimal()):
            raise ArgumentError(
                f"a keep that changes is START..END, with :SHAPE and :COUNT if wanted, such as 1.0..0.5 or "
                f"0.3..1.0:step:4, got {text!r}"
            )
        chosen: Shape = shape or "linear"  # type: ignore[assignment]
        return cls(budget.parse_fraction(start), budget.parse_fraction(end), chosen, int(count) if count else None)

    def at(self, t: float) -> float:
        """The fraction kept at progress ``t``, in [0, 1]."""
        count = self.count or COUNTS.get(self.shape, 0)
        if self.shape == "cosine":
            t = (1 - math.cos(math.pi * t)) / 2
        elif self.shape == "step":
            # A boundary that is whole on paper, such as 0.7 * 10, belongs to the next level.
            t = min(count - 1, math.floor(t * count + 1e-9)) / (count - 1)
        elif self.shape == "oscillating":
            t = (1 - math.cos(2 * math.pi * count * t)) / 2
        return (1 - t) * self.start + t * self.end  # in this form both ends are met to the bit


def constant_or_changing(keep: float | str | None) -> float | str | None:
    """A fraction as a number, and a keep that changes as its text, once it is known to be one.

    Raises:
        ArgumentError: neither.

    >>> constant_or_changing("30%"), constant_or_changing("1.0..0.5"), constant_or_changing(None)
    (0.3, '1.0..0.5', None)
    """
    if isinstance(keep, str) and ".." in keep:
        ChangingKeep.from_text(keep)
        return keep.strip()
    return budget.parse_fraction(keep)
