"""`deduplicated`: keeps no two near-duplicates."""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from torch import Tensor

from datawinnow.core import check
from datawinnow.core.budget import check_budget
from datawinnow.core.card import card_of
from datawinnow.core.errors import CapacityError
from datawinnow.core.reason import Reason
from datawinnow.core.rng import stream
from datawinnow.core.selection import Selection
from datawinnow.select._wrapping import Selector, keep_positions, reserve_names, with_card

DISTANCE_ENTRIES = 1 << 21
"""Maximum number of distances in memory."""


def deduplicated(
    selector: Selector, *, threshold: float, metric: Literal["cosine", "euclidean"] = "cosine"
) -> Selector:
    """``selector``'s order without near-duplicates of examples kept before.

    Going down the selector's order, an example within ``threshold`` of one that is kept is passed over, so of a group
    of duplicates the first in the order stays. The selector is called with a growing budget until the budget is full;
    if it chooses otherwise with a larger budget (`beta`), the last call counts. Only distances between chosen
    examples are computed, a block at a time: O(budget^2 d) time and O(budget d) memory.

    Args:
        selector: any selector, for example `top`.
        threshold: two examples no further apart than this are duplicates. There is no default: after a network's last
            layers whole classes lie within 0.05 of each other in cosine distance, raw embeddings do not.
        metric: ``"cosine"`` for 1 - cosine similarity (SemDeDup's epsilon; an example whose features are all zero has
            a distance of 1 to all), or ``"euclidean"``.

    Returns:
        A selector called as ``deduplicated(top, threshold=0.01)(score, features=features, budget=100)``; ``features``
        is (n, d) float. Those passed over have the reason ``duplicate``; weights keep their mean. With
        ``missing="skip"`` an example with NaN features is a duplicate of nothing. It raises `CapacityError` with the
        number of examples without near-duplicates when that is below the budget.

    Raises:
        ArgumentError: a negative threshold, an unknown metric, or a selector that takes ``features=`` already.

    References:
        Abbas et al. 2023, SemDeDup, arXiv 2303.09540, section 3 (there inside clusters, keeping one of each group).

    >>> from datawinnow.select.top import top
    >>> rows = [[1.0, 0.0], [1.0, 0.001], [0.0, 1.0]]
    >>> deduplicated(top, threshold=0.01)([3.0, 2.0, 1.0], features=rows, budget=2).index.tolist()
    [0, 2]
    """
    card = card_of(selector)
    check.number("threshold", threshold, 0, 1e300)
    check.one_of("metric", metric, ("cosine", "euclidean"))
    reserve_names(card, "deduplicated", "features")

    def unique(
        *arrays: Any, features: Any, budget: int, generator: torch.Generator | None = None, **options: Any
    ) -> Selection:
        rows = check.matrix("features", features, missing=options.get("missing", "raise"))
        n = rows.shape[0]
        check_budget(budget, n)
        if "missing" in options and "missing" not in card.takes:
            # It was for the features only; the selector does not know it.
            options.pop("missing")
        # every call gets the same random numbers, so that a larger budget continues the same draw
        seed = (
            int(torch.randint(2**62, (), generator=check.generator(generator))) if "generator" in card.takes else None
        )
        ask, max_ask = budget, n
        while True:
            extra = {} if seed is None else {"generator": stream(seed, "deduplicated")}
            try:
                chosen = selector(*arrays, budget=ask, **extra, **options)
            except CapacityError as error:
                # Retried with the capacity only where that can still fill the budget.
                if not budget <= error.capacity < ask:
                    raise
                ask = max_ask = error.capacity
                continue
            # Always from the top of the order: a larger call may choose otherwise, so earlier results are not reused.
            places, twice = first_of_each(rows, chosen.index, budget, threshold, metric)
            if places.numel() == budget:
                index, weight, reason = keep_positions(chosen, places, n)
                reason[chosen.index[twice]] = int(Reason.DUPLICATE)
                return Selection(index, weight, reason)
            if ask == max_ask:
                raise CapacityError(
                    f"{unique.__name__} can give at most {places.numel()} examples, since the others lie within "
                    f"threshold={threshold:g} of these; got budget={budget}: lower the budget or the threshold",
                    int(places.numel()),
                )
            # The share kept so far, extrapolated to the budget with a tenth to spare; + 1 so that it always grows.
            ask = min(max_ask, math.ceil(1.1 * ask * budget / places.numel()) + 1)

    wrapped: Selector = with_card(
        unique, card, "deduplicated", "deduplicated", "Without near-duplicates.", ("features", "missing")
    )
    return wrapped


def first_of_each(rows: Tensor, order: Tensor, budget: int, threshold: float, metric: str) -> tuple[Tensor, Tensor]:
    """Go down ``order``, passing over near-duplicates of kept examples, until ``budget`` are kept.

    Args:
        rows: (n, d) floating.
        order: (m,) int64 ids.
        budget: maximum number to keep.
        threshold: largest distance of duplicates.
        metric: ``"cosine"`` or ``"euclidean"``.

    Returns:
        Positions in ``order`` of the kept, at most ``budget``, and of the duplicates passed over.
    """
    kept = torch.empty(min(budget, order.numel()), rows.shape[1], dtype=torch.float64)
    places: list[int] = []
    twice: list[int] = []
    first = 0
    while first < order.numel() and len(places) < budget:
        # Blocks shrink as more are kept, so that (block, kept) distances stay within the memory bound.
        size = max(16, min(1024, DISTANCE_ENTRIES // max(1, len(places))))
        block = rows[order[first : first + size]].double()
        if metric == "cosine":
            block = block / block.norm(dim=1, keepdim=True).clamp_min(torch.finfo(torch.float64).tiny)
        near_kept = _near(block, kept[: len(places)], threshold, metric).any(1)
        # tril(-1): only earlier examples of the block, not itself.
        among = _near(block, block, threshold, metric).tril(-1)
        crowded = among.any(1)
        new = torch.zeros(block.shape[0], dtype=torch.bool)
        for i in range(block.shape[0]):
            # `new`, not the whole block: a neighbour that was itself passed over makes nothing a duplicate.
            if bool(near_kept[i]) or (bool(crowded[i]) and bool((among[i] & new).any())):
                twice.append(first + i)
                continue
            new[i] = True
            kept[len(places)] = block[i]
            places.append(first + i)
            if len(places) == budget:
                break
        first += block.shape[0]
    return torch.tensor(places, dtype=torch.int64), torch.tensor(twice, dtype=torch.int64)


def _near(a: Tensor, b: Tensor, threshold: float, metric: str) -> Tensor:
    """(len(a), len(b)) bool: whether two rows are duplicates; NaN is near nothing."""
    product = a @ b.T
    if metric == "cosine":
        return product >= 1 - threshold - 1e-12  # room for the rounding of equal rows
    # |a|^2 + |b|^2 - 2 <a, b> cancels for near rows; the tolerance is that of the terms, not of the result.
    sizes = a.square().sum(1)[:, None] + b.square().sum(1)[None, :]
    return sizes - 2 * product <= threshold**2 + 1e-12 * sizes
