"""Ridge regression from the mean features of a set to its label: the honest competitor of the network."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from datawinnow.core.errors import ArgumentError

PENALTIES = tuple(10.0 ** (i / 2) for i in range(-6, 13))
"""From next to no shrinking to the constant: 0.001 to 1,000,000."""


@dataclass(frozen=True, eq=False)
class Ridge:
    """A linear score.

    Attributes:
        weight: (d,) float64.
        bias: what a set at the origin is worth.
        penalty: the one chosen.
        error: mean squared error of the sets when each is left out in turn, at that penalty.
    """

    weight: Tensor
    bias: float
    penalty: float
    error: float

    def __call__(self, x: Tensor) -> Tensor:
        """(..., ) float64 of (..., d): of a set's mean or of an item, which is a set of one."""
        return x.double() @ self.weight + self.bias


def ridge(means: Tensor, labels: Tensor, penalties: tuple[float, ...] = PENALTIES) -> Ridge:
    """Least squares with a penalty on the squared weights, chosen by leaving one set out.

    ``min over w, b of sum_i (w' z_i + b - y_i)^2 + penalty * |w|^2`` on columns centred and scaled to a spread of one
    over the sets. The error of each set when it is left out follows from one decomposition: ``(y_i - f_i) / (1 -
    h_ii)`` with h the hat matrix, the intercept's ``1/s`` included (Golub, Heath and Wahba 1979, equation 1.3). (The
    scale of the columns is that of all sets: a set left out has had a part in it, in the choice of the penalty only.)

    Args:
        means: (s, d) mean features of the sets.
        labels: (s,).
        penalties: those to choose among; ties go to the larger, which shrinks more.

    Returns:
        `Ridge`, in units of ``means``.

    Raises:
        ArgumentError: fewer than two sets.
    """
    z, y = means.double(), labels.double()
    s = len(y)
    if s < 2:
        raise ArgumentError(f"ridge regression needs at least 2 sets, got {s}")
    centre, level = z.mean(dim=0), y.mean()
    spread = z.std(dim=0, correction=0)
    spread = torch.where(spread > 1e-12 * z.abs().amax(dim=0).clamp_min(1e-300), spread, torch.inf)
    u, sizes, v = torch.linalg.svd((z - centre) / spread, full_matrices=False)
    best: tuple[float, float] | None = None
    for penalty in sorted(penalties, reverse=True):
        shrink = sizes.square() / (sizes.square() + penalty)
        fitted = u @ (shrink * (u.T @ (y - level)))
        leverage = 1 / s + (u.square() * shrink).sum(dim=1)
        error = float(((y - level - fitted) / (1 - leverage).clamp_min(1e-9)).square().mean())
        if best is None or error < best[0]:
            best = error, penalty
    assert best is not None
    weight = v.T @ (sizes / (sizes.square() + best[1]) * (u.T @ (y - level))) / spread
    return Ridge(weight, float(level - centre @ weight), best[1], best[0])
