"""`per_class`: what other libraries make a flag of every selector. The other wrappers are in ``wrap_*.py``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from datawinnow.core import check
from datawinnow.core.budget import check_budget, shares
from datawinnow.core.card import card_of
from datawinnow.core.errors import CapacityError
from datawinnow.core.reason import Reason
from datawinnow.core.rng import stream
from datawinnow.core.selection import Selection
from datawinnow.select._wrapping import Selector, claim, given, named, unscored


def per_class(selector: Selector) -> Selector:
    """``selector`` applied to every class by itself, each class keeping its share of the budget.

    Shares are in proportion to class sizes, by largest remainders; a class that can give no more (its size, or what
    the selector leaves after a cut) is filled and the others take the rest. Draws come from one stream a class, so
    no class's draw depends on another class. Arrays about held-out data (``val_features``, ...) go to every class
    whole.

    Args:
        selector: any selector, for example `top`, or a wrapped one such as ``drop_tail(top, ...)``.

    Returns:
        A selector called as ``per_class(top)(score, labels=labels, budget=100)``: positional arrays and options are
        those of ``selector`` (its ``labels`` too, where it needs them); ``labels`` is (n,) int. It raises
        `ArgumentError` where ``selector`` does, and `CapacityError` when all classes together cannot give
        ``budget``. Its `Selection` takes the classes in turns, in proportion, so every prefix is balanced too.

    Raises:
        ArgumentError: not callable, a selector that is balanced already, or one capped by cost.

    >>> from datawinnow.select.top import top
    >>> per_class(top)([1.0, 2.0, 3.0, 4.0], labels=[0, 0, 1, 1], budget=2).index.tolist()
    [1, 3]
    """
    own = card_of(selector)
    claim(own, "per_class", "labels")

    def balanced(
        *arrays: Any, labels: Any, budget: int, generator: torch.Generator | None = None, **options: Any
    ) -> Selection:
        classes = check.labels("labels", labels)
        n = classes.numel()
        check_budget(budget, n)
        full = given(own, arrays, options, n, options.get("missing", "raise"), ruler="labels")
        if "generator" in own.takes:
            seed = int(torch.randint(2**62, (), generator=check.generator(generator)))
        members = torch.split_with_sizes(torch.argsort(classes, stable=True), torch.bincount(classes).tolist())

        def one(c: int, share: int) -> Selection:
            extra = {"generator": stream(seed, "per_class", c)} if "generator" in own.takes else {}
            positional, keywords = full.part(members[c])
            return selector(*positional, budget=share, **extra, **keywords)

        reason = torch.full((n,), int(Reason.BELOW_CUT), dtype=torch.int8)
        reason[unscored(full, n)] = int(Reason.UNSCORED)  # a class without a share is not looked at by the selector
        return _merge(_fill(one, [m.numel() for m in members], budget), members, reason)

    wrapped: Selector = named(balanced, own, "per_class", "per class", "In every class by its share.", ("labels",))
    return wrapped


def _fill(one: Callable[[int, int], Selection], sizes: list[int], budget: int) -> list[Selection | None]:
    """Each class's selection, or None for a class without a share; full classes pass their rest on."""
    most = list(sizes)
    done: dict[tuple[int, int], Selection] = {}
    while True:
        if budget > sum(most):
            raise CapacityError(
                f"budget={budget}, but the classes can give at most {sum(most)} examples together ({most} by class)",
                sum(most),
            )
        parts = shares(budget, sizes, most=most)
        full = False
        for c, share in enumerate(parts):
            if share and (c, share) not in done:
                try:
                    done[c, share] = one(c, share)
                except CapacityError as error:
                    most[c] = min(error.capacity, share - 1)
                    full = True
        if not full:
            return [done[c, share] if share else None for c, share in enumerate(parts)]


def _merge(selections: list[Selection | None], members: Sequence[Tensor], reason: Tensor) -> Selection:
    index, weight, turn = [], [], []
    for ids, part in zip(members, selections, strict=True):
        if part is None:
            continue
        if part.reason is None:
            reason[ids[part.index]] = int(Reason.KEPT)
        else:
            reason[ids] = part.reason
        index.append(ids[part.index])
        weight.append(part.weight)
        turn.append((torch.arange(len(part), dtype=torch.float64) + 0.5) / len(part))
    order = torch.argsort(torch.cat(turn), stable=True)
    return Selection(torch.cat(index)[order], torch.cat(weight)[order], reason)
