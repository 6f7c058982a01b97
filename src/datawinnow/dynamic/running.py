"""Running means and variances of a signal, and what becomes of them when the size of the inputs changes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from datawinnow.core import check
from datawinnow.core.budget import budget_of
from datawinnow.dynamic.policy import FirstPlan, State
from datawinnow.dynamic.signal import INPUT_SIZE, check_signal, observed_hardness
from datawinnow.dynamic.state import check_num_examples, get_int, get_tensor, unobserved, validate_signal, with_values

MeanOnResize = Literal["keep", "reset"]
"""What a visit at another size of the inputs does to a running mean: nothing special, or it counts as the first."""
OnResize = Literal["keep", "reset_variance", "reset"]
"""The same of a mean with a variance; ``"reset_variance"`` sets the variance to 0 and moves the mean as always."""


class OfRunningMean:
    """Base of policies that go by a running mean of a signal: all but ``plan``, and the checks of shared options.

    Attributes:
        keep: fraction that an epoch trains on.
        alpha: share of the newest value in a running mean.
        first: what is trained on before anything is observed.
        signal: what is observed.
        on_resize: what becomes of a mean at another size of the inputs.
    """

    keep: float
    alpha: float
    first: FirstPlan
    signal: str
    on_resize: MeanOnResize

    def check_mean_options(self) -> None:
        """Check the options that these policies share.

        Raises:
            ArgumentError: a value out of range.
        """
        budget_of(self.keep, 1)
        check.number("alpha", self.alpha, 1e-9, 1)
        check.one_of("first", self.first, ("all", "random"))
        check_signal(self.signal)
        check.one_of("on_resize", self.on_resize, get_args(MeanOnResize))

    def fraction(self, epoch: int) -> float:
        """``keep``, and everything in epoch 0 with ``first="all"``."""
        return 1.0 if epoch == 0 and self.first == "all" else float(self.keep)

    def init(self, n: int) -> State:
        """``mean`` (n,) float32 of the signals, NaN where never visited."""
        n = check_num_examples(n)
        return {"n": n, **initial_moments(n, self.on_resize, variance=False)}

    def observe(self, state: State, index: Tensor, **signals: Any) -> State:
        """Move the running means of the visited towards their ``signal``."""
        return with_mean(state, index, self.signal, signals, alpha=self.alpha)


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
