"""From indicators to features: the columns that a selector sees, in the order and scale of the published code."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from datawinnow.core import check
from datawinnow.core.errors import ArgumentError
from datawinnow.instruct.pairs import Pairs

VECTORS = ("image_features", "text_features")
INDICATORS = ("clip", "reward", "length", "gpt")
"""Of the published selector, in its order."""
EXTRA_INDICATORS = ("judge", "ifd")
"""Appended to those where the pairs have them."""
PUBLISHED_SCALE = {"reward": 10.0, "length": 10.0}
"""The published code multiplies these columns and standardises nothing (train.py)."""


@dataclass(frozen=True)
class FeatureLayout:
    """Which columns make a feature vector.

    Attributes:
        vectors: names of lists of numbers, with their widths.
        indicators: names of single numbers, behind the vectors.
    """

    vectors: tuple[tuple[str, int], ...]
    indicators: tuple[str, ...]

    @property
    def names(self) -> list[str]:
        """A name for each column."""
        return [f"{name} {i + 1}" for name, width in self.vectors for i in range(width)] + list(self.indicators)


def layout_of(pairs: Pairs, *, indicators: tuple[str, ...] | None = None) -> FeatureLayout:
    """The feature columns that pairs have.

    Args:
        pairs: the data.
        indicators: names of single numbers; None takes those of `INDICATORS` and `EXTRA_INDICATORS` that the pairs
            have.

    Raises:
        ArgumentError: an indicator that no pair has.
    """
    if indicators is None:
        indicators = tuple(name for name in (*INDICATORS, *EXTRA_INDICATORS) if name in pairs.numbers)
    for name in indicators:
        if name not in pairs.numbers:
            have = ", ".join(sorted(pairs.numbers)) or "none"
            raise ArgumentError(f"no pair has the indicator {name!r}; there are: {have}")
    vectors = tuple((name, pairs.vectors[name].shape[1]) for name in VECTORS if name in pairs.vectors)
    return FeatureLayout(vectors, indicators)


def feature_matrix(
    layout: FeatureLayout, numbers: Mapping[str, Any], vectors: Mapping[str, Any], *, scale: Mapping[str, float]
) -> Tensor:
    """Feature vectors ``[image, text, clip, reward, length, gpt]``, each indicator times its scale.

    Args:
        layout: which columns.
        numbers: name -> (...,) numbers.
        vectors: name -> (..., d) numbers.
        scale: factor of an indicator; 1 where it has none.

    Returns:
        (..., width) float32; NaN where a pair lacks something.
    """
    columns = [np.asarray(vectors[name], dtype=np.float32) for name, _ in layout.vectors]
    for name in layout.indicators:  # a product of float32, as in the published code
        # Both factors in float32: a float64 product rounded once would differ in the last bit.
        column = np.float32(scale.get(name, 1.0)) * np.asarray(numbers[name], np.float32)
        columns.append(column[..., None])
    return torch.from_numpy(np.concatenate(columns, axis=-1)) if columns else torch.empty(0, 0)


@dataclass(frozen=True, eq=False)
class Standardiser:
    """Mean and standard deviation of each column over the pool, fitted once and used on every set.

    Attributes:
        mean: (d,) float64.
        spread: (d,) float64 standard deviations; 1 for a column that is constant.
    """

    mean: Tensor
    spread: Tensor

    @classmethod
    def fit(cls, x: Tensor) -> Standardiser:
        """Fit to the rows of (n, d), which have no NaN."""
        rows = check.matrix("x", x).double()
        spread = rows.std(dim=0, correction=0)
        # the standard deviation of a constant column is rounding, relative to its size
        is_constant = spread <= 1e-12 * rows.abs().amax(dim=0).clamp_min(1e-300)
        return cls(rows.mean(dim=0), torch.where(is_constant, torch.ones_like(spread), spread))

    def __call__(self, x: Tensor) -> Tensor:
        """(..., d) float32 with mean 0 and standard deviation 1 over the pool."""
        return ((x.double() - self.mean) / self.spread).float()
