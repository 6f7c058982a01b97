"""Real images chosen by name, as sets that the same evaluator judges: what condensers are compared with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor, nn

from datawinnow.condense._augment import Augmentation, augmentation
from datawinnow.condense._real import Real
from datawinnow.condense._start import device_of, try_network
from datawinnow.condense._step import fresh
from datawinnow.condense._tap import look
from datawinnow.condense._train import accuracy, sgd, train_epoch
from datawinnow.core import check
from datawinnow.core.errors import ArgumentError
from datawinnow.core.rng import stream
from datawinnow.core.selection import Selection
from datawinnow.core.synthetic import Synthetic
from datawinnow.scores.forgetting import forgetting
from datawinnow.select.herding import herding
from datawinnow.select.k_center import k_center
from datawinnow.select.top import top

Name = Literal["random", "herding", "k_center", "forgetting"]
REAL: tuple[Name, ...] = ("random", "herding", "k_center", "forgetting")


def real_set(
    name: Name,
    images: Any,
    labels: Any,
    *,
    per_class: int,
    build: Callable[[], nn.Module],
    generator: torch.Generator,
    epochs: int = 30,
    augment: Augmentation | str | None = None,
    lr: float = 0.01,
    batch: int = 256,
    mean: Any = None,
    std: Any = None,
    classes: tuple[str, ...] = (),
    device: str = "auto",
) -> Synthetic:
    """Choose ``per_class`` real images of every class, the baselines of the condensation papers.

    Random draws; herding (the nearest to the mean, doi:10.1145/1553374.1553517) and k-center (first the image nearest
    the class mean, arXiv 1708.00489) look at features of a network trained on all images; forgetting keeps the images
    forgotten most often in that training (arXiv 1812.05159). All choose class by class.

    Args:
        name: ``"random"``, ``"herding"``, ``"k_center"`` or ``"forgetting"``.
        images: (n, channels, height, width) uint8, or floating numbers that are normalised already.
        labels: (n,) int class ids from 0, every class with an image.
        per_class: images of every class.
        build: a function without arguments that returns a fresh network.
        generator: CPU `torch.Generator`; one number is drawn from it.
        epochs: of the training on all images; not for random.
        augment: in that training.
        lr: likewise; momentum 0.9, weight decay 5e-4.
        batch: likewise.
        mean: per channel of pixels in [0, 1]; None measures it of uint8 images.
        std: likewise.
        classes: names of the classes, for files.
        device: where.

    Returns:
        `Synthetic` of factor 1 whose images are real ones, class by class, in the order chosen.

    Raises:
        ArgumentError: an unknown name, or a class with fewer images than ``per_class``.
    """
    check.one_of("name", name, REAL)
    check.number("per_class", per_class, 1, 1 << 30, integer=True)
    seed = int(torch.randint(1 << 62, (), generator=check.generator(generator)))
    real = Real(images, labels, mean, std, device_of(device))
    if min(real.counts) < per_class:
        few = min(range(real.classes), key=real.counts.__getitem__)
        raise ArgumentError(
            f"per_class={per_class} real images of every class were asked for, but class {few} has {real.counts[few]}"
        )
    if name == "random":
        ids = real.draw(per_class, stream(seed, "random"))
        about: dict[str, Any] = {}
    else:
        ids, about = _looked(name, real, per_class, build, seed, epochs, augmentation(augment), lr, batch)
    x, y = real.at(ids)
    metadata = {"method": name, "per_class": per_class, "seed": seed, "ids": ids.tolist(), **about}
    return Synthetic(x.float().cpu(), y.cpu(), 1, real.mean, real.std, tuple(classes), metadata)


def _looked(
    name: str, real: Real, per_class: int, build: Any, seed: int, epochs: int, augment: Any, lr: float, batch: int
) -> tuple[Tensor, dict[str, Any]]:
    check.number("epochs", epochs, 1, 1 << 30, integer=True)
    net = fresh(build, seed, "network").to(real.device)
    try_network(net, real)
    optimizer = sgd(net, lr, 0.9, 5e-4)
    x, y = real.at(torch.arange(len(real)))
    correct = torch.zeros(epochs, len(real), dtype=torch.bool)
    for epoch in range(epochs):
        train_epoch(net, optimizer, x, y, batch=batch, augment=augment, generator=stream(seed, "epoch", epoch))
        logits, features = _passed(net, x)
        correct[epoch] = (logits.argmax(1) == y).cpu()
    score = forgetting(correct) if name == "forgetting" else None

    def of(members: Tensor) -> Selection:
        if score is not None:
            return top(score[members], budget=per_class, end="high")
        part = features[members.to(features.device)].cpu()
        if name == "herding":
            return herding(part, budget=per_class)
        return k_center(part, budget=per_class, first="mean", generator=stream(seed, "k_center"))

    ids = torch.cat([members[of(members).index] for members in real.index])
    return ids, {"epochs": epochs, "accuracy": accuracy(net, x, y)}


@torch.no_grad()
def _passed(net: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    was = net.training
    net.eval()
    seen = [look(net, part) for part in torch.split(x, 512)]
    net.train(was)
    return torch.cat([s.logits for s in seen]), torch.cat([s.features for s in seen])
