"""Walks over (epochs, n) arrays a block of columns at a time, so that a memory map never enters memory whole."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

from datawinnow.core import check

BLOCK = 4096
"""Columns a step, where nothing speaks for another number."""
GRAIN = 32_767
"""Most entries that torch works through without dividing them among its threads."""


def blocks(n: int, size: int = BLOCK, first: int = 0) -> Iterator[tuple[int, int]]:
    """(first, last) of each run of at most ``size`` columns of those from ``first`` to ``n``."""
    for start in range(first, n, size):
        yield start, min(n, start + size)


def shared_out(n: int, size: int, work: Callable[[int, int], None]) -> None:
    """Call ``work(first, last)`` on stretches of columns that together are all, one for each of torch's threads.

    Blocks that fit the cache are too small to be divided among threads again, an operation at a time: what that wins
    it loses in waits, and many times more where other programs use the cores (measured: 35 ms on one thread, 99 to 400
    on two). A stretch a thread has one wait. Operations of ``work`` should stay within `GRAIN` entries for that.

    Args:
        n: number of columns.
        size: columns of the blocks that ``work`` goes through; a stretch is a multiple of it.
        work: called with each stretch. What it writes must depend on nothing but the columns in it.

    Raises:
        Exception: what ``work`` raised for the lowest columns, once all have ended.
    """
    threads = min(torch.get_num_threads(), -(-n // size))
    if threads < 2:
        work(0, n)
        return
    stretch = size * -(-n // (size * threads))
    with ThreadPoolExecutor(threads, "datawinnow-columns") as pool:
        for done in [pool.submit(work, first, last) for first, last in blocks(n, stretch)]:
            done.result()


def mean_over_epochs(array: Tensor, name: str = "array", missing: check.Missing = "skip") -> Tensor:
    """Mean over the first axis, summed in float64, NaN entries left out.

    Args:
        array: (epochs, n) floating; NaN where an example was not seen.
        name: the array's name, for the error.
        missing: ``"raise"`` refuses NaN entries instead of leaving them out.

    Returns:
        (n,) of the array's dtype; NaN for an example that was never seen.

    Raises:
        ArgumentError: infinity, or NaN under ``"raise"``; it is found in the means, not in a pass of its own.

    >>> mean_over_epochs(torch.tensor([[0.0, 1.0], [0.5, float("nan")]])).tolist()
    [0.25, 1.0]
    """
    check.one_of("missing", missing, ("raise", "skip"))
    epochs, n = array.shape
    out = torch.empty(n, dtype=array.dtype)

    def work(begin: int, end: int) -> None:
        for first, last in blocks(end, GRAIN, begin):
            part = array[:, first:last]
            mean, row = torch.zeros(2, last - first, dtype=torch.float64)
            for epoch in range(epochs):
                mean.add_(row.copy_(part[epoch]))
            mean.div_(epochs)
            if not math.isfinite(float(mean.sum())):  # a finite sum has finite terms
                if missing == "raise" or bool(part.isinf().any()):
                    check.finite(name, array, missing)
                nan = mean.isnan()
                mean[nan] = part[:, nan].to(torch.float64).nanmean(dim=0)
            out[first:last] = mean

    shared_out(n, GRAIN, work)
    return out
