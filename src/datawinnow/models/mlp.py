"""Multi-layer perceptron, for vectors and for very small images."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn

from datawinnow.models.image_size import ImageSize, height_and_width


class MLP(nn.Module):
    """Fully connected network with ReLU: (b, ...) -> (b, classes) logits.

    Args:
        features: numbers in one example, flattened.
        classes: number of classes.
        width: units of each hidden layer.
        depth: number of hidden layers.
    """

    def __init__(self, features: int, classes: int, *, width: int = 128, depth: int = 2) -> None:
        super().__init__()
        sizes = [features, *[width] * depth]
        self.hidden = nn.Sequential(
            nn.Flatten(),
            *(layer for a, b in pairwise(sizes) for layer in (nn.Linear(a, b), nn.ReLU())),
        )
        self.classifier = nn.Linear(sizes[-1], classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (b, classes) of inputs (b, ...)."""
        logits: Tensor = self.classifier(self.hidden(x))
        return logits


def mlp(*, classes: int, channels: int = 1, size: ImageSize = 8, features: int | None = None, width: int = 128) -> MLP:
    """An MLP with two hidden layers.

    Args:
        classes: number of classes.
        channels: channels of an image.
        size: pixels of a side of an image, or (height, width).
        features: numbers in one example, if it is not an image.
        width: units of each hidden layer.
    """
    height, image_width = height_and_width(size)
    return MLP(features if features is not None else channels * height * image_width, classes, width=width)
