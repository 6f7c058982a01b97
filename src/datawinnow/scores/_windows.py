"""Mean over sliding windows of epochs of the standard deviation, optionally times the difficulty."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from datawinnow.core import check
from datawinnow.core.epochs import GRAIN, blocks, parallel_columns
from datawinnow.core.errors import ArgumentError

WINDOW_BLOCK_ENTRIES = 1 << 18
"""Entries of a block, 2 MB in float64: with the working space of the windows it stays in the cache of one core."""


def check_window(epochs: int, window: int, *, smallest: int) -> None:
    """Refuse fewer recorded epochs than a window has.

    Args:
        epochs: recorded.
        window: epochs in a window.
        smallest: the smallest window that the score takes.

    Raises:
        ArgumentError: naming how many epochs are needed, and the largest window that would do.
    """
    if epochs >= window:
        return
    smaller = f", or take a window of at most {epochs} (`options={{'window': {epochs}}}`)" if epochs >= smallest else ""
    raise ArgumentError(
        f"{epochs} recorded {'epochs are' if epochs != 1 else 'epoch is'} too few for a score over windows of {window} "
        f"epochs: record at least {window} (`epochs={window}`){smaller}"
    )


def mean_over_windows(p_label: Any, window: int, missing: check.Missing, *, difficulty: bool) -> Tensor:
    """The mean over every window of ``window`` consecutive epochs of its standard deviation u, or of (1 - mean) * u.

    Works in float64 on one block of columns at a time, whose entries are read once: each block is checked for invalid
    values, and the whole array is searched only to name the first of them in the error.

    Args:
        p_label: (epochs, n) probability of the given label.
        window: epochs in a window, at least 2; the standard deviation is the unbiased one (ddof 1).
        missing: ``"skip"`` leaves NaN entries out of each window, and windows with fewer than 2 entries out of the
            average; an example without any window gets NaN.
        difficulty: whether u is multiplied by 1 - mean.

    Returns:
        (n,) float32, or float64 if ``p_label`` is.

    Raises:
        ArgumentError: fewer epochs than the window, NaN or infinity, or values that are no probabilities.
    """
    p = check.array("p_label", p_label, "epochs,n")
    epochs, n = p.shape
    check.number("window", window, 2, 10**9, integer=True)
    check.one_of("missing", missing, ("raise", "skip"))
    check_window(epochs, window, smallest=2)
    # The second bound keeps a row of all stretches below torch's grain size: each operation then runs on this thread,
    # and only `parallel_columns` shares the work.
    size = max(256, min(WINDOW_BLOCK_ENTRIES // epochs, GRAIN // _stretches(epochs, window)))
    out = torch.empty(n, dtype=p.dtype)

    def work(begin: int, end: int) -> None:
        columns = min(size, end - begin)
        # One buffer a thread, reused by every block: fresh memory would cost page faults.
        double = torch.empty(epochs, columns, dtype=torch.float64)
        average = _Average(epochs, window, columns, difficulty)
        for first, last in blocks(end, size, begin):
            block = double[:, : last - first]
            clean = _copy_block(p[:, first:last], block)
            if not clean:
                if missing == "raise" or bool(block.isinf().any()):
                    # Of the whole array, so that the error names the first invalid entry and its epoch, not one of this
                    # block.
                    check.finite("p_label", p, missing)
                # Any valid probability serves for NaN; `first` makes the ids of the error those of the whole array.
                check.probabilities("p_label", block.nan_to_num(nan=0.5), first)
            result = average(block)
            if not clean:  # a column with a NaN has come out NaN
                nan = torch.nonzero(result.isnan()).squeeze(1)
                result[nan] = _average_skipping_nan(block[:, nan], window, difficulty)
            out[first:last] = result

    parallel_columns(n, size, work)
    return out


def _copy_block(p: Tensor, block: Tensor) -> bool:
    """Copy a block; whether all entries are probabilities as `check.probabilities` has it, and none is NaN."""
    # Blocks of rows below the grain size, so that copy and aminmax stay on this thread and the copy is in cache when it
    # is searched.
    rows = max(1, GRAIN // p.shape[1])
    clean = True
    for to, of in zip(torch.split(block, rows), torch.split(p, rows), strict=True):
        low, high = torch.aminmax(to.copy_(of))  # NaN if any entry is, and NaN compares as false
        clean = clean and float(low) >= -1e-3 and float(high) <= 1.001
    return clean


def _stretches(epochs: int, window: int) -> int:
    """Stretches of ``window`` epochs in which a window starts that reaches into the next; at least 1."""
    return max(1, -(-(epochs - window) // window))


class _Average:
    """Sums over windows, each joined from the end of one stretch of epochs and the beginning of the next.

    The epochs are cut into stretches of ``window``. A window that starts ``j`` epochs into a stretch holds the last
    ``window - j`` of it and the first ``j`` of the one after. Sums and squared deviations (M2) of all such ends and
    beginnings are built an epoch at a time and joined by the update formulas of Youngs and Cramer 1971 and of Chan,
    Golub and LeVeque 1983 (Algorithms for computing the sample variance, The American Statistician 37):

        M2(S and x) = M2(S) + (sum(S) - k x)^2 / (k (k + 1))                     with k entries in S
        M2(A and B) = M2(A) + M2(B) + (sum(A) - sum(B) a / b)^2 b / (a (a + b))  with a in A and b in B

    Nothing is removed from a window and no term is negative, so nothing cancels: a window of equal entries has M2 = 0
    to the rounding of its entries, which neither a running sum of squares nor removal from a window guarantees. The
    cost of a window does not grow with its length. Each step handles all stretches at once.

    Args:
        epochs: epochs of the blocks, at least ``window``.
        window: epochs in a window.
        columns: maximum number of columns of a block.
        difficulty: whether the standard deviation is multiplied by 1 - mean.
    """

    def __init__(self, epochs: int, window: int, columns: int, difficulty: bool) -> None:
        self.epochs, self.window, self.difficulty = epochs, window, difficulty
        # 2 window + 4 rows of (stretches, columns): sums and M2 of the ends by offset, and four temporaries.
        space = torch.empty(2 * window + 4, _stretches(epochs, window), columns, dtype=torch.float64)
        self._end_sum, self._end_m2 = space[:window], space[window : 2 * window]  # by offset into the stretch
        self._sum, self._m2, self._away, self._total = space[2 * window :]

    def __call__(self, p: Tensor) -> Tensor:
        """(columns,) average over the windows of ``p``, (epochs, columns) float64; NaN where ``p`` has a NaN."""
        window, columns = self.window, p.shape[1]
        windows = self.epochs - window + 1
        # One partial total a stretch: all stretches of an offset are added in one operation.
        total = self._total[:, :columns].zero_()
        end_sum, end_m2 = self._ends(p)
        self._take(total[:1], end_sum[0, :1], end_m2[0, :1])  # the window at epoch 0
        # At j = window the beginning is the whole next stretch: the windows at offset 0 of all stretches but the first.
        for j in range(1, min(window, windows - 1) + 1):
            starts = (windows - 1 - j) // window + 1  # stretches in which a window starts at offset j
            # Epoch j - 1 of the stretch after each start: (starts, columns), a strided view without a copy.
            now = p[window + j - 1 : window + j + (starts - 1) * window : window]
            start_sum, m2, away = (space[:starts, :columns] for space in (self._sum, self._m2, self._away))
            if j == 1:
                start_sum.copy_(now)
                m2.zero_()
            else:
                # First update formula with k = j - 1 entries in S: away = sum(S) - k x.
                torch.sub(start_sum, now, alpha=j - 1, out=away)
                start_sum.add_(now)
                m2.addcmul_(away, away, value=1 / (j * (j - 1)))
            if j < window:
                # Second formula, A the end with a = window - j entries and B the beginning with j: b / (a (a + b)) is j
                # / (a window).
                a = window - j
                torch.sub(end_sum[j, :starts], start_sum, alpha=a / j, out=away)
                m2 = end_m2[j, :starts].add_(m2).addcmul_(away, away, value=j / (a * window))
                start_sum = end_sum[j, :starts].add_(start_sum)
            self._take(total[:starts], start_sum, m2)
        # `_take` left out the factor 1 / sqrt(window - 1) of the unbiased deviation; here it is applied once.
        average: Tensor = total.sum(dim=0).div_(windows * math.sqrt(window - 1))
        return average

    def _ends(self, p: Tensor) -> tuple[Tensor, Tensor]:
        """Sum and M2 of each stretch from each offset to its end: twice (window, stretches, columns)."""
        window, (stretches, columns) = self.window, (self._total.shape[0], p.shape[1])
        sums, m2, away = self._end_sum[..., :columns], self._end_m2[..., :columns], self._away[:, :columns]
        sums[-1].copy_(p[window - 1 : stretches * window : window])
        m2[-1].zero_()
        # Backwards, since the sum from offset j is the one from j + 1 with one more entry.
        for j in range(window - 2, -1, -1):
            k = window - 1 - j  # entries so far
            now = p[j : j + (stretches - 1) * window + 1 : window]
            torch.sub(sums[j + 1], now, alpha=k, out=away)
            torch.add(sums[j + 1], now, out=sums[j])
            torch.addcmul(m2[j + 1], away, away, value=1 / (k * (k + 1)), out=m2[j])
        return sums, m2

    def _take(self, total: Tensor, summed: Tensor, m2: Tensor) -> None:
        """Add windows to the total, in units of sqrt(window - 1); ``m2`` is overwritten."""
        root = m2.sqrt_()
        total.add_(root)
        if self.difficulty:
            # (1 - mean) u = u - (sum / window) u.
            total.addcmul_(summed, root, value=-1 / self.window)


def _average_skipping_nan(p: Tensor, window: int, difficulty: bool) -> Tensor:
    """The average over windows with at least two entries that are not NaN, each over those, in two passes."""
    # Rare columns only, so two plain passes: the mean first, then the squares around it, which cancels nothing.
    windows = p.shape[0] - window + 1
    seen = ~p.isnan()
    p = torch.where(seen, p, 0.0)
    weight = seen.to(p.dtype)
    count = torch.zeros(windows, p.shape[1], dtype=p.dtype)
    mean = torch.zeros_like(count)
    for j in range(window):
        count += weight[j : j + windows]
        mean += p[j : j + windows]
    mean /= count.clamp_min(1)
    square = torch.zeros_like(mean)
    for j in range(window):
        square += weight[j : j + windows] * (p[j : j + windows] - mean).square()
    # ddof 1 with the entries present; windows with fewer than 2 are masked below.
    term = (square / (count - 1).clamp_min(1)).sqrt()
    if difficulty:
        term *= 1 - mean
    valid = count >= 2
    total = torch.where(valid, term, 0.0).sum(dim=0)
    return total / valid.sum(dim=0)  # 0 / 0 is NaN: no window at all
