"""Keep one end, or the middle, of a score's ranking."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from datawinnow.core import check
from datawinnow.core.card import card
from datawinnow.core.check import Missing
from datawinnow.core.draw import ascending, largest
from datawinnow.core.reason import Reason
from datawinnow.core.selection import Selection
from datawinnow.select._selectable import build_selection, selectable_ids


@card(
    "selector",
    "Top",
    "ranking by a score, as Toneva et al. 2019, arXiv 1812.05159, section 5 (ends) and Xia et al. 2023, Moderate "
    "Coreset, section 3 (middle)",
    cost="time O(n + budget log budget), memory O(n)",
)
def top(
    score: Any,
    *,
    budget: int,
    end: Literal["high", "low", "middle"] = "high",
    tie_seed: int = 0,
    missing: Missing = "raise",
) -> Selection:
    """Keep the examples at one end of a score.

    Ties are drawn, since by id they would keep whole classes of a dataset that is sorted by class, and drop others;
    prefixes nest.

    Args:
        score: (n,) float, any score.
        budget: number of examples to keep, 1 to n.
        end: ``"high"``, ``"low"``, or ``"middle"`` for the band of ranks around the median (of two ranks equally far
            from it the lower one comes first).
        tie_seed: seed of the order of equal scores; the answer is the same everywhere.
        missing: ``"raise"``, or ``"skip"`` never to choose an example whose score is NaN.

    Returns:
        `Selection` of exactly ``budget`` ids, best first (for ``"middle"``, from the median outwards), weights of one.

    Raises:
        ArgumentError: a budget outside 1 to n, an unknown end, NaN or infinity.
        CapacityError: fewer examples with a score than ``budget``.

    References:
        Toneva et al. 2019, arXiv 1812.05159, section 5; Xia et al. 2023, Moderate Coreset, section 3 (the middle).

    >>> top([0.1, 0.9, 0.5, 0.7], budget=3).index.tolist()
    [1, 3, 2]
    """
    check.one_of("end", end, ("high", "low", "middle"))
    check.seed("tie_seed", tie_seed)
    values = check.array("score", score, "n")
    n = values.numel()
    ids = selectable_ids(budget, missing, score=values)
    if ids is not None:
        values = values[ids]
    if end == "middle":
        chosen = _middle(values, budget, tie_seed)
    else:
        chosen = largest(values if end == "high" else -values, budget, tie_seed)
    return build_selection(chosen, n, ids, kept=Reason.RANKED, dropped=Reason.BELOW_CUT)


def _middle(values: Tensor, budget: int, tie_seed: int) -> Tensor:
    ranked = ascending(values, tie_seed)
    # twice the distance of a rank to the middle rank, in integers: no ties broken by rounding
    away = (2 * torch.arange(values.numel()) - (values.numel() - 1)).abs()
    return ranked[largest(-away, budget)]
