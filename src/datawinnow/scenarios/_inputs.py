"""Checks of the inputs of a scenario, and the draw of the examples that it changes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from datawinnow.core import check
from datawinnow.core.draw import shuffled
from datawinnow.core.errors import ArgumentError


def check_inputs(labels: Any, rate: float, generator: torch.Generator) -> Tensor:
    """Check rate, generator and labels, and return the labels as (n,) int64.

    Raises:
        ArgumentError: a rate outside [0, 1], another generator, or labels that are no class ids.
    """
    check.number("rate", rate, 0, 1)
    check.generator(generator)
    return check.labels("labels", labels)


def class_count(labels: Tensor, classes: int | None) -> int:
    """Number of classes: ``classes``, or by default one more than the largest label.

    Raises:
        ArgumentError: a label at or above ``classes``.
    """
    largest = int(labels.max())
    count = largest + 1 if classes is None else check.number("classes", classes, 1, check.MAX_CLASSES, integer=True)
    if largest >= count:
        raise ArgumentError(f"labels has class {largest}, but classes={count}: labels must be below it")
    return int(count)


def draw_changed(n: int, rate: float, generator: torch.Generator) -> Tensor:
    """(n,) bool mask of exactly ``round(rate * n)`` examples (halves up), drawn uniformly."""
    mask = torch.zeros(n, dtype=torch.bool)
    # Half up: Python's round() goes to even. With one generator state a larger rate changes a superset of examples.
    mask[shuffled(n, generator)[: int(rate * n + 0.5 + 1e-9)]] = True
    return mask


def take_rows(x: Any, index: Tensor) -> Any:
    """``x[index]`` of a tensor, a numpy array, or anything that converts to a tensor.

    Raises:
        ArgumentError: ``x`` is no array of numbers.
    """
    array = x if hasattr(x, "shape") else check.as_tensor("x", x)
    # A memory-mapped array reads only these rows, and takes no tensor as an index.
    return array[index] if isinstance(array, Tensor) else array[index.numpy()]


def check_rows(x: Any, n: int) -> None:
    """Check that ``x`` has n rows.

    Raises:
        ArgumentError: another number of rows.
    """
    if not hasattr(x, "__len__") or len(x) != n:
        has = f"{len(x)} rows" if hasattr(x, "__len__") else type(x).__name__
        raise ArgumentError(f"x must have one row for each of the {n} labels, got {has}")
