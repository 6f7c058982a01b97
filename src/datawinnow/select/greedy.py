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


def check_greedy(greedy: str, epsilon: float, sample_seed: int) -> None:
    """Validate the options of `maximise` before anything is computed.

    Raises:
        ArgumentError: an unknown kind of greedy, an epsilon outside (0, 1), or a seed that is no integer.
    """
    check.one_of("greedy", greedy, ("lazy", "stochastic", "naive"))
    check.number("epsilon", epsilon, 1e-9, 1 - 1e-9)
    check.number("sample_seed", sample_seed, 0, 2**63 - 1, integer=True)


def maximise(objective: GreedyObjective, budget: int, *, greedy: str, epsilon: float, sample_seed: int) -> Tensor:
    """(budget,) int64 ids in the order added, each with the largest gain of those evaluated; ties to the smaller id.

    Args:
        objective: a submodular function of the empty set.
        budget: number of examples to add.
        greedy: ``"naive"`` evaluates all examples for each pick; ``"lazy"`` evaluates again only those whose last gain
            would still win (Minoux 1978: gains only fall), and makes the same picks; ``"stochastic"`` evaluates
            ``ceil(n / budget * log(1 / epsilon))`` random examples (Mirzasoleiman et al. 2015, arXiv 1409.7938,
            algorithm 1: 1 - 1/e - epsilon of the optimum in expectation, in n log(1 / epsilon) gains all in all).
        epsilon: of the stochastic greedy.
        sample_seed: seed of its samples.
    """
    if greedy == "naive":
        picks = _naive_greedy(objective, budget)
    elif greedy == "lazy":
        picks = _lazy_greedy(objective, budget)
    else:
        size = math.ceil(objective.n / budget * math.log(1 / epsilon))
        picks = _stochastic_greedy(
            objective, budget, size, stream(sample_seed, "stochastic greedy", objective.n, budget)
        )
    return torch.tensor(picks, dtype=torch.int64)


def _naive_greedy(objective: GreedyObjective, budget: int) -> list[int]:
    all_ids = np.arange(objective.n)
    picks: list[int] = []
    for _ in range(budget):
        # A copy: the objective may return its own array.
        gains = objective.gains(all_ids).copy()
        gains[picks] = -np.inf
        picks.append(int(gains.argmax()))  # the first of equals
        objective.add(picks[-1])
    return picks


def _lazy_greedy(objective: GreedyObjective, budget: int) -> list[int]:
    # Ordered by (-bound, id): an example with a fresh gain on top beats every bound below it, and has the smallest id
    # of those that could tie with it.
    heap = list(zip((-objective.gains(np.arange(objective.n))).tolist(), range(objective.n), strict=True))
    heapq.heapify(heap)
    turn_of = [0] * objective.n  # the number of picks before which the bound was computed
    picks: list[int] = []
    for turn in range(budget):
        width = 1  # doubled: few calls where many bounds are stale, few gains in vain where one is
        # Bounds from earlier turns are upper bounds, since gains only fall (submodularity).
        while turn_of[heap[0][1]] != turn:
            stale: list[int] = []
            while heap and len(stale) < width and turn_of[heap[0][1]] != turn:
                stale.append(heapq.heappop(heap)[1])
            for i, gain in zip(stale, objective.gains(np.array(stale)).tolist(), strict=True):
                turn_of[i] = turn
                heapq.heappush(heap, (-gain, i))
            # Never above what the objective computes efficiently at once.
            width = min(2 * width, objective.width)
        picks.append(heapq.heappop(heap)[1])
        objective.add(picks[-1])
    return picks


def _stochastic_greedy(objective: GreedyObjective, budget: int, size: int, generator: torch.Generator) -> list[int]:
    left = np.arange(objective.n)
    picks: list[int] = []
    for turn in range(budget):
        count = objective.n - turn
        if size >= count:
            places = np.arange(count)
        else:  # with repetition, as the proof allows: a sample without would cost O(n) a pick
            places = np.unique(torch.randint(count, (size,), generator=generator).numpy())
        places = places[left[places].argsort()]
        place = int(places[objective.gains(left[places]).argmax()])  # of equals the smallest id
        picks.append(int(left[place]))
        objective.add(picks[-1])
        # Removal by swapping in the last one: O(1), and `left` is no longer in order, hence the sort by id.
        left[place] = left[count - 1]
    return picks
