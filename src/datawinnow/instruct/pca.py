"""Principal components of embeddings, fitted once on the pool: every subset then has the same axes and signs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from datawinnow.core import check
from datawinnow.core.artifacts import FORMAT_VERSION, check_format
from datawinnow.core.epochs import blocks
from datawinnow.core.errors import RunError
from datawinnow.core.files import write_bytes


@dataclass(frozen=True, eq=False)
class PCA:
    """Axes of the largest variance.

    Attributes:
        mean: (d,) float64.
        axes: (k, d) float64, of length one, by falling variance; the largest coordinate of each is positive.
        variance: (k,) float64, along each (divided by n - 1).
    """

    mean: Tensor
    axes: Tensor
    variance: Tensor

    def __call__(self, x: Any) -> Tensor:
        """(n, k) float32 coordinates of (n, d) rows; a row with NaN has NaN.

        Raises:
            ArgumentError: rows of another width.
        """
        rows = check.rows("x", x, missing="skip")
        if rows.shape[1] != len(self.mean):
            check.one_of("the width of x", rows.shape[1], (len(self.mean),))
        parts = [(part.double() - self.mean) @ self.axes.T for part in _parts(rows)]
        return torch.cat(parts).float()

    def write(self, path: Path) -> None:
        """Write it as one safetensors file, whole."""
        about = {"datawinnow": json.dumps({"format": FORMAT_VERSION, "kind": "pca"})}
        arrays = {"mean": self.mean, "axes": self.axes.contiguous(), "variance": self.variance}
        write_bytes(path, save(arrays, metadata=about))

    @classmethod
    def read(cls, path: Path) -> PCA:
        """Read what `write` wrote.

        Raises:
            RunError: not there, damaged, or something else.
        """
        try:
            with safe_open(path, framework="pt") as file:
                about = json.loads((file.metadata() or {}).get("datawinnow", "null"))
                arrays = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        except (SafetensorError, OSError, ValueError) as error:
            raise RunError(f"{path} is truncated or no PCA ({error}); remove it: it is fitted anew") from None
        if not isinstance(about, dict) or about.get("kind") != "pca" or set(arrays) != {"mean", "axes", "variance"}:
            raise RunError(f"{path} holds no PCA; remove it: it is fitted anew")
        check_format(about.get("format"), path)
        return cls(arrays["mean"], arrays["axes"], arrays["variance"])


def _parts(rows: Tensor) -> Iterator[Tensor]:
    return (rows[first:last] for first, last in blocks(len(rows)))


def fit_pca(x: Any, k: int = 6) -> PCA:
    """The first k principal components of the rows without NaN, from their covariance in float64.

    Args:
        x: (n, d) float; rows with NaN are left out.
        k: axes; at most d and at most n - 1.

    Returns:
        `PCA`.

    Raises:
        ArgumentError: infinity, or k outside 1 to min(d, n - 1).

    Source: Wei et al. 2023, arXiv 2308.12067, section 3.1 (6 components; there fitted again for every subset).
    """
    rows = check.rows("x", x, missing="skip")
    rows = rows[~rows.isnan().any(dim=1)]
    n, d = rows.shape
    check.number("k", k, 1, max(0, min(d, n - 1)), integer=True)
    mean = rows.double().mean(dim=0)
    covariance = torch.zeros(d, d, dtype=torch.float64)
    for part in _parts(rows):
        centred = part.double() - mean
        covariance += centred.T @ centred
    values, axes = torch.linalg.eigh(covariance / (n - 1))
    chosen = axes.flip(1)[:, :k].T
    signs = torch.gather(chosen, 1, chosen.abs().argmax(dim=1, keepdim=True)).sign()
    return PCA(mean, chosen * signs, values.flip(0)[:k].clamp_min(0))
