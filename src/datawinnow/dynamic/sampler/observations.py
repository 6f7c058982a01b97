"""Signals observed during an epoch: kept on the device they came from, and merged across processes once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from datawinnow.core import check
from datawinnow.core.errors import ArgumentError
from datawinnow.dynamic.reduce import check_one_per_example
from datawinnow.dynamic.sampler.distributed import communication_device, is_distributed

NOT_SEEN = -torch.inf
"""Value of what was not observed: the maximum over processes then is what any of them observed, exactly."""
STAGED_BATCHES = 256
"""Batches kept as they came before they are written into the table; fewer calls, the same numbers."""


class Observations:
    """Signals of the examples that one epoch visited; nothing moves to the host before `take`.

    Of two visits of an example on one process the later counts, within a batch too; of visits on two processes (a
    padded example) the larger value. Values that are not finite count as not observed.

    Args:
        n: number of examples.
        names: signals to keep, float32, 4 bytes an example each; without any, only which examples were visited.

    Attributes:
        num_not_finite: observations of the last epoch taken that were NaN or infinite.
        pooled: whether `read` returns what all processes observed.
        table: (signals, n) float32, what this process observed; None before the first batch is written into it.
        staged: (ids, values) of the batches that are not in the table yet.
    """

    def __init__(self, n: int, names: Sequence[str]) -> None:
        self.n = n
        self.names = tuple(names)
        self.num_not_finite = 0
        self.pooled = True
        self.table: Tensor | None = None
        self._pooled_table: Tensor | None = None  # what all of them observed, if `pooled`
        self._not_finite: Tensor | None = None
        self.staged: list[tuple[Tensor, Tensor]] = []

    def __bool__(self) -> bool:
        return bool(self.staged) or self.table is not None

    def add(self, index: Tensor, values: Sequence[Tensor], device: torch.device) -> None:
        """Add one batch.

        Args:
            index: (b,) integer ids, on any device.
            values: (b,) one signal each, in the order of the names; copied.
            device: where to keep them.
        """
        ids = index.detach().to(device, torch.int64, non_blocking=True, copy=True)
        rows = [v.detach().to(device, torch.float32, non_blocking=True) for v in values]
        self.staged.append((ids, torch.stack(rows) if rows else torch.zeros((1, ids.numel()), device=device)))
        # What the processes agreed on is outdated with the first new observation.
        self.pooled, self._pooled_table = False, None
        if len(self.staged) >= STAGED_BATCHES:
            self._write()

    def _write(self) -> None:
        """Write the staged batches into the table, without a synchronisation with the device."""
        if not self.staged:
            return
        device = self.staged[-1][1].device
        ids = torch.cat([ids.to(device) for ids, _ in self.staged])
        values = torch.cat([values.to(device) for _, values in self.staged], dim=1)
        self.staged = []
        # An example counts only with all of its signals: one NaN discards the visit.
        finite = torch.isfinite(values).all(dim=0)
        not_finite = ids.numel() - finite.sum()
        self._not_finite = not_finite if self._not_finite is None else self._not_finite.to(device) + not_finite
        values = torch.where(finite, values, NOT_SEEN)
        # every visit of an example gets the values of its last visit, so that the order of writing does not matter:
        # index_copy_ with repeated ids is not deterministic on a GPU
        ids, order = torch.sort(ids, stable=True)
        position = torch.arange(ids.numel(), device=device)
        is_last = torch.ones_like(ids, dtype=torch.bool)
        is_last[:-1] = ids[1:] != ids[:-1]
        # Reversed running minimum: the position of the next last visit at or after each entry, which is that of the
        # same id.
        last_visit = torch.where(is_last, position, ids.numel()).flip(0).cummin(0).values.flip(0)
        self.table = self._empty(device) if self.table is None else self.table.to(device)
        self.table.index_copy_(1, ids, values[:, order[last_visit]])

    def _empty(self, device: torch.device) -> Tensor:
        return torch.full((max(1, len(self.names)), self.n), NOT_SEEN, device=device)

    def pool(self) -> None:
        """Let `read` return on every process what any of them observed. All of them must call it.

        What this process itself observed is kept as well: later visits are added to that.
        """
        self._write()
        self.pooled = True
        if not is_distributed():
            return
        device = communication_device()
        # A copy: all_reduce works in place, and the own table must stay for later visits. A process without
        # observations takes part as well, or the others would wait forever.
        table = self._empty(device) if self.table is None else self.table.to(device, copy=True)
        dist.all_reduce(table, dist.ReduceOp.MAX)
        self._pooled_table = table

    def seen(self) -> Tensor:
        """(n,) bool on the CPU: which examples were visited."""
        table = self._current()
        return torch.zeros(self.n, dtype=torch.bool) if table is None else (table > NOT_SEEN).all(dim=0).cpu()

    def _current(self) -> Tensor | None:
        self._write()
        return self.table if self._pooled_table is None else self._pooled_table

    def read(self) -> tuple[Tensor, dict[str, Tensor]]:
        """(m,) int64 ids in rising order and their (m,) float32 signals by name, on the CPU."""
        current = self._current()
        if current is None:
            return torch.empty(0, dtype=torch.int64), {name: torch.empty(0) for name in self.names}
        table = current.cpu()
        ids = (table > NOT_SEEN).all(dim=0).nonzero().flatten()
        return ids, {name: table[row, ids] for row, name in enumerate(self.names)}

    def take(self) -> tuple[Tensor, dict[str, Tensor]]:
        """As `read`, and clear; ``num_not_finite`` is set."""
        out = self.read()
        self.num_not_finite = 0 if self._not_finite is None else int(self._not_finite)
        self.table, self._pooled_table, self._not_finite = None, None, None
        return out

    def restore(self, index: Tensor, signals: Mapping[str, Tensor]) -> None:
        """Hold what `read` returned, and nothing else; it counts as what every process observed.

        Where a plan repeats examples within an epoch (``steps``) on several processes, whose visit was the last is not
        known any more: a value from before counts unless the same process observes a larger one.
        """
        self.table, self._pooled_table, self._not_finite, self.staged = None, None, None, []
        if index.numel():
            rows = [signals[name] for name in self.names] or [torch.zeros(index.numel())]
            self.table = self._empty(torch.device("cpu"))
            # On the CPU, whatever device the run had before; the next batch moves it.
            self.table[:, index] = torch.stack(rows).to(torch.float32)
        self.pooled = True


def validate_batch(
    policy: str, needs: Sequence[str], n: int, index: Any, signals: Mapping[str, Tensor]
) -> tuple[Tensor, list[Tensor]]:
    """The ids of a batch and its signals, after a check that each signal is one number an example.

    Args:
        policy: its name, for the error.
        needs: names of the signals that the policy needs.
        n: number of examples.
        index: (b,) integer ids.
        signals: (b,) by name; of those not needed only the loss is checked.

    Returns:
        (b,) ids, and the signals in the order of ``needs``.

    Raises:
        ArgumentError: ids that are not integers or out of range; a signal missing or of another shape.
    """
    ids = check.as_tensor("index", index)
    if ids.is_floating_point() or ids.dtype is torch.bool or ids.ndim != 1:
        raise ArgumentError(f"index must be integer ids of shape (b,), got {ids.dtype} of shape {tuple(ids.shape)}")
    if ids.device.type == "cpu" and ids.numel():  # on a GPU this check would wait for the device
        low, high = (int(end) for end in torch.aminmax(ids))
        if low < 0 or high >= n:
            raise ArgumentError(f"index must hold ids of 0 to {n - 1}, got {low if low < 0 else high}")
    missing = [name for name in needs if name not in signals]
    if missing:
        raise ArgumentError(f"{policy} needs {', '.join(missing)} observed, got {', '.join(signals) or 'nothing'}")
    if "loss" in signals:
        check_one_per_example(signals["loss"])
    for name in {*needs, "loss"} & set(signals):
        if signals[name].shape != ids.shape:
            raise ArgumentError(f"{name} must have index's shape {tuple(ids.shape)}, got {tuple(signals[name].shape)}")
    return ids, [signals[name] for name in needs]
