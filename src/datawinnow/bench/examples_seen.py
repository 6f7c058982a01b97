"""What a training passed, counted plan by plan."""

from __future__ import annotations

from torch import Tensor


class Passed:
    """Counts what epochs train on: how many there are, and which share of the examples passed is ``changed`` (n,)."""

    def __init__(self, changed: Tensor) -> None:
        self.epochs, self._changed, self._of_them, self._all = 0, changed, 0, 0

    def __call__(self, epoch: int, order: Tensor) -> None:
        """Count the ids (m,) of an epoch."""
        self.epochs = epoch + 1
        self._of_them += int(self._changed[order].sum())
        self._all += len(order)

    @property
    def share(self) -> float | None:
        """Of the examples passed, those changed; None where none is."""
        return self._of_them / self._all if self._all and bool(self._changed.any()) else None
