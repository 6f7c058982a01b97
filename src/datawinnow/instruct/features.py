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
MORE = ("judge", "ifd")
"""Taken behind those where they are there."""
PUBLISHED_SCALE = {"reward": 10.0, "length": 10.0}
"""The published code multiplies these and standardises nothing (train.py; condense.md 1.11)."""


@dataclass(frozen=True)
class Layout:
    """Which columns make a feature vector.

    Attributes:
        vectors: names of lists of numbers, with their widths.
        indicators: names of single numbers, behind the vectors.
    """

    vectors: tuple[tuple[str, int], ...]
    indicators: tuple[str, ...]

    @property
    def width(self) -> int:
        """Numbers in a feature vector."""
        return sum(width for _, width in self.vectors) + len(self.indicators)

    @property
    def names(self) -> list[str]:
        """A name for each column."""
        return [f"{name} {i + 1}" for name, width in self.vectors for i in range(width)] + list(self.indicators)


def layout_of(pairs: Pairs, *, indicators: tuple[str, ...] | None = None) -> Layout:
    """The columns that these pairs have: the published ones where all are there.

    Args:
        pairs: the data.
        indicators: names of single numbers; None takes those of `INDICATORS` and `MORE` that are there.

    Raises:
        ArgumentError: an indicator that no pair has.
    """
    names = tuple(name for name in (*INDICATORS, *MORE) if name in pairs.numbers) if indicators is None else indicators
    for name in names:
        if name not in pairs.numbers:
            have = ", ".join(sorted(pairs.numbers)) or "none"
            raise ArgumentError(f"no pair has the indicator {name!r}; there are: {have}")
    vectors = tuple((name, pairs.vectors[name].shape[1]) for name in VECTORS if name in pairs.vectors)
    return Layout(vectors, names)


def matrix(
    layout: Layout, numbers: Mapping[str, Any], vectors: Mapping[str, Any], *, scale: Mapping[str, float]
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
    parts = [np.asarray(vectors[name], dtype=np.float32) for name, _ in layout.vectors]
    # in float32 as the published code has them: 10 * reward there is a product of float32
    singles = [np.float32(scale.get(name, 1.0)) * np.asarray(numbers[name], np.float32) for name in layout.indicators]
    columns = [*parts, *(single[..., None] for single in singles)]
    return torch.from_numpy(np.concatenate(columns, axis=-1)) if columns else torch.empty(0, 0)


@dataclass(frozen=True, eq=False)
class Standard:
    """Mean and spread of each column over the pool, fitted once and used on every set.

    Attributes:
        mean: (d,) float64.
        spread: (d,) float64; 1 for a column that is constant.
    """

    mean: Tensor
    spread: Tensor

    @classmethod
    def of(cls, x: Tensor) -> Standard:
        """Fitted on the rows of (n, d) without NaN."""
        rows = check.rows("x", x).double()
        spread = rows.std(dim=0, correction=0)
        # a constant column's spread is rounding, relative to its size
        flat = spread <= 1e-12 * rows.abs().amax(dim=0).clamp_min(1e-300)
        return cls(rows.mean(dim=0), torch.where(flat, torch.ones_like(spread), spread))

    def __call__(self, x: Tensor) -> Tensor:
        """(..., d) float32 in units of the pool's spread."""
        return ((x.double() - self.mean) / self.spread).float()
