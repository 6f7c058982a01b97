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
from datawinnow.dynamic._saved import spelled
from datawinnow.dynamic.in_batch import InBatch
from datawinnow.record.recorder import Recorder
from datawinnow.train import setup
from datawinnow.train.checkpoint import save_checkpoint
from datawinnow.train.history import History
from datawinnow.train.in_batch import Within, within_of
from datawinnow.train.policy_plan import Plans
from datawinnow.train.precision import autocast
from datawinnow.train.recipe import Recipe
from datawinnow.train.schedule import counts_of

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
        within: what chooses inside each loaded batch; None without that.
        epochs: epochs to train; with a ``budget`` as many as it takes.
        budget: examples to pass in all, where a policy or a choice inside batches makes epochs of them; None to count
            epochs.
        schedule_epochs: epochs of the whole schedule.
        planned: steps of the whole schedule, where no policy plans.
        batch: examples loaded a step; all are trained on unless ``within`` chooses among them.
        counts: examples loaded in each epoch; the last may be fewer. Under a budget or a policy, of the epochs begun.
        first: the first epoch to train; not 0 if a checkpoint was gone on from.
        flops: of training on one example.
        passes: what a step costs, in passes of an example forward and backward; above 1 with a regulariser.
        metadata: what a checkpoint must say to be gone on from.
        history: of the epochs so far.
        behind: what was charged before the epoch that `order` was asked for, in examples.
        before: steps before it.
        by_epoch: tells the network an epoch and gives its ``flops`` in it; None where they never change.
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
    within: Within | None
    epochs: int
    budget: int | None
    schedule_epochs: float
    planned: int
    batch: int
    counts: list[int]
    first: int
    flops: float
    passes: float
    metadata: dict[str, Any]
    history: History = field(default_factory=History)
    behind: float = 0
    before: int = 0
    by_epoch: Callable[[int], float] | None = None
    _here: float = 0
    _after: int = 0

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return self.fabric.device

    def order(self, epoch: int) -> Tensor:
        """The ids of an epoch in the order of training: the policy's, or all of them shuffled by seed and epoch."""
        order = self._ordered(epoch)
        self.flops = self.flops if self.by_epoch is None else self.by_epoch(epoch)
        self.behind, self.before = sum(map(self.charge, range(epoch))), self.steps_before(epoch)
        if self.budget is not None:
            left = self.budget - self.behind
            order = order[: self._affordable(epoch, left, len(order))]
        if self.plans is not None or self.budget is not None:
            self.counts = [*self.counts[:epoch], len(order)]
        self._here = self.charge(epoch)
        self._after = self._to_come(epoch)
        return order

    def _affordable(self, epoch: int, left: float, most: int) -> int:
        """Examples that an epoch may load for what is left of the budget, up to ``most``."""
        if self.within is None:
            return min(most, int(left))
        return self.within.affordable(left, self.steps_before(epoch), most)

    def _ordered(self, epoch: int) -> Tensor:
        if self.plans is not None:
            order = self.plans.plan(epoch)
            self.weight = self.plans.weight
            return order
        order = torch.randperm(len(self.index), generator=stream(self.seed, "order", epoch))
        return self.index[order if self.budget is not None else order[: self.counts[epoch]]]

    def _to_come(self, epoch: int) -> int:
        """Steps after an epoch; those of epochs not planned yet are a guess, that they will be as many as in this."""
        if self.budget is not None:
            left = self.budget - self.behind - self._here
            by_epoch = left / self._here * self.steps(epoch)
            return math.ceil(left / self.batch) if self.within is None else round(by_epoch)
        if self.plans is not None:
            return (self.epochs - epoch - 1) * self.steps(epoch)
        return sum(map(self.steps, range(epoch + 1, self.epochs)))

    def over(self, epoch: int) -> bool:
        """Whether training ends before ``epoch``; of a budget a rest smaller than half a batch is left out."""
        if self.budget is None:
            return epoch >= self.epochs
        left = self.budget - sum(map(self.charge, range(epoch)))
        return epoch > 0 and 2 * self._affordable(epoch, left, self.batch) < self.batch

    def steps(self, epoch: int) -> int:
        """Steps of an epoch that `order` was asked for."""
        return -(-self.counts[epoch] // self.batch)

    def steps_before(self, epoch: int) -> int:
        """Steps of the epochs before one."""
        return sum(map(self.steps, range(epoch)))

    def trained(self, epoch: int) -> int:
        """Examples that an epoch trains on: those loaded, or what is kept of them."""
        return self.counts[epoch] if self.within is None else self.within.kept(self.counts[epoch])

    def charge(self, epoch: int) -> float:
        """What an epoch costs in examples trained on: choosing inside batches is charged beside the training."""
        count = self.counts[epoch]
        return count if self.within is None else self.within.charge(count, self.steps_before(epoch)).passes

    def progress(self, epoch: int, step: int) -> float:
        """How far the schedule is, from 0 to 1.

        By steps; under a policy, whose epochs differ, by epochs and within each by steps, or by examples where those
        are what is counted, so that the learning rate ends where it should however many examples ran.
        """
        if self.budget is not None:
            return (self.behind + step / self.steps(epoch) * self._here) / self.budget
        if self.plans is None:
            return (epoch * self.steps(0) + step) / self.planned
        return (epoch + step / self.steps(epoch)) / self.schedule_epochs

    def told(self, epoch: int, step: int) -> tuple[int, int]:
        """Steps done and steps in all, for a progress bar; those of epochs not planned yet are a guess."""
        here = self.steps(epoch)
        return self.before + step + 1, self.before + here + self._after

    def cost(self, epoch: int, seconds: float) -> Cost:
        """What an epoch cost."""
        count = self.trained(epoch)
        own = Cost(seconds, 0, round(self.passes * count), self.passes * self.flops * count)
        return own if self.within is None else own + self.within.extra(self.counts[epoch], self.before)

    def curvature(self, x: Tensor, y: Tensor, h: float) -> Tensor:
        """Mean input curvature of a batch, differentiable with respect to the weights."""
        with autocast(self.device, self.precision):
            return input_curvature(self.model, x, y, h=h, create_graph=True).mean()

    def save(self, checkpoint: Path, done: int) -> None:
        """Write the checkpoint after ``done`` epochs."""
        so_far = {"epoch": done, "rows": self.history.rows, "cost": self.history.cost.as_dict()}
        state = self.plans.tensors() if self.plans is not None else {}
        state |= self.within.tensors() if self.within is not None else {}
        save_checkpoint(checkpoint, self.model, self.optimizer, {**self.metadata, **so_far}, state)


def ready(
    model: nn.Module,
    data: Any,
    epochs: float | None,
    passes: float | None = None,
    *,
    schedule_epochs: float | None,
    test: Any,
    seed: int,
    recipe: Recipe,
    recorder: Recorder | None,
    checkpoint: Path | None,
    policy: Any,
    within: InBatch | None = None,
) -> Ready:
    """Everything checked, on the device, and where a checkpoint left it; arguments as of `fit`.

    Raises:
        ArgumentError: they do not fit each other.
        RunError: a checkpoint of another run.
    """
    if (epochs is None) == (passes is None):
        raise ArgumentError(f"give one of epochs= and passes=, got epochs={epochs} and passes={passes}")
    name, given = ("epochs", epochs) if passes is None else ("passes", passes)
    if given == 0:
        raise ArgumentError(f"{name} must be above 0, got 0: fit trains")
    length = check.number(name, given, 0, MOST)
    chooses = policy is not None or within is not None
    if passes is not None and chooses and schedule_epochs is not None:
        raise ArgumentError(
            "schedule_epochs= goes with epochs=: under passes= the schedule follows the examples to its end"
        )
    if within is not None and (policy is not None or recorder is not None):
        other = "policy" if policy is not None else "recorder"
        raise ArgumentError(f"within= chooses among all the data and sees part of a batch: give it without {other}=")
    if within is not None and within.proxy is model:
        raise ArgumentError("the proxy is the network itself: leave proxy= out, and its own losses are chosen by")
    schedule_epochs = (
        length if schedule_epochs is None else check.number("schedule_epochs", schedule_epochs, length, MOST)
    )
    whole, selection, index = setup.examples_of(data, test, recorder, math.ceil(length))
    fabric = setup.fabric_for(recipe.device)
    pool = recipe.batch if within is None else within.pool(recipe.batch)
    counts = counts_of(length, len(index), recipe.batch if passes is not None else pool)
    budget = sum(counts) if passes is not None and chooses else None
    if policy is not None and budget is None and counts[-1] != len(index):
        raise ArgumentError(
            f"a policy plans whole epochs, got epochs={epochs}: give a whole number, or passes={epochs}"
        )
    if recorder is not None and budget is not None:
        raise ArgumentError("a recorder counts epochs: give epochs=, not passes=, or train without it")
    metadata = setup.facts_of(whole, selection, seed, checkpoint)
    named = [spelled(each) for each in (policy, within) if each is not None]
    metadata |= {"policy": "none" if not named else named[0], "budget": budget}
    begun = setup.begun_by(checkpoint, metadata, MOST if budget else len(counts), None if chooses else counts)
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
    weight = setup.weights_of(selection, len(whole), fabric.device)
    plans = None if policy is None else Plans(policy, index, len(whole), seed, fabric.device, weight)
    inner = None if within is None else within_of(within, network, whole, recipe, fabric.device, seed, flops)
    first = setup.go_on(checkpoint, begun, model, optimizer, history, recorder, plans, inner)
    loaded = [int(row.get("loaded", row["examples"])) for row in history.rows]
    return Ready(
        model=model,
        forward=torch.compile(network) if recipe.compile else network,
        optimizer=optimizer,
        fabric=fabric,
        batches=batches,
        how=how,
        precision=recipe.precision,
        index=index,
        weight=weight,
        seed=seed,
        plans=plans,
        within=inner,
        epochs=len(counts),
        budget=budget,
        schedule_epochs=schedule_epochs,
        planned=sum(-(-count // pool) for count in counts_of(schedule_epochs, len(index), pool)),
        batch=pool,
        counts=loaded if policy is not None or budget is not None else counts,
        first=first,
        flops=flops,
        passes=passes,
        metadata=metadata | {"precision": history.precision, "channels_last": history.channels_last},
        history=history,
        by_epoch=setup.by_epoch(model, whole, fabric.device),
    )
