"""Real and synthetic images in a plane of the features of a network trained on real images."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from datawinnow.condense.features import forward_with_features
from datawinnow.condense.real_images import RealImages
from datawinnow.condense.training import accuracy, build_fresh_network, sgd, train_epoch
from datawinnow.core.rng import stream
from datawinnow.core.synthetic import Synthetic


def feature_projection(
    synthetic: Synthetic,
    images: Any,
    labels: Any,
    *,
    build: Callable[[], nn.Module],
    seed: int,
    per_class: int = 50,
    epochs: int = 30,
) -> dict[str, Any]:
    """Coordinates of real and synthetic images in the plane of largest distance between real classes.

    A network is trained on up to ``per_class`` real images a class; its features are centred and projected on the first
    two principal directions of the class means, then (for two classes or fewer) of the images.

    Args:
        synthetic: the set; its decoded images are projected.
        images: (n, channels, height, width) real images.
        labels: (n,) their classes.
        build: builds a fresh network.
        seed: seed of the draws.
        per_class: real images of every class.
        epochs: epochs of the training.

    Returns:
        ``real`` and ``synthetic``: lists of [x, y, class]; ``accuracy`` of the network on these real images.
    """
    real = RealImages(images, labels, synthetic.mean or None, synthetic.std or None)
    x, y = real.take(real.draw_per_class(per_class, stream(seed, "projection")))
    net = build_fresh_network(build, seed, "projection")
    optimizer = sgd(net, 0.01, 0.9, 5e-4)
    for epoch in range(epochs):
        draws = stream(seed, "projection", epoch)
        train_epoch(net, optimizer, x, y, batch=64, augment=None, generator=draws)
    decoded, decoded_labels = synthetic.decode()
    with torch.no_grad():
        net.eval()
        real_features, synthetic_features = (
            torch.cat([forward_with_features(net, batch).features for batch in torch.split(images, 256)])
            for images in (x, decoded)
        )
    centre = real_features.mean(0)
    means = torch.stack([real_features[y == c].mean(0) for c in range(real.classes)]) - centre
    # The means of two classes span a line only, so a second direction has to come from the images.
    basis = _principal_directions(means if real.classes > 2 else real_features - centre)
    return {
        "real": _points((real_features - centre) @ basis, y),
        "synthetic": _points((synthetic_features - centre) @ basis, decoded_labels),
        "accuracy": accuracy(net, x, y),
    }


def _principal_directions(rows: Tensor) -> Tensor:
    """(d, 2) principal directions of centred rows, with fixed signs."""
    # Right singular vectors of centred rows are the principal directions.
    _, _, across = torch.linalg.svd(rows.double(), full_matrices=False)
    basis = across[:2].T
    if basis.shape[1] < 2:
        basis = torch.cat([basis, torch.zeros_like(basis[:, :1])], 1)
    # A singular vector has no sign of its own: the largest coordinate is made positive, or plots would flip between
    # machines.
    largest = basis.gather(0, basis.abs().argmax(0, keepdim=True))
    turned: Tensor = basis * torch.where(largest < 0, -1.0, 1.0)
    return turned.float()


def _points(at: Tensor, labels: Tensor) -> list[list[float]]:
    return [[round(a, 4), round(b, 4), c] for (a, b), c in zip(at.tolist(), labels.tolist(), strict=True)]
