"""D2 pruning: hard and diverse examples, by message passing on a graph of nearest neighbours."""

from __future__ import annotations

import heapq
from typing import Any

import torch
from torch import Tensor

from datawinnow.core import check
from datawinnow.core.card import card
from datawinnow.core.check import Missing
from datawinnow.core.draw import tie_ranks
from datawinnow.core.errors import ArgumentError
from datawinnow.core.neighbours import Graph, knn, symmetric_graph
from datawinnow.core.reason import Reason
from datawinnow.core.selection import Selection
from datawinnow.select._selectable import build_selection, selectable_ids

MIN_MESSAGE_SCORE = 1e-7
"""A neighbour's score counts for at least this in the messages."""


@card(
    "selector",
    "D2 pruning",
    "Maharana et al. 2023, D2 Pruning: Message Passing for Balancing Diversity and Difficulty in Data Pruning, arXiv "
    "2310.07931, section 3",
    cost="time O(n^2 d) for the exact neighbours, then O(n neighbours log n), memory O(n neighbours)",
)
def d2(
    score: Any,
    features: Any,
    *,
    budget: int,
    neighbours: int = 5,
    gamma: float = 0.1,
    gamma_forward: float = 1.0,
    power: int = 1,
    tie_seed: int = 0,
    missing: Missing = "raise",
) -> Selection:
    """Take the highest score after its neighbours have lifted it, and lower its neighbours' before the next.

    On the graph where i and j are joined if either is among the k nearest of the other, at distance d_ij:
    forward, ``U_i = s_i + sum over neighbours j of exp(-gamma_forward d_ij^power) max(s_j, 1e-7)``; then repeatedly
    ``i* = argmax U`` of those not taken, and in reverse ``U_j -= exp(-gamma d_i*j^power) U_i*`` for its neighbours j.

    The defaults are the authors' code, in which ``gamma_forward`` is fixed at 1 and distances are plain; the paper's
    equations square them: ``power=2``. Both weights fade within a few units of distance, so scale features that are
    far apart. For CIFAR it is run class by class, ``per_class(d2)``, after the lowest AUM are dropped
    (``drop_tail``); where a class cannot fill its share the code draws at random, which cannot happen here.

    Args:
        score: (n,) float, high is hard and worth keeping: forgetting in the paper; for AUM give its negative.
        features: (n, d) float, penultimate activations, for Euclidean distances.
        budget: number of examples to keep, 1 to n.
        neighbours: k, at most n - 1.
        gamma: decay of the reverse message with distance, at least 0; 0 is the strongest.
        gamma_forward: the same of the forward message.
        power: 1 for plain distances, as in the code, 2 for squared, as in the paper.
        tie_seed: seed of the order of equal values.
        missing: ``"raise"``, or ``"skip"`` never to choose (or use) an example with NaN in either array.

    Returns:
        `Selection` of exactly ``budget`` ids in the order chosen (prefixes nest), weights of one. Ties are
        drawn.

    Raises:
        ArgumentError: a budget outside 1 to n, an option out of range, NaN or infinity.
        CapacityError: fewer examples without NaN than ``budget``.

    References:
        Maharana et al. 2023, arXiv 2310.07931, section 3.

    >>> d2([3.0, 2.9, 1.0], [[0.0], [0.1], [9.0]], budget=2, neighbours=1).index.tolist()
    [0, 2]
    """
    check.number("neighbours", neighbours, 1, 10**6, integer=True)
    check.number("gamma", gamma, 0, 1e9)
    check.number("gamma_forward", gamma_forward, 0, 1e9)
    check.one_of("power", power, (1, 2))
    check.seed("tie_seed", tie_seed)
    values = check.array("score", score, "n")
    rows = check.matrix("features", features, missing=missing)
    n = rows.shape[0]
    if values.numel() != n:
        raise ArgumentError(f"score is about {values.numel()} examples, but features about {n}")
    ids = selectable_ids(budget, missing, score=values, features=rows[:, 0] if missing == "raise" else rows.sum(1))
    if ids is not None:
        values, rows = values[ids], rows[ids]
    graph = symmetric_graph(*knn(rows, min(neighbours, rows.shape[0] - 1), tie_seed=tie_seed))
    # (edges,) float64; every undirected edge is stored in both directions.
    away = graph.distance.double() ** power
    lifted = _forward_messages(values.double(), graph, (-gamma_forward * away).exp())
    chosen = _reverse_messages(lifted, graph, (-gamma * away).exp(), budget, tie_seed)
    return build_selection(chosen, n, ids, kept=Reason.COVERS, dropped=Reason.COVERED)


def _forward_messages(score: Tensor, graph: Graph, weight: Tensor) -> Tensor:
    """(n,) each score and the weighted scores of its neighbours."""
    sources = torch.arange(score.numel()).repeat_interleave(graph.start.diff())
    # All messages use the scores before any message: the sum is over original neighbours, not lifted ones.
    return score.index_add(0, sources, weight * score[graph.to].clamp_min(MIN_MESSAGE_SCORE))


def _reverse_messages(lifted: Tensor, graph: Graph, weight: Tensor, budget: int, tie_seed: int) -> Tensor:
    """(budget,) ids, the highest first, each lowering its neighbours."""
    # Values change at a few neighbours a pick: each change is a new entry of the heap, and entries whose value is no
    # longer the current one are passed over.
    value: list[float] = lifted.tolist()
    start, to, factor = graph.start.tolist(), graph.to.tolist(), weight.tolist()
    taken = [False] * len(value)
    # Of equal values the one that comes first in the order of ties.
    rank = tie_ranks(len(value), tie_seed).tolist()
    heap = [(-u, rank[i], i) for i, u in enumerate(value)]
    heapq.heapify(heap)
    chosen: list[int] = []
    while len(chosen) < budget:
        minus, _, i = heapq.heappop(heap)
        # The comparison is exact: an entry holds the very float that was current when it was pushed.
        if taken[i] or -minus != value[i]:
            continue
        taken[i] = True
        chosen.append(i)
        for edge in range(start[i], start[i + 1]):
            j = to[edge]
            if not taken[j]:
                # The lifted U_i and not s_i is subtracted; values may become negative.
                value[j] -= factor[edge] * value[i]
                heapq.heappush(heap, (-value[j], rank[j], j))
    return torch.tensor(chosen)
