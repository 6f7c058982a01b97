"""Passes over (epochs, n) arrays, a block of columns at a time, so that a memory map is not read at once."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

from datawinnow.core import check

COLUMNS_PER_BLOCK = 4096
"""Default number of columns in a block."""
GRAIN = 32_767
"""The largest number of entries that torch processes without splitting them among its threads."""


def blocks(n: int, size: int = COLUMNS_PER_BLOCK, first: int = 0) -> Iterator[tuple[int, int]]:
    """(first, last) of consecutive blocks of at most ``size`` columns, from ``first`` to ``n``."""
    for start in range(first, n, size):
        yield start, min(n, start + size)


def parallel_columns(n: int, size: int, work: Callable[[int, int], None]) -> None:
    """Call ``work(first, last)`` in parallel on stretches of columns, one for each of torch's threads.

    A block that fits the cache is too small for torch to split each operation among threads: waiting for them costs
    more than it gains, and far more if other programs use the cores (measured: 35 ms on one thread, 99 to 400 on two).
    Here each thread is waited for once. For that, operations in ``work`` should stay within `GRAIN` entries.

    Args:
        n: number of columns.
        size: columns of the blocks that ``work`` processes; the length of a stretch is a multiple of it.
        work: called with each stretch; its results must depend only on the columns in it.

    Raises:
        Exception: the one that ``work`` raised for the lowest columns, after all calls have ended.
    """
    # no more threads than blocks; -(-a // b) is a / b rounded up
    threads = min(torch.get_num_threads(), -(-n // size))
    if threads < 2:
        work(0, n)
        return
    stretch = size * -(-n // (size * threads))
    with ThreadPoolExecutor(threads, "datawinnow-columns") as pool:
        # a list: all stretches are submitted before the first is waited for; the pool waits for the rest after
        # an error
        for future in [pool.submit(work, first, last) for first, last in blocks(n, stretch)]:
            future.result()


def mean_over_epochs(array: Tensor, name: str = "array", missing: check.Missing = "skip") -> Tensor:
    """Mean over the first axis, without NaN entries, summed in float64.

    Args:
        array: (epochs, n) floating; NaN where an example was not seen.
        name: the array's name, for the error.
        missing: ``"skip"`` leaves NaN entries out, ``"raise"`` raises.

    Returns:
        (n,) of the array's dtype; NaN for an example that was never seen.

    Raises:
        ArgumentError: an infinite entry, or NaN with ``missing="raise"``.

    >>> mean_over_epochs(torch.tensor([[0.0, 1.0], [0.5, float("nan")]])).tolist()
    [0.25, 1.0]
    """
    check.one_of("missing", missing, ("raise", "skip"))
    epochs, n = array.shape
    out = torch.empty(n, dtype=array.dtype)

    def work(begin: int, end: int) -> None:
        for first, last in blocks(end, GRAIN, begin):
            block = array[:, first:last]
            # two rows of one tensor: the sum, and a float64 copy of one epoch's entries
            mean, row = torch.zeros(2, last - first, dtype=torch.float64)
            for epoch in range(epochs):
                mean.add_(row.copy_(block[epoch]))
            mean.div_(epochs)
            if not math.isfinite(float(mean.sum())):  # finite terms have a finite sum: no second pass to look for NaN
                if missing == "raise" or bool(block.isinf().any()):
                    # raises, naming the entry in the whole array
                    check.finite(name, array, missing)
                nan = mean.isnan()
                # only columns with NaN take the slow way
                mean[nan] = block[:, nan].to(torch.float64).nanmean(dim=0)
            out[first:last] = mean

    parallel_columns(n, GRAIN, work)
    return out
