"""`PolicySampler`: a policy as a torch sampler."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.utils.data import DistributedSampler

from datawinnow.core import check
from datawinnow.core.errors import ArgumentError, RunError
from datawinnow.core.rng import stream
from datawinnow.core.selection import Selection
from datawinnow.dynamic.policy import Policy, State
from datawinnow.dynamic.sampler.distributed import (
    differs_between_processes,
    epoch_size,
    is_distributed,
    iter_ids,
    num_consumed,
    pad_or_truncate,
)
from datawinnow.dynamic.sampler.observations import Observations, validate_batch
from datawinnow.dynamic.sampler.resume import STATE_VERSION, check_same_sampler, plan_digest, to_plain
from datawinnow.dynamic.sampler.usage import UsageWarnings


class PlanWeights:
    """The weights of one epoch's plan by id, on the device of the losses that they multiply; 1 outside the plan.

    Args:
        plan: of the epoch.
        n: number of examples.

    Attributes:
        device: of the weights; None for the device of the ids.
    """

    def __init__(self, plan: Selection, n: int) -> None:
        self.device: torch.device | None = None
        self._table = torch.ones(n, dtype=torch.float32)
        # An id that the plan repeats gets the weight of one of its entries.
        self._table[plan.index] = plan.weight

    def __getitem__(self, index: Any) -> Tensor:
        """(b,) float32 weights of the integer ids ``index`` (b,), on any device."""
        ids = check.as_tensor("index", index)
        device = self.device or ids.device
        if self._table.device != device:  # once an epoch
            self._table = self._table.to(device)
        return self._table[ids.to(device, torch.int64, non_blocking=True)]


class PolicySampler(DistributedSampler[int]):
    """Yields the ids that a policy plans for each epoch, and observes the losses that the next plan is made from.

    It is a `DistributedSampler` because frameworks wrap every other sampler and then repeat ids when it shrinks.
    ``set_epoch`` merges what was observed (across processes, once) and makes the plan; after it ``len`` is exact.
    Iterating changes nothing: iterators may be made twice, wrapped, or run ahead of training by prefetchers.

    Where the size of the plan is no multiple of the number of processes, the shards are padded with ids of the plan
    (``drop_last=False``) or truncated (``drop_last=True``); which ids those are rotates with the epoch. With ``steps``
    every epoch has exactly that many batches: a longer plan is truncated, a shorter one repeated, in the same rotating
    way.

    Args:
        policy: a policy of this package or your own.
        n: number of examples.
        seed: of every draw; the same on all processes.
        epochs: number of epochs of the run, for `progress` and `total_steps`.
        num_replicas: processes that share an epoch; by default as torch.distributed says when it is needed. 1 (with
            rank 0) for accelerate, which shards a global order itself.
        rank: of this process; by default as torch.distributed says.
        batch: examples that one step takes from this sampler, for ``steps``, `progress` and `total_steps`.
        fingerprint: of the dataset; a saved state of another is refused.
        steps: batches in every epoch, for trainers that count them once before training (the Hugging Face Trainer).
        drop_last: truncate the shards to equal length rather than pad them.

    Raises:
        ArgumentError: an argument out of range, ``steps`` without ``batch``, ``rank`` without ``num_replicas``.

    >>> from datawinnow.dynamic.random_pruning import RandomPruning
    >>> sampler = PolicySampler(RandomPruning(keep=0.5), n=8)
    >>> sampler.set_epoch(1)
    >>> len(sampler), len(set(sampler))
    (4, 4)
    """

    def __init__(
        self,
        policy: Policy,
        n: int,
        seed: int = 0,
        *,
        epochs: int | None = None,
        num_replicas: int | None = None,
        rank: int | None = None,
        batch: int | None = None,
        fingerprint: str | None = None,
        steps: int | None = None,
        drop_last: bool = False,
    ) -> None:
        # DistributedSampler.__init__ is not called: it asks for a process group at once, which may be made later
        for name, value in (("n", n), ("epochs", epochs), ("batch", batch), ("steps", steps)):
            if value is not None or name == "n":
                check.number(name, value, 1, 2**40, integer=True)
        if steps is not None and batch is None:
            raise ArgumentError(f"steps={steps} counts batches: give batch= too, the examples that a step takes")
        if (num_replicas is None) != (rank is None):
            raise ArgumentError(f"give num_replicas and rank together, got {num_replicas!r} and {rank!r}")
        if num_replicas is not None:
            check.number("num_replicas", num_replicas, 1, 2**31, integer=True)
            check.number("rank", rank, 0, num_replicas - 1, integer=True)
        self.policy, self.n, self.seed = policy, n, check.number("seed", seed, -(2**63), 2**63, integer=True)
        self.epochs, self.batch, self.steps = epochs, batch, steps
        # Lightning reads `shuffle` of a DistributedSampler.
        self.fingerprint, self.drop_last, self.shuffle = fingerprint, drop_last, True
        # The base class and frameworks ask only for its length.
        self.dataset = range(n)  # type: ignore[assignment]
        self.epoch = 0
        self._num_replicas, self._rank = num_replicas, rank
        self._state_before: State = policy.init(n)  # what the plan of this epoch is made from
        self._state_after: State = self._state_before
        self._plan: Selection | None = None
        self.observations = Observations(n, policy.needs)
        self._plan_sizes: dict[int, int] = {}  # by epoch
        self._weights: PlanWeights | None = None
        self._device: torch.device | None = None
        self._start = self._visits = 0
        self._usage = UsageWarnings(type(policy).__name__, tuple(policy.needs))
        self._plans_agree = False  # whether the processes are known to have the same plan of this epoch

    @property
    def num_replicas(self) -> int:
        """Processes that share an epoch."""
        return self._num_replicas or (dist.get_world_size() if is_distributed() else 1)

    @num_replicas.setter
    def num_replicas(self, value: int) -> None:
        self._num_replicas = value

    @property
    def rank(self) -> int:
        """Rank of this process."""
        return self._rank if self._rank is not None else dist.get_rank() if is_distributed() else 0

    @rank.setter
    def rank(self, value: int) -> None:
        self._rank = value

    @property
    def is_sharded(self) -> bool:
        """Whether the sampler was made for one shard of the order."""
        # None means "as torch.distributed says" and counts as global: integrations may still set it.
        return self._num_replicas not in (None, 1)

    @property
    def num_samples(self) -> int:  # type: ignore[override]
        """As ``len``."""
        return len(self)

    @property
    def total_size(self) -> int:  # type: ignore[override]
        """Examples that the epoch passes on all processes together."""
        return self._epoch_size(len(self.plan))

    def _epoch_size(self, m: int) -> int:
        per_process = None if self.steps is None or self.batch is None else self.steps * self.batch
        return epoch_size(m, self.num_replicas, drop_last=self.drop_last, per_process=per_process)

    @property
    def plan(self) -> Selection:
        """The plan of the epoch, for all processes, in training order."""
        self._ensure_plan()
        assert self._plan is not None
        return self._plan

    def _ensure_plan(self) -> State:
        """Make the plan if there is none; returns the state after it."""
        if self._plan is None:
            # The state before is kept: a checkpoint stores it, and the plan is made again from it.
            plan, self._state_after = self.policy.plan(self.epoch, self._state_before, partial(stream, self.seed))
            if not len(plan) or int(plan.index.max()) >= self.n:
                content = "no examples" if not len(plan) else f"id {int(plan.index.max())} of n={self.n}"
                raise ArgumentError(f"{type(self.policy).__name__} planned {content} for epoch {self.epoch}")
            self._plan = plan
            self._plan_sizes[self.epoch] = len(plan)
        return self._state_after

    def set_epoch(self, epoch: int) -> None:
        """Merge what was observed and plan ``epoch``; a second call with the same epoch does nothing.

        With several processes all must call it: they exchange observations here, once an epoch.

        Args:
            epoch: counted from 0.

        Raises:
            RunError: an earlier epoch, or processes whose plans differ.
            ArgumentError: not a whole number.
        """
        check.number("epoch", epoch, 0, 2**31, integer=True)
        if epoch < self.epoch:
            raise RunError(
                f"the sampler is at epoch {self.epoch} and cannot go back to {epoch}, since it has observed later "
                "losses: make a new one or load a state; under accelerate resume with loader.set_epoch(epoch), because "
                "its loaders count from 0 by themselves"
            )
        if epoch > self.epoch:
            # An epoch that was never iterated is planned all the same, so that decisions do not depend on whether it
            # was.
            state = self._ensure_plan()
            if self.policy.needs:
                # A collective: every process reaches it, since `needs` is the same on all.
                self.observations.pool()
            index, signals = self.observations.take()
            self._usage.check_finite(self.observations.num_not_finite)
            self._usage.check_observed(self.epoch, index, self.plan.index, self.n)
            self._state_before = (
                self.policy.observe(state, index, **signals) if len(index) and self.policy.needs else state
            )
            # Only now: everything above belongs to the epoch that is over.
            self.epoch, self._plan, self._weights = epoch, None, None
            self._start = self._visits = 0
            self._plans_agree = False
        if not self._plans_agree:
            # Once an epoch: shards of different plans would overlap and leave ids out without any error.
            if differs_between_processes(plan_digest(self.plan)):
                raise RunError(
                    f"the plans of epoch {epoch} differ between processes: give all the same policy, n and seed, and "
                    "load the same state on all"
                )
            self._plans_agree = True

    def observe(self, index: Any, loss: Tensor | None = None, **signals: Tensor) -> None:
        """Store the signals of a batch; they stay on the loss's device until the next `set_epoch`.

        Call it for every policy: it also determines the position in the epoch, for a resume. Of two visits the later
        counts.

        Args:
            index: (b,) integer ids, on any device.
            loss: (b,) losses, ``reduction="none"``; half precision becomes float32, the ids stay int64.
            signals: (b,) others by name, such as ``correct``; those that the policy does not need are ignored.

        Raises:
            ArgumentError: a scalar loss (compute it with ``reduction="none"``), one of another shape, ids that are
                not integers or out of range, or a signal missing that the policy needs.
        """
        named = signals if loss is None else {"loss": loss, **signals}
        tensors = {name: check.as_tensor(name, values) for name, values in named.items()}
        ids, values = validate_batch(type(self.policy).__name__, self.policy.needs, self.n, index, tensors)
        if tensors:
            self._device = next(iter(tensors.values())).device
        self.observations.add(ids, values, values[0].device if values else ids.device)
        self._visits += ids.numel()

    @property
    def weight(self) -> PlanWeights:
        """``sampler.weight[index]``: (b,) float32 factors on the losses, on the device of the losses observed last."""
        if self._weights is None:  # once an epoch
            self._weights = PlanWeights(self.plan, self.n)
        self._weights.device = self._device
        return self._weights

    def __len__(self) -> int:
        """Examples that the epoch has for this process, including those before a resumed position."""
        return self.total_size // self.num_replicas

    def __iter__(self) -> Iterator[int]:
        """Ids of this process in the order of the plan, from the position that a mid-epoch resume left."""
        # Not after a resume, where the position accounts for what was visited.
        if not self._start and self._visits >= len(self):
            self._usage.repeated_epoch(self.epoch)
        return iter_ids(self._shard()[self._start :])

    def _shard(self) -> Tensor:
        # Every num_replicas-th id, as DistributedSampler: a global batch is the same examples for any number of
        # processes.
        return pad_or_truncate(self.plan.index, self.total_size, self.epoch)[self.rank :: self.num_replicas]

    @property
    def position(self) -> int:
        """Examples of the epoch that this process has trained on, judged by what was observed, not by what was read."""
        shard = self._shard()
        # Ids of the plan in this shard: ceil((m - rank) / replicas); what follows is padding.
        num_unique = min(len(shard), -(-(len(self.plan) - self.rank) // self.num_replicas))
        return max(self._start, num_consumed(shard, num_unique, self.observations.seen(), self._visits))

    def start_at(self, position: int) -> None:
        """Let iteration of this epoch begin at ``position`` of this process's examples, 0 for all of them.

        Raises:
            ArgumentError: not in [0, len].
        """
        self._start = self._visits = check.number("position", position, 0, len(self), integer=True)

    @property
    def realised(self) -> list[float]:
        """Fraction of the examples that each epoch so far passed (that it planned, where ``steps`` is not set)."""
        sizes = (self._epoch_size(m) if self.steps else m for _, m in sorted(self._plan_sizes.items()))
        return [size / self.n for size in sizes]

    def progress(self, epoch: int, step: int, batch: int | None = None) -> float:
        """Fraction of the run that is over, in [0, 1]: a learning rate that follows it ends where it should.

        Args:
            epoch: the current one.
            step: steps of it that are over.
            batch: examples a step takes from this sampler; by default the sampler's ``batch``.

        Raises:
            ArgumentError: ``epochs`` or ``batch`` unknown, or another epoch than the current one.
        """
        if self.epochs is None:
            raise ArgumentError("progress() needs the length of the run: make the sampler with epochs=")
        if epoch != self.epoch:
            raise ArgumentError(f"the sampler is at epoch {self.epoch}, not {epoch}: call set_epoch({epoch}) first")
        self._ensure_plan()
        done = float(check.number("step", step, 0, math.inf)) / self._num_steps(self._plan_sizes[epoch], batch)
        # Each epoch is 1 / epochs of the run, however many steps it has: the schedule of a shrinking plan still ends at
        # 1.
        return min(1.0, (epoch + min(1.0, done)) / self.epochs)

    def total_steps(self, batch: int | None = None, epochs: int | None = None) -> int:
        """Steps of the run, for schedules that count; never too few.

        Exact with ``steps``, and for policies that plan without observing (every epoch is planned). Otherwise epochs
        planned so far count with their size and each later one with all ``n`` examples: a schedule then does not end
        early, but does not reach its end either; use ``steps`` or `progress` for one that must.

        Args:
            batch: examples a step takes from this sampler; by default the sampler's ``batch``.
            epochs: number of epochs of the run; by default the sampler's ``epochs``.

        Raises:
            ArgumentError: ``epochs`` or ``batch`` unknown.
        """
        epochs = self.epochs if epochs is None else epochs
        if epochs is None:
            raise ArgumentError("total_steps() needs the length of the run: give epochs=")
        sizes = dict(self._plan_sizes)
        if self.steps is None and not self.policy.needs:
            state = self.policy.init(self.n)
            for epoch in range(epochs):
                plan, state = self.policy.plan(epoch, state, partial(stream, self.seed))
                sizes[epoch] = len(plan)
        return sum(self._num_steps(sizes.get(epoch, self.n), batch) for epoch in range(epochs))

    def _num_steps(self, m: int, batch: int | None) -> int:
        batch = self.batch if batch is None else batch
        if batch is None:
            raise ArgumentError("batch is unknown: give it here or when making the sampler")
        # ceil: the last, short batch is a step as well.
        return -(-(self._epoch_size(m) // self.num_replicas) // batch)

    def sync(self) -> None:
        """Let every process hold what all have observed, before a checkpoint in mid-epoch. All must call it."""
        if is_distributed():
            self.observations.pool()

    def state_dict(self, position: int | None = None) -> dict[str, Any]:
        """Everything that a resume needs, as tensors and plain values; the plan is made again from it.

        Args:
            position: examples of the epoch that this process has trained on; by default `position`.
        """
        if is_distributed() and not self.observations.pooled:
            warnings.warn(
                "this process knows only its own observations of the epoch: call sampler.sync() on every process "
                "before a checkpoint in mid-epoch",
                stacklevel=2,
            )
        index, signals = self.observations.read()
        epochs = sorted(self._plan_sizes)
        return {
            "version": STATE_VERSION,
            **self._identity(),
            "epoch": self.epoch,
            "position": self.position if position is None else position,
            "num_replicas": self.num_replicas,
            "plan": plan_digest(self.plan),
            "state": dict(self._state_before),
            "observed": {"index": index, **signals},
            "realised": {"epoch": epochs, "count": [self._plan_sizes[epoch] for epoch in epochs]},
        }

    def _identity(self) -> dict[str, Any]:
        """The values that a saved state and the sampler that loads it must share."""
        return {
            "n": self.n,
            "fingerprint": self.fingerprint,
            "policy": to_plain(self.policy),
            "seed": self.seed,
            "length": {
                "steps": self.steps,
                # Without `steps` the batch does not change the order, so a resume may use another.
                "batch": self.batch if self.steps else None,
                "drop_last": self.drop_last,
            },
        }

    def load_state_dict(self, state_dict: Mapping[str, Any], position: int | None = None) -> None:
        """Continue from a saved state; the order from there is that of an uninterrupted run.

        Args:
            state_dict: from `state_dict`, the same on every process.
            position: where in the epoch to continue; by default the saved position. 0 for a loop that skips batches
                itself.

        Raises:
            RunError: the state of another dataset, number of examples, policy or seed, or of a newer version.
        """
        check_same_sampler(state_dict, self._identity())
        # A failed load leaves the sampler as it was.
        backup = (self.epoch, self._state_before, self._plan_sizes, self._plan, self._state_after)
        self.epoch = state_dict["epoch"]
        self._state_before = {k: v.cpu() if isinstance(v, Tensor) else v for k, v in state_dict["state"].items()}
        self._plan_sizes = dict(zip(state_dict["realised"]["epoch"], state_dict["realised"]["count"], strict=True))
        self._plan = None
        if plan_digest(self.plan) != state_dict["plan"]:
            epoch = self.epoch
            self.epoch, self._state_before, self._plan_sizes, self._plan, self._state_after = backup
            raise RunError(
                f"the plan of epoch {epoch} differs from the one that was saved: another version of torch or of the "
                "policy. Continue with the versions it was saved with, or start again"
            )
        self._weights, self._plans_agree = None, False
        signals = {name: values.cpu() for name, values in state_dict["observed"].items()}
        self.observations.restore(signals.pop("index"), signals)
        if position is None:  # saved for one process; with another number of processes each has another share
            position = state_dict["position"] * state_dict["num_replicas"] // self.num_replicas
        self.start_at(min(position, len(self)))
