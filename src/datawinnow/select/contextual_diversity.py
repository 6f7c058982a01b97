"""Contextual diversity: k-center greedy between predictions, by the divergence of one from the other."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from datawinnow.core import check
from datawinnow.core.card import card
from datawinnow.core.check import Missing
from datawinnow.core.draw import argmax_random_ties, tie_seed_of
from datawinnow.core.reason import Reason
from datawinnow.core.selection import Selection
from datawinnow.select._divergence import with_logs
from datawinnow.select._selectable import build_selection, selectable_ids
from datawinnow.select.farthest import FirstPick, Points, farthest_first, first_position

DIVERGENCE_ROUNDING = 16
"""Divergences below so many rounding errors of the largest term count as 0."""


@card(
    "selector",
    "Contextual diversity",
    "Agarwal et al. 2020, Contextual Diversity for Active Learning, arXiv 2008.05723, section 3; for classification "
    "as Guo et al. 2022, DeepCore, arXiv 2204.08499",
    cost="time O(n c budget), in matrix products of up to 128 picks, memory O(n c)",
)
def contextual_diversity(
    probs: Any, *, budget: int, first: FirstPick = None, generator: torch.Generator, missing: Missing = "raise"
) -> Selection:
    """Cover the ways in which the network is undecided: repeatedly take the example predicted least like any chosen.

    ``u = argmax over i of min over chosen j of (KL(p_i || p_j) + KL(p_j || p_i)) / 2``, the greedy of k-center on the
    symmetric divergence of the softmax outputs. The paper sums it over classes, between the mean predictions of the
    regions of an image where that class is predicted. A classifier has one region an image, and two images are
    compared whichever class is predicted (as in DeepCore): else those of different classes would be at distance 0.
    The divergence is no metric, so the factor 2 of `k_center` is not promised. Probabilities are raised to 1e-10.

    Args:
        probs: (n, c) float, softmax outputs of a trained network.
        budget: number of examples to keep, 1 to n.
        first: the first pick: an id (with `per_class`, a position within the class), ``"mean"`` for the example
            whose prediction diverges least from the mean prediction, or ``"random"`` (None is the same; DeepCore's).
        generator: CPU `torch.Generator`, source of a random first and of the order of ties.
        missing: ``"raise"``, or ``"skip"`` never to choose (or cover) an example with NaN.

    Returns:
        `Selection` of exactly ``budget`` ids in the order chosen (prefixes nest), weights of one. Ties are drawn.

    Raises:
        ArgumentError: a budget outside 1 to n, another ``first``, rows that are no distributions, NaN.
        CapacityError: fewer examples without NaN than ``budget``.

    References:
        Agarwal et al. 2020, arXiv 2008.05723, section 3; Guo et al. 2022, DeepCore, arXiv 2204.08499, section 3.

    >>> from datawinnow.core.rng import stream
    >>> probs = [[0.9, 0.1], [0.8, 0.2], [0.5, 0.5], [0.1, 0.9]]
    >>> contextual_diversity(probs, budget=3, first=0, generator=stream(0, "x")).index.tolist()
    [0, 3, 2]
    """
    tie_seed = tie_seed_of(check.generator(generator))
    rows = check.distributions("probs", probs, missing)
    n, classes = rows.shape
    ids = selectable_ids(budget, missing, probs=rows[:, 0] if missing == "raise" else rows.sum(1))
    # A probability of 0 would make the divergence infinite, and 0 * -inf NaN.
    p, log = with_logs(rows if ids is None else rows[ids])
    # the divergence is (<p_i, log p_i> + <p_j, log p_j> - <p_i, log p_j> - <log p_i, p_j>) / 2
    # (n, 2c), so that both cross terms are one product: <left_i, crossed_j> = (<p_i, log p_j> + <log p_i, p_j>) / 2.
    left = torch.cat([p, log], dim=1)
    offset = torch.linalg.vecdot(p, log).div_(2)
    # Sums of terms up to |log p| round by that times eps; a divergence below it counts as 0, so that equal predictions
    # tie.
    noise = torch.full_like(offset, DIVERGENCE_ROUNDING * torch.finfo(offset.dtype).eps * max(1.0, -float(log.min())))

    def crossed(of: Tensor) -> Tensor:
        return torch.cat([of[:, classes:], of[:, :classes]], dim=1).div_(2)

    def central() -> int:
        # The mean of clamped probabilities, clamped again for its logarithm.
        mean = torch.cat(with_logs(p.mean(0, keepdim=True)), dim=1)
        divergence = torch.addmv(offset, left, crossed(mean)[0], alpha=-1)
        return argmax_random_ties(divergence.neg_().numpy(), tie_seed)

    begin = first_position(first, n, ids, central, generator)
    chosen = farthest_first(Points(left, lambda at: crossed(left[at]), offset, noise), begin, budget, tie_seed)
    return build_selection(chosen, n, ids, kept=Reason.COVERS, dropped=Reason.COVERED)
