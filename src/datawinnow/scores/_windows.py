"""Mean and standard deviation over sliding windows of epochs, recomputed from each window."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from datawinnow.core import check
from datawinnow.core.epochs import blocks
from datawinnow.core.errors import ArgumentError

Combine = Callable[[Tensor, Tensor], Tensor]
"""(mean, std) of the windows, each (windows, columns), to the (windows, columns) that are averaged over the windows."""


def windowed(p_label: Any, window: int, missing: check.Missing, combine: Combine) -> Tensor:
    """Average ``combine(mean, std)`` over every window of ``window`` consecutive epochs.

    Works in float64 on a block of columns at a time: running sums of squares would be faster still, but cancel on
    saturated trajectories (static.md 5).

    Args:
        p_label: (epochs, n) probability of the given label.
        window: epochs in a window, at least 2; the standard deviation is the unbiased one (ddof 1).
        missing: ``"skip"`` leaves NaN entries out of each window, and windows with fewer than 2 entries out of the
            average; an example without any window gets NaN.
        combine: what is averaged.

    Returns:
        (n,) float32, or float64 if ``p_label`` is.

    Raises:
        ArgumentError: fewer epochs than the window, NaN or infinity, or values that are no probabilities.
    """
    p = check.array("p_label", p_label, "epochs,n")
    epochs, n = p.shape
    check.number("window", window, 2, 10**9, integer=True)
    if epochs < window:
        raise ArgumentError(
            f"p_label has {epochs} epochs, fewer than window={window}: record at least {window} epochs, or give a "
            f"window= of at most {epochs}"
        )
    check.finite("p_label", p, missing)
    out = torch.empty(n, dtype=p.dtype)
    for first, last in blocks(n):
        part = p[:, first:last].to(torch.float64)
        nan = part.isnan()
        if bool(nan.any()):
            check.probabilities("p_label", part.nan_to_num(nan=0.5), first)
            out[first:last] = _skipping(part, ~nan, window, combine)
        else:
            check.probabilities("p_label", part, first)
            out[first:last] = combine(*_mean_std(part, window)).mean(dim=0)
    return out


def _mean_std(p: Tensor, window: int) -> tuple[Tensor, Tensor]:
    """(windows, columns) mean and unbiased standard deviation; two passes, all windows at once."""
    windows = p.shape[0] - window + 1
    mean = p[:windows].clone()
    for j in range(1, window):
        mean += p[j : j + windows]
    mean /= window
    square = torch.zeros_like(mean)
    away = torch.empty_like(mean)
    for j in range(window):
        torch.sub(p[j : j + windows], mean, out=away)
        square.addcmul_(away, away)
    return mean, square.div_(window - 1).sqrt_()


def _skipping(p: Tensor, seen: Tensor, window: int, combine: Combine) -> Tensor:
    """The average over windows with at least two entries seen, each over what was seen."""
    windows = p.shape[0] - window + 1
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
    std = (square / (count - 1).clamp_min(1)).sqrt()
    whole = count >= 2
    total = torch.where(whole, combine(mean, std), 0.0).sum(dim=0)
    return total / whole.sum(dim=0)  # 0 / 0 is NaN: no window at all
