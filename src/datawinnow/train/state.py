"""`TrainState`: the state of a training; `prepare` checks the arguments of `fit` and makes one."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from datawinnow.core.curvature import input_curvature
from datawinnow.core.errors import ArgumentError
from datawinnow.core.rng import forked, stream
from datawinnow.core.selection import Selection
from datawinnow.data.batches import Batches, batches_of, check_map_style, pads_to_longest
from datawinnow.data.kept import Kept
from datawinnow.data.padding import is_texts
from datawinnow.data.rand_augment import rand_augment
from datawinnow.dynamic.build import with_passes
from datawinnow.dynamic.in_batch import InBatch
from datawinnow.dynamic.policy import run_epochs_of
from datawinnow.dynamic.sampler.resume import policy_repr
from datawinnow.models.outputs import returns_logits
from datawinnow.record.recorder import Recorder
from datawinnow.train.checkpoint import save_checkpoint
from datawinnow.train.flops import curvature_passes
from datawinnow.train.history import History
from datawinnow.train.in_batch import InBatchSelector
from datawinnow.train.ledger import MAX_EPOCHS, Ledger, TrainLength, epoch_lengths
from datawinnow.train.network import (
    check_forward,
    device_for,
    first_batch,
    make_optimizer,
    num_classes,
    resolve_precision,
    size_plan,
    sparsity_schedule,
)
from datawinnow.train.parameter_groups import ParameterGroups, describe_groups, relative_cost
from datawinnow.train.policy_plan import PolicyPlan
from datawinnow.train.precision import autocast
from datawinnow.train.recipe import Recipe
from datawinnow.train.resume import CheckpointFile, load_matching_checkpoint, resume, run_identity
from datawinnow.train.size_schedule import PATCHES, SizePlan, SizeSchedule, smaller_view
from datawinnow.train.text_costs import text_costs
from datawinnow.vit.random_patches import random_patches


@dataclass
class TrainState:
    """The state of a training by `fit`.

    Attributes:
        model: the user's network.
        forward: the network as it is called: compiled if the recipe says so.
        optimizer: over its parameters.
        device: where the network is.
        recipe: how to train, with precision and memory format resolved.
        batches: of ``(index, x, y)``.
        index: (m,) ids that may be trained on.
        weight: (n,) factor on each example's loss in the current epoch; None for ones.
        seed: of the order of the examples.
        ledger: lengths, cost and schedule.
        policy_plan: plans each epoch; None to train on all of ``index``.
        in_batch: chooses inside each loaded batch; None to train on all of it.
        first_epoch: the first epoch to train; above 0 after a resume.
        metadata: what a checkpoint keeps about the run.
        history: of the epochs so far.
        set_sparsity: sets the epoch of a network whose sparsity follows it and returns its FLOPs; None for others.
    """

    model: nn.Module
    forward: Callable[..., Any]
    optimizer: Any
    device: torch.device
    recipe: Recipe
    batches: Batches
    index: Tensor
    weight: Tensor | None
    seed: int
    ledger: Ledger
    policy_plan: PolicyPlan | None
    in_batch: InBatchSelector | None
    first_epoch: int
    metadata: dict[str, Any]
    history: History = field(default_factory=History)
    set_sparsity: Callable[[int], float] | None = None

    def start_epoch(self, epoch: int) -> Tensor:
        """The ids that an epoch loads, in order: planned by the policy, or all shuffled by seed and epoch."""
        if self.policy_plan is not None:
            order = self.policy_plan.plan(epoch)
            self.weight = self.policy_plan.weight
        else:
            order = self.index[torch.randperm(len(self.index), generator=stream(self.seed, "order", epoch))]
        if self.set_sparsity is not None:
            self.ledger.flops_per_example = self.set_sparsity(epoch)
        return self.ledger.start_epoch(epoch, order, partial(self._deal, epoch))

    def _deal(self, epoch: int, order: Tensor) -> Tensor:
        texts = self.ledger.texts
        if texts is None:
            return order
        return texts.deal(order, self.ledger.batch, stream(self.seed, "similar_lengths", epoch))

    def at_scheduled_size(self, x: Tensor, step: int, generator: torch.Generator) -> Tensor:
        """The inputs of a step at the size, and with the augmentation strength, that the schedule has there."""
        sizes = self.ledger.sizes
        share = 1.0 if sizes is None else sizes.share_of_range(self.ledger.step_sizes[step])
        x = rand_augment(x, share * self.recipe.augment_strength, generator)
        if self.ledger.sizes is None or self.recipe.size_schedule is None:
            return x
        size = self.ledger.step_sizes[step]
        if self.recipe.size_schedule.view == PATCHES:
            random_patches(self.model).share = (size / self.ledger.sizes.full) ** 2
        x = smaller_view(x, size, self.recipe.size_schedule.view, generator=generator)
        return x.contiguous(memory_format=torch.channels_last) if self.recipe.channels_last and x.ndim == 4 else x

    @contextmanager
    def all_patches_at_the_end(self) -> Iterator[None]:
        """A vision transformer that trained on some patches takes all of them again, however the training ends."""
        try:
            yield
        finally:
            self._take_all_patches()

    def _take_all_patches(self) -> None:
        if self.recipe.size_schedule is not None and self.recipe.size_schedule.view == PATCHES:
            random_patches(self.model).share = 1.0

    def finish_at_full_size(self) -> None:
        """Batch norm's statistics from training examples at full size, for a schedule that ends below it.

        The mean over at most 1,024 examples, augmented as in training, without a gradient (FixRes, arXiv 1906.06423).
        """
        sizes = self.ledger.sizes
        if sizes is None or sizes.sizes[-1] == sizes.full:
            return
        self._take_all_patches()
        norms = [m for m in self.model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
        norms = [m for m in norms if m.track_running_stats and m.training]
        if not norms:
            return
        momenta = [m.momentum for m in norms]
        for module in norms:
            module.reset_running_stats()
            module.momentum = None  # the cumulative mean
        order = self.index[torch.randperm(len(self.index), generator=stream(self.seed, "batch_norm"))[:1024]]
        with torch.no_grad(), forked(self.seed, "batch_norm"):
            for _, x, _ in self.batches.train(order, self.ledger.batch, stream(self.seed, "batch_norm", "augment")):
                with autocast(self.device, self.recipe.precision):
                    self.model(x)
        for module, momentum in zip(norms, momenta, strict=True):
            module.momentum = momentum

    def mean_curvature(self, x: Tensor, y: Tensor) -> Tensor:
        """Mean input curvature of a batch, differentiable with respect to the weights."""
        with autocast(self.device, self.recipe.precision):
            # the plain network: torch.compile cannot differentiate a gradient again
            return input_curvature(self.model, x, y, h=self.recipe.curvature_h, create_graph=True).mean()

    def save(self, checkpoint: Path, epochs_done: int) -> None:
        """Write the checkpoint after ``epochs_done`` epochs."""
        metadata = {"epoch": epochs_done, "rows": self.history.rows, "cost": self.history.cost.as_dict()}
        tensors = self.policy_plan.tensors() if self.policy_plan is not None else {}
        tensors |= self.in_batch.tensors() if self.in_batch is not None else {}
        save_checkpoint(checkpoint, self.model, self.optimizer, {**self.metadata, **metadata}, tensors)


@dataclass(frozen=True)
class ExampleChoice:
    """What chooses among the examples while training; at most one of the two.

    Attributes:
        policy: plans each epoch; None for all the examples.
        in_batch: chooses inside each loaded batch; None for all of it.
    """

    policy: Any = None
    in_batch: InBatch | None = None


def prepare(
    model: nn.Module,
    data: Any,
    recipe: Recipe,
    length: TrainLength,
    *,
    seed: int,
    recorder: Recorder | None,
    checkpoint: CheckpointFile | None,
    choice: ExampleChoice,
    groups: ParameterGroups | None = None,
) -> TrainState:
    """Check the arguments of `fit`, move everything to the device, and restore a checkpoint if the file exists.

    Raises:
        ArgumentError: the arguments do not fit each other.
        RunError: the checkpoint is of another run.
    """
    policy, in_batch = choice.policy, choice.in_batch
    dataset, selection = (data.dataset, data.selection) if isinstance(data, Kept) else (data, None)
    index = torch.arange(len(dataset)) if selection is None else selection.index
    selects = policy is not None or in_batch is not None
    _check_combination(model, length, policy, in_batch, recorder, recipe.size_schedule)
    _check_recorder(recorder, len(dataset), math.ceil(length.value))

    # how long each epoch is, as far as that is known in advance
    batch = recipe.batch if in_batch is None else in_batch.pool(recipe.batch)
    lengths = epoch_lengths(length.value, len(index), recipe.batch if length.passes is not None else batch)
    num_epochs = len(lengths)
    ends_by_cost = selects or recipe.size_schedule is not None
    budget = sum(lengths) if length.passes is not None and ends_by_cost else None
    if policy is not None and budget is None and lengths[-1] != len(index):
        raise ArgumentError(
            f"a policy plans full epochs, got epochs={length.epochs}: give a whole number, or passes={length.epochs}"
        )
    if recorder is not None and budget is not None:
        raise ArgumentError("a recorder counts epochs: give epochs=, not passes=, or train without it")

    device = device_for(recipe.device)
    metadata: dict[str, Any] = {}
    saved = None
    if checkpoint is not None:
        selector_repr = next((policy_repr(each) for each in (policy, in_batch) if each is not None), "none")
        sizes_repr = "none" if recipe.size_schedule is None else repr(recipe.size_schedule)
        metadata = run_identity(
            checkpoint.fingerprint_of(dataset),
            selection,
            seed=seed,
            policy=selector_repr,
            budget=budget,
            size_schedule=sizes_repr,
            parameter_groups=_groups_repr(recipe),
            augment_strength=recipe.augment_strength,
        )
        known_lengths = None if selects or budget is not None else lengths
        saved = load_matching_checkpoint(
            checkpoint.path, metadata, num_epochs if budget is None else MAX_EPOCHS, known_lengths
        )
    if saved is not None:  # keep the arithmetic of the checkpoint: a new measurement could choose another
        recipe = replace(recipe, precision=saved["precision"], channels_last=saved["channels_last"])
    # moves the network to the device and initialises lazy layers, before anything copies it
    flops = check_forward(model, dataset, device, seed=seed, objective=recipe.objective)
    if recipe.loss is not None:
        if in_batch is not None:
            raise ArgumentError(
                "in_batch= chooses by the cross-entropy: train on a loss of your own with a policy instead"
            )
        recipe, note = resolve_precision(model, dataset, recipe)
    else:
        with returns_logits(model, num_classes(dataset)):
            recipe, note = resolve_precision(model, dataset, recipe)
    with forked(0, "flops"), returns_logits(model, num_classes(dataset)):
        # of the network that trains all of its parameters, in whose passes the cost is counted
        share = relative_cost(model, first_batch(dataset, device, 2)[1], flops)
    channels_last = bool(recipe.channels_last)
    metadata |= {"precision": recipe.precision, "channels_last": channels_last}
    history = History(precision=recipe.precision, channels_last=channels_last, notes=[note] if note else [])

    texts = text_costs(model, dataset, index, device, batch=batch, similar=recipe.similar_lengths)
    if texts is not None and in_batch is not None and in_batch.proxy is not None:
        # one batch serves both
        texts = texts if pads_to_longest(in_batch.proxy.to(device), dataset, device) else None
    if texts is None and is_texts(dataset):
        history.notes.append(FIXED_LENGTH_NOTE)
    if recipe.augment_strength:
        with forked(0, "flops"):
            _, x, _ = first_batch(dataset, device, 2)
        if x.ndim != 4:
            raise ArgumentError(
                f"augment_strength={recipe.augment_strength:g} is for images (b, channels, height, width), got "
                f"{tuple(x.shape)} of {x.dtype}: leave it out"
            )
    flops = flops if texts is None else texts.flops
    batches = batches_of(
        dataset, device, workers=recipe.workers, channels_last=channels_last, to_longest=texts is not None
    )
    sizes = None
    if recipe.size_schedule is not None:
        sizes = size_plan(recipe.size_schedule, model, dataset, device, None if texts is None else texts.mean_cost)
        history.notes.append(describe_sizes(sizes))
        if length.passes is not None and run_epochs_of(policy) is not None:
            # smaller inputs buy more epochs than the policy was made for, which sets when it anneals or shrinks
            policy = with_passes(policy, length.passes / sizes.mean_cost)
            history.notes.append(f"the policy plans for {run_epochs_of(policy)} epochs, which the budget buys")
    passes_per_example = 1.0
    if recipe.freeze:
        history.notes.append(describe_groups(model, share))
    if recipe.curvature:
        with forked(0, "flops"), returns_logits(model, num_classes(dataset)):
            _, x, y = first_batch(dataset, device, 2)
            passes_per_example += curvature_passes(model, x, y)
    if channels_last:
        model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    # after the change of memory format: momentum takes the format of its parameter
    optimizer = make_optimizer(model.to(device), recipe, groups)
    weight = _loss_weights(selection, len(dataset), device)
    plan = None if policy is None else PolicyPlan(policy, index, len(dataset), seed, device, weight)
    selector = None
    if in_batch is not None:
        selector = InBatchSelector.for_run(
            in_batch, model, dataset, recipe=recipe, device=device, seed=seed, flops=flops, texts=texts
        )
    # last: weights and moments are loaded in place, onto the device and into that format
    path = None if checkpoint is None else checkpoint.path
    first_epoch = resume(path, saved, model, optimizer, history, recorder=recorder, policy_plan=plan, in_batch=selector)
    if policy is not None or budget is not None:  # known only of the epochs that the checkpoint has behind it
        lengths = [int(row.get("loaded", row["examples"])) for row in history.rows]
    schedule_lengths = epoch_lengths(length.schedule_length, len(index), batch)
    ledger = Ledger(
        batch=batch,
        num_loaded=lengths,
        schedule_epochs=length.schedule_length,
        schedule_steps=sum(-(-count // batch) for count in schedule_lengths),
        budget=budget,
        num_epochs=num_epochs,
        planned=policy is not None,
        flops_per_example=flops,
        passes_per_example=passes_per_example,
        trained_share=share,
        in_batch=selector,
        sizes=sizes,
        texts=texts,
    )
    if ledger.by_operations:
        ledger.charges = [float(row.get("full_size_examples", row["examples"])) for row in history.rows]
    return TrainState(
        model=model,
        forward=torch.compile(model) if recipe.compile else model,
        optimizer=optimizer,
        device=device,
        recipe=recipe,
        batches=batches,
        index=index,
        weight=weight,
        seed=seed,
        ledger=ledger,
        policy_plan=plan,
        in_batch=selector,
        first_epoch=first_epoch,
        metadata=metadata,
        history=history,
        set_sparsity=sparsity_schedule(model, dataset, device),
    )


FIXED_LENGTH_NOTE = (
    "all texts are padded to one length, since the network's results depend on padding; mask it (id 0) to save time"
)


def _groups_repr(recipe: Recipe) -> str:
    """What is frozen and the learning rates by name, which decide the order of the optimizer's state."""
    if not recipe.freeze and not recipe.lr_scale:
        return "none"
    return f"freeze={list(recipe.freeze)}, lr_scale={dict(recipe.lr_scale)}"


def check_examples(name: str, data: Any) -> None:
    """Raise unless ``data``, the argument ``name``, is a map-style dataset with examples.

    Raises:
        ArgumentError: it is not.
    """
    check_map_style(data)
    if len(data) == 0:
        raise ArgumentError(f"{name} holds no examples")


def _check_combination(
    model: nn.Module,
    length: TrainLength,
    policy: Any,
    in_batch: InBatch | None,
    recorder: Recorder | None,
    sizes: SizeSchedule | None,
) -> None:
    selects = policy is not None or in_batch is not None
    if length.passes is not None and length.schedule_epochs is not None and (selects or sizes is not None):
        raise ArgumentError(
            "`schedule_epochs=` requires `epochs=`: with `passes=` the schedule follows the examples passed to its end"
        )
    if sizes is not None and (fixed := _across_sizes(policy)):
        raise ArgumentError(
            f"`size_schedule=` changes what a loss means, but {fixed}: take a policy that ranks, such as ucb with "
            "`keep=0.7`, or train without `size_schedule=`"
        )
    if in_batch is None:
        return
    if sizes is not None:
        raise ArgumentError(
            "in_batch= and size_schedule= cannot be combined: the choice inside a batch needs full size"
        )
    if policy is not None or recorder is not None:
        other = "policy" if policy is not None else "recorder"
        raise ArgumentError(f"in_batch= chooses among all the data and sees part of a batch: give it without {other}=")
    if in_batch.proxy is model:
        raise ArgumentError("the proxy is the network itself: leave proxy= out to choose by the network's own losses")


def _across_sizes(policy: Any) -> str | None:
    """What a policy, or one that it wraps, compares with a fixed number although it changes with the input size."""
    if policy is None or hasattr(policy, "across_sizes"):
        return getattr(policy, "across_sizes", None)
    return _across_sizes(getattr(policy, "policy", None))


def _check_recorder(recorder: Recorder | None, n: int, epochs: int) -> None:
    if recorder is not None and (recorder.n != n or recorder.epochs < epochs):
        raise ArgumentError(
            f"the recorder is for n={recorder.n} examples and {recorder.epochs} epochs, but the dataset has "
            f"{n} and epochs={epochs}: make it with Recorder(n={n}, epochs={epochs})"
        )


def _loss_weights(selection: Selection | None, n: int, device: torch.device) -> Tensor | None:
    """(n,) factor on each example's loss; None if all are one."""
    if selection is None or bool((selection.weight == 1).all()):
        return None
    weight = torch.ones(n)
    weight[selection.index] = selection.weight
    return weight.to(device)


def needs_fixed_length(model: nn.Module, data: Any, device: torch.device) -> bool:
    """Whether ``data``, a dataset or `Kept`, holds texts that ``model``, on ``device``, is to get at one length."""
    dataset = data.dataset if isinstance(data, Kept) else data
    return is_texts(dataset) and not pads_to_longest(model, dataset, device)


def planned_sizes(model: nn.Module, data: Any, recipe: Recipe, device: torch.device) -> SizePlan | None:
    """The size plan of a training on all of ``data``, a dataset or `Kept`; None without a schedule."""
    if recipe.size_schedule is None:
        return None
    dataset, index = (data.dataset, data.selection.index) if isinstance(data, Kept) else (data, torch.arange(len(data)))
    texts = text_costs(model, dataset, index, device, batch=recipe.batch, similar=recipe.similar_lengths)
    return size_plan(recipe.size_schedule, model, dataset, device, None if texts is None else texts.mean_cost)


def describe_sizes(sizes: SizePlan) -> str:
    """The parts of a schedule in a sentence, and what an average step costs."""
    shares = ", ".join(f"{size} for {100 * share:.0f}%" for size, share in zip(sizes.sizes, sizes.shares, strict=True))
    text = f"input sizes: {shares} of the steps; an average step costs {100 * sizes.mean_cost:.0f}% of one at full size"
    if sizes.sizes[-1] != sizes.full:
        text += f". No part is at full size ({sizes.full}): batch norm is recomputed there, at the end"
    return text
