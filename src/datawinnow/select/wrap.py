"""Wrappers: what other libraries make a flag of every selector."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from datawinnow.core import check
from datawinnow.core.arrays import TABLE
from datawinnow.core.budget import check_budget, shares
from datawinnow.core.card import Card, card_of
from datawinnow.core.errors import ArgumentError, CapacityError
from datawinnow.core.reason import Reason
from datawinnow.core.rng import stream
from datawinnow.core.selection import Selection

Selector = Callable[..., Selection]


def per_class(selector: Selector) -> Selector:
    """``selector`` applied to every class by itself, each class keeping its share of the budget.

    Shares are in proportion to class sizes, by largest remainders; a class that can give no more (its size, or what
    the selector leaves after a cut) is filled and the others take the rest. Draws come from one stream a class, so
    no class's draw depends on another class.

    Args:
        selector: any selector, for example `top`.

    Returns:
        A selector called as ``per_class(top)(score, labels=labels, budget=100)``: positional arrays and options are
        those of ``selector``; ``labels`` is (n,) int. It raises `ArgumentError` where ``selector`` does, and
        `CapacityError` when all classes together cannot give ``budget``. Its `Selection` takes the classes in turns,
        in proportion, so every prefix is balanced too.

    Raises:
        ArgumentError: not callable.

    >>> from datawinnow.select.top import top
    >>> per_class(top)([1.0, 2.0, 3.0, 4.0], labels=[0, 0, 1, 1], budget=2).index.tolist()
    [1, 3]
    """
    own = card_of(selector)

    def balanced(
        *arrays: Any, labels: Any, budget: int, generator: torch.Generator | None = None, **options: Any
    ) -> Selection:
        classes = check.labels("labels", labels)
        n = classes.numel()
        check_budget(budget, n)
        full = _checked(own, arrays, n, options.get("missing", "raise"))
        if "generator" in own.takes:
            seed = int(torch.randint(2**62, (), generator=check.generator(generator)))
        members = torch.split_with_sizes(torch.argsort(classes, stable=True), torch.bincount(classes).tolist())

        def one(c: int, share: int) -> Selection:
            extra = {"generator": stream(seed, "per_class", c)} if "generator" in own.takes else {}
            part = [array.index_select(axis, members[c]) for array, axis in full]
            return selector(*part, budget=share, **extra, **options)

        reason = torch.full((n,), int(Reason.BELOW_CUT), dtype=torch.int8)
        for array, _ in full:  # a class without a share was not looked at by the selector
            if array.ndim == 1 and array.is_floating_point():
                reason[array.isnan()] = int(Reason.UNSCORED)
        return _merge(_fill(one, [m.numel() for m in members], budget), members, reason)

    balanced.__name__ = balanced.__qualname__ = f"per_class_{own.key}"
    balanced.__doc__ = f"{own.summary} In every class by its share."
    balanced.card = replace(  # type: ignore[attr-defined]
        own, name=f"{own.name}, per class", key=f"per_class_{own.key}", takes=(*own.takes, "labels")
    )
    return balanced


def _checked(own: Card, arrays: tuple[Any, ...], n: int, missing: Any) -> list[tuple[Tensor, int]]:
    """Each positional array as a tensor with its axis of examples, checked while the ids are still the user's."""
    names = [*own.needs, *own.optional_needs]
    out = []
    for position, value in enumerate(arrays):
        name = names[position] if position < len(names) else f"array {position}"
        tensor = check.as_tensor(name, value)
        if tensor.ndim == 0:
            raise ArgumentError(f"{name} must have an axis of examples, got a single number")
        axes = TABLE[name].axes if name in TABLE else ()
        axis = axes.index("n") if len(axes) == tensor.ndim else tensor.ndim - 1
        if tensor.shape[axis] != n:
            raise ArgumentError(f"{name} is about {tensor.shape[axis]} examples, but labels about {n}")
        if tensor.is_floating_point():
            inner = "epoch" if axis else "column"
            check.finite(name, tensor.movedim(axis, -1), missing, inner=inner)
        out.append((tensor, axis))
    return out


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
