"""Principal components of embeddings, fitted once on the pool: every subset then has the same axes and signs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from datawinnow.core import check
from datawinnow.core.artifacts import read_tensors, write_tensors
from datawinnow.core.epochs import blocks


@dataclass(frozen=True, eq=False)
class PCA:
    """Axes of the largest variance.

    Attributes:
        mean: (d,) float64.
        axes: (k, d) float64, of length 1, by falling variance; the largest coordinate of each is positive.
        variance: (k,) float64, along each axis (divided by n - 1).
    """

    mean: Tensor
    axes: Tensor
    variance: Tensor

    def __call__(self, x: Any) -> Tensor:
        """(n, k) float32 coordinates of (n, d) rows; NaN for a row with NaN.

        Raises:
            ArgumentError: rows of another width.
        """
        rows = check.matrix("x", x, missing="skip")
        check.one_of("the width of x", rows.shape[1], (len(self.mean),))
        # In blocks: a float64 copy of all embeddings could exceed memory.
        coordinates = [(rows[first:last].double() - self.mean) @ self.axes.T for first, last in blocks(len(rows))]
        return torch.cat(coordinates).float()

    def write(self, path: Path) -> None:
        """Write one safetensors file atomically."""
        write_tensors(path, {"mean": self.mean, "axes": self.axes, "variance": self.variance}, {}, kind="PCA")

    @classmethod
    def read(cls, path: Path) -> PCA:
        """Read a file of `write`.

        Raises:
            RunError: no such file, or it is damaged or holds something else.
        """
        names = ("mean", "axes", "variance")
        arrays, _ = read_tensors(path, kind="PCA", required=names, remedy="remove it and fit again")
        return cls(arrays["mean"], arrays["axes"], arrays["variance"])


def fit_pca(x: Any, k: int = 6) -> PCA:
    """The first k principal components of the rows without NaN, in float64 by scikit-learn.

    Args:
        x: (n, d) float; rows with NaN are left out.
        k: axes; at most d and at most n - 1.

    Returns:
        `PCA`.

    Raises:
        ArgumentError: infinity, or k outside 1 to min(d, n - 1).

    Source: Wei et al. 2023, arXiv 2308.12067, section 3.1 (6 components; there fitted again for every subset).
    """
    from sklearn import decomposition

    rows = check.matrix("x", x, missing="skip")
    rows = rows[~rows.isnan().any(dim=1)]
    n, d = rows.shape
    check.number("k", k, 1, max(0, min(d, n - 1)), integer=True)
    # this solver decomposes the (d, d) covariance; its signs make the largest coordinate of each axis positive
    fitted = decomposition.PCA(k, svd_solver="covariance_eigh").fit(rows.double().numpy())
    mean, axes, variance = (
        torch.from_numpy(array.copy()) for array in (fitted.mean_, fitted.components_, fitted.explained_variance_)
    )
    return PCA(mean, axes, variance)
