"""Keep the low end of a score's ranking."""

from __future__ import annotations

from typing import Any

from datawinnow.core.card import card
from datawinnow.core.check import Missing
from datawinnow.core.selection import Selection
from datawinnow.select.top import top


@card(
    "selector",
    "Bottom",
    "ranking by a score, lowest first, as Sorscher et al. 2022, Beyond neural scaling laws, arXiv 2206.14486, "
    "section 2 (the easy examples where data are scarce)",
    cost="time O(n + budget log budget), memory O(n)",
)
def bottom(score: Any, *, budget: int, tie_seed: int = 0, missing: Missing = "raise") -> Selection:
    """Keep the examples of lowest score, whatever end the score's card names.

    The same as ``top(score, end="low")``, under another name. Ties are drawn; prefixes nest.

    Args:
        score: (n,) float, any score.
        budget: number of examples to keep, 1 to n.
        tie_seed: seed of the order of equal scores.
        missing: ``"raise"``, or ``"skip"`` never to choose an example whose score is NaN.

    Returns:
        `Selection` of exactly ``budget`` ids, lowest first, weights of one.

    Raises:
        ArgumentError: a budget outside 1 to n, NaN or infinity.
        CapacityError: fewer examples with a score than ``budget``.

    References:
        Sorscher et al. 2022, arXiv 2206.14486, section 2.

    >>> bottom([0.1, 0.9, 0.5, 0.2], budget=3).index.tolist()
    [0, 3, 2]
    """
    return top(score, budget=budget, end="low", tie_seed=tie_seed, missing=missing)
