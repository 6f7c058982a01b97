"""CAL: examples whose neighbours are predicted otherwise."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from datawinnow.core import check
from datawinnow.core.card import card
from datawinnow.core.check import Missing
from datawinnow.core.draw import largest
from datawinnow.core.errors import ArgumentError
from datawinnow.core.neighbours import knn
from datawinnow.core.reason import Reason
from datawinnow.core.selection import Selection
from datawinnow.select._divergence import with_logs
from datawinnow.select._selectable import build_selection, selectable_ids

CONTRAST_BLOCK = 1 << 22
"""Probabilities gathered at once: 16 MB of float32."""


@card(
    "selector",
    "CAL",
    "Margatina et al. 2021, Active Learning by Acquiring Contrastive Examples, arXiv 2109.03764, algorithm 1",
    cost="time O(n^2 d) for the exact neighbours, memory O(n neighbours)",
)
def cal(
    features: Any,
    probs: Any,
    *,
    budget: int,
    neighbours: int = 10,
    symmetric: bool = False,
    end: Literal["high", "low"] = "high",
    tie_seed: int = 0,
    missing: Missing = "raise",
) -> Selection:
    """Keep contrastive examples: near others in features, but predicted differently.

    ``s_i = mean over the k nearest j of KL(p_j || p_i)``, and the highest are kept: those at the decision boundary.
    The paper looks for neighbours among the labelled examples; when pruning all are labelled, so among all others (in
    the class, ``per_class(cal)``, as DeepCore does). DeepCore's code has the symmetric divergence
    ``(KL(p_j || p_i) + KL(p_i || p_j)) / 2`` and keeps the **lowest**: ``symmetric=True, end="low"``. Probabilities are
    raised to 1e-10.

    Args:
        features: (n, d) float, where neighbours are looked for, by Euclidean distance.
        probs: (n, c) float, softmax outputs of a trained network.
        budget: number of examples to keep, 1 to n.
        neighbours: k, at most n - 1.
        symmetric: take the mean of both directions of the divergence, as DeepCore does.
        end: which end is kept: ``"high"`` as in the paper, ``"low"`` as in DeepCore's code.
        tie_seed: seed of the order of equal values.
        missing: ``"raise"``, or ``"skip"`` never to choose (or use) an example with NaN in either array.

    Returns:
        `Selection` of exactly ``budget`` ids, best first (prefixes nest), weights of one. Ties are drawn.

    Raises:
        ArgumentError: a budget outside 1 to n, fewer than 1 neighbour, rows that are no distributions, NaN.
        CapacityError: fewer examples without NaN than ``budget``.

    References:
        Margatina et al. 2021, arXiv 2109.03764, algorithm 1.

    >>> probs = [[0.9, 0.1], [0.9, 0.1], [0.1, 0.9], [0.9, 0.1]]
    >>> cal([[0.0], [1.0], [2.2], [9.0]], probs, budget=1, neighbours=1).index.tolist()
    [2]
    """
    check.one_of("end", end, ("high", "low"))
    check.seed("tie_seed", tie_seed)
    check.one_of("symmetric", symmetric, (False, True))
    check.number("neighbours", neighbours, 1, 10**6, integer=True)
    rows = check.matrix("features", features, missing=missing)
    chances = check.distributions("probs", probs, missing)
    n = rows.shape[0]
    if chances.shape[0] != n:
        raise ArgumentError(f"features is about {n} examples, but probs about {chances.shape[0]}")
    sums = [a[:, 0] if missing == "raise" else a.sum(1) for a in (rows, chances)]
    ids = selectable_ids(budget, missing, features=sums[0], probs=sums[1])
    if ids is not None:
        rows, chances = rows[ids], chances[ids]
    contrast = cal_contrast(rows, chances, neighbours=neighbours, symmetric=symmetric, tie_seed=tie_seed)
    chosen = largest(contrast if end == "high" else -contrast, budget, tie_seed)
    return build_selection(chosen, n, ids, kept=Reason.RANKED, dropped=Reason.BELOW_CUT)


def cal_contrast(
    features: Tensor, probs: Tensor, *, neighbours: int = 10, symmetric: bool = False, tie_seed: int = 0
) -> Tensor:
    """(n,) mean divergence, in nats, of the predictions of each example's neighbours from its own: what `cal` ranks by.

    Args:
        features: (n, d) float.
        probs: (n, c) class probabilities.
        neighbours: as of `cal`.
        symmetric: as of `cal`.
        tie_seed: seed of the order of equally near neighbours.

    >>> cal_contrast(torch.tensor([[0.0], [1.0]]), torch.tensor([[0.5, 0.5], [0.5, 0.5]])).tolist()
    [0.0, 0.0]
    """
    # (n, k), without the example itself.
    near, _ = knn(features, min(neighbours, features.shape[0] - 1), tie_seed=tie_seed)
    return _contrast(probs, near, symmetric)


def _contrast(probs: Tensor, near: Tensor, symmetric: bool) -> Tensor:
    """(n,) mean divergence, in nats, of each example's neighbours' predictions from its own; 0 without neighbours."""
    n, k = near.shape
    out = torch.zeros(n, dtype=probs.dtype)
    if k == 0:
        return out
    p, log = with_logs(probs)
    for first in range(0, n, step := max(1, CONTRAST_BLOCK // (k * p.shape[1]))):
        block = slice(first, first + step)
        change = log[near[block]] - log[block, None]  # (block, k, c)
        weight = p[near[block]]
        if symmetric:
            # sum p_j log(p_j / p_i) and sum p_i log(p_i / p_j) share the log ratio up to its sign.
            weight = (weight - p[block, None]) / 2
        out[block] = (weight * change).sum(-1).mean(1)
    # A divergence is not negative, but clamped probabilities no longer sum to one and may round below 0.
    return out.clamp_min_(0)
