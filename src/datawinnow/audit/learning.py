"""Examples that were never learned, and those that were right early and then lost."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from datawinnow.core import check
from datawinnow.core.counts import many
from datawinnow.core.errors import ArgumentError
from datawinnow.core.issues import Issue

MIN_EPOCHS = 4
"""Epochs from which on a recording says who was never learned or lost."""
EARLY, LATE = 0.5, 0.25
"""Shares of the epochs in which an example was right early, and wrong at the end."""
RIGHT_EARLY = 0.5
"""Share of the early epochs, from the first right one on, in which a lost example was right."""


def learning_issues(correct: Any, p_label: Any = None) -> tuple[list[Issue], list[str]]:
    """Examples that the network never had right, and those that it had right early and then lost.

    Never learned: wrong in every epoch. Lost: right in at least half of the epochs from the first right one to the
    middle of the recording (and in two of them or more), and wrong in each of the last quarter. Both are hard,
    mislabelled or broken; which of them is for other evidence, or a person, to say.

    Args:
        correct: (epochs, n) bool or 0 and 1, whether the arg-max was the label; NaN for not seen.
        p_label: (epochs, n) float, for the severity and the words; None for none.

    Returns:
        The issues, and notes on what could not be told.

    Raises:
        ArgumentError: other values, or arrays about different examples.

    >>> correct = torch.tensor([[1, 0, 1], [1, 0, 1], [1, 0, 1], [0, 0, 1], [0, 0, 1], [0, 0, 1], [0, 0, 1], [0, 0, 1]])
    >>> [(issue.issue, issue.example) for issue in learning_issues(correct)[0]]
    [('never_learned', 1), ('forgotten', 0)]
    """
    values = check.array("correct", correct, "epochs,n")
    seen = ~values.isnan()
    right = check.bits("correct", values.nan_to_num(0.0), "epochs,n")
    epochs, n = right.shape
    if epochs < MIN_EPOCHS:
        return [], [
            f"the recording has only {many(epochs, 'epoch')}: who was never learned or lost needs {MIN_EPOCHS} or more"
        ]
    p = torch.full((n,), torch.nan) if p_label is None else check.array("p_label", p_label, "epochs,n").nanmean(0)
    if p.numel() != n:
        raise ArgumentError(f"p_label is of {p.numel():,} examples, correct of {n:,}")
    visited = seen.sum(0)
    never = (visited > 0) & ~right.any(0)
    issues = [
        Issue("never_learned", i, _severity(p[i]), f"wrong in all of {many(int(visited[i]), 'epoch')}{_in_words(p[i])}")
        for i in torch.nonzero(never).flatten().tolist()
    ]
    middle, late = int(epochs * EARLY), max(2, int(epochs * LATE))
    is_right_early, first = _right_early(right[:middle], seen[:middle])
    end_seen, end_right = seen[-late:].sum(0), right[-late:].any(0)
    lost = is_right_early & (end_seen >= 2) & ~end_right
    for i in torch.nonzero(lost).flatten().tolist():
        last = int(torch.nonzero(right[:, i]).max())
        words = f"right from epoch {int(first[i]) + 1}, last in epoch {last + 1} of {epochs}{_in_words(p[i])}"
        issues.append(Issue("forgotten", i, _severity(p[i]), words))
    return issues, []


def _right_early(right: Tensor, seen: Tensor) -> tuple[Tensor, Tensor]:
    """(n,) whether an example was right in half of the epochs since it was first, and (n,) that epoch."""
    first = right.byte().argmax(0)
    since = torch.arange(len(right))[:, None] >= first
    times, visits = (right & since).sum(0), (seen & since).sum(0)
    return (times >= 2) & (times >= RIGHT_EARLY * visits), first


def _severity(p: Tensor) -> float:
    """One minus the mean probability of the label; a half where it is not known."""
    return 0.5 if bool(p.isnan()) else min(1.0, max(0.0, 1 - float(p)))


def _in_words(p: Tensor) -> str:
    return "" if bool(p.isnan()) else f"; mean p(label) {float(p):.2f}"
