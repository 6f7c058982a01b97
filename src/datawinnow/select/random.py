"""Uniform random pruning: the baseline."""

from __future__ import annotations

from typing import Any

import torch

from datawinnow.core import check
from datawinnow.core.budget import check_budget
from datawinnow.core.card import card
from datawinnow.core.draw import shuffled
from datawinnow.core.reason import Reason
from datawinnow.core.selection import Selection


@card(
    "selector",
    "Random",
    "uniform sampling without replacement; Guo et al. 2022, DeepCore, arXiv 2204.08499, section 3",
    cost="time O(n), memory O(n)",
)
def random(labels: Any, *, budget: int, generator: torch.Generator) -> Selection:
    """Keep examples drawn uniformly without replacement.

    The labels only give the number of examples; for class balance wrap it, ``per_class(random)``. A smaller budget
    with the same generator state gives a prefix.

    Args:
        labels: (n,) int, class ids.
        budget: number of examples to keep, 1 to n.
        generator: CPU `torch.Generator`, source of randomness.

    Returns:
        `Selection` of exactly ``budget`` ids in the order drawn, weights of one.

    Raises:
        ArgumentError: a budget outside 1 to n, labels that are no integers, or no generator.

    References:
        Guo et al. 2022, DeepCore, arXiv 2204.08499, section 3 (as a baseline).

    >>> from datawinnow.core.rng import stream
    >>> len(random([0, 1, 0, 1], budget=2, generator=stream(0, "select")))
    2
    """
    n = check.labels("labels", labels).numel()
    check_budget(budget, n)
    # The whole permutation is drawn whatever the budget, which is why prefixes nest; clone() frees the rest of it.
    chosen = shuffled(n, check.generator(generator))[:budget].clone()
    return Selection.of(chosen, n, kept=Reason.DRAWN, dropped=Reason.NOT_DRAWN)
