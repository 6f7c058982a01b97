"""Keep a band of a score's ranking."""

from __future__ import annotations

from typing import Any

import torch

from datawinnow.core import check
from datawinnow.core.card import card
from datawinnow.core.check import Missing
from datawinnow.core.draw import ascending, largest
from datawinnow.core.reason import Reason
from datawinnow.core.selection import Selection
from datawinnow.select._selectable import build_selection, selectable_ids


@card(
    "selector",
    "Middle band",
    "Xia et al. 2023, Moderate Coreset, ICLR, section 3; a baseline of Maharana et al. 2023, D2 Pruning, "
    "arXiv 2310.07931",
    cost="time O(n log n), memory O(n)",
)
def middle(score: Any, *, budget: int, centre: float = 0.5, tie_seed: int = 0, missing: Missing = "raise") -> Selection:
    """Keep the ranks around a quantile of the score.

    With s = budget / n these are the ranks [centre - s/2, centre + s/2] of the ascending order, as fractions of n; a
    band that would pass one end is pushed back inside. Moderate Coreset keeps the band around the median of the
    distance to the class median. The ranks of equal scores are drawn; of two ranks equally far from the centre the
    lower one comes first; prefixes nest.

    Args:
        score: (n,) float, any score.
        budget: number of examples to keep, 1 to n.
        centre: quantile at the middle of the band, in [0, 1]: 0.5 is the median, 0 the lowest, 1 the highest score.
        tie_seed: seed of the order of equal scores.
        missing: ``"raise"``, or ``"skip"`` never to choose an example whose score is NaN.

    Returns:
        `Selection` of exactly ``budget`` ids, from the centre of the band outwards, weights of one.

    Raises:
        ArgumentError: a budget outside 1 to n, a centre outside [0, 1], NaN or infinity.
        CapacityError: fewer examples with a score than ``budget``.

    References:
        Xia et al. 2023, Moderate Coreset, ICLR, section 3; Maharana et al. 2023, arXiv 2310.07931.

    >>> middle([0.1, 0.9, 0.5, 0.7, 0.3], budget=3).index.tolist()
    [2, 4, 3]
    """
    check.number("centre", centre, 0, 1)
    check.seed("tie_seed", tie_seed)
    values = check.array("score", score, "n")
    n = values.numel()
    ids = selectable_ids(budget, missing, score=values)
    if ids is not None:
        values = values[ids]
    ranked = ascending(values, tie_seed)
    # ranks are 0 to m - 1; doubled distances to the centre are whole numbers at 0.5, so no tie is broken by rounding
    away = (2 * torch.arange(values.numel(), dtype=torch.float64) - 2 * centre * (values.numel() - 1)).abs()
    chosen = ranked[largest(-away, budget)]
    return build_selection(chosen, n, ids, kept=Reason.RANKED, dropped=Reason.BELOW_CUT)
