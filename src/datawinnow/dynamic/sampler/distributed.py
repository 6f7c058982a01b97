"""The shards of an epoch: equal in size, disjoint but for the padding; and what processes exchange."""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.distributed as dist
from torch import Tensor

IDS_PER_CHUNK = 65_536
"""Ids turned into Python integers at a time: a list of ten million would take 400 MB."""


def is_distributed() -> bool:
    """Whether torch.distributed runs with more than one process."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def communication_device() -> torch.device:
    """Device on which processes exchange tensors: NCCL takes only those on the GPU."""
    if dist.get_backend() == "nccl":
        return torch.device("cuda", torch.cuda.current_device())
    return torch.device("cpu")


def differs_between_processes(number: int) -> bool:
    """Whether ``number`` is not the same on all processes. All of them must call it."""
    if not is_distributed():
        return False
    # one all-reduce gives both ends: the maximum, and minus the minimum
    ends = torch.tensor([number, -number], device=communication_device())
    dist.all_reduce(ends, dist.ReduceOp.MAX)
    return int(ends[0]) != -int(ends[1])


def epoch_size(m: int, num_replicas: int, *, drop_last: bool, per_process: int | None) -> int:
    """Examples that an epoch passes on all processes together.

    Args:
        m: size of the plan.
        num_replicas: number of processes.
        drop_last: round down to a multiple of ``num_replicas`` rather than up (a plan smaller than that is rounded up
            all the same).
        per_process: examples for each process, whatever the size of the plan; None to follow the plan.
    """
    if per_process is not None:
        return per_process * num_replicas
    if drop_last and m >= num_replicas:
        # All processes get the same number, or the gradient all-reduce of the last step would hang.
        return m // num_replicas * num_replicas
    return -(-m // num_replicas) * num_replicas


def pad_or_truncate(index: Tensor, length: int, epoch: int) -> Tensor:
    """The ids of a plan, truncated or padded to ``length``; which ids are left out or repeated rotates with the epoch.

    Args:
        index: (m,) ids in training order, which is kept.
        length: length of the result.
        epoch: counted from 0.

    Returns:
        (length,) ids. Padding repeats ids of the plan in its order, from a start that depends on the epoch.
    """
    m, excess = len(index), length - len(index)
    # Consecutive positions that continue where the last epoch stopped: no example is always left out or always
    # repeated.
    rotating = (torch.arange(abs(excess)) + epoch * abs(excess)) % m
    if excess >= 0:
        return torch.cat([index, index[rotating]]) if excess else index
    kept = torch.ones(m, dtype=torch.bool)
    kept[rotating] = False
    return index[kept]


def num_consumed(shard: Tensor, num_unique: int, seen: Tensor, visits: int) -> int:
    """Number of examples of its shard that a process has trained on, judged by the observations.

    Prefetchers read ahead, so reading does not count. Micro-batches and repeated visits do not change the result.

    Args:
        shard: (k,) ids of the process, in order.
        num_unique: how many of them are not padding.
        seen: (n,) bool, which examples were observed.
        visits: number of examples observed, repetitions included; it decides once the rest is padding.
    """
    positions = seen[shard[:num_unique]].nonzero().flatten()
    # The last one observed, not their number: an example observed out of order does not move the position back.
    reached = int(positions[-1]) + 1 if positions.numel() else 0
    return reached if reached < num_unique else max(num_unique, min(visits, len(shard)))


def iter_ids(ids: Tensor) -> Iterator[int]:
    """The ids as Python integers, without a list of all of them."""
    for begin in range(0, len(ids), IDS_PER_CHUNK):
        # DataLoader workers and collate functions expect Python integers.
        yield from ids[begin : begin + IDS_PER_CHUNK].tolist()
