"""`PolicySampler`: any policy as a torch sampler, for a loop of one's own and inside the frameworks."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DistributedSampler

from datawinnow.core import check
from datawinnow.core.errors import ArgumentError, RunError
from datawinnow.core.rng import stream
from datawinnow.core.selection import Selection
from datawinnow.dynamic._clock import Clock
from datawinnow.dynamic._dealing import Place, stretched, through, walk
from datawinnow.dynamic._observed import Observed, checked, differ, several
from datawinnow.dynamic._saved import VERSION, check_same, described, digest
from datawinnow.dynamic._watch import Watch
from datawinnow.dynamic._weights import Weights
from datawinnow.dynamic.policy import Policy, State


class PolicySampler(Clock, Place, DistributedSampler[int]):
    """Gives out the ids that a policy plans for each epoch, and takes the losses that it plans the next from.

    A `DistributedSampler` by class, because frameworks wrap every other sampler and then repeat ids when it shrinks.
    ``set_epoch`` merges what was observed (once, across processes) and makes the plan; after it ``len`` is exact.
    Iterating changes nothing: iterators may be made twice, wrapped, or run ahead of training by prefetchers.

    Where the plan does not divide among the processes, the shards are filled up with ids of the plan again
    (``drop_last=False``) or cut (``drop_last=True``); which ids those are rotates with the epoch. With ``steps`` every
    epoch has exactly that many batches: a longer plan is cut, a shorter one repeated, in the same rotating way.

    Args:
        policy: a policy of this package or of one's own.
        n: number of examples.
        seed: of every draw; the same on all processes.
        epochs: of the whole run, for `progress` and `total_steps`.
        num_replicas: processes that share an epoch; None asks torch.distributed when it is needed. 1 (with rank 0) for
            accelerate, which deals out a global order by itself.
        rank: of this process; None asks torch.distributed.
        batch: examples that one step takes from this sampler, for ``steps``, `progress` and `total_steps`.
        fingerprint: of the dataset; a saved state of another is refused.
        steps: batches in every epoch, for what counts them once and for all (the Hugging Face Trainer).
        drop_last: cut the shards to equal length rather than fill them up.

    Raises:
        ArgumentError: an argument out of range, ``steps`` without ``batch``, ``rank`` without ``num_replicas``.

    References:
        dynamic.md 3 and 4.2.

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
        # DistributedSampler's own __init__ would ask for a process group at once; it may come later
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
        self.fingerprint, self.drop_last, self.shuffle = fingerprint, drop_last, True
        self.dataset = range(n)  # type: ignore[assignment]
        self.epoch = 0
        self._place = (num_replicas, rank)
        self._before: State = policy.init(n)  # what the plan of this epoch is made from
        self._after: State = self._before
        self._plan: Selection | None = None
        self._observed = Observed(n, policy.needs)
        self._sizes: dict[int, int] = {}
        self._weights: Weights | None = None
        self._device: torch.device | None = None
        self._start = self._visits = 0
        self._watch = Watch(type(policy).__name__, tuple(policy.needs))
        self._agreed = False  # whether the processes are known to have the same plan of this epoch

    @property
    def num_samples(self) -> int:  # type: ignore[override]
        """What ``len`` says."""
        return len(self)

    @property
    def total_size(self) -> int:  # type: ignore[override]
        """Examples that the epoch passes on all processes together."""
        return self._total(len(self.plan))

    @property
    def plan(self) -> Selection:
        """What the epoch trains on, for all processes, in training order."""
        self._planned()
        assert self._plan is not None
        return self._plan

    def _planned(self) -> State:
        """Make the plan if there is none; the state after it."""
        if self._plan is None:
            plan, self._after = self.policy.plan(self.epoch, self._before, partial(stream, self.seed))
            if not len(plan) or int(plan.index.max()) >= self.n:
                what = "no examples" if not len(plan) else f"id {int(plan.index.max())} of n={self.n}"
                raise ArgumentError(f"{type(self.policy).__name__} planned {what} for epoch {self.epoch}")
            self._plan = plan
            self._sizes[self.epoch] = len(plan)
        return self._after

    def set_epoch(self, epoch: int) -> None:
        """Merge what was observed and plan ``epoch``; a second call with the same one does nothing.

        With several processes all must call it: this is where they exchange observations, once an epoch.

        Args:
            epoch: counted from 0.

        Raises:
            RunError: an earlier epoch, or processes whose plans differ.
            ArgumentError: not a whole number.
        """
        check.number("epoch", epoch, 0, 2**31, integer=True)
        if epoch < self.epoch:
            raise RunError(
                f"the sampler is at epoch {self.epoch} and cannot go back to {epoch}, knowing later losses: "
                "make a new one or load a state; under accelerate resume with loader.set_epoch(epoch), because its "
                "loaders count from 0 by themselves"
            )
        if epoch > self.epoch:
            state = self._planned()
            if self.policy.needs:
                self._observed.pool()
            index, signals = self._observed.take()
            self._watch.lost(self._observed.lost)
            self._watch.observed(self.epoch, index, self.plan.index, self.n)
            self._before = self.policy.observe(state, index, **signals) if len(index) and self.policy.needs else state
            self.epoch, self._plan, self._weights = epoch, None, None
            self._start = self._visits = 0
            self._agreed = False
        if not self._agreed:
            if differ(digest(self.plan)):
                raise RunError(
                    f"the plans of epoch {epoch} differ between processes: give all the same policy, n and seed, and "
                    "load the same state on all"
                )
            self._agreed = True

    def observe(self, index: Any, loss: Tensor | None = None, **signals: Tensor) -> None:
        """Note the signals of a batch; they stay on the loss's device until the next `set_epoch`.

        Call it for every policy: it also tells how far the epoch is, for a resume. Of two visits the later counts.

        Args:
            index: (b,) integer ids, on any device.
            loss: (b,) losses, ``reduction="none"``; half precision becomes float32, the ids stay int64.
            signals: (b,) others by name, such as ``correct``; those that the policy does not need are left alone.

        Raises:
            ArgumentError: a scalar loss (compute it with ``reduction="none"``), one of another shape, ids that are
                not integers or out of range, or a signal missing that the policy needs.
        """
        named = signals if loss is None else {"loss": loss, **signals}
        given = {name: check.as_tensor(name, values) for name, values in named.items()}
        ids, values = checked(type(self.policy).__name__, self.policy.needs, self.n, index, given)
        if given:
            self._device = next(iter(given.values())).device
        self._observed.add(ids, values, values[0].device if values else ids.device)
        self._visits += ids.numel()

    @property
    def weight(self) -> Weights:
        """``sampler.weight[index]``: (b,) float32 factors on the losses, on the device of the losses observed last."""
        if self._weights is None:  # once an epoch
            self._weights = Weights(self.plan, self.n)
        self._weights.device = self._device
        return self._weights

    def __len__(self) -> int:
        """Examples that the epoch has for this process, those before a resumed position included."""
        return self.total_size // self.num_replicas

    def __iter__(self) -> Iterator[int]:
        """Ids of this process in the order of the plan, from the position a mid-epoch resume left."""
        if not self._start and self._visits >= len(self):
            self._watch.again(self.epoch)
        return walk(self._mine()[self._start :])

    def _mine(self) -> Tensor:
        return stretched(self.plan.index, self.total_size, self.epoch)[self.rank :: self.num_replicas]

    @property
    def position(self) -> int:
        """Examples of the epoch that this process is through with, told by what was observed, not by what was read."""
        mine = self._mine()
        first = min(len(mine), -(-(len(self.plan) - self.rank) // self.num_replicas))
        return max(self._start, through(mine, first, self._observed.seen(), self._visits))

    def start_at(self, position: int) -> None:
        """Let iteration of this epoch begin at ``position`` of this process's examples, 0 for all of them.

        Raises:
            ArgumentError: not in [0, len].
        """
        self._start = self._visits = check.number("position", position, 0, len(self), integer=True)

    def sync(self) -> None:
        """Let every process hold what all have observed, before a checkpoint in mid-epoch. All must call it."""
        if several():
            self._observed.pool()

    def state_dict(self, position: int | None = None) -> dict[str, Any]:
        """Everything that a resume needs, as tensors and plain values; the plan is made again from it.

        Args:
            position: examples of the epoch that this process is through with; by default what was observed tells.
        """
        if several() and not self._observed.pooled:
            warnings.warn(
                "this process knows only its own observations of the epoch: call sampler.sync() on every process "
                "before a checkpoint in mid-epoch",
                stacklevel=2,
            )
        index, signals = self._observed.read()
        return {
            "version": VERSION,
            **self._about(),
            "epoch": self.epoch,
            "position": self.position if position is None else position,
            "num_replicas": self.num_replicas,
            "plan": digest(self.plan),
            "state": dict(self._before),
            "observed": {"index": index, **signals},
            "realised": {"epoch": sorted(self._sizes), "count": [self._sizes[e] for e in sorted(self._sizes)]},
        }

    def _about(self) -> dict[str, Any]:
        policy = described(self.policy)
        length = {"steps": self.steps, "batch": self.batch if self.steps else None, "drop_last": self.drop_last}
        about = {"n": self.n, "fingerprint": self.fingerprint, "policy": policy, "seed": self.seed}
        return {**about, "length": length}

    def load_state_dict(self, state_dict: Mapping[str, Any], position: int | None = None) -> None:
        """Go on where a saved sampler was; the order from there is that of an unbroken run.

        Args:
            state_dict: what `state_dict` gave, on every process the same.
            position: where in the epoch to go on, instead of where it was: 0 for a loop that skips by itself.

        Raises:
            RunError: the state of another dataset, number of examples, policy or seed, or of a newer version.
        """
        check_same(state_dict, self._about())
        was = (self.epoch, self._before, self._sizes, self._plan, self._after)
        self.epoch = state_dict["epoch"]
        self._before = {k: v.cpu() if isinstance(v, Tensor) else v for k, v in state_dict["state"].items()}
        self._sizes = dict(zip(state_dict["realised"]["epoch"], state_dict["realised"]["count"], strict=True))
        self._plan = None
        if digest(self.plan) != state_dict["plan"]:
            epoch = self.epoch
            self.epoch, self._before, self._sizes, self._plan, self._after = was
            raise RunError(
                f"epoch {epoch} comes out another plan than when it was saved: another version of torch or of "
                "the policy. Go on with the versions it was saved with, or begin again"
            )
        self._weights, self._agreed = None, False
        signals = {name: values.cpu() for name, values in state_dict["observed"].items()}
        self._observed.restore(signals.pop("index"), signals)
        if position is None:  # told for each process; of another number of processes each has another share
            position = state_dict["position"] * state_dict["num_replicas"] // self.num_replicas
        self.start_at(min(position, len(self)))
