"""`ready`: everything that `fit` works with, checked and in place before its first step."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from datawinnow.core import check
from datawinnow.core.cost import Cost
from datawinnow.core.curvature import input_curvature
from datawinnow.core.errors import ArgumentError
from datawinnow.core.rng import stream
from datawinnow.data.batches import Batches, batches_of
from datawinnow.record.recorder import Recorder
from datawinnow.train import setup
from datawinnow.train.checkpoint import save_checkpoint
from datawinnow.train.history import History
from datawinnow.train.planned import Plans
from datawinnow.train.precision import autocast
from datawinnow.train.recipe import Recipe

MOST = 1 << 20
"""Epochs; more is a mistake."""


@dataclass
class Ready:
    """All that `fit` works with, made before its first step.

    Attributes:
        model: the network as it was given.
        forward: the network as it is called: set up by Fabric, compiled if asked.
        optimizer: over its parameters.
        fabric: device and backward pass.
        batches: of ``(index, x, y)``.
        how: how batches are made, for evaluation too.
        precision: arithmetic of the forward pass.
        index: (m,) ids trained on.
        weight: (n,) factor on each example's loss, or None.
        seed: of the order.
        plans: what a policy chooses, epoch by epoch; None without one.
        epochs: epochs to train.
        of: epochs of the whole schedule.
        planned: steps of the whole schedule, where no policy plans.
        batch: examples a step.
        counts: examples of each epoch; the last may be fewer. With a policy, of the epochs begun.
        first: the first epoch to train; not 0 if a checkpoint was gone on from.
        flops: of training on one example.
        passes: what a step costs, in passes of an example forward and backward; above 1 with a regulariser.
        facts: what a checkpoint must say to be gone on from.
        history: of the epochs so far.
    """

    model: nn.Module
    forward: Callable[..., Any]
    optimizer: Any
    fabric: Fabric
    batches: Batches
    how: dict[str, Any]
    precision: str
    index: Tensor
    weight: Tensor | None
    seed: int
    plans: Plans | None
    epochs: int
    of: float
    planned: int
    batch: int
    counts: list[int]
    first: int
    flops: float
    passes: float
    facts: dict[str, Any]
    history: History = field(default_factory=History)

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return self.fabric.device

    def order(self, epoch: int) -> Tensor:
        """The ids of an epoch in the order of training: the policy's, or all of them shuffled by seed and epoch."""
        if self.plans is not None:
            order = self.plans.plan(epoch)
            self.weight = self.plans.weight
            self.counts = [*self.counts[:epoch], len(order)]
            return order
        order = torch.randperm(len(self.index), generator=stream(self.seed, "order", epoch))
        return self.index[order[: self.counts[epoch]]]

    def steps(self, epoch: int) -> int:
        """Steps of an epoch; of one that a policy has not planned yet, as many as of the last planned."""
        return -(-self.counts[min(epoch, len(self.counts) - 1)] // self.batch)

    def progress(self, epoch: int, step: int) -> float:
        """How far the schedule is, from 0 to 1.

        By steps; under a policy, whose epochs differ, by epochs and within each by steps, so that the learning rate
        ends where it should however many examples ran.
        """
        if self.plans is not None:
            return (epoch + step / self.steps(epoch)) / self.of
        return (epoch * self.steps(0) + step) / self.planned

    def told(self, epoch: int, step: int) -> tuple[int, int]:
        """Steps done and steps in all, for a progress bar; those of epochs not planned yet are a guess."""
        before = sum(map(self.steps, range(epoch)))
        return before + step + 1, before + sum(map(self.steps, range(epoch, self.epochs)))

    def cost(self, epoch: int, seconds: float) -> Cost:
        """What an epoch cost."""
        count = self.counts[epoch]
        return Cost(seconds, 0, round(self.passes * count), self.passes * self.flops * count)

    def curvature(self, x: Tensor, y: Tensor, h: float) -> Tensor:
        """Mean input curvature of a batch, differentiable with respect to the weights."""
        with autocast(self.device, self.precision):
            return input_curvature(self.model, x, y, h=h, create_graph=True).mean()

    def save(self, checkpoint: Path, done: int) -> None:
        """Write the checkpoint after ``done`` epochs."""
        so_far = {"epoch": done, "rows": self.history.rows, "cost": self.history.cost.as_dict()}
        state = self.plans.tensors() if self.plans is not None else {}
        save_checkpoint(checkpoint, self.model, self.optimizer, {**self.facts, **so_far}, state)


def ready(
    model: nn.Module,
    data: Any,
    epochs: float,
    *,
    of: float | None,
    test: Any,
    seed: int,
    recipe: Recipe,
    recorder: Recorder | None,
    checkpoint: Path | None,
    policy: Any,
) -> Ready:
    """Everything checked, on the device, and where a checkpoint left it; arguments as of `fit`.

    Raises:
        ArgumentError: they do not fit each other.
        RunError: a checkpoint of another run.
    """
    if epochs == 0:
        raise ArgumentError("epochs must be above 0, got 0: fit trains")
    check.number("epochs", epochs, 0, MOST)
    of = epochs if of is None else check.number("of", of, epochs, MOST)
    whole, selection, index = setup.examples_of(data, test, recorder, math.ceil(epochs))
    fabric = setup.fabric_for(recipe.device)
    counts = counts_of(epochs, len(index), recipe.batch)
    if policy is not None and counts[-1] != len(index):
        raise ArgumentError(f"a policy plans whole epochs, got epochs={epochs}: give a whole number")
    facts = setup.facts_of(whole, selection, seed, checkpoint) | {"policy": "none" if policy is None else repr(policy)}
    begun = setup.begun_by(checkpoint, facts, len(counts), None if policy is not None else counts)
    history = History()
    if begun is not None:  # go on as begun: a new measurement could choose otherwise
        recipe = replace(recipe, precision=begun["precision"], channels_last=begun["channels_last"])
    recipe, note = setup.settled(model, whole, recipe)
    history.notes += [note] if note else []
    history.precision, history.channels_last = recipe.precision, bool(recipe.channels_last)
    how: dict[str, Any] = {"workers": recipe.workers, "channels_last": history.channels_last}
    batches = batches_of(whole, fabric.device, **how)
    flops = setup.rehearse(model, whole, fabric.device)
    passes = 1 + (setup.curvature_passes(model, whole, fabric.device) if recipe.curvature else 0)
    model = model.to(memory_format=torch.channels_last) if recipe.channels_last else model  # type: ignore[call-overload]
    network, optimizer = fabric.setup(model, setup.optimizer_of(model, recipe))
    plans = None if policy is None else Plans(policy, index, len(whole), seed, fabric.device)
    first = setup.go_on(checkpoint, begun, model, optimizer, history, recorder, plans)
    return Ready(
        model=model,
        forward=torch.compile(network) if recipe.compile else network,
        optimizer=optimizer,
        fabric=fabric,
        batches=batches,
        how=how,
        precision=recipe.precision,
        index=index,
        weight=setup.weights_of(selection, len(whole), fabric.device),
        seed=seed,
        plans=plans,
        epochs=len(counts),
        of=of,
        planned=sum(-(-count // recipe.batch) for count in counts_of(of, len(index), recipe.batch)),
        batch=recipe.batch,
        counts=counts if plans is None else [int(row["examples"]) for row in history.rows],
        first=first,
        flops=flops,
        passes=passes,
        facts=facts | {"precision": history.precision, "channels_last": history.channels_last},
        history=history,
    )


def counts_of(epochs: float, m: int, batch: int) -> list[int]:
    """How many of ``m`` examples each epoch passes, ``round(epochs * m)`` together.

    A rest smaller than half a batch is left out: batch norm cannot work on one or two.

    Args:
        epochs: passes over the examples, whole or not.
        m: how many examples.
        batch: examples a step.

    >>> counts_of(2, 1000, 100), counts_of(1.25, 1000, 100), counts_of(1.01, 1000, 100), counts_of(0.01, 1000, 100)
    ([1000, 1000], [1000, 250], [1000], [10])
    """
    whole, rest = divmod(max(1, round(epochs * m)), m)
    return [m] * whole + ([rest] if not whole or 2 * rest >= batch else [])
