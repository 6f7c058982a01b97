"""Scaling curves: error against the share of the examples, or of the training, with a part that cannot be reduced."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from datawinnow.core.errors import ArgumentError

Floats = npt.NDArray[np.float64]

EXPONENTS: Floats = np.geomspace(0.05, 4.0, 120)
"""Exponents that are tried; the best is taken. Published scaling exponents of classifiers lie between 0.05 and 1."""


@dataclass(frozen=True, eq=False)
class ScalingCurves:
    """Fitted curves of ``m`` replicates: error(s) = irreducible + scale * s^-exponent, for a share s in (0, 1].

    Attributes:
        irreducible: (m,) float64, error that no share removes.
        scale: (m,) float64, error beyond it at share 1.
        exponent: (m,) float64.

    References:
        Deep Learning Scaling is Predictable, Empirically (Hestness et al. 2017, arXiv 1712.00409), equation 1; the
        irreducible part of Kaplan et al. 2020 and Sorscher et al. 2022 (arXiv 2206.14486).
    """

    irreducible: Floats
    scale: Floats
    exponent: Floats

    def at(self, share: float | Floats) -> Floats:
        """(m,) or, of (k,) shares, (m, k) errors."""
        shares = np.asarray(share, dtype=np.float64)
        if shares.ndim == 0:
            return self.irreducible + self.scale * shares**-self.exponent
        return self.irreducible[:, None] + self.scale[:, None] * shares[None, :] ** -self.exponent[:, None]


def fit_curves(shares: Sequence[float] | Floats, errors: Floats, weights: Floats | None = None) -> ScalingCurves:
    """Weighted least squares of ``irreducible + scale * s^-exponent``, with all three non-negative, a replicate a row.

    For each of `EXPONENTS` the curve is linear in the other two, which have a closed form; the exponent with the
    smallest sum of squares is taken, the smallest of equal ones.

    Args:
        shares: (k,) in (0, 1], at least two different.
        errors: (m, k) errors in [0, 1], of m replicates.
        weights: (k,) positive, one over the variance of each column; equal by default.

    Raises:
        ArgumentError: shapes that do not fit, fewer than two shares, or values out of range.

    >>> import numpy as np
    >>> curves = fit_curves([0.125, 0.25, 0.5, 1], np.array([[0.5, 0.4, 0.35, 0.325]]))  # 0.3 + 0.025 / s
    >>> round(float(curves.irreducible[0]), 2), round(float(curves.at(1.0)[0]), 3)
    (0.3, 0.325)
    """
    s = np.asarray(shares, dtype=np.float64)
    y = np.asarray(errors, dtype=np.float64)
    w = np.ones_like(s) if weights is None else np.asarray(weights, dtype=np.float64)
    if s.ndim != 1 or len(np.unique(s)) < 2 or not bool(((s > 0) & (s <= 1)).all()):
        raise ArgumentError(f"a scaling curve needs two or more different shares in (0, 1], got {s.tolist()}")
    if y.ndim != 2 or y.shape[1] != len(s) or not bool(np.isfinite(y).all()):
        raise ArgumentError(f"errors must be finite and (replicates, {len(s)}), got shape {y.shape}")
    if w.shape != s.shape or not bool((np.isfinite(w) & (w > 0)).all()):
        raise ArgumentError(f"weights must be {len(s)} positive numbers, got {w.tolist()}")
    w = w / w.sum()
    x = s[None, :] ** -EXPONENTS[:, None]  # (exponents, k)
    mean_x, mean_y = x @ w, y @ w
    deviation = (x - mean_x[:, None]) * w
    slope = (deviation @ (y - mean_y[:, None]).T) / (deviation * (x - mean_x[:, None])).sum(1)[:, None]
    slope = np.maximum(slope, 0.0)
    intercept = mean_y[None, :] - slope * mean_x[:, None]
    # below zero the constraint is active: the best line through the origin
    through_zero = np.maximum((x * w) @ y.T / ((x * w) * x).sum(1)[:, None], 0.0)
    slope = np.where(intercept < 0, through_zero, slope)
    intercept = np.maximum(intercept, 0.0)  # (exponents, m)
    squares = np.zeros_like(slope)
    for column in range(len(s)):  # the three-dimensional residuals would be k times as large
        squares += w[column] * (y[None, :, column] - intercept - slope * x[:, column, None]) ** 2
    best = squares.argmin(0)
    replicate = np.arange(len(y))
    return ScalingCurves(intercept[best, replicate], slope[best, replicate], EXPONENTS[best])
