"""`cluster_quotas`: each cluster's best by its share, as InstructionGPT-4's published code counts and sorts."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from datawinnow.core import check
from datawinnow.core.budget import check_budget
from datawinnow.core.card import card
from datawinnow.core.check import Missing
from datawinnow.core.draw import largest, tie_order
from datawinnow.core.errors import CapacityError
from datawinnow.core.reason import Reason
from datawinnow.core.selection import Selection


@card(
    "selector",
    "Cluster quotas",
    "Wei et al. 2023, InstructionGPT-4, arXiv 2308.12067, section 3 and eval_clus.py",
    cost="time O(n log n), memory O(n)",
)
def cluster_quotas(
    score: Any, clusters: Any, *, budget: int, truncate: bool = False, tie_seed: int = 0, missing: Missing = "raise"
) -> Selection:
    """Take every cluster's best by its share, at least one of each, and of these the best ``budget``.

    The share of a cluster of size c is ``max(1, floor(total * c / n))``, with the smallest integer ``total`` whose
    shares fill the budget. (The published code has ``total = 204`` for a budget of 200 of 3,439, which is that number.)
    `per_class` with `top` divides by largest remainders instead and needs no second cut.

    Args:
        score: (n,) float, high is kept.
        clusters: (n,) int, the cluster of each example.
        budget: how many to keep, 1 to n.
        truncate: sort by the score's integer part (as Python's ``int``), ties in the order of the examples, clusters in
            the order in which they first appear, as published. Otherwise sort by the score, ties drawn.
        tie_seed: seed of the order of equal scores.
        missing: ``"skip"`` never to choose an example whose score is NaN.

    Returns:
        `Selection` of exactly ``budget`` ids, best first, weights of one.

    Raises:
        ArgumentError: a budget outside 1 to n, NaN or infinity, clusters that are not integers of 0 and above.
        CapacityError: fewer examples with a score than ``budget``.

    References:
        Wei et al. 2023, arXiv 2308.12067, section 3.

    >>> cluster_quotas([5.0, 4.0, 3.0, 2.0], [0, 0, 0, 1], budget=2).index.tolist()
    [0, 3]
    """
    values = check.array("score", score, "n")
    groups = check.labels("clusters", clusters, n=values.numel(), limit=None)
    n = values.numel()
    check_budget(budget, n)
    check.seed("tie_seed", tie_seed)
    check.finite("score", values, missing)
    scored = torch.nonzero(~values.isnan()).flatten()
    if budget > scored.numel():
        raise CapacityError(
            f"budget={budget}, but only {scored.numel()} of {n} examples have a score; lower the budget to that",
            scored.numel(),
        )
    members = _cluster_members(groups[scored])
    quota = quotas([len(m) for m in members], budget)
    keys = values[scored].double()
    # Towards zero, as int() in the published code: 0.9 and -0.9 tie at 0.
    keys = keys.trunc() if truncate else keys
    if not truncate:  # else in the published order
        # Both cuts go by one order of ties, so that prefixes nest.
        order = tie_order(len(keys), tie_seed)
        rank = torch.empty_like(order)
        rank[order] = torch.arange(len(order))
        members = [m[rank[m].argsort()] for m in members]
    best = torch.cat([m[largest(keys[m], q)] for m, q in zip(members, quota, strict=True)])
    if not truncate:
        best = best[rank[best].argsort()]
    # The shares may sum to a little more than the budget; the second cut removes the lowest.
    chosen = scored[best[largest(keys[best], budget)]]
    reason = torch.full((n,), int(Reason.BELOW_CUT), dtype=torch.int8)
    reason[values.isnan()] = int(Reason.UNSCORED)
    reason[chosen] = int(Reason.RANKED)
    return Selection(chosen, torch.ones(budget, dtype=torch.float32), reason)


def _cluster_members(groups: Tensor) -> list[Tensor]:
    """Positions of each cluster, clusters in the order in which they first appear."""
    order = list(dict.fromkeys(groups.tolist()))
    return [torch.nonzero(groups == group).flatten() for group in order]


def quotas(sizes: list[int], budget: int) -> list[int]:
    """Shares ``max(1, floor(total * size / n))`` of clusters, for the smallest total with which they fill a budget.

    Args:
        sizes: of the clusters, each at least 1.
        budget: at most their sum.

    Returns:
        One number a cluster, at most its size; they sum to the budget or slightly more.

    >>> quotas([880, 286, 325, 1234, 177, 300, 13, 85, 59, 80], 200)
    [52, 16, 19, 73, 10, 17, 1, 5, 3, 4]
    """
    n = sum(sizes)
    low, high = 0, n  # with total = n every share is its cluster's size, so that the budget is filled
    while low < high:  # the sum rises with the total
        total = (low + high) // 2
        if sum(max(1, total * size // n) for size in sizes) >= budget:
            high = total
        else:
            low = total + 1
    return [max(1, low * size // n) for size in sizes]
