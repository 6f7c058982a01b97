"""Validation of the inputs that several scores share, and blocks of rows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from datawinnow.core import check
from datawinnow.core.epochs import blocks
from datawinnow.core.errors import ArgumentError

ROW_BLOCK_ENTRIES = 1 << 18
"""Entries of a block of rows, 2 MB in float64."""


def row_blocks(n: int, width: int) -> Iterator[tuple[int, int]]:
    """(first, last) of runs of rows with about `ROW_BLOCK_ENTRIES` entries."""
    return blocks(n, max(1, ROW_BLOCK_ENTRIES // width))


def common_length(**arrays: Tensor) -> int:
    """The number of examples (first axis) that all arrays agree on.

    Raises:
        ArgumentError: they differ.
    """
    # `same_n` compares the last axis, which holds the examples in (epochs, n) arrays; here it is the first.
    return check.same_n(**{name: array.movedim(0, -1) for name, array in arrays.items()})


def validate_class_ids(name: str, value: Any, classes: int, of: str) -> Tensor:
    """``value`` as (n,) int64 class ids below ``classes``.

    Args:
        name: the argument's name, for the error.
        value: (n,) integers.
        classes: number of classes.
        of: the array with that number of classes, for the error.

    Raises:
        ArgumentError: not integers, or outside [0, classes), naming the example.
    """
    labels = check.labels(name, value)
    if int(labels.max()) >= classes:
        i = int(torch.nonzero(labels >= classes)[0])
        raise ArgumentError(
            f"{name} is {int(labels[i])} for example {i}, but {of} has {classes} classes, 0 to {classes - 1}"
        )
    return labels


def at_epoch(name: str, array: Tensor, epoch: int, missing: check.Missing) -> Tensor:
    """(n,) copy of one epoch.

    Args:
        name: the array's name, for the error.
        array: (epochs, n) float.
        epoch: from 0, or from the end if negative.
        missing: ``"skip"`` lets NaN pass.

    Raises:
        ArgumentError: an epoch out of range, or NaN (unless ``"skip"``) or infinity in it.
    """
    epochs = array.shape[0]
    check.number("epoch", epoch, -(10**9), 10**9, integer=True)
    if not -epochs <= epoch < epochs:
        raise ArgumentError(
            f"epoch={epoch} is out of range: {name} has {epochs} epochs, 0 to {epochs - 1} (or negative)"
        )
    # A copy: the score must not change when the caller's recording does.
    row = array[epoch].clone()
    check.finite(name, row, missing)
    return row


def epoch_range(name: str, array: Tensor, first: int, last: int) -> Tensor:
    """The epochs in [first, last); a shorter recording is used to its end.

    Raises:
        ArgumentError: ``first`` past the end, or ``last`` not above it.
    """
    check.number("first", first, 0, 10**9, integer=True)
    check.number("last", last, 1, 10**9, integer=True)
    # Only `first` past the end is an error: a run shorter than the default range of a paper is still scored.
    if first >= array.shape[0]:
        raise ArgumentError(
            f"first={first} is past the end: {name} has {array.shape[0]} epochs, so first can be at most "
            f"{array.shape[0] - 1}; record more epochs or lower first"
        )
    if last <= first:
        raise ArgumentError(f"last must be above first={first}, got {last}: the epochs are those in [first, last)")
    return array[first:last]


def validate_norms(name: str, value: Any, missing: check.Missing) -> Tensor:
    """A copy of an (n,) array of norms or distances.

    Args:
        name: the argument's name, for the error.
        value: (n,) float, 0 or above.
        missing: ``"skip"`` lets NaN pass.

    Raises:
        ArgumentError: another shape, NaN (unless ``"skip"``), infinity, or a negative number, naming the example.
    """
    values = check.array(name, value, "n")
    check.finite(name, values, missing)
    # NaN compares as False, so under "skip" it passes.
    negative = values < 0
    if bool(negative.any()):
        i = int(torch.nonzero(negative)[0])
        raise ArgumentError(
            f"{name} must be 0 or above, as a norm is, got {float(values[i]):g} for example {i}: pass it without a "
            "sign or a logarithm"
        )
    return values.clone()
