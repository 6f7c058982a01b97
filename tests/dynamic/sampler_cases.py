"""Tiny policies and data for the sampler's tests, written from the contract alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from datawinnow.core.selection import Selection


@dataclass(frozen=True)
class InOrder:
    """The first ``m`` ids, never shuffled, so that what the sampler leaves out or repeats can be read off."""

    m: int
    weight: float = 1.0
    needs: tuple[str, ...] = ()

    def init(self, n: int) -> dict[str, Any]:
        return {"n": n}

    def observe(self, state: dict[str, Any], index: Tensor, **signals: Tensor) -> dict[str, Any]:
        return state

    def plan(self, epoch: int, state: dict[str, Any], stream: Any) -> tuple[Selection, dict[str, Any]]:
        weight = self.weight if epoch == 0 else 1.0
        return Selection(torch.arange(self.m), torch.full((self.m,), weight)), state


@dataclass(frozen=True)
class Worst:
    """All at first, then the ``m`` of highest loss so far, shuffled; counts how often it observed."""

    m: int
    needs: tuple[str, ...] = ("loss",)

    def init(self, n: int) -> dict[str, Any]:
        return {"n": n, "loss": torch.zeros(n), "merges": 0}

    def observe(self, state: dict[str, Any], index: Tensor, **signals: Tensor) -> dict[str, Any]:
        loss = state["loss"].clone()
        loss[index] = signals["loss"]
        return {**state, "loss": loss, "merges": state["merges"] + 1}

    def plan(self, epoch: int, state: dict[str, Any], stream: Any) -> tuple[Selection, dict[str, Any]]:
        n = state["n"] if state["merges"] == 0 else self.m
        kept = state["loss"].argsort(descending=True, stable=True)[:n]
        return Selection(kept[torch.randperm(n, generator=stream("worst", epoch))], torch.ones(n)), state


@dataclass(frozen=True)
class Turning:
    """``m`` ids beginning where the last plan ended: a plan made once too often shows."""

    m: int
    needs: tuple[str, ...] = ()

    def init(self, n: int) -> dict[str, Any]:
        return {"n": n, "begin": 0}

    def observe(self, state: dict[str, Any], index: Tensor, **signals: Tensor) -> dict[str, Any]:
        return state

    def plan(self, epoch: int, state: dict[str, Any], stream: Any) -> tuple[Selection, dict[str, Any]]:
        index = (torch.arange(self.m) + state["begin"]) % state["n"]
        return Selection(index, torch.ones(self.m)), {**state, "begin": (state["begin"] + self.m) % state["n"]}


class Pairs(Dataset):
    """``(x, y)`` with x the id itself, so that an id that went astray shows."""

    def __init__(self, n: int) -> None:
        self.n = n

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, i: int) -> tuple[Tensor, int]:
        return torch.tensor([float(i)]), i % 3


def loss_of(index: Tensor, epoch: int = 0) -> Tensor:
    """(b,) losses that tell id and epoch, all different."""
    return ((index * 7919 + epoch * 31) % 1009).float() / 1009


def train(sampler: Any, epoch: int, batch: int = 8, stop: int | None = None) -> list[int]:
    """One epoch of a loop without a network; the ids that it visited, up to ``stop`` batches."""
    sampler.set_epoch(epoch)
    visited: list[int] = []
    for k, batch_ids in enumerate(torch.utils.data.BatchSampler(sampler, batch, drop_last=False)):
        if k == stop:
            break
        index = torch.tensor(batch_ids)
        sampler.observe(index, loss_of(index, epoch))
        visited += batch_ids
    return visited
