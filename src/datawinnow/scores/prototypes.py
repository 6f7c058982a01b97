"""Prototypes: the distance to the nearest centre of k-means."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from datawinnow.core import check
from datawinnow.core.card import card
from datawinnow.core.check import Missing
from datawinnow.core.kmeans import kmeans
from datawinnow.scores.inputs import common_length, row_blocks

DEFAULT_CLUSTERS = 10
"""Number of centres without labels."""


@card(
    "score",
    "prototypes (SSP)",
    "Sorscher et al. 2022, Beyond neural scaling laws: beating power law scaling via data pruning, arXiv 2206.14486, "
    "the self-supervised prototypes metric",
    cost="time O(iterations * n * clusters * d), memory O(n + clusters * d)",
    end="high",
)
def prototypes(
    features: Any,
    labels: Any = None,
    *,
    clusters: int | None = None,
    metric: Literal["cosine", "euclidean"] = "cosine",
    missing: Missing = "raise",
) -> Tensor:
    """Examples far from every cluster's centre, the untypical ones, score high.

    ``prototypes = min over centres m of 1 - cos(h, m)``, with the centres of k-means on the embeddings (for the cosine,
    on embeddings divided by their length). The paper embeds with a self-supervised network; any features do. High, the
    hard end, is kept where data are plentiful; at small budgets the paper finds the low end better. k-means starts from
    principal directions, so that nothing is drawn and the order of the examples has no part in it.

    Args:
        features: (n, d) float, embeddings.
        labels: (n,) int, class ids; only their number is used, for ``clusters``.
        clusters: number of centres, at most the number of examples used; None for the number of classes in ``labels``,
            the usual choice, or 10 without labels.
        metric: ``"cosine"`` as the paper (1 where an embedding is zero), or ``"euclidean"``.
        missing: ``"raise"``, or ``"skip"`` to leave examples with NaN out of k-means and let them have NaN.

    Returns:
        (n,) float32 (float64 if ``features`` is), none or unit of a feature.

    Raises:
        ArgumentError: ``clusters`` below 1, an unknown metric, NaN or infinity, or another shape.

    References:
        Sorscher et al. 2022, arXiv 2206.14486, the self-supervised prototypes metric.

    >>> h = [[1.0, 0.0], [2.0, 0.0], [0.0, 1.0], [0.0, 3.0], [0.0, -1.0]]
    >>> [round(v, 6) for v in prototypes(h, clusters=3).tolist()], round(float(prototypes(h, clusters=1).max()), 2)
    ([0.0, 0.0, 0.0, 0.0, 0.0], 1.45)
    """
    check.one_of("metric", metric, ("cosine", "euclidean"))
    h = check.matrix("features", features, "n,d", missing)
    if labels is not None:
        classes = check.labels("labels", labels)
        common_length(features=h, labels=classes)
    if clusters is None:
        clusters = DEFAULT_CLUSTERS if labels is None else int((torch.bincount(classes) > 0).sum())
    check.number("clusters", clusters, 1, 10**9, integer=True)
    ids = None
    # Without NaN nothing is copied: `ids` stays None and the rows are used as given.
    if missing == "skip" and bool((nan := h.isnan().any(dim=1)).any()):
        ids = torch.nonzero(~nan).squeeze(1)
    used = h if ids is None else h[ids]
    out = torch.full((h.shape[0],), torch.nan, dtype=h.dtype, device=h.device)
    if not used.shape[0]:
        return out
    away = torch.empty(used.shape[0], dtype=h.dtype, device=h.device)
    # unit=True normalises the rows inside k-means; the centres are means of unit vectors, not unit vectors themselves.
    clustering = kmeans(used, min(clusters, used.shape[0]), unit=metric == "cosine")
    for first, last in row_blocks(used.shape[0], max(used.shape[1], clusters)):
        rows = used[first:last].to(torch.float64)
        if metric == "cosine":
            # Searched again: the centre that is nearest by angle need not be the one that k-means assigned, as centres
            # differ in length.
            away[first:last] = _nearest_cosine_distance(rows, clustering.centres)
        else:
            away[first:last] = (rows - clustering.centres[clustering.assignment[first:last]]).square().sum(dim=1).sqrt()
    if ids is None:
        return away
    out[ids] = away
    return out


def _nearest_cosine_distance(rows: Tensor, centres: Tensor) -> Tensor:
    """(m,) least 1 - cosine of (m, d) with each of (k, d), half the squared distance of unit vectors."""
    # A zero row stays zero instead of NaN; it is recognised below.
    rows, centres = (v / v.norm(dim=1, keepdim=True).clamp_min(torch.finfo(v.dtype).tiny) for v in (rows, centres))
    nearest = centres[(rows @ centres.T).argmax(dim=1)]
    away = (rows - nearest).square().sum(dim=1) / 2
    # A zero vector has no direction: its distance is 1, as of orthogonal vectors.
    either_zero = (rows == 0).all(dim=1) | (nearest == 0).all(dim=1)
    return torch.where(either_zero, 1.0, away)
