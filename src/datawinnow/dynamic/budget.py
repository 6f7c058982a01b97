"""How much of the data a policy trains on, before it has run: what turns a budget of passes into epochs."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch

from datawinnow.core import check
from datawinnow.core.errors import ArgumentError
from datawinnow.dynamic._clusters import groups_of
from datawinnow.dynamic.info_batch import InfoBatch
from datawinnow.dynamic.seta import SeTa
from datawinnow.dynamic.static_subset import StaticSubset
from datawinnow.dynamic.wrap import Annealed, Every, WarmUp
from datawinnow.dynamic.wrap_shrinking import Shrinking

BELOW_MEAN = 0.65
"""Share of the examples assumed to have a loss below the mean of all; measured on CIFAR 0.71 and 0.84 late in
training (dynamic.md 1.2), an exponential distribution has 0.63."""
SETTLED = 2**31 - 1
"""An epoch after every warm-up, for a run whose length nobody told."""


def expected_fraction(policy: Any, epochs: int | None = None) -> float:
    """Mean fraction of the examples that an epoch trains on.

    Exact (but for rounding to whole examples) for policies with ``keep`` and the wrappers around them. Approximate
    for those that the losses decide: `InfoBatch` as if 65% of the examples were below the mean (its percentile form
    is exact), `SeTa` as if losses were exponentially distributed. ``guarded`` counts as the policy in it: what it
    drops it drops before the policy chooses its number. A policy of one's own says it by an attribute ``expected``.

    Args:
        policy: a policy, wrapped or not.
        epochs: length of the run; by default as an ``annealed``, `Shrinking`, `InfoBatch` or `SeTa` in the policy
            was told. Where nobody was told, what is trained on once first epochs and warm-up are over: for
            ``UCB(keep=0.5)`` 0.5, whereas with ``epochs=10`` its first epoch on everything makes it 0.55.

    Returns:
        A number in (0, 1].

    Raises:
        ArgumentError: nothing tells how much of the data the policy trains on.

    >>> from datawinnow.dynamic import UCB, annealed
    >>> expected_fraction(UCB(keep=0.5)), expected_fraction(UCB(keep=0.5), epochs=10)
    (0.5, 0.55)
    >>> expected_fraction(annealed(UCB(keep=0.5, first="random"), epochs=8))
    0.5625
    """
    length = _length(policy) if epochs is None else check.number("epochs", epochs, 1, 2**31, integer=True)
    if length is None:
        return fraction_at(policy, SETTLED)
    return sum(fraction_at(policy, epoch) for epoch in range(length)) / length


def fraction_at(policy: Any, epoch: int) -> float:
    """Fraction of the examples that one ``epoch`` is expected to train on; arguments as `expected_fraction`'s."""
    if isinstance(policy, WarmUp):
        return 1.0 if epoch < policy.epochs else fraction_at(policy.policy, epoch)
    if isinstance(policy, Annealed):
        over = policy.how == "full" and epoch >= policy.share * policy.epochs - 1e-9
        return 1.0 if over else fraction_at(policy.policy, epoch)
    if isinstance(policy, Every):
        return fraction_at(policy.policy, epoch // policy.k * policy.k)
    if isinstance(policy, Shrinking):
        return _of_keep(policy.policy, epoch, policy.keep_at(_decided(policy.policy, epoch)))
    if isinstance(policy, InfoBatch):
        return _info_batch(policy, epoch)
    if isinstance(policy, SeTa):
        return _seta(policy, epoch)
    if hasattr(policy, "keep"):
        return _of_keep(policy, epoch, float(policy.keep))
    if hasattr(policy, "expected"):
        return float(policy.expected)
    if isinstance(policy, StaticSubset) and policy.selection.reason is not None:
        return len(policy.selection) / policy.selection.reason.numel()
    if hasattr(policy, "policy"):  # rescaled, guarded, recorded: as many as the policy that they hold
        return fraction_at(policy.policy, epoch)
    raise ArgumentError(
        f"nothing tells which fraction of the data {type(policy).__name__} trains on: give it an attribute `expected`"
    )


def _length(policy: Any) -> int | None:
    """Epochs of the run, as the outermost part that knows was told."""
    if isinstance(policy, Annealed | Shrinking | InfoBatch | SeTa):
        return policy.epochs
    return _length(policy.policy) if hasattr(policy, "policy") else None


def _of_keep(policy: Any, epoch: int, keep: float) -> float:
    """All in the first epoch, where there are no losses yet and the policy takes everything until there are."""
    return 1.0 if epoch == 0 and policy.needs and getattr(policy, "first", None) == "all" else keep


def _decided(policy: Any, epoch: int) -> int:
    """The epoch whose decision ``epoch`` trains by; the first period is decided once there are losses, at 1."""
    period = getattr(policy, "period", 1)
    return max(min(epoch, 1), epoch // period * period)


def _info_batch(policy: InfoBatch, epoch: int) -> float:
    if epoch == 0 or epoch >= policy.delta * policy.epochs - 1e-9:
        return 1.0
    keep = 1 - policy.drop
    if policy.form == "mean":
        return 1 - BELOW_MEAN * policy.drop
    return 0.2 * keep**2 + 0.65 * keep + 0.15


def _seta(policy: SeTa, epoch: int) -> float:
    keep = 1 - policy.drop
    if epoch == 0 or epoch >= policy.delta * policy.epochs - 1e-9:
        return keep
    ends, line = _groups(policy.groups)
    low, high = policy._window(epoch, ends)
    return keep * float(((line >= low) & (line < high)).double().mean())


@lru_cache(maxsize=16)
def _groups(k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Ends of the ``k`` groups of exponentially distributed losses, and those losses: 10,000 even quantiles."""
    line = -torch.log1p(-(torch.arange(10_000, dtype=torch.float64) + 0.5) / 10_000)
    return groups_of(line, k), line
