"""`fit`: one flat training loop for everything in datawinnow."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from lightning_fabric import Fabric
from torch import Tensor, nn

from datawinnow.core import check
from datawinnow.core.cost import Cost
from datawinnow.core.errors import ArgumentError, TrainingError
from datawinnow.core.rng import derive, forked, stream
from datawinnow.core.selection import Selection
from datawinnow.data.batches import Batches, batches_of, fingerprint_of
from datawinnow.data.kept import Kept
from datawinnow.record.recorder import Recorder
from datawinnow.train.checkpoint import load_checkpoint, save_checkpoint
from datawinnow.train.evaluate import evaluate
from datawinnow.train.flops import flops_per_example
from datawinnow.train.precision import autocast, check_precision, fastest, float32_head
from datawinnow.train.schedule import SCHEDULES, schedule_of

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Recipe:
    """How to train; the defaults are those of the DUAL paper's CIFAR runs (static.md 2.1).

    Attributes:
        batch: examples a step; the batches of an epoch are balanced, so none is much smaller.
        lr: learning rate at its peak; None for 0.1 with SGD and 0.001 with AdamW.
        optimizer: ``"sgd"`` (Nesterov) or ``"adamw"``.
        momentum: of SGD.
        weight_decay: on all parameters with SGD, decoupled with AdamW.
        schedule: ``"cosine"``, ``"one_cycle"``, ``"constant"``, or a function of progress in [0, 1].
        label_smoothing: share of the target spread over all classes.
        precision: ``"auto"`` measures, ``"fp32"``, ``"bf16"``.
        channels_last: memory format of pictures; None with ``precision="auto"`` measures.
        device: ``"auto"``, ``"cpu"``, ``"cuda"``, ``"cuda:1"``.
        workers: processes of the DataLoader, where one is needed.
        compile: run the network through `torch.compile`.
    """

    batch: int = 128
    lr: float | None = None
    optimizer: str = "sgd"
    momentum: float = 0.9
    weight_decay: float = 5e-4
    schedule: str | Callable[[float], float] = "cosine"
    label_smoothing: float = 0.0
    precision: str = "auto"
    channels_last: bool | None = None
    device: str = "auto"
    workers: int = 2
    compile: bool = False

    def __post_init__(self) -> None:
        check.number("batch", self.batch, 1, 1 << 20, integer=True)
        check.one_of("optimizer", self.optimizer, ("sgd", "adamw"))
        if self.lr is not None:
            check.number("lr", self.lr, 1e-12, 1e6)
        check.number("momentum", self.momentum, 0, 1)
        check.number("weight_decay", self.weight_decay, 0, 1e6)
        check.number("label_smoothing", self.label_smoothing, 0, 1)
        check_precision(self.precision)
        schedule_of(self.schedule)

    @property
    def peak(self) -> float:
        """The learning rate at its peak."""
        return self.lr if self.lr is not None else {"sgd": 0.1, "adamw": 1e-3}[self.optimizer]

    def facts(self) -> dict[str, Any]:
        """For JSON."""
        return {k: v if not callable(v) else getattr(v, "__name__", "function") for k, v in asdict(self).items()}


@dataclass
class History:
    """What happened, a row an epoch.

    Attributes:
        rows: ``epoch``, ``loss`` and ``accuracy`` (training, running), ``learning_rate`` (at the end), ``seconds``,
            ``examples``, ``test_accuracy``, ``test_loss`` (NaN unless evaluated).
        cost: of training; evaluation is not charged.
        precision: arithmetic used.
        channels_last: memory format used.
        notes: what was chosen, to be told.
    """

    rows: list[dict[str, float]] = field(default_factory=list)
    cost: Cost = field(default_factory=Cost)
    precision: str = "fp32"
    channels_last: bool = False
    notes: list[str] = field(default_factory=list)

    @property
    def test_accuracy(self) -> float:
        """Accuracy on the test split after the last epoch; NaN if there was none."""
        return self.rows[-1]["test_accuracy"] if self.rows else float("nan")

    @property
    def test_loss(self) -> float:
        """Cross-entropy on the test split after the last epoch, in nats."""
        return self.rows[-1]["test_loss"] if self.rows else float("nan")


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
        RunError: a checkpoint of another network or dataset.
    """
    recipe = replace(recipe or Recipe(), **check_recipe(options))
    check.number("epochs", epochs, 1, 1 << 20, integer=True)
    of = epochs if of is None else int(check.number("of", of, epochs, 1 << 20, integer=True))
    data, selection = (data.dataset, data.selection) if isinstance(data, Kept) else (data, None)
    fabric = fabric_for(recipe.device)
    history = History()
    weight = _weights(selection, len(data), fabric.device)
    index = selection.index if selection is not None else torch.arange(len(data))
    precision, channels_last = _arithmetic(model, data, recipe, fabric.device, checkpoint, history)
    batches = batches_of(data, fabric.device, workers=recipe.workers, channels_last=channels_last)
    model = model.to(memory_format=torch.channels_last) if channels_last else model
    optimizer = _optimizer(model, recipe)
    network, optimizer = fabric.setup(model, optimizer)
    factor = schedule_of(recipe.schedule)
    steps = -(-len(index) // recipe.batch)
    facts = {"fingerprint": fingerprint_of(data), "precision": precision, "channels_last": channels_last}
    first = 0
    if checkpoint is not None and checkpoint.exists():
        first = _go_on(checkpoint, model, optimizer, facts, history, recorder)
    if first < epochs:
        forward, backward = _flops(model, batches, recipe.batch)
    run = torch.compile(network) if recipe.compile else network
    with float32_head(model), _restored_mode(model):
        for epoch in range(first, epochs):
            start = time.perf_counter()
            order = index[torch.randperm(len(index), generator=stream(seed, "order", epoch))]
            augment = stream(seed, "augment", epoch)
            totals = torch.zeros(2, device=fabric.device)
            model.train()
            with forked(seed, "dropout", epoch):
                for step, (i, x, y) in enumerate(batches.train(order, recipe.batch, augment)):
                    rate = recipe.peak * factor((epoch * steps + step) / (of * steps))
                    for group in optimizer.param_groups:
                        group["lr"] = rate
                    with autocast(fabric.device, precision):
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
            seconds = time.perf_counter() - start
            history.cost += Cost(seconds, 0, len(index), (forward + backward) * len(index))
            row = {"epoch": epoch, "loss": mean_loss, "accuracy": accuracy, "learning_rate": rate, "seconds": seconds}
            row |= {"examples": len(index), "test_accuracy": float("nan"), "test_loss": float("nan")}
            last = epoch == epochs - 1
            if test is not None and (last or (evaluate_every and (epoch + 1) % evaluate_every == 0)):
                row["test_accuracy"], row["test_loss"] = evaluate(
                    model,
                    test,
                    device=fabric.device,
                    precision=precision,
                    channels_last=channels_last,
                    workers=recipe.workers,
                )
            history.rows.append(row)
            if checkpoint is not None:
                progress_so_far = {"epoch": epoch + 1, "rows": history.rows, "cost": history.cost.as_dict()}
                save_checkpoint(checkpoint, model, optimizer, {**facts, **progress_so_far})
            if on_epoch is not None:
                on_epoch(epoch, history)
    return model.eval(), history


def check_recipe(options: dict[str, Any]) -> dict[str, Any]:
    """``options`` if each is a field of `Recipe`.

    Raises:
        ArgumentError: an unknown one.
    """
    known = list(Recipe.__dataclass_fields__)
    for name in options:
        if name not in known:
            raise ArgumentError(f"fit has no option {name!r}; how to train is set by: {', '.join(known)}")
    return options


def fabric_for(device: str) -> Fabric:
    """A one-process Fabric on ``device``.

    Raises:
        ArgumentError: a device that is not there.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    kind, _, number = device.partition(":")
    if kind == "cuda" and not torch.cuda.is_available():
        raise ArgumentError(f"device {device!r} is not there: torch sees no CUDA device; use device='cpu'")
    if kind not in ("cpu", "cuda", "mps"):
        raise ArgumentError(f"device must be 'auto', 'cpu', 'cuda' or 'cuda:1', got {device!r}")
    if kind == "cpu":
        return Fabric(accelerator="cpu", devices=1)
    return Fabric(accelerator=kind, devices=[int(number or 0)])


def _weights(selection: Selection | None, n: int, device: torch.device) -> Tensor | None:
    if selection is None or bool((selection.weight == 1).all()):
        return None
    weight = torch.ones(n)
    weight[selection.index] = selection.weight
    return weight.to(device)


def _optimizer(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
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


def _arithmetic(
    model: nn.Module, data: Any, recipe: Recipe, device: torch.device, checkpoint: Path | None, history: History
) -> tuple[str, bool]:
    precision, channels_last = recipe.precision, bool(recipe.channels_last)
    if checkpoint is not None and checkpoint.exists():  # go on as begun: a new measurement could choose otherwise
        facts = load_checkpoint(checkpoint, model, None)
        precision, channels_last = facts["precision"], facts["channels_last"]
    elif precision == "auto":
        with forked(0, "measure"):
            sample = batches_of(data, device, workers=0)
            order = torch.arange(min(len(data), recipe.batch))
            _, x, y = next(iter(sample.train(order, recipe.batch, stream(0, "measure"))))
            model.to(device)
            precision, fast_format, note = fastest(model, x, y)
        channels_last = fast_format if recipe.channels_last is None else recipe.channels_last
        history.notes.append(f"{precision}{', channels-last' if channels_last else ''} ({note})")
    history.precision, history.channels_last = precision, channels_last
    return precision, channels_last


def _go_on(
    checkpoint: Path,
    model: nn.Module,
    optimizer: Any,
    facts: dict[str, Any],
    history: History,
    recorder: Recorder | None,
) -> int:
    from datawinnow.core.errors import RunError

    inner = getattr(optimizer, "optimizer", optimizer)  # Fabric wraps it
    stored = load_checkpoint(checkpoint, model, inner)
    if stored.get("fingerprint") != facts["fingerprint"]:
        raise RunError(
            f"{checkpoint} is of another dataset (fingerprint {stored.get('fingerprint')}, this one has "
            f"{facts['fingerprint']}); give another --run folder, or remove it"
        )
    history.rows = stored["rows"]
    history.cost = Cost.from_dict(stored["cost"])
    first = int(stored["epoch"])
    if recorder is not None:
        recorder.resume(first)
    return first


def _flops(model: nn.Module, batches: Batches, batch: int) -> tuple[float, float]:
    order = torch.arange(min(batches.n, 2, batch))
    _, x, _ = next(iter(batches.train(order, len(order), torch.Generator().manual_seed(derive(0, "flops")))))
    return flops_per_example(model, x)


@contextmanager
def _restored_mode(model: nn.Module) -> Iterator[None]:
    was = model.training
    try:
        yield
    finally:
        model.train(was)


__all__ = ["SCHEDULES", "History", "Progress", "Recipe", "fit"]
