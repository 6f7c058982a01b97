"""The contract of policies, and the types of their states."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

from datawinnow.core.errors import ArgumentError
from datawinnow.core.selection import Selection

State = dict[str, Tensor | int | float]
"""State of a policy: tensors of (n,) on the CPU and plain numbers, at most 16 bytes an example."""
Stream = Callable[..., torch.Generator]
"""``stream("purpose", epoch)``: `datawinnow.core.rng.stream` with the seed of the run bound."""
FirstPlan = Literal["all", "random"]
"""The examples of an epoch while nothing has been observed."""


class Policy(Protocol):
    """Plans the examples of each epoch from earlier observations; a frozen dataclass of options.

    All methods are pure: they return what changes and modify nothing. The same (epoch, state, seed) gives the same
    plan on every process, and a plan made twice is the same plan. ``plan`` may store a decision in the state it
    returns; planning the same epoch from that state gives the same plan again.

    Optional are ``fraction(epoch)``, the fraction of the examples that an epoch is expected to train on (see
    `epoch_fraction` for its default), ``run_epochs``, the length of the run that the policy was made for, and
    ``across_sizes``, what it compares with a fixed number although it changes with the size of the inputs, which
    `fit` refuses under a size schedule.
    """

    @property
    def needs(self) -> tuple[str, ...]:
        """Names of the signals to observe, for example ``("loss",)``."""

    def init(self, n: int) -> State:
        """The state before anything was observed of ``n`` examples."""

    def observe(self, state: State, index: Tensor, **signals: Any) -> State:
        """The state after an epoch, which visited the ids ``index`` (m,) int64, unique, with ``signals`` of (m,)."""

    def plan(self, epoch: int, state: State, stream: Stream) -> tuple[Selection, State]:
        """The examples of ``epoch``, in training order with the weight of each loss, and the state to keep."""


def epoch_fraction(policy: Any, epoch: int) -> float:
    """Fraction of the examples that a policy is expected to train on in one epoch.

    It is ``policy.fraction(epoch)``. A policy without that method has its ``keep`` (everything in epoch 0 with
    ``first="all"``), otherwise its ``expected``, otherwise the fraction of the ``policy`` that it wraps.

    Raises:
        ArgumentError: the policy has none of these.
    """
    if hasattr(policy, "fraction"):
        return float(policy.fraction(epoch))
    if hasattr(policy, "keep"):
        return 1.0 if epoch == 0 and policy.needs and getattr(policy, "first", None) == "all" else float(policy.keep)
    if hasattr(policy, "expected"):
        return float(policy.expected)
    if hasattr(policy, "policy"):
        return epoch_fraction(policy.policy, epoch)
    raise ArgumentError(
        f"the fraction of the data that {type(policy).__name__} trains on is unknown: give it an attribute `expected` "
        "or a method fraction(epoch)"
    )


def run_epochs_of(policy: Any) -> int | None:
    """Length of the run that a policy, or one that it wraps, was made for; None if it does not depend on it."""
    if hasattr(policy, "run_epochs"):
        return policy.run_epochs  # type: ignore[no-any-return]
    return run_epochs_of(policy.policy) if hasattr(policy, "policy") else None
