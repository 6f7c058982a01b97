"""The contract that every policy follows, and the types it speaks in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

from datawinnow.core.selection import Selection

State = dict[str, Tensor | int | float]
"""What a policy knows: tensors of (n,) on the CPU and plain numbers, at most 16 bytes an example."""
Stream = Callable[..., torch.Generator]
"""``stream("purpose", epoch)``: `datawinnow.core.rng.stream` with the run's seed bound."""
First = Literal["all", "random"]
"""What to train on while nothing has been observed."""


class Policy(Protocol):
    """What an epoch trains on, from what was observed before; a frozen dataclass of options.

    All three methods are pure: they return what changes and modify nothing. The same (epoch, state, seed) gives the
    same plan on every process, and a plan made twice is the same plan. ``plan`` may remember a decision in the state
    it returns; planning the same epoch from that state gives the same plan again.
    """

    @property
    def needs(self) -> tuple[str, ...]:
        """Names of the signals that it wants observed, for example ``("loss",)``."""

    def init(self, n: int) -> State:
        """The state before anything was observed of ``n`` examples."""

    def observe(self, state: State, index: Tensor, **signals: Any) -> State:
        """The state after an epoch, which visited the ids ``index`` (m,) int64, unique, with ``signals`` of (m,)."""

    def plan(self, epoch: int, state: State, stream: Stream) -> tuple[Selection, State]:
        """What ``epoch`` trains on, in training order with the weight of each loss, and the state to keep."""
