"""Clusters of embeddings, for quotas: by k-means, or spectral as InstructionGPT-4 has them."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor

from datawinnow.core import check
from datawinnow.core.errors import ArgumentError
from datawinnow.core.kmeans import kmeans

MAX_SPECTRAL_ROWS = 200_000
"""Above this the eigenvectors of spectral clustering would take hours."""


def clusters_of(features: Any, k: int, *, method: str = "kmeans", seed: int = 0) -> Tensor:
    """Divide rows into k clusters.

    Args:
        features: (n, d) float, finite: embeddings, or their first principal components.
        k: clusters; at most n.
        method: ``"kmeans"``, whose start is not random; or ``"spectral"`` on the graph of 10 nearest neighbours (by
            scikit-learn, as the published code calls it; its memory grows with n, not n^2).
        seed: of the spectral method.

    Returns:
        (n,) int64, numbered in the order in which they first appear.

    Raises:
        ArgumentError: NaN, k outside 1 to n, another method, or too many rows for the spectral method.
    """
    rows = check.matrix("features", features)
    check.one_of("method", method, ("kmeans", "spectral"))
    check.number("k", k, 1, len(rows), integer=True)
    if k == 1:
        return torch.zeros(len(rows), dtype=torch.int64)
    labels = (kmeans(rows, k).assignment if method == "kmeans" else _spectral(rows, k, seed)).tolist()
    # Renumbered by first appearance: the numbers of a clustering are arbitrary and differ between versions.
    order = {label: i for i, label in enumerate(dict.fromkeys(labels))}
    return torch.tensor([order[label] for label in labels])


def _spectral(rows: Tensor, k: int, seed: int) -> Tensor:
    from sklearn.cluster import SpectralClustering

    if len(rows) > MAX_SPECTRAL_ROWS:
        raise ArgumentError(
            f"spectral clustering takes up to {MAX_SPECTRAL_ROWS:,} rows, got {len(rows):,}: use k-means "
            "(`clusters='kmeans'`)"
        )
    clustering = SpectralClustering(
        n_clusters=k, affinity="nearest_neighbors", n_neighbors=min(10, len(rows)), random_state=seed
    )
    with warnings.catch_warnings():  # a graph in several components is no fault: they are clusters
        warnings.filterwarnings("ignore", message="Graph is not fully connected")
        return torch.from_numpy(clustering.fit_predict(rows.double().numpy())).long()
