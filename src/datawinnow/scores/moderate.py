"""Moderate: the distance to the middle of the class."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from datawinnow.core import check
from datawinnow.core.card import card
from datawinnow.core.check import Missing
from datawinnow.core.epochs import blocks
from datawinnow.scores.inputs import ROW_BLOCK_ENTRIES, common_length, row_blocks


@card(
    "score",
    "Moderate",
    "Xia et al. 2023, Moderate Coreset: A Universal Method of Data Selection for Real-world Data-efficient Deep "
    "Learning, ICLR, section 3; compared with others in Zheng et al. 2023, arXiv 2210.15809",
    cost="time O(n * d), memory O(n + largest class * d)",
    end="middle",
)
def moderate(
    features: Any, labels: Any, *, metric: Literal["euclidean", "cosine"] = "euclidean", missing: Missing = "raise"
) -> Tensor:
    """Examples far from the middle of their class score high; the paper keeps those at a middling distance.

    ``moderate = || h - m ||_2`` with m the median over the example's class of each coordinate of h. The middle band of
    the ranking over all examples is kept, ``top(..., end="middle")``: neither the typical nor the outliers. (The
    authors' function returns the ids to drop, which the D2 code takes for those to keep.)

    Args:
        features: (n, d) float, penultimate activations of a trained model, without augmentation.
        labels: (n,) int, class id.
        metric: ``"euclidean"``, or ``"cosine"`` for 1 - cos(h, m) (1 where either is zero).
        missing: ``"raise"``, or ``"skip"`` to leave examples with NaN out of the medians and let them have NaN.

    Returns:
        (n,) float32 (float64 if ``features`` is), unit of a feature (none for ``"cosine"``).

    Raises:
        ArgumentError: arrays about different examples, an unknown metric, NaN or infinity.

    References:
        Xia et al. 2023, Moderate Coreset, ICLR, section 3; Zheng et al. 2023, arXiv 2210.15809.

    >>> moderate([[0.0, 1.0], [1.0, 1.0], [9.0, 1.0], [5.0, 0.0]], [0, 0, 0, 1]).tolist()
    [1.0, 0.0, 8.0, 0.0]
    """
    check.one_of("metric", metric, ("euclidean", "cosine"))
    h = check.matrix("features", features, "n,d", missing)
    y = check.labels("labels", labels)
    n = common_length(features=h, labels=y)
    # (n,) rows without NaN; one NaN would make the whole median of a column NaN.
    complete = None if missing == "raise" else ~h.isnan().any(dim=1)
    out = torch.full((n,), torch.nan, dtype=h.dtype)
    # Ids class by class, rising within a class; a class id that does not occur gives an empty split.
    for members in torch.split_with_sizes(torch.argsort(y, stable=True), torch.bincount(y).tolist()):
        ids = members if complete is None else members[complete[members]]
        if not ids.numel():
            continue
        middle = _median(h, ids)
        for first, last in row_blocks(ids.numel(), h.shape[1]):
            rows = h[ids[first:last]].to(torch.float64)
            away = (
                (rows - middle).square().sum(dim=1).sqrt() if metric == "euclidean" else _cosine_distance(rows, middle)
            )
            out[ids[first:last]] = away.to(h.dtype)
    return out


def _median(h: Tensor, ids: Tensor) -> Tensor:
    """(d,) float64 median of each column over the rows ``ids``; of an even number, the mean of the middle two."""
    m, width = ids.numel(), h.shape[1]
    # Equal for odd m. torch.median returns the lower of the two for even m, which is not the median of the paper.
    middle = [(m - 1) // 2, m // 2]
    out = torch.empty(width, dtype=torch.float64)
    # Columns in blocks: the copy that is partitioned stays around 16 MB in float32, however large the class.
    for first, last in blocks(width, max(1, 16 * ROW_BLOCK_ENTRIES // m)):
        columns = h[:, first:last][ids].T.contiguous().numpy()  # a copy, laid out for the partition
        # O(m) a column where a sort is O(m log m).
        columns.partition(sorted(set(middle)), axis=1)
        out[first:last] = torch.from_numpy(columns[:, middle].astype(np.float64).mean(axis=1))
    return out


def _cosine_distance(rows: Tensor, middle: Tensor) -> Tensor:
    """(m,) 1 - cosine of (m, d) with (d,), as half the squared distance of unit vectors, which loses no digits."""
    length, norm = rows.norm(dim=1, keepdim=True), middle.norm()
    # 1 - cos(a, b) = |a/|a| - b/|b||^2 / 2. A zero row divides to NaN, which the next line replaces.
    away = (rows / length - middle / norm).square().sum(dim=1) / 2
    return torch.where((length.squeeze(1) == 0) | (norm == 0), 1.0, away)
