"""What a synthetic set is worth: fresh networks trained on it, judged on real images (condense.md section 0)."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from datawinnow.condense._augment import Augmentation, augmentation
from datawinnow.condense._real import Real
from datawinnow.condense._start import device_of, try_network
from datawinnow.condense._step import fresh
from datawinnow.condense._train import accuracy, sgd, train_epoch
from datawinnow.core import check
from datawinnow.core.errors import ArgumentError
from datawinnow.core.synthetic import Synthetic


@dataclass(frozen=True)
class Evaluation:
    """Accuracies of networks trained on a set, at the end of their training.

    Attributes:
        accuracies: in [0, 1], one a network.
        seconds: wall time of all of it.
    """

    accuracies: tuple[float, ...]
    seconds: float = 0.0

    @property
    def mean(self) -> float:
        """Mean accuracy."""
        return statistics.fmean(self.accuracies)

    @property
    def std(self) -> float:
        """Population standard deviation, as the papers give it."""
        return statistics.pstdev(self.accuracies)

    def __str__(self) -> str:
        return f"{100 * self.mean:.1f} +- {100 * self.std:.1f} % ({len(self.accuracies)} networks)"


def pooled(evaluations: Sequence[Evaluation]) -> Evaluation:
    """All accuracies of several syntheses as one: the papers' 5 syntheses x 20 networks.

    Raises:
        ArgumentError: none given.
    """
    if not evaluations:
        raise ArgumentError("pooled needs at least one Evaluation, got none")
    return Evaluation(sum((e.accuracies for e in evaluations), ()), math.fsum(e.seconds for e in evaluations))


def evaluate(
    train: Synthetic | tuple[Any, Any],
    images: Any,
    labels: Any,
    *,
    build: Callable[[], nn.Module],
    generator: torch.Generator,
    networks: int = 5,
    epochs: int = 1000,
    augment: Augmentation | str | None = None,
    lr: float = 0.01,
    momentum: float = 0.9,
    weight_decay: float = 5e-4,
    batch: int = 256,
    drop_at: float = 0.5,
    one_more: bool = True,
    new_optimizer: bool = True,
    device: str = "auto",
    progress: Callable[[str, int, int], None] | None = None,
) -> Evaluation:
    """Train fresh networks on a synthetic set and take their accuracy on real images after the last epoch.

    The published protocol, its quirks included where they change a number: ``epochs + 1`` epochs are run, and when the
    learning rate drops to a tenth (after epoch ``epochs // 2 + 1``, counted from 0) the optimiser is made anew, which
    forgets its momentum. The papers take 300 epochs without augmentation (DC), 600 (CAFE), 1,000 with the augmentation
    of DSA (DSA, DM, IDM), 20 networks and 5 syntheses (`pooled`).

    Args:
        train: a `Synthetic`, which is decoded, or ``(x, y)``: (m, channels, height, width) normalised, (m,) class ids.
        images: (v, channels, height, width) real held-out images: uint8, normalised as ``train`` says, or floating
            numbers that are normalised already.
        labels: (v,) int, their classes.
        build: a function without arguments that returns a fresh network; any architecture.
        generator: CPU `torch.Generator`; one number is drawn from it.
        networks: how many to train.
        epochs: E; ``one_more`` adds one.
        augment: of the training, each image by itself; None for none.
        lr: learning rate until the drop.
        momentum: of SGD.
        weight_decay: of SGD.
        batch: images a step.
        drop_at: share of the epochs after which the rate drops; 1 for never.
        one_more: run E + 1 epochs.
        new_optimizer: forget the momentum at the drop.
        device: where.
        progress: called as ``progress(what, done, total)`` after each epoch.

    Returns:
        An `Evaluation`; the mean and population standard deviation are over networks.

    Raises:
        ArgumentError: an option out of range, labels that do not fit, or images that the network cannot take.
    """
    check.number("networks", networks, 1, 1 << 20, integer=True)
    check.number("epochs", epochs, 1, 1 << 30, integer=True)
    check.number("batch", batch, 1, 1 << 30, integer=True)
    check.number("drop_at", drop_at, 0, 1)
    how, where = augmentation(augment), device_of(device)
    x, y, real = _sets(train, images, labels, where)
    seed = int(torch.randint(1 << 62, (), generator=check.generator(generator)))
    begun, found = time.perf_counter(), []
    last = epochs + int(one_more)
    drop = last if drop_at == 1 else int(epochs * drop_at) + 1
    test_x, test_y = real.at(torch.arange(len(real)))
    for i in range(networks):
        net = fresh(build, seed, "network", i).to(where)
        if not i:
            try_network(net, real)
        optimizer = sgd(net, lr, momentum, weight_decay)
        draws = torch.Generator().manual_seed(int(torch.randint(1 << 62, (), generator=generator)))
        for epoch in range(last):
            train_epoch(net, optimizer, x, y, batch=batch, augment=how, generator=draws)
            if epoch == drop:
                if new_optimizer:
                    optimizer = sgd(net, lr / 10, momentum, weight_decay)
                optimizer.param_groups[0]["lr"] = lr / 10
            if progress is not None:
                progress("evaluating", i * last + epoch + 1, networks * last)
        found.append(accuracy(net, test_x, test_y))
    return Evaluation(tuple(found), time.perf_counter() - begun)


def _sets(train: Any, images: Any, labels: Any, device: torch.device) -> tuple[Tensor, Tensor, Real]:
    """Images and labels to train on, and those to judge by."""
    mean = std = None
    if isinstance(train, Synthetic):
        (x, y), mean, std = train.decode(), train.mean or None, train.std or None
    else:
        x, y = check.array("train", train[0], "m,channels,height,width").float(), check.labels("train", train[1])
        if len(x) != len(y):
            raise ArgumentError(f"train holds {len(x)} images and {len(y)} labels")
    given = check.as_tensor("images", images)
    if given.dtype is torch.uint8 and mean is None:
        raise ArgumentError(
            "images are uint8, but the training set does not say how it was normalised: give images that are "
            "normalised as it is, or a Synthetic with mean and std"
        )
    real = Real(given, labels, mean, std, device, every_class=False)
    if real.shape != tuple(x.shape[1:]):
        raise ArgumentError(f"the set holds images of shape {tuple(x.shape[1:])}, those to judge by {real.shape}")
    return x.to(device), y.to(device), real
