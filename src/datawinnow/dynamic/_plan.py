"""From who is in to what is trained on: `Selection` in a random order, with reasons."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from datawinnow.core.budget import budget_of
from datawinnow.core.errors import ArgumentError
from datawinnow.core.reason import Reason
from datawinnow.core.selection import Selection
from datawinnow.dynamic._draw import in_random_order, some, where
from datawinnow.dynamic._state import whole
from datawinnow.dynamic.policy import First, State


def everything(n: int, generator: torch.Generator) -> Selection:
    """All ``n`` examples in a random order, weights of one."""
    index = in_random_order(torch.arange(n), generator)
    return Selection(index, torch.ones(n), torch.full((n,), int(Reason.KEPT), dtype=torch.int8))


def uniform(n: int, count: int, generator: torch.Generator) -> Selection:
    """``count`` of ``n`` examples, every subset equally likely, in a random order, weights of one."""
    index = some(torch.arange(n), count, generator)
    return Selection.of(index, n, kept=Reason.DRAWN, dropped=Reason.NOT_DRAWN)


def first_plan(first: First, keep: float, n: int, generator: torch.Generator) -> Selection:
    """What to train on while nothing has been observed: everything, or a uniform draw of the same size as later.

    Ranking scores that all tie would choose by id: of images sorted by class, some classes would go.
    """
    return everything(n, generator) if first == "all" else uniform(n, budget_of(keep, n), generator)


def trained(reason: Tensor, generator: torch.Generator, weight: Tensor | None = None) -> Selection:
    """The examples whose reason says kept, in a random order.

    Args:
        reason: (n,) int8 codes of `Reason`.
        generator: source of the order.
        weight: (n,) float32, or None for ones.
    """
    index = in_random_order(where(reason < 10), generator)
    return Selection(index, torch.ones(index.numel()) if weight is None else weight[index], reason)


def reasons(n: int, dropped: Reason, **ids: Tensor) -> Tensor:
    """(n,) int8: ``dropped``, but at the given ids the reason that the keyword names (``ranked=ids``)."""
    codes = torch.full((n,), int(dropped), dtype=torch.int8)
    for word, at in ids.items():
        codes[at] = int(Reason[word.upper()])
    return codes


def held(state: State, epoch: int, period: int, decide: Callable[[int], Tensor]) -> State:
    """``state`` with the decision for the period that ``epoch`` is in: the one it holds, or a new one.

    Args:
        state: holds ``block``, the number of the period decided for (-1 for none), and ``reason``, the decision.
        epoch: epochs 0, period, 2 * period ... begin a period.
        period: epochs between decisions.
        decide: number of the period -> (n,) int8 reasons.
    """
    block = epoch // period
    if whole(state, "block") == block:
        return state
    return state | {"block": block, "reason": decide(block)}


def no_decision(n: int) -> State:
    """The part of a state that `held` keeps, before the first decision."""
    return {"block": -1, "reason": torch.zeros(n, dtype=torch.int8)}


def inclusion(plan: Selection) -> Tensor:
    """(m,) float32 probability that each chosen example had of being chosen, read off the reasons.

    What is kept for its rank or outright was certain to be kept. What was drawn uniformly had the share of the drawn
    among all that took part in the draw.

    Raises:
        ArgumentError: an example was dropped that had no chance, so no weight can stand for it.
    """
    assert plan.reason is not None, "plans of this package have reasons"
    counts = torch.bincount(plan.reason.long(), minlength=max(Reason) + 1)
    drawn, not_drawn = int(counts[Reason.DRAWN]), int(counts[Reason.NOT_DRAWN])
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
