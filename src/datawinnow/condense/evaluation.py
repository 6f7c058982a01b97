"""Evaluation of a synthetic set: fresh networks are trained on it and tested on real images."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from datawinnow.condense.augment import Augmentation, to_augmentation
from datawinnow.condense.real_images import RealImages
from datawinnow.condense.training import accuracy, build_fresh_network, check_network, resolve_device, sgd, train_epoch
from datawinnow.core import check
from datawinnow.core.errors import ArgumentError
from datawinnow.core.progress import Progress
from datawinnow.core.synthetic import Synthetic


@dataclass(frozen=True)
class Evaluation:
    """Accuracies of networks trained on a set, after the last epoch.

    Attributes:
        accuracies: in [0, 1], one a network.
        seconds: wall time of training and testing.
    """

    accuracies: tuple[float, ...]
    seconds: float = 0.0

    @property
    def mean(self) -> float:
        """Mean accuracy."""
        return statistics.fmean(self.accuracies)

    @property
    def std(self) -> float:
        """Population standard deviation, as in the papers."""
        return statistics.pstdev(self.accuracies)

    def __str__(self) -> str:
        return f"{100 * self.mean:.1f} +- {100 * self.std:.1f} % ({len(self.accuracies)} networks)"


def pooled(evaluations: Sequence[Evaluation]) -> Evaluation:
    """The accuracies of several syntheses as one `Evaluation`: the papers' 5 syntheses x 20 networks.

    Raises:
        ArgumentError: no evaluation.
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
    progress: Progress | None = None,
) -> Evaluation:
    """Train fresh networks on a synthetic set and measure their accuracy on real images after the last epoch.

    This is the published protocol, with the quirks that change numbers: it runs ``epochs + 1`` epochs, and when the
    learning rate drops to a tenth (after epoch ``epochs // 2 + 1``, counted from 0) it replaces the optimiser, which
    clears the momentum. The papers take 300 epochs without augmentation (DC), 600 (CAFE), 1,000 with the augmentation
    of DSA (DSA, DM, IDM), 20 networks and 5 syntheses (`pooled`).

    Args:
        train: a `Synthetic`, which is decoded, or ``(x, y)``: (m, channels, height, width) normalised, (m,) class ids.
        images: (v, channels, height, width) real held-out images: uint8, normalised by the mean and std of
            ``train``, or floating-point images that are already normalised.
        labels: (v,) int, their classes.
        build: a function without arguments that returns a fresh network; any architecture.
        generator: CPU `torch.Generator`; one number is drawn from it, and one for every network.
        networks: number of networks.
        epochs: E; ``one_more`` adds one.
        augment: augmentation of the training, each image by itself; None for none.
        lr: learning rate until the drop.
        momentum: momentum of SGD.
        weight_decay: weight decay of SGD.
        batch: images in a step.
        drop_at: share of the epochs after which the learning rate drops; 1 for never.
        one_more: run E + 1 epochs.
        new_optimizer: clear the momentum at the drop.
        device: ``"auto"``, ``"cpu"``, ``"cuda"``, ``"cuda:1"``.
        progress: called as ``progress(stage, done, total)`` after each epoch.

    Returns:
        An `Evaluation`; the mean and population standard deviation are over networks.

    Raises:
        ArgumentError: an option out of range, labels that do not fit, or images that the network cannot take.
    """
    check.number("networks", networks, 1, 1 << 20, integer=True)
    check.number("epochs", epochs, 1, 1 << 30, integer=True)
    check.number("batch", batch, 1, 1 << 30, integer=True)
    check.number("drop_at", drop_at, 0, 1)
    augmentation, torch_device = to_augmentation(augment), resolve_device(device)
    x, y, real = _train_and_test_images(train, images, labels, torch_device)
    seed = int(torch.randint(1 << 62, (), generator=check.generator(generator)))
    began, accuracies = time.perf_counter(), []
    num_epochs = epochs + int(one_more)
    # An epoch that is never reached stands for "never".
    drop = num_epochs if drop_at == 1 else int(epochs * drop_at) + 1
    test_x, test_y = real.take(torch.arange(len(real)))
    for i in range(networks):
        net = build_fresh_network(build, seed, "network", i).to(torch_device)
        if i == 0:
            check_network(net, real)
        optimizer = sgd(net, lr, momentum, weight_decay)
        # A generator a network: its draws do not depend on how many the network before used.
        draws = torch.Generator().manual_seed(int(torch.randint(1 << 62, (), generator=generator)))
        for epoch in range(num_epochs):
            train_epoch(net, optimizer, x, y, batch=batch, augment=augmentation, generator=draws)
            # After the epoch, as in the published code: epoch `drop` still has the full learning rate.
            if epoch == drop:
                if new_optimizer:
                    optimizer = sgd(net, lr / 10, momentum, weight_decay)
                optimizer.param_groups[0]["lr"] = lr / 10
            if progress is not None:
                progress("evaluating", i * num_epochs + epoch + 1, networks * num_epochs)
        accuracies.append(accuracy(net, test_x, test_y))
    return Evaluation(tuple(accuracies), time.perf_counter() - began)


def _train_and_test_images(
    train: Any, images: Any, labels: Any, device: torch.device
) -> tuple[Tensor, Tensor, RealImages]:
    """Images and labels of the training, and the test images."""
    mean = std = None
    if isinstance(train, Synthetic):
        (x, y), mean, std = train.decode(), train.mean or None, train.std or None
    else:
        x, y = check.array("train", train[0], "m,channels,height,width").float(), check.labels("train", train[1])
        if len(x) != len(y):
            raise ArgumentError(f"train holds {len(x)} images and {len(y)} labels")
    test = check.as_tensor("images", images)
    if test.dtype is torch.uint8 and mean is None:
        raise ArgumentError(
            "images are uint8, but the normalisation of the training set is unknown: give images normalised in the "
            "same way, or a Synthetic with mean and std"
        )
    real = RealImages(test, labels, mean, std, device, every_class=False)
    if real.shape != tuple(x.shape[1:]):
        raise ArgumentError(f"the set has images of shape {tuple(x.shape[1:])}, the test images {real.shape}")
    return x.to(device), y.to(device), real
