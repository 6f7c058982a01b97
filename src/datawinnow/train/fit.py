"""`fit`: one flat training loop for everything in datawinnow."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from datawinnow.core import check
from datawinnow.core.cost import Cost
from datawinnow.core.errors import TrainingError
from datawinnow.core.rng import forked, stream
from datawinnow.data.batches import batches_of
from datawinnow.record.recorder import Recorder
from datawinnow.train import setup
from datawinnow.train.checkpoint import save_checkpoint
from datawinnow.train.evaluate import evaluate
from datawinnow.train.history import History
from datawinnow.train.precision import autocast, float32_head
from datawinnow.train.recipe import Recipe, check_recipe
from datawinnow.train.schedule import SCHEDULES, schedule_of
from datawinnow.train.setup import fabric_for

Progress = Callable[[str, int, int], None]


def fit(
    model: nn.Module,
    data: Any,
    *,
    epochs: int,
    test: Any = None,
    of: int | None = None,
    seed: int = 0,
    recipe: Recipe | None = None,
    recorder: Recorder | None = None,
    checkpoint: Path | None = None,
    on_epoch: Callable[[int, History], None] | None = None,
    progress: Progress | None = None,
    evaluate_every: int = 0,
    **options: Any,
) -> tuple[nn.Module, History]:
    """Train ``model`` on ``data`` and evaluate it after the last epoch.

    Args:
        model: any `nn.Module` from a batch of x to logits (b, classes); trained in place.
        data: `Examples`, what `prune` returned, or any map-style dataset of ``(x, y)``.
        epochs: passes over the (kept) examples.
        test: evaluated after the last epoch; nothing is chosen by it.
        of: train on the schedule of a run of this many epochs and stop at ``epochs`` (a short scoring run follows the
            first part of the long one; static.md 2.1).
        seed: of the order, the augmentation and dropout; the weights come with ``model``.
        recipe: how to train.
        recorder: gets the logits of every training batch, before the step.
        checkpoint: file to write after each epoch and, if it is there, to go on from; the end is then the same to the
            byte (same machine kind and threads).
        on_epoch: called after each epoch with its number and the history.
        progress: called as ``progress(what, done, total)`` after each step.
        evaluate_every: evaluate on ``test`` every so many epochs as well, for the history only.
        options: fields of `Recipe`, overriding it.

    Returns:
        The model, in evaluation mode, and its history.

    Raises:
        ArgumentError: an option out of range.
        TrainingError: the loss is no longer a number; epochs finished before are kept.
        RunError: a checkpoint of another network, dataset, selection or seed; the disk is full.
    """
    recipe = replace(recipe or Recipe(), **check_recipe(options))
    check.number("epochs", epochs, 1, 1 << 20, integer=True)
    of = epochs if of is None else int(check.number("of", of, epochs, 1 << 20, integer=True))
    whole, selection, index = setup.examples_of(data, test, recorder, epochs)
    fabric = fabric_for(recipe.device)
    device, history = fabric.device, History()
    facts = setup.facts_of(whole, selection, seed, checkpoint)
    begun = setup.begun_by(checkpoint, facts, epochs)
    precision, channels_last = setup.arithmetic(model, whole, recipe, device, begun, history)
    facts |= {"precision": precision, "channels_last": channels_last}
    how: dict[str, Any] = {"workers": recipe.workers, "channels_last": channels_last}
    batches = batches_of(whole, device, **how)
    weight = setup.weights_of(selection, len(whole), device)
    model = model.to(memory_format=torch.channels_last) if channels_last else model  # type: ignore[call-overload]
    network, optimizer = fabric.setup(model, setup.optimizer_of(model, recipe))
    factor = schedule_of(recipe.schedule)
    steps = -(-len(index) // recipe.batch)
    first = setup.go_on(checkpoint, begun, model, optimizer, history, recorder)
    flops = setup.flops(model, whole, device) if first < epochs else 0.0
    run = torch.compile(network) if recipe.compile else network
    with float32_head(model), setup.put_back(model, recorder):
        for epoch in range(first, epochs):
            start = time.perf_counter()
            order = index[torch.randperm(len(index), generator=stream(seed, "order", epoch))]
            augment = stream(seed, "augment", epoch)
            totals = torch.zeros(2, device=device)
            model.train()
            with forked(seed, "dropout", epoch):
                for step, (i, x, y) in enumerate(batches.train(order, recipe.batch, augment)):
                    rate = recipe.peak * factor((epoch * steps + step) / (of * steps))
                    for group in optimizer.param_groups:
                        group["lr"] = rate
                    with autocast(device, precision):
                        logits = run(x).float()
                    if recorder is not None:
                        recorder.write(epoch, i, logits, y)
                    losses = F.cross_entropy(logits, y, reduction="none", label_smoothing=recipe.label_smoothing)
                    loss = losses.mean() if weight is None else (losses * weight[i]).mean()
                    fabric.backward(loss)
                    optimizer.step()
                    optimizer.zero_grad(set_to_none=True)
                    totals += torch.stack([losses.detach().sum(), (logits.detach().argmax(1) == y).sum()])
                    if progress is not None:
                        progress("training", epoch * steps + step + 1, epochs * steps)
            mean_loss, accuracy = (totals / len(index)).tolist()  # the epoch's one wait for the device
            if not torch.isfinite(totals).all():
                raise TrainingError(
                    f"the loss is {mean_loss} in epoch {epoch}: try a lower lr (it was {recipe.peak:g}) or "
                    f"precision='fp32'. The {epoch} epochs before it are kept"
                )
            if recorder is not None:
                recorder.flush()
            cost = Cost(time.perf_counter() - start, 0, len(index), flops * len(index))
            row = history.add(epoch, mean_loss, accuracy, rate, cost)
            if test is not None and (epoch == epochs - 1 or (evaluate_every and (epoch + 1) % evaluate_every == 0)):
                row["test_accuracy"], row["test_loss"] = evaluate(
                    model, test, device=device, precision=precision, **how
                )
            if checkpoint is not None:
                so_far = {"epoch": epoch + 1, "rows": history.rows, "cost": history.cost.as_dict()}
                save_checkpoint(checkpoint, model, optimizer, {**facts, **so_far})
            if on_epoch is not None:
                on_epoch(epoch, history)
    return model.eval(), history


__all__ = ["SCHEDULES", "History", "Progress", "Recipe", "fabric_for", "fit"]
