"""Dyn-Unc: the variation of the label's probability during training."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from datawinnow.core.card import card
from datawinnow.core.check import Missing
from datawinnow.scores._windows import mean_over_windows


@card(
    "score",
    "Dyn-Unc",
    "He et al. 2024, Large-scale Dataset Pruning with Dynamic Uncertainty, arXiv 2306.05175",
    cost="time O(epochs * n), memory O(n)",
    end="high",
)
def dyn_unc(p_label: Any, *, window: int = 10, missing: Missing = "raise") -> Tensor:
    """Examples whose prediction fluctuates from epoch to epoch score high.

    ``dyn_unc = mean over windows k of u_k``, the unbiased standard deviation of the label's probability in the
    window. Every window counts, the last epoch's too (the authors' code leaves it out). High is worth keeping.

    Args:
        p_label: (epochs, n) float, probability of the given label in each epoch.
        window: epochs in a window (J), at least 2.
        missing: ``"raise"``, or ``"skip"`` to leave NaN entries (not seen) out of each window's standard deviation,
            and windows with fewer than 2 entries out of the average.

    Returns:
        (n,) float32 (float64 if ``p_label`` is), unit of probability; NaN for an example without any window under
        ``"skip"``.

    Raises:
        ArgumentError: fewer epochs than ``window``, values that are NaN, infinite or no probabilities.

    References:
        He et al. 2024, arXiv 2306.05175.

    >>> [round(v, 4) for v in dyn_unc([[0.0, 0.5], [1.0, 0.5]] * 5).tolist()]
    [0.527, 0.0]
    """
    return mean_over_windows(p_label, window, missing, difficulty=False)
