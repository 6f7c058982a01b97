"""`PolicySampler` with other people's datasets and loaders: Subset, Hugging Face datasets, custom collate, pickles,
worker processes that are spawned, stay alive and prefetch (see `test_sampler` for the whole checklist).
"""

from __future__ import annotations

import copy
import pickle
from typing import Any

import datasets
import pytest
import torch
from torch.utils.data import DataLoader, Subset

import datawinnow as dw
from datawinnow.dynamic import UCB
from datawinnow.dynamic.sampler import PolicySampler
from datawinnow.integrations import with_index
from tests.dynamic.sampler_cases import Pairs, Worst, loss_of, train


def as_dictionary(items: list[Any]) -> dict[str, Any]:
    """A collate function of somebody's own, reversing the batch."""
    index, x, y = zip(*reversed(items), strict=True)
    return {"ids": torch.tensor(index), "x": torch.stack(x), "y": list(y)}


def test_a_subset_inside_keeps_its_own_numbering() -> None:
    inside = Subset(Pairs(100), list(range(99, 49, -1)))
    sampler = PolicySampler(Worst(20), n=50)
    train(sampler, 0)
    sampler.set_epoch(1)
    visited = []
    for index, x, _ in DataLoader(dw.indexed(inside), batch_size=8, sampler=sampler):
        assert (99 - index).tolist() == x.flatten().long().tolist()
        visited += index.tolist()
    assert visited == list(sampler)


def test_a_hugging_face_dataset_inside_keeps_its_ids() -> None:
    inside = datasets.Dataset.from_dict({"x": [float(i) for i in range(50)], "labels": [i % 3 for i in range(50)]})
    sampler = PolicySampler(Worst(20), n=50)
    train(sampler, 0)
    sampler.set_epoch(1)
    visited = []
    for batch in DataLoader(with_index(inside), batch_size=8, sampler=sampler):
        assert batch["index"].dtype == torch.int64
        assert batch["index"].tolist() == batch["x"].long().tolist()
        assert batch["labels"].tolist() == [i % 3 for i in batch["index"].tolist()]
        visited += batch["index"].tolist()
    assert visited == list(sampler)


def test_a_collate_function_of_ones_own_gets_the_ids_with_the_items() -> None:
    sampler = PolicySampler(Worst(20), n=50)
    loader = DataLoader(dw.indexed(Pairs(50)), batch_size=8, sampler=sampler, collate_fn=as_dictionary)
    visited = []
    for batch in loader:
        assert batch["ids"].tolist() == batch["x"].flatten().long().tolist()
        sampler.observe(batch["ids"], loss_of(batch["ids"]))
        visited += reversed(batch["ids"].tolist())
    assert visited == list(sampler)
    assert sampler.position == 50


@pytest.mark.parametrize("through", [lambda s: pickle.loads(pickle.dumps(s)), copy.deepcopy], ids=["pickle", "copy"])
def test_a_copy_goes_on_as_the_original_would(through: Any) -> None:
    sampler = PolicySampler(UCB(keep=0.5, period=1), n=60, seed=3, epochs=4, batch=8)
    train(sampler, 0)
    train(sampler, 1, stop=2)
    other = through(sampler)
    for one in (sampler, other):
        for epoch in (2, 3):
            train(one, epoch)
    assert list(other) == list(sampler)
    assert other.realised == sampler.realised


def test_spawned_workers_that_stay_and_prefetch_follow_every_epoch() -> None:
    n = 60
    sampler = PolicySampler(Worst(20), n=n)
    loader = DataLoader(
        dw.indexed(Subset(Pairs(n), range(n))),
        batch_size=8,
        sampler=sampler,
        num_workers=1,
        multiprocessing_context="spawn",
        persistent_workers=True,
        prefetch_factor=4,
    )
    for epoch in range(3):
        sampler.set_epoch(epoch)
        expected, visited = list(sampler), []
        for index, x, _ in loader:
            assert index.tolist() == x.flatten().long().tolist()
            sampler.observe(index, loss_of(index, epoch))
            visited += index.tolist()
        assert visited == expected
        assert len(visited) == (60 if epoch == 0 else 20)
