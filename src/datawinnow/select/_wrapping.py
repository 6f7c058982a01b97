"""Shared by the wrappers: the arrays of a call for a subset of the examples, and its selection among all."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from datawinnow.core import check
from datawinnow.core.arrays import TABLE
from datawinnow.core.card import CONTRACT_PARAMETERS, Card
from datawinnow.core.errors import ArgumentError
from datawinnow.core.reason import Reason
from datawinnow.core.selection import Selection

Selector = Callable[..., Selection]

PASSED_OVER = {int(Reason.DRAWN): Reason.NOT_DRAWN, int(Reason.COVERS): Reason.COVERED}
"""Reason of an example that the selector chose and the wrapper drops; by default it is `Reason.BELOW_CUT`."""


@dataclass(frozen=True)
class CallArguments:
    """The arrays and options of one call.

    Attributes:
        arrays: positional arrays, each with its axis of examples; None for arrays without one (``val_features``).
        with_card: the same for keyword arrays, which wrappers take (``labels``, ``cost``, ...).
        options: all other keywords, unchanged.
    """

    arrays: list[tuple[Any, int | None]]
    with_card: dict[str, tuple[Any, int | None]]
    options: dict[str, Any]

    def at(self, ids: Tensor) -> tuple[list[Any], dict[str, Any]]:
        """Positional and keyword arguments for the examples at ``ids`` only."""
        positional = [_rows_at(value, axis, ids) for value, axis in self.arrays]
        return positional, {**self.options, **{k: _rows_at(*pair, ids) for k, pair in self.with_card.items()}}


def bind_arguments(
    card: Card, arrays: tuple[Any, ...], options: Mapping[str, Any], n: int, missing: Any, *, ruler: str
) -> CallArguments:
    """The arrays of a call as tensors, checked before they are cut, so that errors name the user's ids.

    Args:
        card: card of the wrapped selector; extra keywords that it takes are arrays of the examples.
        arrays: positional arrays.
        options: keywords of the call.
        n: number of examples.
        missing: ``"raise"`` or ``"skip"``.
        ruler: name of the array whose length is n, for errors.

    Raises:
        ArgumentError: NaN, infinity, or an array about another number of examples.
    """
    names = [*card.needs, *card.optional_needs]
    positional = []
    for position, value in enumerate(arrays):
        name = names[position] if position < len(names) else f"array {position}"
        positional.append(_about_examples(name, value, n, missing, ruler))
    # `takes` holds the contract (budget, generator, missing, ...) and the arrays that wrappers added.
    array_keywords = {k for k in card.takes if k not in CONTRACT_PARAMETERS}
    with_card = {k: _about_examples(k, v, n, missing, ruler) for k, v in options.items() if k in array_keywords}
    rest = {k: v for k, v in options.items() if k not in array_keywords}
    return CallArguments(positional, with_card, rest)


def _about_examples(name: str, value: Any, n: int, missing: Any, ruler: str) -> tuple[Any, int | None]:
    axes = TABLE[name].axes if name in TABLE else ()
    if value is None or (axes and "n" not in axes):
        return value, None
    tensor = check.as_tensor(name, value)
    if tensor.ndim == 0:
        raise ArgumentError(f"{name} must have an axis of examples, got a single number")
    # Unknown arrays, and those of another rank than their entry, have the examples last, as (epochs, n) has.
    axis = axes.index("n") if len(axes) == tensor.ndim else tensor.ndim - 1
    if tensor.shape[axis] != n:
        raise ArgumentError(f"{name} is about {tensor.shape[axis]} examples, but {ruler} about {n}")
    if tensor.is_floating_point():
        check.finite(name, tensor.movedim(axis, -1), missing, inner="epoch" if axis else "column")
    return tensor, axis


def _rows_at(value: Any, axis: int | None, ids: Tensor) -> Any:
    return value if axis is None else value.index_select(axis, ids)


def unscored(arrays: CallArguments, n: int) -> Tensor:
    """(n,) bool: examples that no selector can choose, since an array is NaN there.

    (epochs, n) arrays do not count: an example may be missing in some epochs.
    """
    out = torch.zeros(n, dtype=torch.bool)
    for array, axis in arrays.arrays:
        if axis is not None and axis == 0 and array.is_floating_point():
            out |= array.isnan() if array.ndim == 1 else array.flatten(1).isnan().any(1)
    return out


def among_all(selection: Selection, ids: Tensor, reason: Tensor) -> Selection:
    """A selection among the examples at ``ids`` as one among all.

    Args:
        selection: of positions in ``ids``.
        ids: (m,) ids.
        reason: (n,) int8 reasons of the others; it is written to.
    """
    if selection.reason is None:
        reason[ids] = int(Reason.BELOW_CUT)
        reason[ids[selection.index]] = int(Reason.KEPT)
    else:
        reason[ids] = selection.reason
    return Selection(ids[selection.index], selection.weight, reason)


def keep_positions(selection: Selection, positions: Tensor, n: int) -> tuple[Tensor, Tensor, Tensor]:
    """Index, weight and reason when only ``positions`` of a selection are kept.

    Args:
        selection: of the wrapped selector.
        positions: (m,) positions in it that are kept, in order.
        n: number of examples.

    Returns:
        (m,) ids; (m,) weights, scaled so that their mean stays; (n,) int8 reasons.
    """
    index, weight = selection.index[positions], selection.weight[positions]
    if selection.reason is None:
        reason = torch.full((n,), int(Reason.BELOW_CUT), dtype=torch.int8)
        reason[selection.index] = int(Reason.KEPT)
    else:
        reason = selection.reason.clone()
    out = torch.ones(len(selection), dtype=torch.bool)
    out[positions] = False
    # Chosen by the selector but not kept by the wrapper: they get the reason that the selector gives to those past its
    # budget.
    passed = selection.index[out]
    why = reason[passed]
    reason[passed] = int(Reason.BELOW_CUT)
    for code, word in PASSED_OVER.items():
        reason[passed[why == code]] = int(word)
    mean, now = float(selection.weight.double().mean()), float(weight.double().mean()) if len(index) else 0.0
    # The mean weight is the learning rate's scale: dropping light or heavy examples must not change it.
    if now > 0 and mean != now:
        weight = (weight.double() * (mean / now)).float()
    return index, weight, reason


def reserve_names(card: Card, wrapper: str, *names: str) -> None:
    """Check that the keywords which a wrapper adds are free.

    Raises:
        ArgumentError: a name that the wrapped selector takes, or a selector capped by cost inside another wrapper.
    """
    for name in names:
        if name in card.takes or name in card.options or name in CONTRACT_PARAMETERS:
            raise ArgumentError(
                f"{wrapper} would take {name}= at the call, but {card.key} already takes a {name}=; use another name, "
                "or wrap once"
            )
    if "cap" in card.takes:
        raise ArgumentError(
            f"{wrapper} needs a selector that keeps a number of examples, but {card.key} keeps within a cost; put "
            f"capped_by_cost outermost: capped_by_cost({wrapper}(...))"
        )


def with_card(
    wrapper: Callable[..., Any], card: Card, prefix: str, name: str, sentence: str, takes: tuple[str, ...]
) -> Any:
    """``wrapper`` with the name, docstring and card of a wrapped selector."""
    key = f"{prefix}_{card.key}"
    wrapper.__name__ = wrapper.__qualname__ = key
    wrapper.__doc__ = f"{card.summary} {sentence}"
    extra = tuple(t for t in takes if t not in card.takes)
    # mypy has no type for attributes of functions.
    wrapper.card = replace(card, name=f"{card.name}, {name}", key=key, takes=(*card.takes, *extra))  # type: ignore[attr-defined]
    return wrapper
