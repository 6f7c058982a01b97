"""Which epochs of an (epochs, n) array a score reads."""

from __future__ import annotations

from torch import Tensor

from datawinnow.core import check
from datawinnow.core.errors import ArgumentError


def at_epoch(name: str, array: Tensor, epoch: int, missing: check.Missing) -> Tensor:
    """(n,) copy of one epoch.

    Args:
        name: the array's name, for the error.
        array: (epochs, n) float.
        epoch: from 0, or from the end if negative.
        missing: ``"skip"`` lets NaN pass.

    Raises:
        ArgumentError: an epoch that there is not, or NaN (unless ``"skip"``) or infinity in it.
    """
    epochs = array.shape[0]
    check.number("epoch", epoch, -(10**9), 10**9, integer=True)
    if not -epochs <= epoch < epochs:
        raise ArgumentError(f"epoch={epoch} is not there: {name} has {epochs} epochs, 0 to {epochs - 1} (or negative)")
    row = array[epoch].clone()
    check.finite(name, row, missing)
    return row


def between(name: str, array: Tensor, first: int, last: int) -> Tensor:
    """The epochs in [first, last); a recording that is shorter is used to its end.

    Raises:
        ArgumentError: ``first`` past the end, or ``last`` not above it.
    """
    check.number("first", first, 0, 10**9, integer=True)
    check.number("last", last, 1, 10**9, integer=True)
    if first >= array.shape[0]:
        raise ArgumentError(
            f"first={first} is past the end: {name} has {array.shape[0]} epochs, so first can be at most "
            f"{array.shape[0] - 1}; record more epochs or lower first"
        )
    if last <= first:
        raise ArgumentError(f"last must be above first={first}, got {last}: the epochs are those in [first, last)")
    return array[first:last]
