"""The example level under two processes: one shared decision, from what both saw, the same as one process makes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
import torch.nn.functional as F

from datawinnow import vit
from datawinnow.core.rng import forked, stream
from datawinnow.dynamic import ExampleSwap, PolicySampler
from datawinnow.models import build

N, EPOCHS, BATCH = 40, 4, 8
POLICY = ExampleSwap(keep=0.6, period=1, swap=0.2)


def data() -> tuple[torch.Tensor, torch.Tensor]:
    draws = stream(0, "pictures")
    return torch.randn(N, 1, 8, 8, generator=draws), torch.randint(4, (N,), generator=draws)


def network() -> torch.nn.Module:
    with forked(0, "weights"):
        model = build("vit", shape=(1, 8, 8), classes=4, width=16, depth=6)
    return vit.sparsify(model, at=(1, 3), schedule=None).train()


def train(sampler: PolicySampler, world: int) -> list[list[int]]:
    """What each epoch trains on, all processes together; the gradients are averaged over them."""
    x, y = data()
    model, plans = network(), []
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    for epoch in range(EPOCHS):
        sampler.set_epoch(epoch)
        plans.append(sorted(sampler.plan.index.tolist()))
        for ids in torch.tensor(list(sampler)).split(BATCH // world):
            logits = model(x[ids])
            losses = F.cross_entropy(logits, y[ids], reduction="none")
            sampler.observe(ids, loss=losses, correct=logits.argmax(1) == y[ids])
            losses.mean().backward()
            for p in model.parameters():
                if world > 1 and p.grad is not None:
                    dist.all_reduce(p.grad)
                    p.grad /= world
            optimizer.step()
            optimizer.zero_grad()
    return plans


def work(rank: int, folder: str) -> None:
    """What each process does; its plans go to a file."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    sampler = PolicySampler(POLICY, N, seed=3)
    plans = train(sampler, 2)
    Path(folder, f"{rank}.json").write_text(json.dumps({"plans": plans, "shard": list(sampler)}))
    dist.destroy_process_group()


@pytest.mark.slow
def test_two_processes_swap_the_same_examples_as_one(tmp_path: Path) -> None:
    """In the published code each process has a subset and statistics of its own."""
    mp.spawn(work, (str(tmp_path),), nprocs=2)
    one, two = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1))
    assert one["plans"] == two["plans"]
    assert [len(plan) for plan in one["plans"]] == [24] * EPOCHS
    assert not set(one["shard"]) & set(two["shard"])
    assert sorted(one["shard"] + two["shard"]) == one["plans"][-1]
    alone = train(PolicySampler(POLICY, N, seed=3), 1)
    assert one["plans"] == alone, "batches of 4 in two processes pass the examples that batches of 8 pass in one"
    assert len({tuple(plan) for plan in alone}) == EPOCHS, "something was swapped each time"
