"""DUAL: difficulty times uncertainty, over windows of epochs."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from datawinnow.core.card import card
from datawinnow.core.check import Missing
from datawinnow.scores._windows import mean_over_windows


@card(
    "score",
    "DUAL",
    "Cho et al. 2025, Lightweight Dataset Pruning without Full Training, arXiv 2502.06905, section 3",
    cost="time O(epochs * n), memory O(n)",
    end="high",
)
def dual(p_label: Any, *, window: int = 10, missing: Missing = "raise") -> Tensor:
    """Examples that are both hard and uncertain early in training score high.

    For every window k of J epochs, with mean m_k and unbiased standard deviation u_k of the label's probability,
    ``dual = mean over k of (1 - m_k) * u_k``. The authors' code multiplies by 10, which changes no rank. High is
    worth keeping; the score lies in [0, 1).

    Args:
        p_label: (epochs, n) float, probability of the given label in each epoch's training pass.
        window: epochs in a window (J), at least 2.
        missing: ``"raise"``, or ``"skip"`` to leave NaN entries (not seen) out of each window's mean and standard
            deviation, and windows with fewer than 2 entries out of the average.

    Returns:
        (n,) float32 (float64 if ``p_label`` is), no unit; NaN for an example without any window under ``"skip"``.

    Raises:
        ArgumentError: fewer epochs than ``window``, values that are NaN, infinite or no probabilities.

    References:
        Cho et al. 2025, arXiv 2502.06905, section 3.

    >>> [round(v, 4) for v in dual([[0.0, 0.5], [1.0, 0.5]] * 5).tolist()]
    [0.2635, 0.0]
    """
    return mean_over_windows(p_label, window, missing, difficulty=True)
