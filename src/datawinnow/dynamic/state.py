"""The states of policies: signals are validated on the way in, and tensors copied before they change."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from datawinnow.core import check
from datawinnow.core.errors import ArgumentError, MissingArrayError
from datawinnow.dynamic.policy import State


class StatelessPolicy:
    """Base of policies whose plans depend on the epoch alone."""

    needs: ClassVar[tuple[str, ...]] = ()

    def init(self, n: int) -> State:
        """No state beyond the number of examples."""
        return {"n": check_num_examples(n)}

    def observe(self, state: State, index: Tensor, **signals: Any) -> State:
        """Nothing is observed."""
        return state


def check_num_examples(n: int) -> int:
    """``n`` if it can be a number of examples.

    Raises:
        ArgumentError: not a whole number of at least 1.
    """
    return int(check.number("n", n, 1, 2**40, integer=True))


def num_examples(epoch: int, state: State) -> int:
    """The number of examples of a ``state``; ``epoch`` is checked.

    Raises:
        ArgumentError: an epoch that is not a whole number of at least 0.
    """
    check.number("epoch", epoch, 0, 2**31, integer=True)
    return get_int(state, "n")


def get_int(state: State, name: str) -> int:
    """The integer ``name`` of a state."""
    return int(state[name])


def get_tensor(state: State, name: str) -> Tensor:
    """The (n,) tensor ``name`` of a state."""
    return torch.as_tensor(state[name])


def unobserved(n: int) -> Tensor:
    """(n,) float32 NaN: nothing observed yet. Any number would be a score that was not measured."""
    return torch.full((n,), torch.nan)


def any_observed(state: State, name: str) -> bool:
    """Whether anything was observed into the float tensor ``name``."""
    return not bool(get_tensor(state, name).isnan().all())


def validate_signal(n: int, index: Any, name: str, signals: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
    """Ids and the signal ``name`` of one epoch, validated, on the CPU.

    Args:
        n: number of examples.
        index: (m,) int64 ids.
        name: of the signal.
        signals: (m,) arrays by name; others than ``name`` are ignored.

    Returns:
        (m,) int64 ids and (m,) float32 values.

    Raises:
        ArgumentError: ids that are not integers, outside 0 to n - 1 or repeated; a signal of another length, NaN or
            infinite.
        MissingArrayError: the signal was not observed.
    """
    if name not in signals:
        have = ", ".join(signals) or "none"
        raise MissingArrayError(f"this policy needs the signal {name!r} observed, one number an example; got: {have}")
    ids = check.as_tensor("index", index)
    if ids.dtype != torch.int64 or ids.ndim != 1:
        raise ArgumentError(f"index must be int64 ids of shape (m,), got {ids.dtype} of shape {tuple(ids.shape)}")
    values = check.as_tensor(name, signals[name])
    if values.shape != ids.shape:
        raise ArgumentError(
            f"{name} must hold one number an example, shape {tuple(ids.shape)}, got {tuple(values.shape)}; take the "
            'loss with reduction="none" and reduce tokens or pixels to one number an example first'
        )
    # States are float32 on the CPU whatever the signal's dtype or device, so a resume on other hardware plans the same.
    ids, values = ids.cpu(), values.to("cpu", torch.float32)
    if ids.numel():
        low, high = (int(end) for end in torch.aminmax(ids))
        if low < 0 or high >= n:
            raise ArgumentError(f"index must hold ids of 0 to {n - 1}, got {low if low < 0 else high}")
        # Duplicates in O(n + m) without a sort.
        if int(torch.zeros(n, dtype=torch.bool).index_fill_(0, ids, True).sum()) != ids.numel():
            raise ArgumentError("index has an id twice: merge the visits of an epoch before observing them")
        # The sum is a cheap first test; it may overflow with finite values, so the second decides.
        if not bool(torch.isfinite(values.sum())) and not bool(torch.isfinite(values).all()):
            at = int((~torch.isfinite(values)).nonzero()[0])
            raise ArgumentError(f"{name} of example {int(ids[at])} is {float(values[at])}: training may have diverged")
    return ids, values


def with_values(state: State, index: Tensor, **values: Tensor) -> State:
    """A copy of ``state`` with new ``values`` (m,) at ``index``; tensors that do not change are shared."""
    # index_copy and not index_copy_: states are values, and the caller may still hold the old one.
    return state | {k: get_tensor(state, k).index_copy(0, index, v) for k, v in values.items()}
