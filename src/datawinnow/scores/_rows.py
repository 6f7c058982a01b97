"""What scores of rows (features, probabilities) share: blocks of rows, and checks of arrays with a row an example."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from datawinnow.core import check
from datawinnow.core.epochs import blocks
from datawinnow.core.errors import ArgumentError

ENTRIES = 1 << 18
"""Entries of a block of rows, 2 MB in float64."""


def row_blocks(n: int, width: int) -> Iterator[tuple[int, int]]:
    """(first, last) of runs of rows that hold about `ENTRIES` entries together."""
    return blocks(n, max(1, ENTRIES // width))


def same_rows(**arrays: Tensor) -> int:
    """The number of examples (first axis) that all arrays agree on.

    Raises:
        ArgumentError: they differ.
    """
    return check.same_n(**{name: array.movedim(0, -1) for name, array in arrays.items()})


def distributions(name: str, value: Any, missing: check.Missing) -> Tensor:
    """``value`` as (n, c) probabilities whose rows sum to one.

    Args:
        name: the argument's name, for the error.
        value: (n, c) array.
        missing: ``"skip"`` lets rows with NaN pass.

    Raises:
        ArgumentError: another shape, NaN (unless ``"skip"``), values outside [0, 1], or a row that sums to something
            else (0.02 of slack is left for half precision), naming the example.
    """
    p = check.rows(name, value, "n,c", missing)
    for first, last in row_blocks(*p.shape):
        part = p[first:last].to(torch.float64)
        check.probabilities(name, part.nan_to_num(nan=0.5).T, first)
        total = part.sum(dim=1)
        off = (total - 1).abs() > 0.02  # false for NaN
        if bool(off.any()):
            i = int(torch.nonzero(off)[0])
            raise ArgumentError(
                f"{name} must sum to 1 over the classes, got {float(total[i]):g} for example {first + i}: give the "
                "softmax over all classes"
            )
    return p


def class_ids(name: str, value: Any, classes: int, of: str) -> Tensor:
    """``value`` as (n,) int64 class ids below ``classes``.

    Args:
        name: the argument's name, for the error.
        value: (n,) integers.
        classes: how many classes there are.
        of: the array that says so, for the error.

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
