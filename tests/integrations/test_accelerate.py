"""The policies under accelerate: the global order, its loaders that count by themselves and read ahead, checkpoints."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.multiprocessing as mp
import torch.nn.functional as F
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState, PartialState
from torch import nn
from torch.utils.data import DataLoader

import datawinnow as dw
from datawinnow.core.errors import ArgumentError, RunError
from datawinnow.integrations import weighted_loss
from datawinnow.integrations.accelerate import prepare_loader
from tests.integrations.models import BATCH, EPOCHS, N, data, loader_of, policy_sampler


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    """What accelerate found of the machine it keeps for the whole process."""
    yield
    for state in (AcceleratorState, GradientState, PartialState):
        state._reset_state() if hasattr(state, "_reset_state") else state._shared_state.clear()


def flat(batches: list[list[int]]) -> list[int]:
    return [i for batch in batches for i in batch]


def run(
    folder: Path, resume: bool = False, stop: tuple[int, int] | None = None, keep: float = 0.5
) -> list[list[list[int]]]:
    """The ids of each batch of each epoch; with ``stop`` it saves after that batch and ends."""
    accelerator = Accelerator(cpu=True)
    sampler = policy_sampler(keep=keep)
    loader = prepare_loader(accelerator, loader_of(sampler), sampler)
    torch.manual_seed(0)
    model, optimizer = accelerator.prepare(
        net := nn.Linear(4, 3), torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    )
    if resume:
        accelerator.load_state(str(folder))
    visited: list[list[list[int]]] = []
    for epoch in range(sampler.epoch, EPOCHS):
        loader.set_epoch(epoch)
        visited.append([])
        for index, x, y in loader:
            loss = weighted_loss(sampler, index, F.cross_entropy(model(x), y, reduction="none"))
            accelerator.backward(loss)
            optimizer.step()
            optimizer.zero_grad()
            visited[-1].append(index.tolist())
            if stop == (epoch, len(visited[-1])):
                accelerator.save_state(str(folder))
                return visited
    return visited


def test_epochs_have_the_batches_of_their_plan(tmp_path: Path) -> None:
    visited = run(tmp_path)
    assert [len(epoch) for epoch in visited] == [6, 3, 3, 3]
    assert sorted(flat(visited[0])) == list(range(N))
    assert sorted(flat(visited[2])) == sorted(flat(visited[3]))  # one decision for both


@pytest.mark.parametrize("stop", [(0, 6), (1, 2), (2, 1)], ids=["end of epoch", "2 batches", "1 batch"])
def test_a_saved_state_resumes_after_the_batch_that_was_trained_on(stop: tuple[int, int], tmp_path: Path) -> None:
    unbroken = run(tmp_path)
    done = run(tmp_path / "saved", stop=stop)
    rest = run(tmp_path / "saved", resume=True)
    assert done + rest[1:] == unbroken[: stop[0]] + [unbroken[stop[0]][: stop[1]]] + unbroken[stop[0] + 1 :]
    assert done[-1] + rest[0] == unbroken[stop[0]]
    assert sorted(p.suffix for p in (tmp_path / "saved").iterdir() if "sampler" in p.name) == [".safetensors"]


def test_a_loader_that_counts_from_zero_after_a_resume_is_told(tmp_path: Path) -> None:
    run(tmp_path / "saved", stop=(1, 2))
    accelerator, sampler = Accelerator(cpu=True), policy_sampler()
    loader = prepare_loader(accelerator, loader_of(sampler), sampler)
    accelerator.prepare(net := nn.Linear(4, 3), torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9))
    accelerator.load_state(str(tmp_path / "saved"))
    with pytest.raises(RunError, match=r"cannot go back to 0.*loader.set_epoch"):
        next(iter(loader))


def test_another_sampler_or_a_share_of_the_order_is_refused() -> None:
    accelerator, sampler = Accelerator(cpu=True), policy_sampler(num_replicas=2, rank=1)
    with pytest.raises(ArgumentError, match="num_replicas=2, and accelerate would shard it again"):
        prepare_loader(accelerator, loader_of(sampler), sampler)
    with pytest.raises(ArgumentError, match="the loader has the sampler SequentialSampler"):
        prepare_loader(accelerator, DataLoader(dw.indexed(data()), batch_size=BATCH), sampler)


def work(rank: int, folder: str) -> None:
    """What each of two processes visits, without and with a resume."""
    torch.set_num_threads(1)
    where: dict[str, Any] = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "MASTER_ADDR": "127.0.0.1"}
    os.environ.update({key: str(value) for key, value in where.items()}, MASTER_PORT=Path(folder, "port").read_text())
    saved = Path(folder, "saved")
    runs = [run(saved, keep=2 / 3), run(saved, stop=(1, 1), keep=2 / 3), run(saved, resume=True, keep=2 / 3)]
    Path(folder, f"{rank}.json").write_text(json.dumps(runs))
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_two_processes_share_every_plan_and_resume(tmp_path: Path) -> None:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        (tmp_path / "port").write_text(str(one.getsockname()[1]))
    mp.spawn(work, (str(tmp_path),), nprocs=2)
    left, right = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1))
    for one_epoch, other in zip(left[0], right[0], strict=True):
        assert len(one_epoch) == len(other)
    assert [len(epoch) for epoch in left[0]] == [3, 2, 2, 2]
    assert sorted(flat(left[0][0] + right[0][0])) == list(range(N))
    for epoch in (1, 2, 3):
        assert len(set(flat(left[0][epoch] + right[0][epoch]))) == 32
    for side in (left, right):
        assert side[1][1] + side[2][0] == side[0][1]
        assert side[2][1:] == side[0][2:]
