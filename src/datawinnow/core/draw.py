"""Weighted draws without replacement, in O(n) and in log space."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

KEYS_PER_CHUNK = 1 << 20
ZERO_WEIGHT_KEY = -1e6
"""Below the key of any positive weight: the log of the smallest float64 is -745."""


def gumbel_top_k(
    log_weight: Tensor | Callable[[int, int], Tensor], n: int, budget: int, generator: torch.Generator
) -> Tensor:
    """Draw ``budget`` of ``n`` ids without replacement, one after the other with probabilities proportional to weight.

    The ids of the ``budget`` largest ``log w + Gumbel(0, 1)`` are such a draw (Kool et al., arXiv 1903.06059). Keys are
    float64, since float32 uniforms have only 2^24 values, and computed in chunks, so that 100M rows take 0.8 GB.

    Args:
        log_weight: (n,) log of the weights, ``-inf`` for a weight of zero; or a function of (first, last) that
            returns that slice. Ids of zero weight come last, in random order.
        n: number of ids.
        budget: number of ids to draw.
        generator: source of the draw.

    Returns:
        (budget,) int64 ids, the largest key first: a smaller budget with the same generator state gives a prefix.
    """
    keys = np.empty(n, dtype=np.float64)
    for first in range(0, n, KEYS_PER_CHUNK):
        last = min(n, first + KEYS_PER_CHUNK)
        log_w = log_weight(first, last) if callable(log_weight) else log_weight[first:last]
        # -log(Exponential) is Gumbel; exponential_ never returns 0, so no key is infinite
        noise = torch.empty(last - first, dtype=torch.float64).exponential_(generator=generator).log_().neg_()
        key = log_w.to(torch.float64) + noise
        key = torch.where(torch.isneginf(log_w), noise + ZERO_WEIGHT_KEY, key)
        keys[first:last] = key.numpy()
    return largest(torch.from_numpy(keys), budget)


def largest(keys: Tensor, budget: int) -> Tensor:
    """(budget,) int64 ids of the largest keys, largest first; ties go to the smaller id.

    Partitions first and sorts only the kept ids: a full sort of 100M keys would take most of the time and memory.
    """
    n = keys.numel()
    values = keys.numpy()
    if budget >= n:
        kept = np.arange(n)
    else:
        # the element at position n - budget of the ascending order is the smallest key to keep
        threshold = np.partition(values, n - budget)[n - budget]
        kept = np.flatnonzero(values >= threshold)
        if kept.size > budget:  # ties at the threshold: drop those of the largest ids
            tied = np.flatnonzero(values[kept] == threshold)
            # `tied` ascends, and the slice (a negative start) takes the last kept.size - budget of it
            kept = np.delete(kept, tied[budget - kept.size :])
    descending = values[kept]
    # sorting negated keys keeps ties in ascending order of id; reversing a sort would not
    np.negative(descending, out=descending)
    order = np.argsort(descending, kind="stable")
    # 8 bytes an id less while the ids are copied
    del descending
    return torch.from_numpy(kept[order].astype(np.int64, copy=False))


def shuffled(n: int, generator: torch.Generator) -> Tensor:
    """A random permutation of n ids."""
    return torch.randperm(n, generator=generator)
