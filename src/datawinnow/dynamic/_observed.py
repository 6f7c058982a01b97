"""What an epoch observed: kept on the device it came from, and merged across processes once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from datawinnow.core import check
from datawinnow.core.errors import ArgumentError
from datawinnow.dynamic.reduce import one_an_example

_Batch = tuple[Tensor, list[Tensor]]
NOT_SEEN = -torch.inf
"""Marks what was not observed: the maximum over processes then takes what any of them saw, exactly."""
STAGED = 256
"""Batches kept as they came before they are written into the table; fewer calls, the same numbers."""


class Observed:
    """Signals of the examples that one epoch visited; nothing moves to the host before `take`.

    Of two visits of an example on one process the later counts, within a batch too; of visits on two processes (a
    padded example) the larger value. What is not finite counts as not observed.

    Args:
        n: number of examples.
        names: signals kept, float32, 4 bytes an example each; without any, only who was visited.
    """

    def __init__(self, n: int, names: Sequence[str]) -> None:
        self.n = n
        self.names = tuple(names)
        self.lost = 0
        self.pooled = True  # whether the table holds what every process saw
        self._table: Tensor | None = None  # what this process saw
        self._shared: Tensor | None = None  # what all of them saw, if `pooled`
        self._lost: Tensor | None = None
        self._staged: list[tuple[Tensor, Tensor]] = []

    def __bool__(self) -> bool:
        return bool(self._staged) or self._table is not None

    def add(self, index: Tensor, values: Sequence[Tensor], device: torch.device) -> None:
        """Note one batch.

        Args:
            index: (b,) integer ids, on any device.
            values: (b,) one signal each, in the order of the names; copied.
            device: where to keep them.
        """
        ids = index.detach().to(device, torch.int64, non_blocking=True, copy=True)
        rows = [v.detach().to(device, torch.float32, non_blocking=True) for v in values]
        self._staged.append((ids, torch.stack(rows) if rows else torch.zeros((1, ids.numel()), device=device)))
        self.pooled, self._shared = False, None
        if len(self._staged) >= STAGED:
            self._write()

    def _write(self) -> None:
        """Put the staged batches into the table, without asking the device for anything."""
        if not self._staged:
            return
        device = self._staged[-1][1].device
        ids = torch.cat([ids.to(device) for ids, _ in self._staged])
        values = torch.cat([values.to(device) for _, values in self._staged], dim=1)
        self._staged = []
        finite = torch.isfinite(values).all(dim=0)
        lost = ids.numel() - finite.sum()
        self._lost = lost if self._lost is None else self._lost.to(device) + lost
        values = torch.where(finite, values, NOT_SEEN)
        # every visit of an example gets the values of its last, so that the order of writing does not matter
        ids, order = torch.sort(ids, stable=True)
        place = torch.arange(ids.numel(), device=device)
        last = torch.ones_like(ids, dtype=torch.bool)
        last[:-1] = ids[1:] != ids[:-1]
        upto = torch.where(last, place, ids.numel()).flip(0).cummin(0).values.flip(0)
        self._table = self._empty(device) if self._table is None else self._table.to(device)
        self._table.index_copy_(1, ids, values[:, order[upto]])

    def _empty(self, device: torch.device) -> Tensor:
        return torch.full((max(1, len(self.names)), self.n), NOT_SEEN, device=device)

    def pool(self) -> None:
        """Let `read` give on every process what any of them observed. All of them must call it.

        What this process itself saw stays beside it: later visits go on from there, as if nobody had asked.
        """
        self._write()
        self.pooled = True
        if not several():
            return
        place = shared_device()
        table = self._empty(place) if self._table is None else self._table.to(place, copy=True)
        dist.all_reduce(table, dist.ReduceOp.MAX)
        self._shared = table

    def seen(self) -> Tensor:
        """(n,) bool on the CPU: who was visited."""
        held = self._held()
        return torch.zeros(self.n, dtype=torch.bool) if held is None else (held > NOT_SEEN).all(dim=0).cpu()

    def _held(self) -> Tensor | None:
        self._write()
        return self._table if self._shared is None else self._shared

    def read(self) -> tuple[Tensor, dict[str, Tensor]]:
        """(m,) int64 ids in rising order and their (m,) float32 signals by name, on the CPU."""
        held = self._held()
        if held is None:
            return torch.empty(0, dtype=torch.int64), {name: torch.empty(0) for name in self.names}
        table = held.cpu()
        ids = (table > NOT_SEEN).all(dim=0).nonzero().flatten()
        return ids, {name: table[row, ids] for row, name in enumerate(self.names)}

    def take(self) -> tuple[Tensor, dict[str, Tensor]]:
        """What `read` gives; nothing is held afterwards. ``lost`` then says how many were not finite."""
        out = self.read()
        self.lost = 0 if self._lost is None else int(self._lost)
        self._table, self._shared, self._lost = None, None, None
        return out

    def restore(self, index: Tensor, signals: dict[str, Tensor]) -> None:
        """Hold what `read` gave, and nothing else; it counts as what every process saw.

        Where a plan repeats examples within an epoch (``steps``) on several processes, whose visit was the last is not
        known any more: a value seen before counts unless the same process sees a larger one.
        """
        self._table, self._shared, self._lost, self._staged = None, None, None, []
        if index.numel():
            rows = [signals[name] for name in self.names] or [torch.zeros(index.numel())]
            self._table = self._empty(torch.device("cpu"))
            self._table[:, index] = torch.stack(rows).to(torch.float32)
        self.pooled = True


def checked(policy: str, needs: Sequence[str], n: int, index: Any, given: Mapping[str, Tensor]) -> _Batch:
    """What a batch observed, if it is one number an example of everything that the policy needs.

    Args:
        policy: its name, for the error.
        needs: signals wanted.
        n: number of examples.
        index: (b,) integer ids.
        given: (b,) signals by name; those not needed are left alone, but the loss is looked at.

    Returns:
        (b,) ids, and the signals in the order of ``needs``.

    Raises:
        ArgumentError: ids that are not integers or out of range; a signal missing or of another shape.
    """
    ids = check.as_tensor("index", index)
    if ids.is_floating_point() or ids.dtype is torch.bool or ids.ndim != 1:
        raise ArgumentError(f"index must be integer ids of shape (b,), got {ids.dtype} of shape {tuple(ids.shape)}")
    if ids.device.type == "cpu" and ids.numel():  # elsewhere looking would wait for the device
        low, high = (int(end) for end in torch.aminmax(ids))
        if low < 0 or high >= n:
            raise ArgumentError(f"index must hold ids of 0 to {n - 1}, got {low if low < 0 else high}")
    missing = [name for name in needs if name not in given]
    if missing:
        raise ArgumentError(f"{policy} needs {', '.join(missing)} observed, got {', '.join(given) or 'nothing'}")
    if "loss" in given:
        one_an_example(given["loss"])
    for name in {*needs, "loss"} & set(given):
        if given[name].shape != ids.shape:
            raise ArgumentError(f"{name} must have index's shape {tuple(ids.shape)}, got {tuple(given[name].shape)}")
    return ids, [given[name] for name in needs]


def several() -> bool:
    """Whether torch.distributed runs with more than one process."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def shared_device() -> torch.device:
    """Where tensors must be for the processes to exchange them: NCCL takes only those on the GPU."""
    if dist.get_backend() == "nccl":
        return torch.device("cuda", torch.cuda.current_device())
    return torch.device("cpu")


def differ(number: int) -> bool:
    """Whether the processes have different numbers. All of them must call it."""
    if not several():
        return False
    ends = torch.tensor([number, -number], device=shared_device())
    dist.all_reduce(ends, dist.ReduceOp.MAX)
    return int(ends[0]) != -int(ends[1])
