"""Ridge regression from the mean features of a set to its label: the baseline of the selector network."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from datawinnow.core.errors import ArgumentError

PENALTIES = tuple(10.0 ** (i / 2) for i in range(-6, 13))
"""From nearly no shrinkage to the constant: 0.001 to 1,000,000."""


@dataclass(frozen=True, eq=False)
class RidgeModel:
    """A linear score.

    Attributes:
        weight: (d,) float64.
        bias: score at the origin.
        penalty: chosen by leaving one set out.
        error: mean squared error of the sets when each is left out in turn, at that penalty.
    """

    weight: Tensor
    bias: float
    penalty: float
    error: float

    def __call__(self, x: Tensor) -> Tensor:
        """(...,) float64 scores of (..., d) rows: the mean of a set, or one item."""
        return x.double() @ self.weight + self.bias


def ridge(means: Tensor, labels: Tensor, penalties: tuple[float, ...] = PENALTIES) -> RidgeModel:
    """Least squares with a penalty on the squared weights, chosen by leaving one set out.

    ``min over w, b of sum_i (w' z_i + b - y_i)^2 + penalty * |w|^2`` on columns centred and scaled to a standard
    deviation of 1 over the sets, by scikit-learn's ``RidgeCV`` (leave-one-out as in Golub, Heath and Wahba 1979,
    equation 1.3). A set that is left out still has a share in the scale of the columns, so in the choice of the
    penalty.

    Args:
        means: (s, d) mean features of the sets.
        labels: (s,).
        penalties: to choose among; the larger one of a tie.

    Returns:
        `RidgeModel`, in units of ``means``.

    Raises:
        ArgumentError: fewer than two sets.
    """
    from sklearn.linear_model import RidgeCV

    z, y = means.double(), labels.double()
    if len(y) < 2:
        raise ArgumentError(f"ridge regression needs at least 2 sets, got {len(y)}")
    centre, spread = z.mean(dim=0), z.std(dim=0, correction=0)
    # a constant column has no weight; its standard deviation is rounding, relative to its size
    spread = torch.where(spread > 1e-12 * z.abs().amax(dim=0).clamp_min(1e-300), spread, torch.inf)
    # RidgeCV keeps the first of equally good penalties: from large to small, that is the strongest.
    model = RidgeCV(alphas=sorted(penalties, reverse=True)).fit(((z - centre) / spread).numpy(), y.numpy())
    weight = torch.from_numpy(model.coef_).double() / spread
    # Back to the units of `means`: w' ((z - c) / s) + b = (w / s)' z + b - (w / s)' c.
    bias = float(model.intercept_) - float(centre @ weight)
    return RidgeModel(weight, bias, float(model.alpha_), -float(model.best_score_))
