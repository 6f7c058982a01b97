"""Coverage-centric selection (CCS): cut the hardest, then cover the rest of the score's range."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from datawinnow.core import check
from datawinnow.core.card import card
from datawinnow.core.check import Missing
from datawinnow.core.draw import largest, shuffled, tie_seed_of
from datawinnow.core.errors import CapacityError
from datawinnow.core.reason import Reason
from datawinnow.core.selection import Selection
from datawinnow.select._selectable import build_selection, selectable_ids


@card(
    "selector",
    "CCS",
    "Zheng et al. 2023, Coverage-centric Coreset Selection for High Pruning Rates, arXiv 2210.15809, algorithm 1",
    cost="time O(n log n), memory O(n)",
)
def coverage(
    score: Any,
    *,
    budget: int,
    bins: int = 50,
    cutoff: float = 0.0,
    end: Literal["low", "high"] = "low",
    generator: torch.Generator,
    missing: Missing = "raise",
) -> Selection:
    """Cut off the hardest examples, then draw evenly over the range of the score.

    The rest is split into ``bins`` of equal width. Bins are filled from the least populated up, each with
    ``min(its size, budget left / bins left)`` examples drawn uniformly; what a division leaves over goes to the most
    populated bins. Here the examples of each bin are put in random order and taken in turns, one a bin, which gives
    the same numbers, and prefixes that nest.

    Args:
        score: (n,) float, any score; the paper uses AUM.
        budget: number of examples to keep, 1 to n less what is cut off.
        bins: number of bins.
        cutoff: fraction of the examples that is dropped first from the hard end, in [0, 1) (CCS on CIFAR-10 uses 0,
            0, 0.1, 0.1, 0.3 to keep 0.7, 0.5, 0.3, 0.2, 0.1); ties are drawn.
        end: which end of the score is hard: ``"low"`` for AUM, ``"high"`` for EL2N or forgetting.
        generator: CPU `torch.Generator`, source of randomness.
        missing: ``"raise"``, or ``"skip"`` never to choose an example whose score is NaN.

    Returns:
        `Selection` of exactly ``budget`` ids in the order drawn, weights of one; those cut off have the reason
        ``suspect``.

    Raises:
        ArgumentError: an option out of range, a budget outside 1 to n, NaN or infinity.
        CapacityError: a budget above what the cut leaves.

    References:
        Zheng et al. 2023, arXiv 2210.15809, algorithm 1.

    >>> from datawinnow.core.rng import stream
    >>> sorted(coverage([0.0, 0.1, 0.1, 0.1, 1.0], budget=3, generator=stream(0, "x")).index.tolist())[::2]
    [0, 4]
    """
    tie_seed = tie_seed_of(check.generator(generator))
    check.one_of("end", end, ("low", "high"))
    check.number("bins", bins, 1, 10**6, integer=True)
    check.number("cutoff", cutoff, 0, 1)
    values = check.array("score", score, "n")
    n = values.numel()
    ids = selectable_ids(budget, missing, score=values)
    keys = values if ids is None else values[ids]
    # 0.29 * 100 is 28.999... in binary: the 1e-9 keeps floor() from losing one.
    cut = int(cutoff * keys.numel() + 1e-9)
    if budget > keys.numel() - cut:
        raise CapacityError(
            f"coverage can give at most {keys.numel() - cut} of {n} examples, since cutoff={cutoff} drops the hardest "
            f"{cut} first; got budget={budget}: lower the budget or the cutoff",
            keys.numel() - cut,
        )
    remains = torch.ones(keys.numel(), dtype=torch.bool)
    if cut:
        remains[largest(keys if end == "high" else -keys, cut, tie_seed)] = False
    remaining = torch.nonzero(remains).flatten()
    # The range of the bins is that of the remaining scores: the cut comes first (algorithm 1).
    chosen = remaining[in_turns(bin_of(keys[remaining], bins), budget, generator)]
    special = torch.zeros(n, dtype=torch.int8)
    suspects = torch.nonzero(~remains).flatten()
    special[suspects if ids is None else ids[suspects]] = int(Reason.SUSPECT)
    return build_selection(chosen, n, ids, kept=Reason.DRAWN, dropped=Reason.NOT_DRAWN, special=special)


def bin_of(score: Tensor, bins: int) -> Tensor:
    """(m,) int64 number of the equal-width bin of each score, 0 to bins - 1; the maximum is in the last bin."""
    values = score.to(torch.float64)
    low, high = torch.aminmax(values)
    # Equal scores have no width; all of them fall into bin 0.
    width = (high - low).clamp_min(torch.finfo(torch.float64).tiny)
    return ((values - low) / width * bins).to(torch.int64).clamp_(0, bins - 1)


def in_turns(bin_: Tensor, budget: int, generator: torch.Generator) -> Tensor:
    """(budget,) positions: bins in turns, the most populated first in each turn, at random inside a bin."""
    order = shuffled(bin_.numel(), generator)
    order = order[torch.argsort(bin_[order], stable=True)]  # bin by bin, random inside
    sizes = torch.bincount(bin_)
    starts = sizes.cumsum(0) - sizes
    # Rank of each example within its bin: examples of turn t are taken after all of turn t - 1.
    turn = torch.arange(order.numel()) - starts[bin_[order]]
    # place of each bin within a turn: by falling size, of equals the later one first, as filling from the least
    # populated bin up leaves the remainder
    place = torch.empty_like(sizes)
    place[torch.argsort(sizes, stable=True).flip(0)] = torch.arange(sizes.numel())
    # A bin that runs out is passed over by itself: no example of it has a later turn.
    return order[torch.argsort(turn * sizes.numel() + place[bin_[order]])[:budget]]
