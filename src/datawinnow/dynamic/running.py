"""Running means and variances of a signal, and what becomes of them when the size of the inputs changes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from datawinnow.dynamic.policy import State
from datawinnow.dynamic.signal import INPUT_SIZE, observed_hardness
from datawinnow.dynamic.state import get_int, get_tensor, unobserved, validate_signal, with_values

MeanOnResize = Literal["keep", "reset"]
"""What a visit at another size of the inputs does to a running mean: nothing special, or it counts as the first."""
OnResize = Literal["keep", "reset_variance", "reset"]
"""The same of a mean with a variance; ``"reset_variance"`` sets the variance to 0 and moves the mean as always."""


def initial_moments(n: int, on_resize: str, *, variance: bool = True) -> State:
    """``mean`` (n,) float32, NaN where never visited, and ``variance`` (n,) float32; with ``size`` (n,) int32."""
    state: State = {"mean": unobserved(n)}
    if variance:
        state["variance"] = torch.zeros(n)
    if on_resize != "keep":
        state["size"] = torch.full((n,), -1, dtype=torch.int32)
    return state


def with_mean(state: State, index: Any, signal: str, signals: Mapping[str, Any], *, alpha: float) -> State:
    """``state`` with the running means of the visited moved by ``alpha`` towards ``signal``, high for hard examples."""
    ids, x = observed_hardness(state, index, signal, signals)
    resized, sizes = _resized(state, ids, index, signals)
    old = get_tensor(state, "mean")[ids]
    mean = torch.where(old.isnan() | resized, x, (1 - alpha) * old + alpha * x)
    return with_values(state, ids, mean=mean, **sizes)


def with_moments(
    state: State, index: Any, signal: str, signals: Mapping[str, Any], *, alpha: float, on_resize: str
) -> State:
    """As `with_mean`, and the running variances.

    On a visit with value x: v <- (1 - alpha) v + alpha (x - m)^2, then m <- (1 - alpha) m + alpha x.
    """
    ids, x = observed_hardness(state, index, signal, signals)
    resized, sizes = _resized(state, ids, index, signals)
    mean, variance = get_tensor(state, "mean")[ids], get_tensor(state, "variance")[ids]
    new = mean.isnan()
    reset = resized if on_resize in get_args(OnResize) else torch.zeros_like(resized)
    # With the old mean, hence before it moves; of new examples both are NaN here and replaced below.
    variance = (1 - alpha) * variance + alpha * (x - mean).square()
    mean = (1 - alpha) * mean + alpha * x
    first = new | reset if on_resize == "reset" else new
    return with_values(
        state, ids, mean=torch.where(first, x, mean), variance=variance.masked_fill(new | reset, 0.0), **sizes
    )


def _resized(state: State, ids: Tensor, index: Any, signals: Mapping[str, Any]) -> tuple[Tensor, dict[str, Tensor]]:
    """(m,) bool: visited at another size than before, or never before; and the sizes to store."""
    if "size" not in state:
        return torch.zeros(ids.numel(), dtype=torch.bool), {}
    _, values = validate_signal(get_int(state, "n"), index, INPUT_SIZE, signals)
    size, before = values.to(torch.int32), get_tensor(state, "size")[ids]
    return size != before, {"size": size}


def rank_within_size(score: Tensor, size: Tensor) -> Tensor:
    """(n,) float64 in (0, 1): the rank of each score among those observed at the same size of the inputs.

    Equal scores of a size have equal ranks. A score that is infinite (never visited) stays so.

    Args:
        score: (n,) float without NaN.
        size: (n,) int32, -1 where never visited.
    """
    rank = score.double()
    for value in torch.unique(size[size >= 0]).tolist():
        group = torch.nonzero(size == value).flatten()
        ordered = score[group].sort().values
        # The middle of the places that equal scores hold, so that ties stay ties.
        low = torch.searchsorted(ordered, score[group], right=False)
        high = torch.searchsorted(ordered, score[group], right=True)
        rank[group] = (low + high).double() / (2 * group.numel())
    return rank
