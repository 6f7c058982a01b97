"""Real and synthetic images in one plane: where they lie in the features of a network that knows the real ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from datawinnow.condense._real import Real
from datawinnow.condense._step import fresh
from datawinnow.condense._tap import look
from datawinnow.condense._train import accuracy, sgd, train_epoch
from datawinnow.core.rng import stream
from datawinnow.core.synthetic import Synthetic


def projection(
    synthetic: Synthetic,
    images: Any,
    labels: Any,
    *,
    build: Callable[[], nn.Module],
    seed: int,
    per_class: int = 50,
    epochs: int = 30,
) -> dict[str, Any]:
    """Coordinates of real and synthetic images in the plane in which real classes lie furthest apart.

    A network is trained on up to ``per_class`` real images a class; its features are centred and projected on the first
    two principal directions of the class means, then (for two classes or fewer) of the images.

    Args:
        synthetic: the set; decoded.
        images: (n, channels, height, width) real images.
        labels: (n,) their classes.
        build: makes a fresh network.
        seed: of the draws.
        per_class: real images a class.
        epochs: of the training.

    Returns:
        ``real`` and ``synthetic``: lists of [x, y, class]; ``accuracy`` of the network on the real images shown.
    """
    real = Real(images, labels, synthetic.mean or None, synthetic.std or None)
    x, y = real.at(real.draw(per_class, stream(seed, "projection")))
    net = fresh(build, seed, "projection")
    optimizer = sgd(net, 0.01, 0.9, 5e-4)
    for epoch in range(epochs):
        draws = stream(seed, "projection", epoch)
        train_epoch(net, optimizer, x, y, batch=64, augment=None, generator=draws)
    own, own_labels = synthetic.decode()
    with torch.no_grad():
        net.eval()
        features = torch.cat([look(net, part).features for part in torch.split(x, 256)])
        made = torch.cat([look(net, part).features for part in torch.split(own, 256)])
    centre = features.mean(0)
    means = torch.stack([features[y == c].mean(0) for c in range(real.classes)]) - centre
    basis = _directions(means if real.classes > 2 else features - centre)
    return {
        "real": _points((features - centre) @ basis, y),
        "synthetic": _points((made - centre) @ basis, own_labels),
        "accuracy": accuracy(net, x, y),
    }


def _directions(rows: Tensor) -> Tensor:
    """(d, 2) principal directions of centred rows, signs fixed so that the same data give the same image."""
    _, _, across = torch.linalg.svd(rows.double(), full_matrices=False)
    basis = across[:2].T
    if basis.shape[1] < 2:
        basis = torch.cat([basis, torch.zeros_like(basis[:, :1])], 1)
    largest = basis.gather(0, basis.abs().argmax(0, keepdim=True))
    turned: Tensor = basis * torch.where(largest < 0, -1.0, 1.0)
    return turned.float()


def _points(at: Tensor, labels: Tensor) -> list[list[float]]:
    return [[round(a, 4), round(b, 4), c] for (a, b), c in zip(at.tolist(), labels.tolist(), strict=True)]
