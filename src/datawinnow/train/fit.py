"""`fit`: one flat training loop for everything in datawinnow."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from datawinnow.core.errors import TrainingError
from datawinnow.core.progress import Progress
from datawinnow.core.rng import forked, stream
from datawinnow.dynamic.in_batch import InBatch
from datawinnow.record.recorder import Recorder
from datawinnow.train.evaluate import evaluate
from datawinnow.train.history import History
from datawinnow.train.precision import autocast, float32_head
from datawinnow.train.recipe import REDUCTIONS, Recipe, check_recipe
from datawinnow.train.schedule import SCHEDULES, schedule_of
from datawinnow.train.setup import fabric_for, put_back
from datawinnow.train.state import ready


def fit(
    model: nn.Module,
    data: Any,
    *,
    epochs: float | None = None,
    passes: float | None = None,
    test: Any = None,
    schedule_epochs: float | None = None,
    seed: int = 0,
    recipe: Recipe | None = None,
    recorder: Recorder | None = None,
    policy: Any = None,
    within: InBatch | None = None,
    checkpoint: Path | None = None,
    on_plan: Callable[[int, Tensor], None] | None = None,
    on_epoch: Callable[[int, History], None] | None = None,
    stop: Callable[[int], bool] | None = None,
    progress: Progress | None = None,
    evaluate_every: int = 0,
    **options: Any,
) -> tuple[nn.Module, History]:
    """Train ``model`` on ``data`` and evaluate it after the last epoch.

    Args:
        model: any `nn.Module` from a batch of x to logits (b, classes); trained in place.
        data: `Examples`, what `prune` returned, or any map-style dataset of ``(x, y)``.
        epochs: passes over the (kept) examples. A fraction, as in 7.5, ends in an epoch over a part of the examples, so
            that two runs pass equally many (but for a rest smaller than half a batch, which is left out).
        passes: instead of ``epochs``: train until as many examples went through as in that many epochs on all. With a
            ``policy`` that makes more epochs of it, each over what was chosen, the last one cut; the schedule follows
            the examples, so that two policies compare at equal cost, each with its learning rate decayed to the end.
        test: evaluated after the last epoch; nothing is chosen by it.
        schedule_epochs: train on the schedule of a run of this many epochs and stop at ``epochs``: a short scoring run
            follows the first part of the long one.
        seed: of the order, the augmentation and dropout; the weights come with ``model``.
        recipe: how to train.
        recorder: gets the logits of every training batch, before the step.
        policy: chooses anew what each epoch trains on (`datawinnow.dynamic`); it observes the losses of the steps.
        within: chooses inside each loaded batch, by a proxy trained alongside or by the network itself
            (`datawinnow.dynamic.InBatch`); under ``passes`` its forward passes and the proxy count as well.
        checkpoint: file to write after each epoch and, if it is there, to go on from; the end is then the same to the
            byte (same machine kind and threads).
        on_plan: called before each epoch with its number and the ids that it trains on, (m,) int64 in their order.
        on_epoch: called after each epoch with its number and the history.
        stop: asked after each epoch, once it is recorded, with its number: True ends training there. It has to answer
            the same when asked again, as of a run that goes on from a checkpoint.
        progress: called as ``progress(what, done, total)`` after each step.
        evaluate_every: evaluate on ``test`` every so many epochs as well, for the history only.
        options: fields of `Recipe`, overriding it.

    Returns:
        The model, in evaluation mode, and its history.

    Raises:
        ArgumentError: an option out of range, fewer outputs than classes, or not one of ``epochs`` and ``passes``.
        TrainingError: the loss is no longer a number; epochs finished before are kept.
        RunError: a checkpoint of another network, dataset, selection or seed; the disk is full.
    """
    # Longer than our 50 lines: one flat loop that is read from top to bottom is worth more than four functions.
    recipe = replace(recipe or Recipe(), **check_recipe(options))
    files: dict[str, Any] = {"recorder": recorder, "checkpoint": checkpoint, "policy": policy, "within": within}
    run = ready(
        model, data, epochs, passes, schedule_epochs=schedule_epochs, test=test, seed=seed, recipe=recipe, **files
    )
    history, factor = run.history, schedule_of(recipe.schedule)
    reduction = REDUCTIONS[recipe.reduction]
    ended = stop is not None and run.first > 0 and stop(run.first - 1)
    with float32_head(run.model), put_back(run.model, recorder):
        for epoch in itertools.count(run.first):
            if ended or run.over(epoch):
                break
            start = time.perf_counter()
            totals = torch.zeros(2, device=run.device)
            run.model.train()
            order = run.order(epoch)
            planning = time.perf_counter() - start
            if on_plan is not None:
                on_plan(epoch, order)
            with forked(seed, "dropout", epoch):
                batches = run.batches.train(order, run.batch, stream(seed, "augment", epoch))
                for step, (i, x, y) in enumerate(batches):
                    rate = recipe.peak * factor(run.progress(epoch, step))
                    if run.within is not None:
                        i, x, y = run.within.choose(run.before + step, i, x, y, rate)
                    for group in run.optimizer.param_groups:
                        group["lr"] = rate
                    with autocast(run.device, run.precision):
                        logits = run.forward(x).float()
                    if recorder is not None:
                        recorder.write(epoch, i, logits, y)
                    losses = F.cross_entropy(logits, y, reduction="none", label_smoothing=recipe.label_smoothing)
                    trained = recipe.losses(losses)
                    loss = trained.mean() if run.weight is None else reduction(trained, run.weight[i])
                    right = logits.detach().argmax(1) == y
                    if run.plans is not None:
                        run.plans.observe(i, losses, right)
                    if recipe.curvature:
                        loss = loss + recipe.curvature * run.curvature(x, y, recipe.curvature_h)
                    run.fabric.backward(loss)
                    run.optimizer.step()
                    run.optimizer.zero_grad(set_to_none=True)
                    totals += torch.stack([losses.detach().sum(), right.sum()])
                    if progress is not None:
                        progress("training", *run.told(epoch, step))
            mean_loss, accuracy = (totals / run.trained(epoch)).tolist()  # the epoch's one wait for the device
            if not torch.isfinite(totals).all():
                raise TrainingError(
                    f"the loss is {mean_loss} in epoch {epoch}: try a lower lr (it was {recipe.peak:g}) or "
                    f"precision='fp32'. The {epoch} epochs before it are kept"
                )
            if recorder is not None:
                recorder.flush()
            ended = stop is not None and stop(epoch)
            cost, count = run.cost(epoch, time.perf_counter() - start), run.trained(epoch)
            counted = {"examples": count, "steps": run.steps(epoch), "fraction": count / len(run.index)}
            counted |= {} if run.within is None else {"loaded": run.counts[epoch]}
            row = history.add(epoch, mean_loss, accuracy, rate, cost, planning_seconds=planning, **counted)
            due = ended or run.over(epoch + 1) or (evaluate_every and (epoch + 1) % evaluate_every == 0)
            if test is not None and due:
                row["test_accuracy"], row["test_loss"] = evaluate(
                    run.model, test, device=run.device, precision=run.precision, **run.how
                )
            if checkpoint is not None:
                run.save(checkpoint, epoch + 1)
            if on_epoch is not None:
                on_epoch(epoch, history)
    return run.model.eval(), history


__all__ = ["SCHEDULES", "History", "Progress", "Recipe", "fabric_for", "fit"]
