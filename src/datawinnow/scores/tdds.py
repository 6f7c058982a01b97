"""TDDS: the variation of the prediction's changes, weighted towards late epochs."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from datawinnow.core import check
from datawinnow.core.card import card
from datawinnow.core.check import Missing
from datawinnow.core.epochs import GRAIN, blocks, parallel_columns
from datawinnow.core.errors import ArgumentError
from datawinnow.scores._windows import check_window


@card(
    "score",
    "TDDS",
    "Zhang et al. 2024, Spanning Training Progress: Temporal Dual-Depth Scoring (TDDS) for Enhanced Dataset Pruning, "
    "arXiv 2311.13613, section 3",
    cost="time O(epochs * window * n), memory O(n)",
    end="high",
)
def tdds(kl_step: Any, *, window: int = 10, decay: float = 0.9, missing: Missing = "raise") -> Tensor:
    """Examples whose prediction moves unevenly from epoch to epoch score high.

    With kl_t the change of the prediction from epoch t to t+1, a window of J epochs from k holds J - 1 changes, and
    ``R_k = sqrt(sum over t of (kl_t - mean of kl in the window)^2)``, which is not divided by anything. Over windows
    k = 0 to T - J, ``tdds = sum over k of g (1 - g)^(T - J - k) R_k``: a moving average in which the last window has
    the weight g = ``decay``. High is worth keeping. The paper's (T, J) by pruning rate .3, .5, .7, .8, .9 on CIFAR is
    (90, 10), (70, 10), (60, 20), (20, 10), (10, 5): record no more epochs than T, or give the first T - 1 rows.

    Args:
        kl_step: (epochs-1, n) float, change of the prediction since the last epoch.
        window: epochs in a window (J), at least 3.
        decay: weight of the last window (g), above 0 and at most 1.
        missing: ``"raise"``, or ``"skip"`` to leave NaN entries (not seen) out of each window, whose R is scaled up to
            J - 1 entries, and windows with fewer than 2 entries out of the moving average.

    Returns:
        (n,) float32 (float64 if ``kl_step`` is), unit of ``kl_step``; NaN for an example without any window under
        ``"skip"``.

    Raises:
        ArgumentError: fewer epochs than ``window``, NaN or infinity, or another shape.

    References:
        Zhang et al. 2024, arXiv 2311.13613, section 3.

    >>> [round(v, 3) for v in tdds([[1.0, 0.0], [0.0, 0.0], [1.0, 0.0]], window=3).tolist()]
    [0.7, 0.0]
    """
    kl = check.array("kl_step", kl_step, "epochs-1,n")
    check.number("window", window, 3, 10**9, integer=True)
    if not check.number("decay", decay, 0, 1):
        raise ArgumentError("decay must be above 0, the weight of the last window, got 0")
    steps, n = kl.shape
    check_window(steps + 1, window, smallest=3)
    check.finite("kl_step", kl, missing, inner="row")
    # As many columns as keep one window below the grain size, so that torch does not start threads inside these
    # threads.
    size = max(256, GRAIN // window)
    out = torch.empty(n, dtype=kl.dtype)

    def work(begin: int, end: int) -> None:
        for first, last in blocks(end, size, begin):
            block = kl[:, first:last].to(torch.float64)
            # NaN spreads through the moving average, so it marks the columns that need the slower form.
            score = _moving_average(block, window, decay)
            nan = torch.nonzero(score.isnan()).squeeze(1)
            if nan.numel():
                score[nan] = _moving_average_skipping_nan(block[:, nan], window, decay)
            out[first:last] = score

    parallel_columns(n, size, work)
    return out


def _moving_average(kl: Tensor, window: int, decay: float) -> Tensor:
    """(columns,) moving average of (epochs-1, columns) float64; NaN where a column has one."""
    average = torch.zeros(kl.shape[1], dtype=kl.dtype)
    for changes in kl.unfold(0, window - 1, 1):  # (columns, J - 1) each
        spread = (changes - changes.mean(dim=1, keepdim=True)).square().sum(dim=1).sqrt()
        # Oldest window first: after T - J more steps window k has the weight g (1 - g)^(T - J - k). The average starts
        # at 0 and not at the first R, as in the paper's sum.
        average.mul_(1 - decay).add_(spread, alpha=decay)
    return average


def _moving_average_skipping_nan(kl: Tensor, window: int, decay: float) -> Tensor:
    """As `_moving_average`, over the entries that are not NaN."""
    average = torch.full((kl.shape[1],), torch.nan, dtype=kl.dtype)
    for changes in kl.unfold(0, window - 1, 1):
        present = ~changes.isnan()
        count = present.sum(dim=1, dtype=kl.dtype)  # the root of an integer would be float32
        # Only entries that are not NaN: where() before the sum, since NaN * 0 is NaN.
        mean = torch.where(present, changes, 0.0).sum(dim=1) / count.clamp_min(1)
        squares = torch.where(present, (changes - mean[:, None]).square(), 0.0).sum(dim=1)
        # R is a root of a sum, not of a mean: it is scaled up as if all J - 1 entries were present.
        spread = squares.sqrt() * math.sqrt(window - 1) / count.clamp_min(1).sqrt()
        # The first valid window starts from 0, as `_moving_average` does; a window without enough entries leaves the
        # average as it was.
        step = decay * spread + (1 - decay) * average.nan_to_num(nan=0.0)
        average = torch.where(count >= 2, step, average)
    return average
