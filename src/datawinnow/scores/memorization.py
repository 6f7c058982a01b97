"""Memorisation: what training on an example does for that example."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from datawinnow.core import check
from datawinnow.core.card import card
from datawinnow.core.check import Missing
from datawinnow.core.epochs import blocks
from datawinnow.core.errors import ArgumentError

COUNT_BLOCK_ENTRIES = 1 << 20


@card(
    "score",
    "memorisation",
    "Feldman and Zhang 2020, What Neural Networks Memorize and Why: Discovering the Long Tail via Influence "
    "Estimation, arXiv 2008.03703, section 2",
    cost="time O(runs * n), memory O(n), after training one network a run on its part of the examples",
    end="high",
)
def memorization(subset_mask: Any, subset_correct: Any, *, missing: Missing = "raise") -> Tensor:
    """Examples that are right only when they were trained on score high.

    ``memorization = mean of correct over the runs that trained on i - mean of correct over the runs that did not``.
    Around 0: the other examples teach it already; near 1: it must be learned by heart, being rare, hard or mislabelled.
    High is worth keeping, as far as labels can be trusted. It is the most expensive score: the paper trains 2,000
    networks, each on a random 70%; `memorization_error` is its standard error with fewer.

    Args:
        subset_mask: (runs, n) bool or 0 and 1, whether the run trained on the example.
        subset_correct: (runs, n) bool or 0 and 1, whether the run's network has the example right at its end.
        missing: ``"raise"``, or ``"skip"`` to let an example that all runs or no run trained on have NaN.

    Returns:
        (n,) float32, a difference of probabilities in [-1, 1].

    Raises:
        ArgumentError: values other than 0 and 1, shapes that differ, or an example without a run to compare with
            (unless ``"skip"``).

    References:
        Feldman and Zhang 2020, arXiv 2008.03703, section 2.

    >>> memorization([[1, 1], [1, 0], [0, 1], [0, 0]], [[1, 1], [1, 1], [0, 1], [1, 1]]).tolist()
    [0.5, 0.0]
    """
    right_in, runs_in, right_out, runs_out = _counts(subset_mask, subset_correct, missing)
    return (right_in / runs_in - right_out / runs_out).to(torch.float32)


def memorization_error(subset_mask: Any, subset_correct: Any, *, missing: Missing = "raise") -> Tensor:
    """Standard error of `memorization` for the number of runs.

    That of a difference of two proportions over m_in and m_out runs, ``sqrt(p_in (1 - p_in) / m_in + p_out (1 - p_out)
    / m_out)``, at p = (right + 1) / (runs + 2), Laplace's estimate: the bare shares say 0 as soon as few runs agree.

    Args:
        subset_mask: (runs, n) bool or 0 and 1, whether the run trained on the example.
        subset_correct: (runs, n) bool or 0 and 1, whether the run's network has the example right at its end.
        missing: ``"raise"``, or ``"skip"`` to let an example that all runs or no run trained on have NaN.

    Returns:
        (n,) float32, a difference of probabilities.

    Raises:
        ArgumentError: as for `memorization`.

    >>> [round(v, 3) for v in memorization_error([[1, 1], [0, 0]] * 50, [[1, 1], [1, 0]] * 50).tolist()]
    [0.027, 0.027]
    """
    right_in, runs_in, right_out, runs_out = _counts(subset_mask, subset_correct, missing)
    variance = torch.zeros_like(right_in)
    for right, runs in ((right_in, runs_in), (right_out, runs_out)):
        # The add-one estimate is strictly inside (0, 1), so that the variance is never 0.
        p = (right + 1) / (runs + 2)
        # Without runs on a side p (1 - p) / 0 would be infinite; the error is unknown there.
        variance += torch.where(runs > 0, p * (1 - p) / runs, torch.nan)
    return variance.sqrt().to(torch.float32)


def _counts(subset_mask: Any, subset_correct: Any, missing: Missing) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(n,) float64 each: right and all runs that trained on the example, right and all that did not."""
    check.one_of("missing", missing, ("raise", "skip"))
    trained = check.bits("subset_mask", subset_mask, "runs,n")
    right = check.bits("subset_correct", subset_correct, "runs,n")
    if trained.shape != right.shape:
        raise ArgumentError(
            f"subset_correct must have the shape of subset_mask, {tuple(trained.shape)}, got {tuple(right.shape)}"
        )
    runs, n = trained.shape
    # The fourth count, right without training, needs no array: runs - runs_in.
    counts = torch.empty(3, n, dtype=torch.float64)
    for first, last in blocks(n, max(1, COUNT_BLOCK_ENTRIES // runs)):
        # A block at a time: the sums convert bits to int64, which of all (runs, n) would take eight times the input.
        on, good = trained[:, first:last], right[:, first:last]
        counts[0, first:last] = (on & good).sum(dim=0)
        counts[1, first:last] = on.sum(dim=0)
        counts[2, first:last] = (good & ~on).sum(dim=0)
    right_in, runs_in, right_out = counts
    lone = (runs_in == 0) | (runs_in == runs)
    if missing == "raise" and bool(lone.any()):
        i = int(torch.nonzero(lone)[0])
        trained_in = "no run" if runs_in[i] == 0 else f"every one of the {runs} runs"
        raise ArgumentError(
            f"example {i} was trained on in {trained_in}, so there is nothing to compare with ({int(lone.sum())} such "
            'examples); add runs on other subsets, or pass missing="skip" to let it have NaN'
        )
    return right_in, runs_in, right_out, runs - runs_in
