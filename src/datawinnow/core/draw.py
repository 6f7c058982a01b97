"""Weighted draws without replacement, in O(n) and in log space, and rankings whose ties are drawn."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

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


def largest(keys: Tensor, budget: int, tie_seed: int | None = None) -> Tensor:
    """(budget,) int64 ids of the largest keys, largest first.

    Partitions first and sorts only the kept ids: a full sort of 100M keys would take most of the time and memory.

    Args:
        keys: (n,) without NaN.
        budget: number of ids, 1 to n.
        tie_seed: ties are drawn with this seed, the same way for every budget, so that prefixes nest. None: ties go to
            the smaller id; for keys of which that is no preference, since in a dataset sorted by class the first ids
            are whole classes.

    Returns:
        (budget,) int64 ids.
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
            if tie_seed is not None:
                tied = tied[np.argsort(_tie_keys(kept[tied], tie_seed), kind="stable")]
            # the slice (a negative start) takes the last kept.size - budget of the tied
            kept = np.delete(kept, tied[budget - kept.size :])
    descending = values[kept]
    # sorting negated keys keeps ties in ascending order of id; reversing a sort would not
    np.negative(descending, out=descending)
    order = np.argsort(descending, kind="stable")
    ranked = kept[order].astype(np.int64, copy=False)
    if tie_seed is not None:
        _draw_ties(ranked, descending[order], tie_seed)
    return torch.from_numpy(ranked)


def ascending(keys: Tensor, tie_seed: int) -> Tensor:
    """(n,) int64 all ids, the smallest of (n,) ``keys`` first; ties are drawn with ``tie_seed``, as in `largest`."""
    values = keys.numpy()
    ranked = np.argsort(values, kind="stable")
    _draw_ties(ranked, values[ranked], tie_seed)
    return torch.from_numpy(ranked)


def argmax_random_ties(values: np.ndarray[Any, Any], tie_seed: int) -> int:
    """The id of the largest of (n,) ``values`` without NaN; ties are drawn with ``tie_seed``, as in `largest`."""
    tied = np.flatnonzero(values == values.max())
    return int(tied[0] if tied.size == 1 else tied[_tie_keys(tied, tie_seed).argmin()])


def in_tie_order(ids: Tensor, tie_seed: int) -> Tensor:
    """(m,) int64 ``ids`` in the order in which `largest` draws ties."""
    return ids[torch.from_numpy(np.argsort(_tie_keys(ids.numpy(), tie_seed), kind="stable"))]


def tie_order(n: int, tie_seed: int) -> Tensor:
    """(n,) int64: all ids in the order in which `largest` draws ties."""
    return in_tie_order(torch.arange(n), tie_seed)


def tie_ranks(n: int, tie_seed: int) -> Tensor:
    """(n,) int64: the place of each id in `tie_order`."""
    order = tie_order(n, tie_seed)
    return torch.empty_like(order).index_copy_(0, order, torch.arange(n))


def tie_seed_of(generator: torch.Generator) -> int:
    """A seed of ties for a call with this generator, from which nothing is drawn for it."""
    return generator.initial_seed() % 2**62


def _draw_ties(ranked: np.ndarray[Any, Any], values: np.ndarray[Any, Any], tie_seed: int) -> None:
    """Put each run of equal values of ``ranked`` into random order, in place."""
    same = values[1:] == values[:-1]
    if not same.any():
        return
    in_run = np.zeros(values.size, dtype=bool)
    in_run[1:] |= same
    in_run[:-1] |= same
    places = np.flatnonzero(in_run)
    ids = ranked[places]
    # the number of its run comes first, so that an id stays within its run
    run = np.cumsum(np.concatenate([[True], ~same]))[places]
    ranked[places] = ids[np.lexsort((_tie_keys(ids, tie_seed), run))]


def _tie_keys(ids: np.ndarray[Any, Any], tie_seed: int) -> np.ndarray[Any, Any]:
    """(m,) uint64: a random number of each id, whatever the other ids: splitmix64 (doi:10.1145/2660193.2660195)."""
    with np.errstate(over="ignore"):  # arithmetic modulo 2^64
        z = _mix(np.asarray(tie_seed % 2**64, dtype=np.uint64)) + ids.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        return _mix(z)


def _mix(z: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    z = z + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: np.ndarray[Any, Any] = z ^ (z >> np.uint64(31))
    return mixed


def shuffled(n: int, generator: torch.Generator) -> Tensor:
    """A random permutation of n ids."""
    return torch.randperm(n, generator=generator)
