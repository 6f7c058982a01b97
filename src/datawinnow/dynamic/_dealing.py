"""How an epoch's ids are dealt out to processes: equal shares, disjoint but for what fills the last round."""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.distributed as dist
from torch import Tensor

from datawinnow.dynamic._observed import several

CHUNK = 65_536
"""Ids turned into Python integers at a time: a list of ten million would take 400 MB."""


def total(m: int, world: int, *, drop_last: bool, each: int | None) -> int:
    """Examples that an epoch passes on all processes together.

    Args:
        m: size of the plan.
        world: number of processes.
        drop_last: round down to a multiple of ``world``, not up (up all the same where there are fewer than that).
        each: examples for each process, whatever the plan's size; None to go by the plan.
    """
    if each is not None:
        return each * world
    return m // world * world if drop_last and m >= world else -(-m // world) * world


def stretched(index: Tensor, length: int, epoch: int) -> Tensor:
    """The ids of a plan, cut or filled up to ``length``; which are left out or repeated rotates with the epoch.

    Args:
        index: (m,) ids in training order, which is kept.
        length: how many are wanted.
        epoch: counted from 0.

    Returns:
        (length,) ids; those of a plan that is too short follow again after it, beginning anywhere.
    """
    m, over = len(index), length - len(index)
    turn = (torch.arange(abs(over)) + epoch * abs(over)) % m
    if over >= 0:
        return torch.cat([index, index[turn]]) if over else index
    kept = torch.ones(m, dtype=torch.bool)
    kept[turn] = False
    return index[kept]


def through(mine: Tensor, first: int, seen: Tensor, visits: int) -> int:
    """How many of its examples a process is through with, told by who was observed.

    Prefetchers read ahead, so what was read says nothing; micro-batches and repeated visits change nothing here.

    Args:
        mine: (k,) ids of the process, in order.
        first: how many of them are not repetitions.
        seen: (n,) bool, who was observed.
        visits: examples observed, repetitions included; it decides once all others were.
    """
    hit = seen[mine[:first]].nonzero().flatten()
    reached = int(hit[-1]) + 1 if hit.numel() else 0
    return reached if reached < first else max(first, min(visits, len(mine)))


def walk(ids: Tensor) -> Iterator[int]:
    """The ids as Python integers, without a list of all of them."""
    for begin in range(0, len(ids), CHUNK):
        yield from ids[begin : begin + CHUNK].tolist()


class Place:
    """Which process of how many: as told, or as torch.distributed says at the moment it is needed."""

    _place: tuple[int | None, int | None] = (None, None)

    @property
    def num_replicas(self) -> int:
        """Processes that share an epoch."""
        return self._place[0] or (dist.get_world_size() if several() else 1)

    @num_replicas.setter
    def num_replicas(self, value: int) -> None:
        self._place = (value, self._place[1])

    @property
    def rank(self) -> int:
        """Of this process."""
        return self._place[1] if self._place[1] is not None else dist.get_rank() if several() else 0

    @rank.setter
    def rank(self, value: int) -> None:
        self._place = (self._place[0], value)
