"""k-center greedy: each pick is the example farthest from all picks before."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from datawinnow.core import check
from datawinnow.core.card import card
from datawinnow.core.check import Missing
from datawinnow.core.draw import argmax_random_ties, tie_seed_of
from datawinnow.core.neighbours import centred, squared_norms
from datawinnow.core.reason import Reason
from datawinnow.core.selection import Selection
from datawinnow.select._selectable import build_selection, selectable_ids
from datawinnow.select.farthest import FirstPick, Points, farthest_first, first_position

NORM_ROUNDING = 16
"""Squared distances below so many rounding errors of a squared norm count as 0."""
FLOAT64_COLUMNS = 16
"""Up to so many columns products are in float64: in few dimensions neighbours are near, and it costs little."""


@card(
    "selector",
    "k-center greedy",
    "Sener and Savarese 2018, Active Learning for Convolutional Neural Networks: A Core-Set Approach, arXiv "
    "1708.00489, algorithm 1",
    cost="time O(n d budget), in matrix products of up to 128 picks, memory O(n)",
)
def k_center(
    features: Any,
    *,
    budget: int,
    first: FirstPick = None,
    outliers: int = 0,
    generator: torch.Generator,
    missing: Missing = "raise",
) -> Selection:
    """Cover the examples: repeatedly take the one whose nearest chosen example is farthest away.

    ``u = argmax over i of min over chosen j of ||x_i - x_j||``. Every example is then within a radius of a chosen one
    that is at most **twice** the smallest that ``budget`` centres can give, whatever the first is.

    With ``outliers=z`` each pick passes over the z examples farthest at that moment, and the radius that counts leaves
    out the z farthest. That radius is within twice the optimum of leaving out z **if none of the chosen is an outlier
    of that optimum**; nothing is promised otherwise. (This greedy form replaces the paper's mixed integer
    program; the 3-approximation of Charikar et al. 2001 needs all distances.) Once no more than z examples are left
    they are taken too, the nearest first.

    Distances are Euclidean, by matrix products: in float32 those below 0.0014 of the norm of an example count as 0.

    Args:
        features: (n, d) float, for example penultimate activations.
        budget: number of examples to keep, 1 to n.
        first: the first pick: an id (with `per_class`, a position within the class), ``"mean"`` for the example
            nearest the mean (the baseline of the dataset condensation papers), or ``"random"`` (None is the same).
        outliers: number of farthest examples passed over at each pick, at least 0.
        generator: CPU `torch.Generator`, source of a random first and of the order of ties.
        missing: ``"raise"``, or ``"skip"`` never to choose (or cover) an example with NaN.

    Returns:
        `Selection` of exactly ``budget`` ids in the order chosen (prefixes nest), weights of one. Ties are drawn.

    Raises:
        ArgumentError: a budget outside 1 to n, another ``first``, outliers below 0, NaN or infinity.
        CapacityError: fewer examples without NaN than ``budget``.

    References:
        Sener and Savarese 2018, arXiv 1708.00489, algorithm 1.

    >>> from datawinnow.core.rng import stream
    >>> k_center([[0.0], [1.0], [9.0], [5.0]], budget=3, first=0, generator=stream(0, "x")).index.tolist()
    [0, 2, 3]
    """
    tie_seed = tie_seed_of(check.generator(generator))
    rows = check.matrix("features", features, missing=missing)
    n = rows.shape[0]
    ids = selectable_ids(budget, missing, features=rows[:, 0] if missing == "raise" else rows.sum(1))
    check.number("outliers", outliers, 0, 10**9, integer=True)
    # Distances do not change, but products of centred rows are smaller and lose fewer digits.
    centred_rows, norms = centred("features", rows if ids is None else rows[ids])
    if centred_rows.shape[1] <= FLOAT64_COLUMNS:
        centred_rows = centred_rows.double()
        # Again, of the float64 rows, or distances to itself would not cancel to 0.
        norms = squared_norms(centred_rows)

    # argmin |x - mean|^2; |mean|^2 is the same for all.
    def central() -> int:
        mean = centred_rows.mean(0)
        return argmax_random_ties(torch.addmv(norms, centred_rows, mean, alpha=-2).neg_().numpy(), tie_seed)

    def twice(at: Tensor) -> Tensor:
        # The 2 of |x|^2 + |y|^2 - 2 <x, y>; indexing has copied, so the rows are not changed.
        return centred_rows[at].mul_(2)

    begin = first_position(first, n, ids, central, generator)
    # The noise is per example: rounding of |x|^2 + |y|^2 - 2 <x, y> grows with the squared norm.
    points = Points(centred_rows, twice, norms, norms * (NORM_ROUNDING * torch.finfo(norms.dtype).eps))
    chosen = farthest_first(points, begin, budget, tie_seed, outliers)
    return build_selection(chosen, n, ids, kept=Reason.COVERS, dropped=Reason.COVERED)
