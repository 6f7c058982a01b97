"""What every scenario is given, checked; and which examples it changes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from datawinnow.core import check
from datawinnow.core.draw import shuffled
from datawinnow.core.errors import ArgumentError


def labels_of(labels: Any, rate: float, generator: torch.Generator) -> Tensor:
    """(n,) int64 labels, once rate and generator are what they must be.

    Raises:
        ArgumentError: they are not.
    """
    check.number("rate", rate, 0, 1)
    check.generator(generator)
    return check.labels("labels", labels)


def class_count(labels: Tensor, classes: int | None) -> int:
    """Number of classes: as told, or one more than the largest label.

    Raises:
        ArgumentError: a label at or above ``classes``.
    """
    most = int(labels.max())
    count = most + 1 if classes is None else check.number("classes", classes, 1, 10**9, integer=True)
    if most >= count:
        raise ArgumentError(f"labels has class {most}, but classes={count}: labels must be below it")
    return int(count)


def chosen(n: int, rate: float, generator: torch.Generator) -> Tensor:
    """(n,) bool: exactly ``round(rate * n)`` of n examples (halves up), drawn uniformly."""
    mask = torch.zeros(n, dtype=torch.bool)
    mask[shuffled(n, generator)[: int(rate * n + 0.5 + 1e-9)]] = True
    return mask


def rows(x: Any, index: Tensor) -> Any:
    """``x[index]``: of a tensor or a numpy array as it is, of anything else as a tensor.

    Raises:
        ArgumentError: fewer rows than the labels have, or no array of numbers.
    """
    whole = x if hasattr(x, "shape") else check.as_tensor("x", x)
    return whole[index] if isinstance(whole, Tensor) else whole[index.numpy()]


def check_rows(x: Any, n: int) -> None:
    """Refuse an x that has not one row for each of n labels.

    Raises:
        ArgumentError: saying how many it has.
    """
    if not hasattr(x, "__len__") or len(x) != n:
        has = f"{len(x)} rows" if hasattr(x, "__len__") else type(x).__name__
        raise ArgumentError(f"x must have one row for each of the {n} labels, got {has}")
