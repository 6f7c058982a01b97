"""GradMatch: few weighted examples whose gradients sum to that of all, by orthogonal matching pursuit."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from datawinnow.core import check
from datawinnow.core.card import card
from datawinnow.core.check import Missing
from datawinnow.core.draw import argmax_random_ties, largest
from datawinnow.core.errors import ArgumentError
from datawinnow.core.reason import Reason
from datawinnow.core.selection import Selection
from datawinnow.select._selectable import build_selection, scale_to_mean_one
from datawinnow.select.last_layer import LastLayer, held_out_layer, last_layer
from datawinnow.select.nnls import nonnegative

MAX_BUDGET = 6_000
"""Largest budget: three matrices of budget x budget in float64 stay under 1 GB."""


@card(
    "selector",
    "GradMatch",
    "Killamsetty et al. 2021, GRAD-MATCH: Gradient Matching based Data Subset Selection for Efficient Deep Model "
    "Training, arXiv 2103.00123, algorithm 2 (orthogonal matching pursuit)",
    cost="time O(budget * (n d c + budget^2)), memory O(n c + budget^2)",
)
def grad_match(
    features: Any,
    probs: Any,
    labels: Any,
    val_features: Any = None,
    val_probs: Any = None,
    val_labels: Any = None,
    *,
    budget: int,
    lam: float = 0.5,
    tolerance: float = 1e-4,
    weights: bool = True,
    mean_weight_one: bool = True,
    tie_seed: int = 0,
    missing: Missing = "raise",
) -> Selection:
    """Choose examples and weights whose weighted gradient matches the gradient of all.

    Minimises ``E(w, S) = || sum_{i in S} w_i g_i - b ||^2 + lam ||w||^2`` over w >= 0 and |S| = budget, where g_i is
    the gradient of example i's cross entropy in the last layer and b the mean gradient of all examples, or of the
    held-out ones if they are given. Each step takes the example whose gradient points most along the residual,
    ``argmax <g_i, b - sum w_j g_j>``, and solves for all weights again; a last solution at the end has w >= 0.
    A pursuit that ends early (nothing points along the rest, or the rest is small) is filled up with the examples
    whose gradients point most along b. Balance it with ``per_class``, as the authors' settings do: each class is then
    matched to its own mean gradient (or, with held-out data, to that of all of it).

    The authors' solver drops an example as soon as its weight turns negative, and fills up at random; here it stays,
    with a weight of 0 where the last solution says so. Scaling b changes no choice; weights are those of the sum.

    Args:
        features: (n, d) float, input of the last layer.
        probs: (n, c) float, softmax of the same pass.
        labels: (n,) int, class ids.
        val_features: (v, d) float, held-out data to match instead, with the two below; the paper's form for noisy
            labels or imbalance.
        val_probs: (v, c) float.
        val_labels: (v,) int.
        budget: number of examples to keep, 1 to n, at most 6,000 (or 6,000 a class with ``per_class``).
        lam: weight of the squared norm of w, which keeps weights from concentrating on single examples; 0.5 as in the
            authors' settings, 1 in DeepCore.
        tolerance: the pursuit ends when the rest is at most this fraction of b (the authors' settings say 1e-100:
            never); the paper's bound is on E itself, which depends on the scale of the features.
        weights: False for weights of one.
        mean_weight_one: scale weights to a mean of one, which keeps the length of training steps. False leaves the
            solution for b the sum of gradients instead of their mean; `per_class` scales the classes' together, so
            that the ratio between classes is that of the paper.
        tie_seed: seed of the order of equal examples.
        missing: ``"raise"``, or ``"skip"`` never to choose an example whose features or probs are NaN.

    Returns:
        `Selection` of exactly ``budget`` ids in the order chosen, weights at least 0 and 1 on average (all 1 if the
        solution is 0, which happens only with ``mean_weight_one``); prefixes nest, but for their weights.

    Raises:
        ArgumentError: a budget outside 1 to n or above 6,000, an option out of range, arrays that do not fit, NaN.
        CapacityError: fewer examples without NaN than ``budget``.

    References:
        Killamsetty et al. 2021, arXiv 2103.00123, algorithm 2.

    >>> kept = grad_match([[1.0], [1.0], [9.0]], [[0.5, 0.5], [0.5, 0.5], [0.9, 0.1]], [0, 0, 1], budget=1)
    >>> kept.index.tolist(), kept.weight.tolist()
    ([2], [1.0])
    """
    check.number("lam", lam, 0, 1e12)
    check.number("tolerance", tolerance, 0, 1)
    check.seed("tie_seed", tie_seed)
    check.one_of("mean_weight_one", mean_weight_one, (True, False))
    layer, ids, n = last_layer(features, probs, labels, budget=budget, missing=missing)
    if budget > MAX_BUDGET:
        raise ArgumentError(
            f"budget={budget}, but grad_match solves for the weights of at most {MAX_BUDGET} examples at once (a dense "
            "system of 1 GB); match class by class, select.per_class(select.grad_match), or keep fewer"
        )
    held_out = [val_features, val_probs, val_labels]
    if any(v is None for v in held_out) and any(v is not None for v in held_out):
        raise ArgumentError("val_features, val_probs and val_labels go together; give all three or none")
    source = layer if val_features is None else held_out_layer(val_features, val_probs, val_labels, layer)
    goal = source.mean()
    chosen = pursue(layer, goal, budget, lam, tolerance, tie_seed)
    out = build_selection(chosen, n, ids, kept=Reason.COVERS, dropped=Reason.COVERED)
    if not weights:
        return out
    # The solution is proportional to b, so that for the sum follows from that for the mean.
    weight = solve(layer, goal, chosen, lam) * source.n
    return Selection(out.index, (scale_to_mean_one(weight) if mean_weight_one else weight).float(), out.reason)


def pursue(layer: LastLayer, goal: Tensor, budget: int, lam: float, tolerance: float, tie_seed: int = 0) -> Tensor:
    """Orthogonal matching pursuit.

    With A the chosen gradients and L L^T = A A^T + lam, the weights are ``w = L^-T L^-1 A b``. The rows of L^-1 are
    kept: a pick adds one, and changes w by a multiple of it, so a step is products of matrices with vectors only.

    Args:
        layer: gradients of n examples.
        goal: (c, d + 1) float64, what to match.
        budget: number of examples to choose.
        lam: ridge.
        tolerance: fraction of the goal's norm at which to stop.
        tie_seed: seed of the order of equal examples.

    Returns:
        (budget,) int64 ids in the order chosen.
    """
    # <g_i, b>: the first ranking, and the order in which an early end is filled up.
    straight = layer.along(goal)
    towards = straight.clone()
    # L^-1, row by row.
    inverse = torch.zeros(budget, budget, dtype=torch.float64)
    errors = torch.empty(budget, goal.shape[0], dtype=torch.float64)
    rows = torch.empty(budget, goal.shape[1], dtype=torch.float64)
    seen = torch.empty(budget, dtype=torch.float64)  # L^-1 A b
    rest = goal.clone()
    size = float(goal.norm())
    chosen: list[int] = []
    for k in range(budget):
        if float(rest.norm()) <= tolerance * size:
            break
        # The residual is orthogonal to the chosen only for lam = 0, so they must be excluded.
        towards[chosen] = -torch.inf
        pick = argmax_random_ties(towards.numpy(), tie_seed)
        if float(towards[pick]) <= 0:
            break
        error, row = layer.factors(torch.tensor([pick]))
        # <g_j, g_pick> for every chosen j: an inner product of outer products is a product of two.
        gram = (errors[:k] @ error[0]) * (rows[:k] @ row[0])
        coefficients = inverse[:k, :k] @ gram
        squared_norm = float(error.square().sum() * row.square().sum())
        # The squared diagonal entry of the new row of the Cholesky factor.
        pivot = squared_norm + lam - float(coefficients.square().sum())
        if pivot <= 1e-12 * (squared_norm + lam):  # it adds nothing to those chosen, but for rounding
            break
        chosen.append(pick)
        errors[k], rows[k] = error[0], row[0]
        # The inverse of a bordered lower triangle: the old rows stay.
        inverse[k, :k] = -(coefficients @ inverse[:k, :k])
        inverse[k, k] = 1
        inverse[k, : k + 1] /= pivot**0.5
        seen[k] = (float(error[0] @ goal @ row[0]) - float(coefficients @ seen[:k])) / pivot**0.5
        change = seen[k] * inverse[k, : k + 1]
        # b - sum w_j g_j, updated by the change of w instead of summed again.
        rest -= (errors[: k + 1] * change[:, None]).T @ rows[: k + 1]
        towards = layer.along(rest)
    straight[chosen] = -torch.inf
    # A full ranking sorted once; the chosen have -inf and come last.
    return torch.cat(
        [torch.tensor(chosen, dtype=torch.int64), largest(straight, layer.n, tie_seed)[: budget - len(chosen)]]
    )


def solve(layer: LastLayer, goal: Tensor, chosen: Tensor, lam: float) -> Tensor:
    """(k,) float64: weights of at least 0 that minimise E over the chosen."""
    errors, rows = layer.factors(chosen)
    gram = (errors @ errors.T).mul_(rows @ rows.T)
    gram.diagonal().add_(lam)
    return nonnegative(gram, ((errors @ goal) * rows).sum(1))
