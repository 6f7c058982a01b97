"""The pieces that `fit` gets ready: the examples, the device, the arithmetic, the optimiser, the checkpoint."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from datawinnow.core.cost import Cost
from datawinnow.core.errors import ArgumentError, RunError
from datawinnow.core.rng import forked, stream
from datawinnow.core.selection import Selection
from datawinnow.data.batches import Batch, batches_of, check_map_style, fingerprint_of, labels_of
from datawinnow.data.examples import Examples
from datawinnow.data.kept import Kept
from datawinnow.record.recorder import Recorder
from datawinnow.train import flops
from datawinnow.train.checkpoint import load_checkpoint, read_metadata
from datawinnow.train.history import History
from datawinnow.train.policy_plan import Plans
from datawinnow.train.precision import fastest
from datawinnow.train.recipe import Recipe

if TYPE_CHECKING:
    from datawinnow.train.in_batch import Within


def fabric_for(device: str) -> Fabric:
    """A one-process Fabric on ``device``.

    Raises:
        ArgumentError: a device that is not there.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    kind, _, number = device.partition(":")
    if kind not in ("cpu", "cuda", "mps") or (number and not number.isdigit()):
        raise ArgumentError(f"device must be 'auto', 'cpu', 'cuda' or 'cuda:1', got {device!r}")
    there = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}[kind]
    if int(number or 0) >= there:
        raise ArgumentError(f"device {device!r} is not there: torch sees {there} of that kind; use device='cpu'")
    if kind == "cuda":
        return Fabric(accelerator="cuda", devices=[int(number or 0)])
    return Fabric(accelerator=kind, devices=1)


def examples_of(data: Any, test: Any, recorder: Recorder | None, epochs: int) -> tuple[Any, Selection | None, Tensor]:
    """The whole dataset, the selection if there is one, and the (m,) ids to train on, all fit for each other.

    Raises:
        ArgumentError: they are not; said before the first step, not after the last.
    """
    for given in (data,) if test is None else (data, test):
        check_map_style(given)
        if len(given) == 0:
            raise ArgumentError(f"{'test' if given is test else 'data'} holds no examples")
    whole, selection = (data.dataset, data.selection) if isinstance(data, Kept) else (data, None)
    if recorder is not None and (recorder.n != len(whole) or recorder.epochs < epochs):
        raise ArgumentError(
            f"the recorder is for n={recorder.n} examples and {recorder.epochs} epochs, but the dataset has "
            f"{len(whole)} and epochs={epochs}: make it with Recorder(n={len(whole)}, epochs={epochs})"
        )
    return whole, selection, selection.index if selection is not None else torch.arange(len(whole))


def weights_of(selection: Selection | None, n: int, device: torch.device) -> Tensor | None:
    """(n,) factor on each example's loss; None where all are one."""
    if selection is None or bool((selection.weight == 1).all()):
        return None
    weight = torch.ones(n)
    weight[selection.index] = selection.weight
    return weight.to(device)


def begun_by(
    checkpoint: Path | None, metadata: dict[str, Any], epochs: int, counts: list[int] | None
) -> dict[str, Any] | None:
    """What a checkpoint that is there says of its run, if that is the run of ``facts``.

    ``counts`` are the examples of each epoch, None where a policy says so as it goes.

    Raises:
        RunError: it is of another one, or of a longer one.
    """
    if checkpoint is None:
        return None
    if not checkpoint.exists():
        return None
    begun = read_metadata(checkpoint)
    if not {"epoch", "rows", "cost", "fingerprint", "precision", "channels_last"} <= set(begun):
        raise RunError(f"{checkpoint} holds a network but is no checkpoint of a training run; give another file")
    if begun["fingerprint"] != metadata["fingerprint"]:
        raise RunError(
            f"{checkpoint} is of another dataset (fingerprint {begun['fingerprint']}, this one has "
            f"{metadata['fingerprint']}); give another --run folder, or remove it"
        )
    for name in ("seed", "selection", "policy", "budget"):
        if begun.get(name, metadata.get(name)) != metadata.get(name):
            raise RunError(
                f"{checkpoint} is of a run with {name} {begun[name]}, this one has {metadata.get(name)}; give another "
                "--run folder, or remove it"
            )
    if begun["epoch"] > epochs:
        raise RunError(f"{checkpoint} has {begun['epoch']} epochs behind it, more than epochs={epochs}; remove it")
    passed = [int(row["examples"]) for row in begun["rows"]]
    if counts is not None and passed != counts[: len(passed)]:
        raise RunError(
            f"{checkpoint} has epochs of {passed} examples behind it, where this run has {counts[: len(passed)]}: it "
            "ended in a part of an epoch, and cannot be gone on with; remove it, or give another --run folder"
        )
    return begun


def facts_of(whole: Any, selection: Selection | None, seed: int, checkpoint: Path | None) -> dict[str, Any]:
    """What a checkpoint must say to be gone on from: dataset, selection, seed."""
    if checkpoint is None:
        return {}  # a fingerprint reads the dataset
    chosen = "all examples"
    if selection is not None:
        chosen = hashlib.sha256(selection.index.numpy().tobytes() + selection.weight.numpy().tobytes()).hexdigest()[:16]
    return {"fingerprint": fingerprint_of(whole), "selection": chosen, "seed": seed}


def settled(model: nn.Module, data: Any, recipe: Recipe) -> tuple[Recipe, str]:
    """``recipe`` with its arithmetic fixed: what ``precision="auto"`` measures on this machine now.

    Times differ from run to run, and so may the choice: who must get the same again keeps what is given back here.

    Args:
        model: the network; its weights stay as they are.
        data: `Examples`, `Kept` or any map-style dataset of ``(x, y)``.
        recipe: how to train.

    Returns:
        The recipe, with ``precision`` and ``channels_last`` told, and a sentence with the times; ``""`` where nothing
        was measured.
    """
    if recipe.precision != "auto":
        return replace(recipe, channels_last=bool(recipe.channels_last)), ""
    device = fabric_for(recipe.device).device
    whole = data.dataset if isinstance(data, Kept) else data
    with forked(0, "measure"):
        _, x, y = first_batch(whole, device, recipe.batch)
        precision, fast_format, note = fastest(model.to(device), x, y)
    channels_last = fast_format if recipe.channels_last is None else recipe.channels_last
    told = f"{precision}{', channels-last' if channels_last else ''} ({note})"
    return replace(recipe, precision=precision, channels_last=channels_last), told


def optimizer_of(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """The recipe's optimiser over the parameters that want a gradient.

    Raises:
        ArgumentError: there are none.
    """
    parameters = [p for p in model.parameters() if p.requires_grad]
    if not parameters:
        raise ArgumentError(f"the model {type(model).__name__} has no parameters to train")
    if recipe.optimizer == "adamw":
        return torch.optim.AdamW(parameters, lr=recipe.peak, weight_decay=recipe.weight_decay)
    return torch.optim.SGD(
        parameters,
        lr=recipe.peak,
        momentum=recipe.momentum,
        nesterov=recipe.momentum > 0,
        weight_decay=recipe.weight_decay,
    )


def go_on(
    checkpoint: Path | None,
    begun: dict[str, Any] | None,
    model: nn.Module,
    optimizer: Any,
    history: History,
    recorder: Recorder | None,
    plans: Plans | None,
    within: Within | None,
) -> int:
    """Put network, optimiser, history, recorder, policy and proxy where the checkpoint left them.

    Returns:
        The first epoch to train.
    """
    first = 0
    if checkpoint is not None and begun is not None:
        _, state = load_checkpoint(checkpoint, model, getattr(optimizer, "optimizer", optimizer))  # Fabric wraps it
        if plans is not None:
            plans.restore(state)
        if within is not None:
            within.restore(state)
        history.rows, history.cost, first = begun["rows"], Cost.from_dict(begun["cost"]), int(begun["epoch"])
    if recorder is not None and (first or not recorder.consolidated):
        recorder.resume(first)
    return first


def first_batch(whole: Any, device: torch.device, count: int) -> Batch:
    """A batch of the first examples, for trials; no worker process is started for it."""
    order = torch.arange(min(len(whole), count))
    small = whole.subset(order) if isinstance(whole, Examples) else whole
    return next(iter(batches_of(small, device, workers=0).train(order, len(order), stream(0, "measure"))))


def rehearse(model: nn.Module, whole: Any, device: torch.device) -> float:
    """Run the network on two examples: does it give what a loss can be made of?

    Returns:
        Floating-point operations of training on one example, forward and backward.

    Raises:
        ArgumentError: outputs that are no (b, classes) logits, or fewer of them than there are classes.
    """
    with forked(0, "flops"):  # a dataset may draw at random
        _, x, _ = first_batch(whole, device, 2)
        was = model.training
        with torch.no_grad():
            out = model.to(device).eval()(x)
        model.train(was)
        classes = _classes(whole)
        if not isinstance(out, Tensor) or out.ndim != 2:
            shown = tuple(out.shape) if isinstance(out, Tensor) else type(out).__name__
            raise ArgumentError(
                f"the model {type(model).__name__} must give logits of shape (batch, classes), got {shown}: wrap it in "
                "a module that returns them alone"
            )
        if out.shape[1] < classes:
            raise ArgumentError(
                f"the model {type(model).__name__} has {out.shape[1]} outputs, but the dataset has {classes} classes: "
                f"build it with classes={classes}"
            )
        return sum(flops.flops_per_example(model, x))


def by_epoch(model: nn.Module, whole: Any, device: torch.device) -> Callable[[int], float] | None:
    """What tells a network whose work changes with the epoch (`vit.sparsify`) that epoch, and counts its operations.

    Returns:
        From an epoch to the operations of training on one example in it; None for a network that has no such ways.
    """
    sparsity: Any = getattr(model, "sparsity", None)
    if not hasattr(sparsity, "set_epoch"):
        return None
    with forked(0, "flops"):
        _, x, _ = first_batch(whole, device, 2)
    known: dict[Any, float] = {}

    def told(epoch: int) -> float:
        sparsity.set_epoch(epoch)
        if sparsity.training not in known:
            with sparsity.held():
                known[sparsity.training] = sum(flops.flops_per_example(model, x))
        return known[sparsity.training]

    return told


def curvature_passes(model: nn.Module, whole: Any, device: torch.device) -> float:
    """What the curvature regulariser adds to a step, in passes of an example."""
    with forked(0, "flops"):
        _, x, y = first_batch(whole, device, 2)
        return flops.curvature_passes(model, x, y)


def _classes(whole: Any) -> int:
    """How many classes the dataset tells of; 0 if it keeps them to itself."""
    named = getattr(whole, "classes", None)
    if named is not None and hasattr(named, "__len__"):
        return len(named)
    labels = labels_of(whole)
    return 0 if labels is None else int(labels.max()) + 1


@contextmanager
def put_back(model: nn.Module, recorder: Recorder | None) -> Iterator[None]:
    """The model's mode is put back, and an epoch that was cut short leaves nothing in the recorder."""
    was = model.training
    try:
        yield
    finally:
        model.train(was)
        if recorder is not None:
            recorder.discard()
