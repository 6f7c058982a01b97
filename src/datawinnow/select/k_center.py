"""k-center greedy: each pick is the example that is farthest from all picks before."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from datawinnow.core import check
from datawinnow.core.card import card
from datawinnow.core.check import Missing
from datawinnow.core.neighbours import centred, squared_norms
from datawinnow.core.reason import Reason
from datawinnow.core.selection import Selection
from datawinnow.select._farthest import First, Points, farthest_first, first_of
from datawinnow.select._scored import answer, scored

ROUNDING = 16
"""Squared distances below so many rounding errors of a squared norm count as 0."""
NARROW = 16
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
    first: First = None,
    outliers: int = 0,
    generator: torch.Generator,
    missing: Missing = "raise",
) -> Selection:
    """Cover the examples: repeatedly take the one whose nearest chosen example is farthest away.

    ``u = argmax over i of min over chosen j of ||x_i - x_j||``. Every example is then within a radius of a chosen one
    that is at most **twice** the smallest that ``budget`` centres can give, whatever the first is.

    With ``outliers=z`` each pick passes over the z examples farthest at that moment, and the radius that counts leaves
    out the z farthest. That radius is within twice the optimum of leaving out z **if none of the chosen is an outlier
    of that optimum**; nothing is promised otherwise. (This greedy form stands in for the paper's mixed integer
    program; the 3-approximation of Charikar et al. 2001 needs all distances.) Once no more than z examples are left
    they are taken too, the nearest first.

    Distances are Euclidean, by matrix products: in float32 those below 0.0014 of the norm of an example count as 0.

    Args:
        features: (n, d) float, for example penultimate activations.
        budget: how many examples to keep, 1 to n.
        first: what to begin with: an id (with `per_class`, a position within the class), ``"mean"`` for the example
            nearest the mean (the baseline of the dataset condensation papers), or ``"random"`` (None is the same).
        outliers: how many of the farthest examples to pass over, at least 0.
        generator: CPU `torch.Generator`, the source of a random first; not drawn from otherwise.
        missing: ``"raise"``, or ``"skip"`` never to choose (or cover) an example with NaN.

    Returns:
        `Selection` of exactly ``budget`` ids in the order chosen (prefixes nest), weights of one. Ties go to the
        smaller id.

    Raises:
        ArgumentError: a budget outside 1 to n, another ``first``, outliers below 0, NaN or infinity.
        CapacityError: fewer examples without NaN than ``budget``.

    References:
        Sener and Savarese 2018, arXiv 1708.00489, algorithm 1; condense.md 1.2.

    >>> from datawinnow.core.rng import stream
    >>> k_center([[0.0], [1.0], [9.0], [5.0]], budget=3, first=0, generator=stream(0, "x")).index.tolist()
    [0, 2, 3]
    """
    check.generator(generator)
    rows = check.rows("features", features, missing=missing)
    n = rows.shape[0]
    ids = scored(budget, missing, features=rows[:, 0] if missing == "raise" else rows.sum(1))
    check.number("outliers", outliers, 0, 10**9, integer=True)
    part, own = centred("features", rows if ids is None else rows[ids])
    if part.shape[1] <= NARROW:
        part = part.double()
        own = squared_norms(part)

    def central() -> int:
        mean = part.mean(0)
        return int(torch.addmv(own, part, mean, alpha=-2).argmin())

    def twice(at: Tensor) -> Tensor:
        return part[at].mul_(2)

    begin = first_of(first, n, ids, central, generator)
    points = Points(part, twice, own, own * (ROUNDING * torch.finfo(own.dtype).eps))
    chosen = farthest_first(points, begin, budget, outliers)
    return answer(chosen, n, ids, kept=Reason.COVERS, dropped=Reason.COVERED)
