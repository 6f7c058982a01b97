"""k-means on a line, on sorted values: each round costs O(k log n) instead of a pass over the data."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

ROUNDS = 300


def groups_of(values: Tensor, k: int) -> Tensor:
    """Lower ends of the groups that Lloyd's algorithm finds, started from groups of equal size.

    Args:
        values: (m,) float without NaN.
        k: number of groups wanted.

    Returns:
        (g,) float64, rising, g <= k: group j holds the values from entry j up to below entry j + 1. Fewer than k
        where there are fewer distinct values; equal values are never in two groups.
    """
    line = np.sort(values.numpy()).astype(np.float64)
    sums = np.concatenate([[0.0], np.cumsum(line)])
    breaks = np.linspace(0, line.size, k + 1).astype(np.int64)
    centres = line[np.minimum((breaks[:-1] + breaks[1:]) // 2, line.size - 1)]
    for turn in range(ROUNDS):
        sizes = np.diff(breaks)
        means = np.diff(sums[breaks]) / np.maximum(sizes, 1)
        # an empty group keeps its centre: it may catch something in a later round
        centres = np.sort(np.where(sizes > 0, means, centres))
        new = np.concatenate([[0], np.searchsorted(line, (centres[:-1] + centres[1:]) / 2, side="right"), [line.size]])
        if turn and np.array_equal(new, breaks):
            break
        breaks = new
    starts = breaks[:-1][np.diff(breaks) > 0]
    return torch.from_numpy(line[starts])
