"""Walks over (epochs, n) arrays a block of columns at a time, so that a memory map never enters memory whole."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

BLOCK = 4096
"""Columns a step: 30 epochs of them in float64 are 1 MB and stay in cache (twice as many took five times longer)."""


def blocks(n: int, size: int = BLOCK) -> Iterator[tuple[int, int]]:
    """(first, last) of each run of at most ``size`` columns of ``n``."""
    for first in range(0, n, size):
        yield first, min(n, first + size)


def mean_over_epochs(array: Tensor) -> Tensor:
    """Mean over the first axis, summed in float64, NaN entries left out.

    Args:
        array: (epochs, n) floating; NaN where an example was not seen.

    Returns:
        (n,) of the array's dtype; NaN for an example that was never seen.

    >>> mean_over_epochs(torch.tensor([[0.0, 1.0], [0.5, float("nan")]])).tolist()
    [0.25, 1.0]
    """
    out = torch.empty(array.shape[1], dtype=array.dtype)
    for first, last in blocks(array.shape[1]):
        part = array[:, first:last].to(torch.float64)
        mean = part.mean(dim=0)
        if bool(mean.isnan().any()):
            mean = part.nanmean(dim=0)
        out[first:last] = mean
    return out
