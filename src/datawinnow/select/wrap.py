"""`per_class`: balances any selector over the classes. The other wrappers are in ``wrap_*.py``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor

from datawinnow.core import check
from datawinnow.core.budget import check_budget, shares
from datawinnow.core.card import card_of
from datawinnow.core.draw import tie_order
from datawinnow.core.errors import CapacityError
from datawinnow.core.reason import Reason
from datawinnow.core.rng import stream
from datawinnow.core.selection import Selection
from datawinnow.select._selectable import scale_to_mean_one
from datawinnow.select._wrapping import Selector, bind_arguments, reserve_names, unscored, with_card

ClassSplit = Literal["proportional", "equal"]
"""How a budget is split over the classes."""


def per_class(selector: Selector, *, split: ClassSplit = "proportional") -> Selector:
    """``selector`` applied to each class separately, each class keeping its share of the budget.

    Shares are in proportion to class sizes, by largest remainders, whose ties are drawn; a class at its capacity (its
    size, or what the selector leaves after a cut) is filled and the others take the rest. Each class draws from its own
    stream, so no class's draw depends on another class. Arrays of held-out data (``val_features``, ...) are passed to
    every class uncut.

    Args:
        selector: any selector, for example `top`, or a wrapped one such as ``drop_tail(top, ...)``.
        split: ``"proportional"`` to the sizes of the classes, or ``"equal"``: every class the same number, or all of it
            where that is less (D2). What a division leaves over goes to the largest classes.

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
    card = card_of(selector)
    reserve_names(card, "per_class", "labels")
    check.one_of("split", split, ("proportional", "equal"))

    def balanced(
        *arrays: Any,
        labels: Any,
        budget: int,
        generator: torch.Generator | None = None,
        tie_seed: int | None = None,
        **options: Any,
    ) -> Selection:
        classes = check.labels("labels", labels)
        n = classes.numel()
        check_budget(budget, n)
        if "generator" in card.takes:
            # One draw from the caller's generator seeds a stream for each class: the draw of a class depends neither on
            # other classes nor on how often `_fill` calls it.
            seed = int(torch.randint(2**62, (), generator=check.generator(generator)))
            tie_seed = seed if tie_seed is None else tie_seed
        tie_seed = check.seed("tie_seed", 0 if tie_seed is None else tie_seed)
        if "tie_seed" in card.takes:
            options["tie_seed"] = tie_seed
        # Weights scaled class by class would lose the ratio between the classes.
        rescale = "mean_weight_one" in card.options and options.setdefault("mean_weight_one", True)
        if rescale:
            options["mean_weight_one"] = False
        # Checked before they are cut, so that an error names the id among all examples.
        full = bind_arguments(card, arrays, options, n, options.get("missing", "raise"), ruler="labels")
        # (classes) tensors of rising ids; a class without examples is empty and gets no share.
        members = torch.split_with_sizes(torch.argsort(classes, stable=True), torch.bincount(classes).tolist())

        def one(c: int, share: int) -> Selection:
            extra = {"generator": stream(seed, "per_class", c)} if "generator" in card.takes else {}
            positional, keywords = full.at(members[c])
            return selector(*positional, budget=share, **extra, **keywords)

        reason = torch.full((n,), int(Reason.BELOW_CUT), dtype=torch.int8)
        reason[unscored(full, n)] = int(Reason.UNSCORED)  # a class without a share is not looked at by the selector
        # Which of equal classes get the rest is drawn too: with less than one example a class it decides on classes.
        sizes = [m.numel() for m in members]
        order = tie_order(len(members), tie_seed).tolist()
        if split == "equal":
            order.sort(key=lambda c: -sizes[c])
        weights = sizes if split == "proportional" else [min(1, size) for size in sizes]
        filled = _fill(one, sizes, weights, budget, order)
        merged = _merge([filled[c] for c in order], [members[c] for c in order], reason)
        return replace(merged, weight=scale_to_mean_one(merged.weight).float()) if rescale else merged

    wrapped: Selector = with_card(
        balanced, card, "per_class", "per class", "In every class by its share.", ("labels", "tie_seed")
    )
    return wrapped


def _fill(
    one: Callable[[int, int], Selection], sizes: list[int], weights: list[int], budget: int, order: list[int]
) -> list[Selection | None]:
    """Each class's selection, or None for a class without a share; full classes pass their rest on."""
    # Capacities are discovered: a selector that cuts a tail says how many it can give only when asked for more.
    capacities = list(sizes)
    done: dict[tuple[int, int], Selection] = {}
    while True:
        if budget > sum(capacities):
            raise CapacityError(
                f"budget={budget}, but the classes can give at most {sum(capacities)} examples together "
                f"({capacities} by class)",
                sum(capacities),
            )
        allotted = shares(budget, weights, limits=capacities, order=order)
        full = False
        for c, share in enumerate(allotted):
            if share and (c, share) not in done:
                try:
                    done[c, share] = one(c, share)
                except CapacityError as error:
                    # At most share - 1, so that the loop ends even if a selector reports a capacity that it then
                    # refuses.
                    capacities[c] = min(error.capacity, share - 1)
                    full = True
        if not full:
            return [done[c, share] if share else None for c, share in enumerate(allotted)]


def _merge(selections: list[Selection | None], members: Sequence[Tensor], reason: Tensor) -> Selection:
    index, weight, turn = [], [], []
    for ids, chosen in zip(members, selections, strict=True):
        if chosen is None:
            continue
        if chosen.reason is None:
            reason[ids[chosen.index]] = int(Reason.KEPT)
        else:
            reason[ids] = chosen.reason
        index.append(ids[chosen.index])
        weight.append(chosen.weight)
        # Position j of m at (j + 1/2) / m: sorting by it interleaves the classes in proportion at every prefix.
        turn.append((torch.arange(len(chosen), dtype=torch.float64) + 0.5) / len(chosen))
    # Stable: of equal positions the class that comes first.
    order = torch.argsort(torch.cat(turn), stable=True)
    return Selection(torch.cat(index)[order], torch.cat(weight)[order], reason)
