"""`capped_by_cost`: limits the total cost instead of the number of examples."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from datawinnow.core import check
from datawinnow.core.budget import check_budget
from datawinnow.core.card import card_of
from datawinnow.core.errors import ArgumentError, CapacityError
from datawinnow.core.selection import Selection
from datawinnow.select._wrapping import Selector, keep_positions, reserve_names, with_card


def capped_by_cost(selector: Selector, *, past: Literal["stop", "skip"] = "stop") -> Selector:
    """``selector``'s order, taken until a total cost would be passed.

    The number kept is the number that fits. Costs are in any unit: tokens, seconds of video, price of a label.

    Args:
        selector: any selector, for example `top` or ``per_class(top)``; this wrapper goes outermost.
        past: what happens at the first example that does not fit: ``"stop"`` ends there, so that a bigger cap only
            adds examples where the selector's prefixes nest; ``"skip"`` passes over it and goes on with those that
            still fit, which fills the cap better and favours the cheap.

    Returns:
        A selector called as ``capped_by_cost(top)(score, cost=cost, cap=1000.0)``; ``cost`` is (n,) float, at least
        0, and ``cap`` the most that the kept may cost together. The selector's budget is the number that fits if
        the cheapest come first (``"stop"``), or n (``"skip"``), or ``budget=`` if that is passed, and at most its
        capacity. Examples that it chose but do not fit have the reason of those past the budget;
        weights keep their mean. It raises `ArgumentError` when not even the first fits, and for costs that are
        negative, NaN or infinite.

    Raises:
        ArgumentError: an unknown ``past``, or a selector that takes a cost already.

    >>> from datawinnow.select.top import top
    >>> capped_by_cost(top)([4.0, 3.0, 2.0, 1.0], cost=[5.0, 1.0, 4.0, 1.0], cap=7.0).index.tolist()
    [0, 1]
    >>> capped_by_cost(top, past="skip")([4.0, 3.0, 2.0, 1.0], cost=[5.0, 1.0, 4.0, 1.0], cap=7.0).index.tolist()
    [0, 1, 3]
    """
    card = card_of(selector)
    check.one_of("past", past, ("stop", "skip"))
    reserve_names(card, "capped_by_cost", "cost", "cap")

    def capped(
        *arrays: Any,
        cost: Any,
        cap: float,
        budget: int | None = None,
        generator: torch.Generator | None = None,
        **options: Any,
    ) -> Selection:
        price, room = _validate_costs(cost, cap)
        n = price.numel()
        # The number that fits if the cheapest come first bounds what any order can fit.
        cheapest = int((price.sort().values.cumsum(0) <= room).sum())
        if not cheapest:
            raise ArgumentError(
                f"cap={cap} is below the cheapest example's cost, {float(price.min()):g}; raise the cap"
            )
        # With "skip" examples far down the order may still fit, so the selector orders all of them.
        ask = cheapest if past == "stop" else n
        if budget is not None:
            ask = min(ask, check_budget(budget, n))
        source = check.generator(generator) if "generator" in card.takes else None
        chosen = _as_many_as(selector, ask, arrays, options, source)
        positions = _within(price[chosen.index], room, past)
        if not positions.numel():
            first = int(chosen.index[0])
            raise ArgumentError(
                f"cap={cap} does not hold the first choice, example {first}, which costs {float(price[first]):g}; "
                'raise the cap, or pass over what does not fit with past="skip"'
            )
        return Selection(*keep_positions(chosen, positions, n))

    wrapped: Selector = with_card(
        capped, card, "capped_by_cost", "capped by cost", "Within a total cost.", ("cost", "cap", "budget")
    )
    return wrapped


def _validate_costs(cost: Any, cap: Any) -> tuple[Tensor, float]:
    """(n,) float64 costs, and the cap with room for the rounding of their dtype."""
    costs = check.array("cost", cost, "n")
    check.finite("cost", costs)
    if float(costs.min()) < 0:
        raise ArgumentError(f"cost must be at least 0, got {float(costs.min()):g} for example {int(costs.argmin())}")
    check.number("cap", cap, 0, 1e300)
    # ten costs of float32 0.1 sum to 1.0000000149, which a cap of 1 must hold
    return costs.double(), cap * (1 + (1e-9 if costs.dtype is torch.float64 else 1e-6))


def _as_many_as(
    selector: Selector, ask: int, arrays: tuple[Any, ...], options: dict[str, Any], source: torch.Generator | None
) -> Selection:
    """The selection of ``ask`` examples, or of the selector's capacity if that is less."""
    state = None if source is None else source.get_state()
    extra = {} if source is None else {"generator": source}
    while True:
        try:
            return selector(*arrays, budget=ask, **extra, **options)
        except CapacityError as error:
            if not 0 < error.capacity < ask:
                raise
            ask = error.capacity
            if source is not None and state is not None:
                # The failed call may have drawn: the retry begins where it did.
                source.set_state(state)


def _within(price: Tensor, room: float, past: str) -> Tensor:
    """Positions in the order chosen whose costs fit."""
    if past == "stop":
        return torch.arange(int((price.cumsum(0) <= room).sum()))
    kept, total = [], 0.0
    # A loop: whether an example fits depends on which of those before were passed over.
    for place, one in enumerate(price.tolist()):
        if total + one <= room:
            kept.append(place)
            total += one
    return torch.tensor(kept, dtype=torch.int64)
