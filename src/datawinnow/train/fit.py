"""`fit`: one flat training loop for everything in datawinnow."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from datawinnow.core.bars import with_progress
from datawinnow.core.chance import warn_of_learning
from datawinnow.core.errors import ArgumentError, TrainingError
from datawinnow.core.module_mode import restore_mode
from datawinnow.core.progress import ProgressOption
from datawinnow.core.rng import forked, stream
from datawinnow.data.dataset_info import dataset_info
from datawinnow.data.kept import Kept
from datawinnow.data.objects import TargetDataset, with_class_ids, with_targets
from datawinnow.data.standardise import vectors_of
from datawinnow.dynamic.build import policy_of_run
from datawinnow.dynamic.in_batch import InBatch
from datawinnow.dynamic.reduce import resolve_reduction
from datawinnow.models.outputs import returns_logits
from datawinnow.record.recorder import Recorder
from datawinnow.train.build import Model, resolve_network
from datawinnow.train.cached_features import cache_features
from datawinnow.train.evaluate import evaluate
from datawinnow.train.history import EpochMetrics, History
from datawinnow.train.ledger import TrainLength
from datawinnow.train.network import groups_of, num_classes, set_training_mode
from datawinnow.train.objective import correct_predictions
from datawinnow.train.precision import autocast, float32_head
from datawinnow.train.recipe import Recipe, check_recipe
from datawinnow.train.resume import CheckpointFile
from datawinnow.train.schedule import schedule_of
from datawinnow.train.state import ExampleChoice, TrainState, check_examples, prepare

UNSCALED_VECTORS = 10.0
"""Columns of standard deviation 1 hold no value much above this one in size, and none has this standard deviation."""
STANDARDISE = (
    "standardise each column (mean 0, standard deviation 1), as dw.load(data, standardise=True) does for both splits, "
    "and the verbs by default"
)


@with_progress
def fit(
    model: Model,
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
    in_batch: InBatch | None = None,
    checkpoint: Path | None = None,
    fingerprint: str | None = None,
    on_plan: Callable[[int, Tensor], None] | None = None,
    on_epoch: Callable[[int, History], None] | None = None,
    stop: Callable[[int], bool] | None = None,
    progress: ProgressOption = None,
    evaluate_every: int = 0,
    **options: Any,
) -> tuple[nn.Module, History]:
    """Train ``model`` on ``data`` and evaluate it after the last epoch.

    Args:
        model: any `nn.Module` from a batch of x to logits (b, classes), or to a dict, tuple or object that holds them
            (`datawinnow.models.outputs`); trained in place. Batch norms of parts without a trainable parameter keep
            their statistics. Or a class or function that returns one, a name such as ``"mlp"``, or None to choose by
            the shape of the examples; its weights are then drawn from ``seed``.
        data: `Examples`, the return value of `prune`, any map-style dataset of ``(x, y)``, or what `dw.load` takes as
            an object: arrays ``(x, y)``, a DataFrame, items that are dicts. Vectors are used as they are, since the
            network that is returned will get such; `dw.load` and the verbs standardise their columns.
        epochs: passes over the (kept) examples. A fraction such as 7.5 ends in an epoch over a part of the examples, so
            that two runs can train on equally many (except for a rest smaller than half a batch, which is left out).
        passes: instead of ``epochs``: a budget, in epochs over all of the examples at full size. With a ``policy``, or
            a ``size_schedule`` whose smaller inputs cost less, this makes more epochs, the last one cut; the learning
            rate follows the budget. Two trainings are then compared at equal cost, each decayed to its end.
        test: evaluated after the last epoch; nothing is chosen by it.
        schedule_epochs: train on the schedule of a run of this many epochs and stop at ``epochs``: a short scoring run
            follows the first part of the long one.
        seed: of the order, the augmentation and dropout, and of the weights unless ``model`` has them.
        recipe: how to train.
        recorder: gets the logits of every training batch, before the step.
        policy: plans what each epoch trains on (`datawinnow.dynamic`), or the name of one: with keep 0.7 where it needs
            one, and UCB with a plan each epoch. It observes the losses of the steps.
        in_batch: chooses inside each loaded batch, by a proxy trained alongside or by the network itself; under
            ``passes`` its forward passes and the proxy are counted too.
        checkpoint: file written after each epoch. If it exists, training resumes from it and ends in the same bytes
            (same kind of machine and number of threads).
        fingerprint: of the dataset, where it is known (`DatasetInfo`), for ``checkpoint``; by default it is computed,
            which reads the dataset.
        on_plan: called before each epoch with its number and the ids that it trains on, (m,) int64 in their order.
        on_epoch: called after each epoch with its number and the history.
        stop: called after each epoch, once it is recorded, with its number; True ends training. It must give the same
            answer when called again for the same epoch, as a resumed run does.
        progress: True shows a bar on stderr, or a line every 10 seconds where stderr is no terminal; a function is
            called with ``("training", done, total)`` after each step. Default: no progress is shown.
        evaluate_every: also evaluate on ``test`` every so many epochs, for the history only.
        options: fields of `Recipe`, such as ``lr`` and ``loss``, which override those of ``recipe``.

    Returns:
        The model, in evaluation mode, and its history.

    Raises:
        ArgumentError: an option out of range, fewer outputs than classes, or not exactly one of ``epochs`` and
            ``passes``.
        TrainingError: the loss is not finite; the epochs finished before are kept.
        RunError: the checkpoint is of another network, dataset, selection or seed, or the disk is full.
    """
    if isinstance(policy, str):
        policy = policy_of_run(policy, epochs, passes)
    recipe = replace(recipe or Recipe(), **check_recipe(options))
    loss, metric = recipe.loss, recipe.metric
    data = with_class_ids(data) if loss is None else with_targets(data)
    check_examples("data", data)
    dataset = data.dataset if isinstance(data, Kept) else data
    _warn_of_unscaled(dataset)
    if test is not None:
        if loss is None or not isinstance(dataset, TargetDataset):
            test = with_class_ids(test, classes=getattr(dataset, "classes", None))
        else:
            test = with_targets(test)
        check_examples("test", test)
    if isinstance(model, nn.Module):
        network = model
    else:
        info = dataset_info(dataset)
        network, fingerprint = resolve_network(model, info, seed), fingerprint or info.fingerprint
    objective = recipe.objective
    groups = groups_of(network, dataset, recipe, seed)
    groups.freeze()
    full_network, cached = network, None
    try:
        if recipe.cache_features:
            if in_batch is not None:
                raise ArgumentError("in_batch= and cache_features= cannot be combined: leave one out")
            if recipe.precision == "auto":
                recipe = replace(recipe, precision="fp32")
            index = data.selection.index if isinstance(data, Kept) else torch.arange(len(dataset))
            cached = cache_features(network, dataset, index, test, recipe)
            network, dataset, test = cached.head, cached.data, cached.test
            data = Kept(dataset, data.selection) if isinstance(data, Kept) else dataset
        state = prepare(
            network,
            data,
            recipe,
            TrainLength(epochs, passes, schedule_epochs),
            seed=seed,
            recorder=recorder,
            checkpoint=None if checkpoint is None else CheckpointFile(checkpoint, fingerprint),
            choice=ExampleChoice(policy, in_batch),
            groups=groups,
        )
    except BaseException:
        groups.unfreeze()
        raise
    recipe, ledger, history = state.recipe, state.ledger, state.history
    if cached is not None:
        ledger.trained_share = cached.trained_share
        history.notes.append(cached.note)
        if state.first_epoch == 0:  # a checkpoint has it in its cost
            history.cost += cached.cost
    schedule, reduction = schedule_of(recipe.schedule), resolve_reduction(recipe.reduction)
    # the checkpoint may be of an epoch after which `stop` ended the training: then nothing is left to do
    stopped = stop is not None and state.first_epoch > 0 and stop(state.first_epoch - 1)
    with (
        groups.unfrozen_at_the_end(),
        float32_head(network),
        restore_mode(network),
        returns_logits(network, num_classes(dataset)) if loss is None else nullcontext(),
        _drop_unfinished_epoch(recorder),
        state.all_patches_at_the_end(),
    ):
        for epoch in itertools.count(state.first_epoch):
            if stopped or ledger.is_finished(epoch):
                break
            start = time.perf_counter()
            # sums of losses and of correct predictions stay on the device: reading them would stall every step
            totals = torch.zeros(2, device=state.device)
            step_totals: list[Tensor] = []
            set_training_mode(network)
            order = state.start_epoch(epoch)
            planning_seconds = time.perf_counter() - start
            if on_plan is not None:
                on_plan(epoch, order)
            # dropout draws from torch's global generator: seed it by epoch, so that a resumed run draws the same
            views = stream(seed, "view", epoch)
            with forked(seed, "dropout", epoch):
                batches = state.batches.train(order, ledger.batch, stream(seed, "augment", epoch))
                for step, (index, x, y) in enumerate(batches):
                    lr = recipe.peak_lr * schedule(ledger.progress(epoch, step))
                    if state.in_batch is not None:
                        # the step is counted over the run: the draws and the proxy's turns then survive a
                        # resume
                        index, x, y = state.in_batch.choose(ledger.steps_before_epoch + step, index, x, y, lr)
                    for group in state.optimizer.param_groups:
                        group["lr"] = lr * group.get("lr_scale", 1.0)
                    x = state.at_scheduled_size(x, step, views)
                    with autocast(state.device, recipe.precision):
                        outputs = state.forward(x)
                    outputs = outputs.float() if isinstance(outputs, Tensor) else outputs
                    # policies and the history get the plain loss, whatever weights it has in training
                    losses = objective.losses(outputs, y)
                    correct = correct_predictions(outputs, y)
                    if recorder is not None:
                        # before the step: the recording is of the network that the loss was computed with
                        if correct is None:
                            recorder.write_loss(epoch, index, losses)
                        else:
                            recorder.write(epoch, index, outputs, y)
                    if state.policy_plan is not None:
                        size = ledger.step_sizes[step] if ledger.step_sizes else 0
                        state.policy_plan.observe(index, losses, outputs, y, input_size=size)
                    trained = recipe.losses(losses)
                    mean = trained.mean() if state.weight is None else reduction(trained, state.weight[index])
                    if recipe.curvature:
                        mean = mean + recipe.curvature * state.mean_curvature(x, y)
                    mean.backward()
                    state.optimizer.step()
                    state.optimizer.zero_grad(set_to_none=True)
                    step_totals.append(torch.stack([losses.detach().sum(), objective.reported(outputs, y, correct)]))
                    totals += step_totals[-1]
                    if progress is not None:
                        progress("training", *ledger.steps_done(epoch, step))
            # the epoch's one wait for the device
            mean_loss, accuracy = (totals / ledger.num_trained(epoch)).tolist()
            if not math.isfinite(mean_loss):
                finite = torch.stack(step_totals)[:, 0].isfinite().tolist()
                raise TrainingError(
                    f"the loss is {mean_loss} in epoch {epoch}: {_diagnosis(state)}. It began in step "
                    f"{finite.index(False) + 1 if False in finite else len(finite)} of {len(finite)}. The {epoch} "
                    "epochs before it are kept"
                )
            if recorder is not None:
                recorder.flush()
            # after the flush: `stop` reads the recording
            stopped = stop is not None and stop(epoch)
            metrics = EpochMetrics(
                epoch=epoch,
                loss=mean_loss,
                accuracy=accuracy,
                learning_rate=lr,
                planning_seconds=planning_seconds,
                examples=ledger.num_trained(epoch),
                steps=ledger.num_steps(epoch),
                fraction=ledger.num_trained(epoch) / len(state.index),
                loaded=None if state.in_batch is None else ledger.num_loaded[epoch],
                input_size=ledger.step_sizes[-1] if ledger.step_sizes else None,
                full_size_examples=ledger.charges[epoch] if ledger.by_operations else None,
            )
            row = history.add(ledger.cost(epoch, time.perf_counter() - start), metrics)
            last = stopped or ledger.is_finished(epoch + 1)
            if last:
                state.finish_at_full_size()
            if test is not None and (last or (evaluate_every and (epoch + 1) % evaluate_every == 0)):
                row["test_accuracy"], row["test_loss"] = evaluate(
                    network,
                    test,
                    device=state.device,
                    precision=recipe.precision,
                    channels_last=bool(recipe.channels_last),
                    workers=recipe.workers,
                    loss=loss,
                    metric=metric,
                )
            if checkpoint is not None:
                # after the recorder's flush: a kill between the two makes `resume` drop the epoch from the
                # recording
                state.save(checkpoint, epoch + 1)
            if on_epoch is not None:
                on_epoch(epoch, history)
    return full_network.eval(), history


def _warn_of_unscaled(dataset: Any) -> None:
    """Warn of vectors whose columns are of scales on which a network hardly learns: they are used as they are."""
    x = vectors_of(dataset)
    largest = 0.0 if x is None or len(x) < 2 else float(x.std(dim=0).max())
    if largest > UNSCALED_VECTORS:
        warn_of_learning(
            f"x holds columns of a standard deviation up to {largest:.3g}, and these vectors are used as they "
            f"are: {STANDARDISE}"
        )


def _diagnosis(state: TrainState) -> str:
    """What made the loss of an epoch infinite or NaN, and what to do."""
    ids: list[int] = []
    largest = 0.0
    for index, x, _ in state.batches.test(500):
        if x.is_floating_point():
            ids += index[~x.flatten(1).isfinite().all(dim=1)].tolist()
            if x.ndim == 2:
                largest = max(largest, float(x.abs().max()))
        if len(ids) >= 3:
            break
    if ids:
        examples = ", ".join(map(str, ids[:3])) + (", ..." if len(ids) > 3 else "")
        return f"x holds NaN or infinity (examples {examples}): fill or remove such values in the data"
    advice = f"try a lower `lr=` (it was {state.recipe.peak_lr:g}) or `precision='fp32'`"
    if largest > UNSCALED_VECTORS:
        advice = f"x holds values up to {largest:.3g}; {STANDARDISE}, or {advice}"
    return advice


@contextmanager
def _drop_unfinished_epoch(recorder: Recorder | None) -> Iterator[None]:
    """An epoch that was interrupted leaves nothing in the recorder."""
    try:
        yield
    finally:
        if recorder is not None:
            recorder.discard()
