"""Building blocks of plans: draws without replacement, and plans with a reason for every example.

Draws partition and sort random integers rather than permute: a permutation of 10M ids misses the cache 10M times.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from datawinnow.core.budget import budget_of
from datawinnow.core.errors import ArgumentError
from datawinnow.core.reason import Reason
from datawinnow.core.selection import Selection
from datawinnow.dynamic.policy import FirstPlan, State
from datawinnow.dynamic.state import get_int


def in_random_order(ids: Tensor, generator: torch.Generator) -> Tensor:
    """(m,) int64: ``ids`` shuffled."""
    return sample_without_replacement(ids, ids.numel(), generator)


def sample_without_replacement(ids: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """``count`` of ``ids`` without replacement, in random order, every outcome equally likely.

    Args:
        ids: (m,) int64, unique, at least 0.
        count: number to draw, 0 to m.
        generator: source of the draw.

    Returns:
        (count,) int64.
    """
    if count <= 0:
        return ids[:0]
    # Each key is a random number in the high bits and the id in the low ones: partitioning and sorting integers is
    # vectorised, permuting is not. 63 bits hold an id of 24 bits (10M examples) and 39 random bits, which agree in
    # about 1 pair of 5e11.
    mask = (1 << max(1, int(ids.max()).bit_length())) - 1
    keys = torch.empty(ids.numel(), dtype=torch.int64).random_(generator=generator)
    # random_() fills 63 bits, so keys are not negative and sort by their random part first.
    keys.bitwise_and_(~mask).bitwise_or_(ids)
    raw = keys.numpy()
    if count < raw.size:
        raw.partition(count - 1)
        # The smallest `count` keys are a uniform sample; a copy frees the others.
        raw = raw[:count].copy()
    raw.sort()
    # Sorted by random keys: the ids come out in random order.
    return torch.from_numpy(raw).bitwise_and_(mask)


def topk_random_ties(score: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """``count`` ids with the largest scores; ties at the cut are drawn, so that the order of ids has no influence.

    Args:
        score: (n,) float without NaN; infinities are allowed.
        count: number of ids, 1 to n.
        generator: source of the draw.

    Returns:
        (count,) int64, in no particular order.
    """
    values = score.numpy()
    if count >= values.size:
        return torch.arange(values.size)
    # The count-th largest; fewer than `count` are above it, and the rest is drawn from those that equal it.
    cut = np.partition(values, values.size - count)[values.size - count]
    above, tied = nonzero_ids(score > cut), nonzero_ids(score == cut)
    return torch.cat([above, sample_without_replacement(tied, count - above.numel(), generator)])


def nonzero_ids(mask: Tensor) -> Tensor:
    """(m,) int64 ids at which ``mask`` (n,) bool is True, rising."""
    return torch.from_numpy(np.flatnonzero(mask.numpy()))  # ten times as fast as torch.nonzero on one axis


def is_kept(codes: Tensor) -> Tensor:
    """(n,) bool for (n,) codes of `Reason`: codes below 10 are reasons to keep an example."""
    return codes < 10


def plan_everything(n: int, generator: torch.Generator) -> Selection:
    """All ``n`` examples in a random order, weights of one."""
    index = in_random_order(torch.arange(n), generator)
    return Selection(index, torch.ones(n), torch.full((n,), int(Reason.KEPT), dtype=torch.int8))


def plan_uniform(n: int, count: int, generator: torch.Generator) -> Selection:
    """``count`` of ``n`` examples, every subset equally likely, in a random order, weights of one."""
    index = sample_without_replacement(torch.arange(n), count, generator)
    return Selection.of(index, n, kept=Reason.DRAWN, dropped=Reason.NOT_DRAWN)


def first_plan(first: FirstPlan, keep: float, n: int, generator: torch.Generator) -> Selection:
    """The plan while nothing has been observed: everything, or a uniform draw of the same size as later.

    Ranking scores that all tie would choose by id: of images sorted by class, entire classes would be dropped.
    """
    return plan_everything(n, generator) if first == "all" else plan_uniform(n, budget_of(keep, n), generator)


def plan_from_reasons(reason: Tensor, generator: torch.Generator, weight: Tensor | None = None) -> Selection:
    """The examples with a reason to keep them, in a random order.

    Args:
        reason: (n,) int8 codes of `Reason`.
        generator: source of the order.
        weight: (n,) float32, or None for ones.
    """
    index = in_random_order(nonzero_ids(is_kept(reason)), generator)
    return Selection(index, torch.ones(index.numel()) if weight is None else weight[index], reason)


def reason_codes(n: int, dropped: Reason, **ids: Tensor) -> Tensor:
    """(n,) int8 codes: ``dropped``, and at the ids of a keyword the reason that it names (``ranked=ids``)."""
    codes = torch.full((n,), int(dropped), dtype=torch.int8)
    for name, index in ids.items():
        codes[index] = int(Reason[name.upper()])
    return codes


def decide_once_per_period(state: State, epoch: int, period: int, decide: Callable[[int], Tensor]) -> State:
    """``state`` with the decision for the period of ``epoch``: the stored one, or a new one at the start of a period.

    Args:
        state: with ``block``, the number of the period of the decision (-1 for none), and ``reason``, the decision.
        epoch: epochs 0, period, 2 * period ... start a period.
        period: epochs between decisions.
        decide: number of the period -> (n,) int8 reasons.
    """
    block = epoch // period
    if get_int(state, "block") == block:
        return state
    return state | {"block": block, "reason": decide(block)}


def no_decision(n: int) -> State:
    """The entries of a state that `decide_once_per_period` needs, before the first decision."""
    return {"block": -1, "reason": torch.zeros(n, dtype=torch.int8)}


def revisited_ids(n: int, epoch: int, look: int, stream: Callable[[int], torch.Generator]) -> Tensor:
    """(ceil(n / look),) int64 ids whose turn it is in ``epoch``, whatever their loss: every example once in ``look``.

    Args:
        n: number of examples.
        epoch: counted from 0.
        look: epochs in which each has its turn.
        stream: number of the cycle of ``look`` epochs -> generator of its order.
    """
    cycle, position = divmod(epoch, look)
    # ceil, and modulo n below: where `look` does not divide n, the last epoch of a cycle repeats some of the first.
    per_epoch = -(-n // look)
    order = in_random_order(torch.arange(n), stream(cycle))
    return order[(torch.arange(per_epoch) + position * per_epoch) % n]


def inclusion_probability(plan: Selection) -> Tensor:
    """(m,) float32 probability that each chosen example had of being chosen, read off the reasons.

    Examples kept for their rank, or unconditionally, have 1. Examples drawn uniformly have the share of the drawn among
    all that took part in the draw.

    Raises:
        ArgumentError: an example was dropped for certain, so no weight can represent it.
    """
    assert plan.reason is not None, "plans of this package have reasons"
    counts = torch.bincount(plan.reason.long(), minlength=max(Reason) + 1)
    drawn, not_drawn = int(counts[Reason.DRAWN]), int(counts[Reason.NOT_DRAWN])
    # Codes from 10 on are reasons to drop: all but NOT_DRAWN had no chance.
    never = int(counts[10:].sum()) - not_drawn
    if never:
        raise ArgumentError(
            f"{never} examples had no chance of being chosen, so weights cannot make up for them: rescaled() needs a "
            "policy that gives every example a chance (with EpsilonGreedy, an epsilon that draws at least one)"
        )
    chance = torch.ones(len(plan))
    if not_drawn:
        chance[plan.reason[plan.index] == int(Reason.DRAWN)] = drawn / (drawn + not_drawn)
    return chance
