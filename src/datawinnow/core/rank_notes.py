"""Where each example stands by a score, in a sentence: its value, its rank and how many of those ranked are kept."""

from __future__ import annotations

from typing import Any

import numpy as np


def rank_notes(
    values: np.ndarray[Any, Any],
    kept: np.ndarray[Any, Any],
    *,
    name: str = "score",
    keys: np.ndarray[Any, Any] | None = None,
    order: str = "",
    groups: np.ndarray[Any, Any] | None = None,
    group_word: str = "group {}",
) -> list[str]:
    """One sentence an example; ``""`` for one without a score.

    Args:
        values: (n,) float, what is shown; NaN for unknown.
        kept: (n,) bool.
        name: of the score.
        keys: (n,) float, what is ranked, the highest first. Default: ``values``.
        order: which come first, in words, as ``"lowest first"``; ``""`` says nothing.
        groups: (n,) int64; each is ranked by itself. None ranks all together.
        group_word: a format for the number of a group.

    >>> rank_notes(np.array([0.5, 2.0, 0.5]), np.array([True, True, False]))[1:]
    ['score 2, rank 1 of 3, 2 of them kept', 'score 0.5, rank 2 of 3 (tied with 1 other), 2 of them kept']
    """
    keys = values if keys is None else keys
    notes = [""] * len(values)
    for group in [0] if groups is None else np.unique(groups).tolist():
        among = ~np.isnan(values) if groups is None else (groups == group) & ~np.isnan(values)
        members = np.flatnonzero(among)
        place = "" if groups is None else f" in {group_word.format(group)}"
        num_kept = int(kept[members].sum())
        # the highest first; equal keys share the first of their ranks
        ranked = np.sort(-keys[members])
        first = np.searchsorted(ranked, -keys[members], side="left")
        num_tied = np.searchsorted(ranked, -keys[members], side="right") - first
        for i, rank, ties in zip(members.tolist(), first.tolist(), num_tied.tolist(), strict=True):
            details = [f"tied with {ties - 1:,} other{'s' * (ties > 2)}"] if ties > 1 else []
            details = [order, *details] if order else details
            shown = f" ({', '.join(details)})" if details else ""
            rank_words = f"rank {rank + 1:,} of {len(members):,}{place}{shown}"
            notes[i] = f"{name} {values[i]:.4g}, {rank_words}, {num_kept:,} of them kept"
    return notes
