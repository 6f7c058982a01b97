"""Greedy maximisation of a submodular function: every example each time, lazily, or over a random sample."""

from __future__ import annotations

import heapq
import math
from typing import Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from datawinnow.core import check
from datawinnow.core.draw import argmax_random_ties, tie_ranks
from datawinnow.core.rng import stream
from datawinnow.select.similarity import IdArray

Greedy = Literal["lazy", "stochastic", "naive"]


class GreedyObjective(Protocol):
    """A set function with the set of examples added so far."""

    @property
    def n(self) -> int:
        """Number of examples."""
        ...

    @property
    def width(self) -> int:
        """Number of gains that are efficiently computed at once."""
        ...

    def gains(self, ids: IdArray) -> NDArray[np.float64]:
        """(b,) what adding each of ``ids`` alone would add to the function."""
        ...

    def add(self, j: int) -> None:
        """Add example ``j``."""
        ...


def check_greedy(greedy: str, epsilon: float, sample_seed: int, tie_seed: int) -> None:
    """Validate the options of `maximise` before anything is computed.

    Raises:
        ArgumentError: an unknown kind of greedy, an epsilon outside (0, 1), or a seed that is no integer.
    """
    check.one_of("greedy", greedy, ("lazy", "stochastic", "naive"))
    check.number("epsilon", epsilon, 1e-9, 1 - 1e-9)
    check.number("sample_seed", sample_seed, 0, 2**63 - 1, integer=True)
    check.seed("tie_seed", tie_seed)


def maximise(
    objective: GreedyObjective, budget: int, *, greedy: str, epsilon: float, sample_seed: int, tie_seed: int
) -> Tensor:
    """(budget,) int64 ids in the order added, each with the largest gain of those evaluated; ties are drawn.

    Args:
        objective: a submodular function of the empty set.
        budget: number of examples to add.
        greedy: ``"naive"`` evaluates all examples for each pick; ``"lazy"`` evaluates again only those whose last gain
            would still win (Minoux 1978: gains only fall), and makes the same picks; ``"stochastic"`` evaluates
            ``ceil(n / budget * log(1 / epsilon))`` random examples (Mirzasoleiman et al. 2015, arXiv 1409.7938,
            algorithm 1: 1 - 1/e - epsilon of the optimum in expectation, in n log(1 / epsilon) gains all in all).
        epsilon: of the stochastic greedy.
        sample_seed: seed of its samples.
        tie_seed: seed of the order of equal gains.
    """
    if greedy == "naive":
        picks = _naive_greedy(objective, budget, tie_seed)
    elif greedy == "lazy":
        picks = _lazy_greedy(objective, budget, tie_seed)
    else:
        size = math.ceil(objective.n / budget * math.log(1 / epsilon))
        picks = _stochastic_greedy(
            objective, budget, size, stream(sample_seed, "stochastic greedy", objective.n, budget), tie_seed
        )
    return torch.tensor(picks, dtype=torch.int64)


def _naive_greedy(objective: GreedyObjective, budget: int, tie_seed: int) -> list[int]:
    all_ids = np.arange(objective.n)
    picks: list[int] = []
    for _ in range(budget):
        # A copy: the objective may return its own array.
        gains = objective.gains(all_ids).copy()
        gains[picks] = -np.inf
        picks.append(argmax_random_ties(gains, tie_seed))
        objective.add(picks[-1])
    return picks


def _lazy_greedy(objective: GreedyObjective, budget: int, tie_seed: int) -> list[int]:
    # Ordered by (-bound, place in the order of ties): an example with a fresh gain on top beats every bound below it,
    # and comes first of those that could tie with it.
    rank = tie_ranks(objective.n, tie_seed).tolist()
    heap = list(zip((-objective.gains(np.arange(objective.n))).tolist(), rank, range(objective.n), strict=True))
    heapq.heapify(heap)
    turn_of = [0] * objective.n  # the number of picks before which the bound was computed
    picks: list[int] = []
    for turn in range(budget):
        width = 1  # doubled: few calls where many bounds are stale, few gains in vain where one is
        # Bounds from earlier turns are upper bounds, since gains only fall (submodularity).
        while turn_of[heap[0][2]] != turn:
            stale: list[int] = []
            while heap and len(stale) < width and turn_of[heap[0][2]] != turn:
                stale.append(heapq.heappop(heap)[2])
            for i, gain in zip(stale, objective.gains(np.array(stale)).tolist(), strict=True):
                turn_of[i] = turn
                heapq.heappush(heap, (-gain, rank[i], i))
            # Never above what the objective computes efficiently at once.
            width = min(2 * width, objective.width)
        picks.append(heapq.heappop(heap)[2])
        objective.add(picks[-1])
    return picks


def _stochastic_greedy(
    objective: GreedyObjective, budget: int, size: int, generator: torch.Generator, tie_seed: int
) -> list[int]:
    rank = tie_ranks(objective.n, tie_seed).numpy()
    left = np.arange(objective.n)
    picks: list[int] = []
    for turn in range(budget):
        count = objective.n - turn
        if size >= count:
            places = np.arange(count)
        else:  # with repetition, as the proof allows: a sample without would cost O(n) a pick
            places = np.unique(torch.randint(count, (size,), generator=generator).numpy())
        places = places[rank[left[places]].argsort()]
        place = int(places[objective.gains(left[places]).argmax()])  # of equals the first in the order of ties
        picks.append(int(left[place]))
        objective.add(picks[-1])
        # Removal by swapping in the last one: O(1), and `left` is no longer in order, hence the sort.
        left[place] = left[count - 1]
    return picks
