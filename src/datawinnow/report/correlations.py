"""Rank correlations among scores: how far they agree on which examples to keep, whatever their units and directions."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from datawinnow.report import words


@dataclass(frozen=True)
class Agreement:
    """How the scores of a run agree.

    Attributes:
        names: (k,) names for people, those that agree side by side.
        matrix: (k, k) float64, Spearman's rank correlation in [-1, 1]; NaN where it is not defined (a constant score,
            or fewer than two examples that both have).
        caption: what it shows, and which two scores agree most and least.
    """

    names: tuple[str, ...]
    matrix: np.ndarray
    caption: str

    @property
    def rows(self) -> list[tuple[str, list[str]]]:
        """The matrix as words, a row a score."""
        return [(name, [word(r) for r in row]) for name, row in zip(self.names, self.matrix, strict=True)]


def rank_correlations(scores: pa.Table) -> Agreement | None:
    """Spearman's rank correlation of every pair of columns of ``scores.parquet``.

    Args:
        scores: ``id``, ``label`` and a column a score, whose metadata has the end that its paper keeps under ``end``.

    Returns:
        The agreement, in the order of `clustered`; None with fewer than two scores.
    """
    fields = list(scores.schema)[2:]
    if len(fields) < 2:
        return None
    metadata = [{k.decode(): v.decode() for k, v in (field.metadata or {}).items()} for field in fields]
    columns = np.stack(
        [
            oriented(scores.column(field.name).to_numpy(), about.get("end", "high"))
            for field, about in zip(fields, metadata, strict=True)
        ]
    )
    matrix = spearman(columns)
    order = clustered(matrix)
    labels = [about.get("label") or field.name for field, about in zip(fields, metadata, strict=True)]
    twice = {label for label, count in Counter(labels).items() if count > 1}
    names = [
        f"{label} ({field.name})" if label in twice else label for field, label in zip(fields, labels, strict=True)
    ]
    matrix = matrix[np.ix_(order, order)]
    placed = tuple(names[i] for i in order)
    return Agreement(placed, matrix, _caption(placed, matrix, columns.shape[1]))


def oriented(values: np.ndarray, end: str) -> np.ndarray:
    """A score turned so that what its paper keeps is high.

    Args:
        values: (n,) float; NaN where an example has none.
        end: ``"high"``, ``"low"``, or ``"middle"``, for which the nearer an example's rank is to the middle, the higher
            it becomes.

    Returns:
        (n,) float64, NaN where ``values`` is.

    >>> oriented(np.array([10.0, 20.0, 90.0]), "middle").tolist()
    [-1.0, 0.0, -1.0]
    """
    values = np.asarray(values, dtype=np.float64)
    if end == "low":
        return -values
    if end != "middle":
        return values
    turned = np.full(len(values), np.nan)
    is_present = ~np.isnan(values)
    present_ranks = ranks(values[is_present])
    # 0.0 - x and not -x, which would give -0.0 in the middle.
    turned[is_present] = 0.0 - np.abs(present_ranks - (len(present_ranks) + 1) / 2)
    return turned


def ranks(values: np.ndarray) -> np.ndarray:
    """Ranks from 1 up; those that tie share the mean of their places.

    Args:
        values: (n,) float without NaN.

    Returns:
        (n,) float64.

    >>> ranks(np.array([5.0, 1.0, 5.0])).tolist()
    [2.5, 1.0, 2.5]
    """
    order = np.argsort(values, kind="stable")
    rising = values[order]
    first = np.flatnonzero(np.concatenate([np.ones(min(1, len(values)), dtype=bool), rising[1:] != rising[:-1]]))
    counts = np.diff(first, append=len(values))
    rank = np.empty(len(values))
    # c equal values from place f (from 0) have ranks f + 1 to f + c, whose mean is f + (c + 1) / 2.
    rank[order] = np.repeat(first + (counts + 1) / 2, counts)
    return rank


def spearman(columns: np.ndarray | Sequence[np.ndarray]) -> np.ndarray:
    """Spearman's rank correlation of every pair: Pearson's of the ranks, over the examples that both have.

    Args:
        columns: (k, n) float, a row a score; NaN where an example has none.

    Returns:
        (k, k) float64 in [-1, 1]; NaN where a score is constant over those examples or they are fewer than two.

    >>> spearman(np.array([[1.0, 2.0, 3.0], [10.0, 100.0, 1000.0], [3.0, 2.0, 1.0]])).tolist()
    [[1.0, 1.0, -1.0], [1.0, 1.0, -1.0], [-1.0, -1.0, 1.0]]
    """
    columns = np.asarray(columns, dtype=np.float64)
    is_present = ~np.isnan(columns)
    present_ranks = [_standard(column[mask]) for column, mask in zip(columns, is_present, strict=True)]
    k = len(columns)
    matrix = np.full((k, k), np.nan)
    for i in range(k):
        for j in range(i, k):
            if np.array_equal(is_present[i], is_present[j]):
                first, second = present_ranks[i], present_ranks[j]
            else:  # ranks among those that both have
                both = is_present[i] & is_present[j]
                first, second = _standard(columns[i][both]), _standard(columns[j][both])
            if first is not None and second is not None:
                # Rounded, so that identical rankings give exactly 1 and the text does not depend on the order of
                # summation.
                matrix[i, j] = matrix[j, i] = 1.0 if i == j else min(1.0, max(-1.0, round(float(first @ second), 12)))
    return matrix


def _standard(values: np.ndarray) -> np.ndarray | None:
    """Ranks with mean 0 and length 1; None where all are equal."""
    rank = ranks(values)
    rank -= rank.mean() if len(rank) else 0.0
    length = float(np.linalg.norm(rank))
    return rank / length if length > 0 else None


def clustered(matrix: np.ndarray) -> list[int]:
    """An order in which scores that agree stand side by side: the leaves of an agglomerative clustering.

    The two groups with the highest mean correlation between them are joined, over and over (average linkage), with
    those of their ends side by side that agree most. A score that correlates with nothing (NaN) comes last.

    Args:
        matrix: (k, k) correlations.

    Returns:
        The k positions in that order.

    >>> clustered(np.array([[1.0, 0.1, 0.9], [0.1, 1.0, 0.2], [0.9, 0.2, 1.0]]))
    [0, 2, 1]
    """
    # Below every correlation, so that a score without any joins last.
    near = np.nan_to_num(matrix, nan=-2.0)
    groups = [[i] for i in range(len(matrix))]
    while len(groups) > 1:
        # the first of equal ones, so that the order depends on nothing else
        means = [
            (float(near[np.ix_(groups[i], groups[j])].mean()), -i, -j) for j in range(len(groups)) for i in range(j)
        ]
        _, i, j = max(means)
        # j > i, so that removing it does not shift i.
        second = groups.pop(-j)
        first = groups[-i]
        # Reversing a group keeps its inner neighbours: only the ends that meet are chosen.
        joins = [(f, s) for f in (first, first[::-1]) for s in (second, second[::-1])]
        left, right = max(joins, key=lambda join: near[join[0][-1], join[1][0]])
        groups[-i] = left + right
    return groups[0] if groups else []


def word(value: float) -> str:
    """A correlation with two digits and a true minus sign; a dash where there is none."""
    if math.isnan(value):
        return words.NONE
    text = f"{value:.2f}"
    return text.replace("-", "\N{MINUS SIGN}") if float(text) else "0.00"


def _caption(names: Sequence[str], matrix: np.ndarray, n: int) -> str:
    text = (
        f"Spearman's rank correlation over {n:,} examples (ties share their mean rank), every score oriented so "
        "that what its paper keeps ranks high: 1 where two scores keep the same examples, 0 where they are unrelated, "
        "\N{MINUS SIGN}1 where one keeps what the other drops."
    )
    pairs = [(float(matrix[i, j]), i, j) for i in range(len(names)) for j in range(i) if not math.isnan(matrix[i, j])]
    if len(pairs) < 2:
        return text
    (highest, a, b), (lowest, c, d) = max(pairs), min(pairs)
    most_alike = f"Most alike: {names[b]} and {names[a]}, {word(highest)}"
    return f"{text} {most_alike}; least: {names[d]} and {names[c]}, {word(lowest)}."
