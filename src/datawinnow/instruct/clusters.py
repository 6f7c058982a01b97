"""Clusters of embeddings, for quotas: given in the data, by k-means, or spectral as InstructionGPT-4 has them."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor

from datawinnow.core import check
from datawinnow.core.errors import ArgumentError
from datawinnow.core.kmeans import kmeans

SPECTRAL_MOST = 200_000
"""Rows above which spectral clustering is refused: its eigenvectors would take hours."""


def clusters_of(features: Any, k: int, *, by: str = "kmeans", seed: int = 0) -> Tensor:
    """Divide rows into k clusters.

    Args:
        features: (n, d) float, finite: embeddings, or their first principal components.
        k: clusters; at most n.
        by: ``"kmeans"``, from a start that draws nothing; or ``"spectral"`` on the graph of 10 nearest neighbours
            (scikit-learn's, as the published code calls it; its memory grows with n, not n^2).
        seed: of the spectral method's start.

    Returns:
        (n,) int64, numbered in the order in which they first appear.

    Raises:
        ArgumentError: NaN, k outside 1 to n, another ``by``, or too many rows for the spectral method.
    """
    rows = check.rows("features", features)
    check.one_of("by", by, ("kmeans", "spectral"))
    check.number("k", k, 1, len(rows), integer=True)
    if k == 1:
        return torch.zeros(len(rows), dtype=torch.int64)
    found = kmeans(rows, k).assignment if by == "kmeans" else _spectral(rows, k, seed)
    order = {label: i for i, label in enumerate(dict.fromkeys(found.tolist()))}
    return torch.tensor([order[label] for label in found.tolist()])


def _spectral(rows: Tensor, k: int, seed: int) -> Tensor:
    from sklearn.cluster import SpectralClustering

    if len(rows) > SPECTRAL_MOST:
        raise ArgumentError(
            f'by="spectral" takes up to {SPECTRAL_MOST:,} rows, got {len(rows):,}: its eigenvectors would take hours; '
            'use by="kmeans"'
        )
    method = SpectralClustering(
        n_clusters=k, affinity="nearest_neighbors", n_neighbors=min(10, len(rows)), random_state=seed
    )
    with warnings.catch_warnings():  # that the graph is in several parts is no fault: they are clusters
        warnings.filterwarnings("ignore", message="Graph is not fully connected")
        return torch.from_numpy(method.fit_predict(rows.double().numpy())).long()
