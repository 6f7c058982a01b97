"""Herding: examples whose mean follows the mean of all."""

from __future__ import annotations

from typing import Any

import torch

from datawinnow.core import check
from datawinnow.core.card import card
from datawinnow.core.check import Missing
from datawinnow.core.draw import argmax_random_ties
from datawinnow.core.neighbours import centred, unit_rows
from datawinnow.core.reason import Reason
from datawinnow.core.selection import Selection
from datawinnow.select._selectable import build_selection, selectable_ids


@card(
    "selector",
    "Herding",
    "Welling 2009, Herding Dynamical Weights to Learn, doi:10.1145/1553374.1553517; without replacement as Rebuffi et "
    "al. 2017, iCaRL, arXiv 1611.07725, algorithm 4",
    cost="time O(n d budget), one matrix-vector product a pick, memory O(n)",
)
def herding(
    features: Any, *, budget: int, normalise: bool = False, tie_seed: int = 0, missing: Missing = "raise"
) -> Selection:
    """Choose examples one by one so that the mean of the chosen stays nearest the mean of all.

    With mu the mean of all, pick i (from 0) is, without replacement,
    ``argmin over x of || (i + 1) mu - sum of the chosen - x ||``: the **nearest** point. (DeepCore's code takes the
    farthest, argmax, which moves the mean away; figures published with it are not herding's.) The papers herd class by
    class, ``per_class(herding)``, and with features of norm 1.

    Args:
        features: (n, d) float, for example penultimate activations.
        budget: number of examples to keep, 1 to n.
        normalise: scale every row to norm 1 first; Welling's recursion equals this one only then.
        tie_seed: seed of the order of examples that are equally near.
        missing: ``"raise"``, or ``"skip"`` to leave examples with NaN out of the mean and of the choice.

    Returns:
        `Selection` of exactly ``budget`` ids in the order chosen (prefixes nest), weights of one. Ties are drawn.

    Raises:
        ArgumentError: a budget outside 1 to n, NaN or infinity, another shape.
        CapacityError: fewer examples without NaN than ``budget``.

    References:
        Welling 2009, doi:10.1145/1553374.1553517; Rebuffi et al. 2017, arXiv 1611.07725, algorithm 4.

    >>> herding([[0.0], [2.0], [3.0], [7.0]], budget=2).index.tolist()
    [2, 1]
    """
    rows = check.matrix("features", features, missing=missing)
    n = rows.shape[0]
    check.one_of("normalise", normalise, (False, True))
    check.seed("tie_seed", tie_seed)
    # Only NaN matters to `selectable_ids`: the row sum is NaN if any feature is. With "raise" there is none, and a
    # column without arithmetic gives the number of examples.
    ids = selectable_ids(budget, missing, features=rows[:, 0] if missing == "raise" else rows.sum(1))
    points = rows if ids is None else rows[ids]
    # Centred products round less; neither |x - mu| nor S changes when all points are shifted.
    points, norms = centred("features", unit_rows(points) if normalise else points)
    mean = points.mean(0, dtype=torch.float64)
    # ||S - x + mu||^2 with S = sum of (mu - chosen) is, but for what is the same for all, |x - mu|^2 - 2 <x, S>;
    # S stays about as long as one example, so nothing is lost however many are chosen
    # (2 <x, mu> - |x|^2) / 2: -|x - mu|^2 / 2 without the constant -|mu|^2 / 2.
    nearness = torch.addmv(norms, points, mean.to(points.dtype), alpha=-2).div_(-2)
    short = torch.zeros_like(mean)
    chosen = torch.empty(budget, dtype=torch.int64)
    for i in range(budget):
        pick = argmax_random_ties(torch.addmv(nearness, points, short.to(points.dtype)).numpy(), tie_seed)
        chosen[i] = pick
        # In float64: in float32 the error of budget additions would exceed the differences between candidates.
        short += mean - points[pick]
        # Without replacement (iCaRL); Welling's recursion may return to a point.
        nearness[pick] = -torch.inf
    return build_selection(chosen, n, ids, kept=Reason.COVERS, dropped=Reason.COVERED)
