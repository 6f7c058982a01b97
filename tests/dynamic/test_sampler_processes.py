"""Two processes on gloo: equal plans from merged losses, disjoint shards that cover, resume in mid-epoch."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from datawinnow.core.errors import RunError
from datawinnow.dynamic import UCB, RandomPruning
from datawinnow.dynamic.sampler import PolicySampler
from tests.dynamic.sampler_cases import Worst, train

N, EPOCHS = 61, 3


def order_of(policy: Any, seed: int = 0, **options: Any) -> list[list[int]]:
    sampler = PolicySampler(policy, N, seed, **options)
    return [train(sampler, epoch) for epoch in range(EPOCHS)]


def work(rank: int, folder: str) -> None:
    """What each process does; its findings go to a file."""
    torch.set_num_threads(1)
    warnings.simplefilter("error")
    early = PolicySampler(Worst(21), N)  # made before the process group, as most loops do
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    result: dict[str, Any] = {"shards": [train(early, epoch) for epoch in range(EPOCHS)]}
    result["plan"] = early.plan.index.tolist()
    result["dropped"] = order_of(UCB(keep=0.5, period=1), drop_last=True)
    # under accelerate every process has the whole order and takes batches in turn
    everything = PolicySampler(Worst(21), N, num_replicas=1, rank=0)
    result["global"] = []
    for epoch in range(EPOCHS):
        everything.set_epoch(epoch)
        ids = torch.tensor(list(everything))
        result["global"].append(ids.tolist())
        for batch_ids in ids.split(8)[rank::2]:
            everything.observe(batch_ids, batch_ids.float())
    # a checkpoint in mid-epoch, of the first process, on both
    killed = PolicySampler(Worst(21), N, seed=4)
    result["before"] = [train(killed, 0), train(killed, 1, batch=4, stop=1)]
    killed.sync()
    states: list[Any] = [killed.state_dict() if rank == 0 else None]
    dist.broadcast_object_list(states, src=0)
    resumed = PolicySampler(Worst(21), N, seed=4)
    resumed.load_state_dict(states[0])
    result["after"] = [train(resumed, 1, batch=4), train(resumed, 2)]
    result["unbroken"] = order_of(Worst(21), seed=4)
    resumed.observe(torch.arange(2), torch.ones(2))
    try:
        resumed.state_dict()
    except UserWarning as warning:
        result["unsynced"] = str(warning)
    try:
        PolicySampler(RandomPruning(keep=0.5), N, seed=rank).set_epoch(1)
    except RunError as error:
        result["seeds"] = str(error)
    Path(folder, f"{rank}.json").write_text(json.dumps(result))
    dist.destroy_process_group()


def test_two_processes_plan_alike_and_share_the_plan(tmp_path: Path) -> None:
    mp.spawn(work, (str(tmp_path),), nprocs=2)
    one, two = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1))
    assert one["plan"] == two["plan"]
    alone = order_of(Worst(21))
    for epoch, (left, right) in enumerate(zip(one["shards"], two["shards"], strict=True)):
        assert len(left) == len(right)
        # 61 and 21 do not divide by two: one id is in both, all others in one
        assert len(left + right) - len(set(left + right)) == 1
        assert set(left + right) == set(alone[epoch])
    for left, right in zip(one["dropped"], two["dropped"], strict=True):
        assert len(left) == len(right)
        assert not set(left) & set(right)
    assert one["global"] == two["global"]
    assert set(one["global"][2]) == set(range(N - 21, N))
    for side in (one, two):
        before, after = side["before"], side["after"]
        assert [before[0], before[1] + after[0], after[1]] == side["unbroken"]
        assert "call sampler.sync() on every process" in side["unsynced"]
        assert "differ between processes" in side["seeds"]
