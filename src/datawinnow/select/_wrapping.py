"""What wrappers share: the arrays of a call cut to some of the examples, and the answer put back among all."""

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
"""The reason of what a selector chose but a wrapper had no room for; of all others it is below the cut."""


@dataclass(frozen=True)
class Given:
    """The arrays and options of one call.

    Attributes:
        arrays: positional arrays, each with its axis of examples, or None for what has none (``val_features``).
        named: the same for arrays given by name, which wrappers take (``labels``, ``cost``, ...).
        options: everything else, handed on as it is.
    """

    arrays: list[tuple[Any, int | None]]
    named: dict[str, tuple[Any, int | None]]
    options: dict[str, Any]

    def part(self, ids: Tensor) -> tuple[list[Any], dict[str, Any]]:
        """Arguments and keywords for the examples at ``ids`` only."""
        positional = [_part(value, axis, ids) for value, axis in self.arrays]
        return positional, {**self.options, **{k: _part(*pair, ids) for k, pair in self.named.items()}}


def given(own: Card, arrays: tuple[Any, ...], options: Mapping[str, Any], n: int, missing: Any, *, ruler: str) -> Given:
    """The arrays of a call as tensors, checked while the ids are still the user's.

    Args:
        own: card of the wrapped selector; what it takes beside the usual are arrays about the examples.
        arrays: positional arrays.
        options: keywords of the call that are handed on.
        n: number of examples.
        missing: ``"raise"`` or ``"skip"``.
        ruler: name of the array that says how many examples there are.

    Raises:
        ArgumentError: NaN, infinity, or an array about another number of examples.
    """
    names = [*own.needs, *own.optional_needs]
    positional = []
    for position, value in enumerate(arrays):
        name = names[position] if position < len(names) else f"array {position}"
        positional.append(_about_examples(name, value, n, missing, ruler))
    own_arrays = {k for k in own.takes if k not in CONTRACT_PARAMETERS}
    named = {k: _about_examples(k, v, n, missing, ruler) for k, v in options.items() if k in own_arrays}
    rest = {k: v for k, v in options.items() if k not in own_arrays}
    return Given(positional, named, rest)


def _about_examples(name: str, value: Any, n: int, missing: Any, ruler: str) -> tuple[Any, int | None]:
    axes = TABLE[name].axes if name in TABLE else ()
    if value is None or (axes and "n" not in axes):
        return value, None
    tensor = check.as_tensor(name, value)
    if tensor.ndim == 0:
        raise ArgumentError(f"{name} must have an axis of examples, got a single number")
    axis = axes.index("n") if len(axes) == tensor.ndim else tensor.ndim - 1
    if tensor.shape[axis] != n:
        raise ArgumentError(f"{name} is about {tensor.shape[axis]} examples, but {ruler} about {n}")
    if tensor.is_floating_point():
        check.finite(name, tensor.movedim(axis, -1), missing, inner="epoch" if axis else "column")
    return tensor, axis


def _part(value: Any, axis: int | None, ids: Tensor) -> Any:
    return value if axis is None else value.index_select(axis, ids)


def unscored(arrays: Given, n: int) -> Tensor:
    """(n,) bool: examples that no selector can choose, since a number of theirs is NaN.

    Of arrays by epoch an example may miss some, so those say nothing.
    """
    out = torch.zeros(n, dtype=torch.bool)
    for array, axis in arrays.arrays:
        if axis is not None and axis == 0 and array.is_floating_point():
            out |= array.isnan() if array.ndim == 1 else array.flatten(1).isnan().any(1)
    return out


def back(selection: Selection, ids: Tensor, reason: Tensor) -> Selection:
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


def some_of(selection: Selection, positions: Tensor, n: int) -> tuple[Tensor, Tensor, Tensor]:
    """Index, weight and reason when only some of a selection are kept.

    Args:
        selection: what the wrapped selector chose.
        positions: (m,) places in it that are kept, in order.
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
    passed = selection.index[out]
    why = reason[passed]
    reason[passed] = int(Reason.BELOW_CUT)
    for code, word in PASSED_OVER.items():
        reason[passed[why == code]] = int(word)
    mean, now = float(selection.weight.double().mean()), float(weight.double().mean()) if len(index) else 0.0
    if now > 0 and mean != now:
        weight = (weight.double() * (mean / now)).float()
    return index, weight, reason


def claim(own: Card, wrapper: str, *names: str) -> None:
    """Refuse a wrapper whose arrays at the call would be mistaken for others'.

    Raises:
        ArgumentError: a name that the wrapped selector takes, or a cap inside a wrapper that counts.
    """
    for name in names:
        if name in own.takes or name in own.options or name in CONTRACT_PARAMETERS:
            raise ArgumentError(
                f"{wrapper} would take {name}= at the call, but {own.key} takes a {name}= of its own; use another "
                "name, or wrap once"
            )
    if "cap" in own.takes:
        raise ArgumentError(
            f"{wrapper} needs a selector that keeps a number of examples, but {own.key} keeps within a cost; put "
            f"capped_by_cost outermost: capped_by_cost({wrapper}(...))"
        )


def named(what: Callable[..., Any], own: Card, prefix: str, name: str, sentence: str, takes: tuple[str, ...]) -> Any:
    """``what`` with the name, the docstring and the card of a wrapped selector."""
    key = f"{prefix}_{own.key}"
    what.__name__ = what.__qualname__ = key
    what.__doc__ = f"{own.summary} {sentence}"
    more = tuple(t for t in takes if t not in own.takes)
    what.card = replace(own, name=f"{own.name}, {name}", key=key, takes=(*own.takes, *more))  # type: ignore[attr-defined]
    return what
