"""Least squares with weights of at least 0, from the normal equations."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

SINGULAR = 1e-11
"""Fraction of the largest scale up to which a pivot or an eigenvalue counts as 0."""
PATIENCE = 3
"""Number of exchanges of all infeasible weights without progress, before they are exchanged one at a time."""


def nonnegative(gram: Tensor, right: Tensor) -> Tensor:
    """Minimise ``w^T gram w / 2 - right^T w`` over ``w >= 0``.

    Block principal pivoting: guess which weights are positive, solve for them, and exchange all of the wrong sign. It
    takes a few rounds of one Cholesky factor each, where an active set that starts empty needs one per weight. When
    the number of wrong signs stops falling, only the last of them is exchanged, which terminates (Murty).

    Args:
        gram: (k, k) float64, symmetric, positive semi-definite.
        right: (k,) float64.

    Returns:
        (k,) float64, at least 0.

    Where ``gram`` is singular to rounding there are many solutions, among which pivoting can turn in circles: there
    SciPy's active set, on a factor of ``gram``, gives one.

    References:
        Kim and Park 2011, Fast nonnegative matrix factorization, doi:10.1137/110821172, section 4.

    >>> nonnegative(torch.eye(2).double(), torch.tensor([3.0, -1.0]).double()).round(decimals=6).tolist()
    [3.0, 0.0]
    """
    k = right.numel()
    if not k:
        return torch.zeros(0, dtype=torch.float64)
    # The mean diagonal is the scale of the gradients, which must not matter.
    scale = float(gram.diagonal().mean())
    ridge = 1e-12 * scale
    factor, failed = torch.linalg.cholesky_ex(gram)
    if int(failed) or float(factor.diagonal().min()) ** 2 <= SINGULAR * scale:
        return _active_set(gram, right)
    # Optimality (KKT): w >= 0, slope >= 0 and w * slope = 0; a slope within the slack counts as 0.
    slack = 1e-10 * max(float(right.abs().max()), torch.finfo(torch.float64).tiny)
    # All weights start as positive: the unconstrained solution is often nearly feasible.
    positive = torch.ones(k, dtype=torch.bool)
    best, patience = k + 1, PATIENCE
    weight = torch.zeros(k, dtype=torch.float64)
    for _ in range(10 * k + 100):
        weight = torch.zeros(k, dtype=torch.float64)
        inside = torch.nonzero(positive).flatten()
        if inside.numel():
            block = gram[inside[:, None], inside]
            block.diagonal().add_(ridge)
            # cholesky_ex does not raise where rounding leaves a matrix not quite positive definite.
            factor = torch.linalg.cholesky_ex(block).L
            weight[inside] = torch.cholesky_solve(right[inside, None], factor).squeeze(1)
        slope = gram @ weight - right
        # Infeasible: a negative weight inside, or outside a weight that would lower the objective if it grew.
        wrong = (positive & (weight < 0)) | (~positive & (slope < -slack))
        count = int(wrong.sum())
        if not count:
            break
        # Progress: exchange all. Without it, PATIENCE more such rounds, then one at a time.
        if count < best:
            best, patience = count, PATIENCE
        elif patience > 0:
            patience -= 1
        else:  # only the last of them
            last = int(torch.nonzero(wrong)[-1])
            wrong = torch.zeros_like(wrong)
            wrong[last] = True
        positive ^= wrong
    else:
        return _active_set(gram, right)
    return weight.clamp_min_(0)


def _active_set(gram: Tensor, right: Tensor) -> Tensor:
    """The same by the method of Lawson and Hanson, on A with ``A^T A = gram`` and b with ``A^T b = right``."""
    values, vectors = np.linalg.eigh(gram.numpy())
    present = values > SINGULAR * max(float(values[-1]), np.finfo(np.float64).tiny)
    if not present.any():  # no gradients at all
        return torch.zeros_like(right)
    roots = np.sqrt(values[present])
    matrix = roots[:, None] * vectors[:, present].T
    from scipy.optimize import nnls  # here, since it is slow to import

    weight, _ = nnls(matrix, (vectors[:, present].T @ right.numpy()) / roots, maxiter=100 * len(right) + 1000)
    return torch.from_numpy(weight)
