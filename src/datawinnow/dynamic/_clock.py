"""How far a run is, and how many steps it has, when epochs differ in length."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

from datawinnow.core import check
from datawinnow.core.errors import ArgumentError
from datawinnow.core.rng import stream
from datawinnow.dynamic._dealing import total
from datawinnow.dynamic.policy import Policy, State


class Clock:
    """The part of a `PolicySampler` that schedules ask."""

    policy: Policy
    n: int
    seed: int
    epoch: int
    epochs: int | None
    batch: int | None
    steps: int | None
    drop_last: bool
    num_replicas: int
    _sizes: dict[int, int]
    _planned: Callable[[], State]

    @property
    def realised(self) -> list[float]:
        """Fraction of the examples that each epoch so far passed (that it planned, where ``steps`` is not set)."""
        sizes = (self._total(m) if self.steps else m for _, m in sorted(self._sizes.items()))
        return [size / self.n for size in sizes]

    def progress(self, epoch: int, step: int, batch: int | None = None) -> float:
        """How much of the run is over, in [0, 1]: a learning rate that follows it ends where it should.

        Args:
            epoch: the one that was set.
            step: steps of it that are over.
            batch: examples a step takes from this sampler; by default as told at the start.

        Raises:
            ArgumentError: ``epochs`` or ``batch`` unknown, or another epoch than the one set.
        """
        if self.epochs is None:
            raise ArgumentError("progress() needs to know how long the run is: make the sampler with epochs=")
        if epoch != self.epoch:
            raise ArgumentError(f"the sampler is at epoch {self.epoch}, not {epoch}: call set_epoch({epoch}) first")
        self._planned()
        done = float(check.number("step", step, 0, math.inf)) / self._steps(self._sizes[epoch], batch)
        return min(1.0, (epoch + min(1.0, done)) / self.epochs)

    def total_steps(self, batch: int | None = None, epochs: int | None = None) -> int:
        """Steps of the whole run, for schedules that count; never too few.

        Exact with ``steps``, and for policies that plan without observing (they are asked for every epoch). Else
        epochs planned so far count as they were and each to come as all ``n``: a schedule then does not end early, but
        does not reach its end either; use ``steps`` or `progress` for one that must.

        Args:
            batch: examples a step takes from this sampler; by default as told at the start.
            epochs: of the whole run; by default as told at the start.

        Raises:
            ArgumentError: ``epochs`` or ``batch`` unknown.
        """
        epochs = self.epochs if epochs is None else epochs
        if epochs is None:
            raise ArgumentError("total_steps() needs to know how long the run is: give epochs=")
        sizes = dict(self._sizes)
        if self.steps is None and not self.policy.needs:
            state = self.policy.init(self.n)
            for epoch in range(epochs):
                plan, state = self.policy.plan(epoch, state, partial(stream, self.seed))
                sizes[epoch] = len(plan)
        return sum(self._steps(sizes.get(epoch, self.n), batch) for epoch in range(epochs))

    def _total(self, m: int) -> int:
        each = None if self.steps is None or self.batch is None else self.steps * self.batch
        return total(m, self.num_replicas, drop_last=self.drop_last, each=each)

    def _steps(self, m: int, batch: int | None) -> int:
        batch = self.batch if batch is None else batch
        if batch is None:
            raise ArgumentError("batch is unknown: give it here or when making the sampler")
        return -(-(self._total(m) // self.num_replicas) // batch)
