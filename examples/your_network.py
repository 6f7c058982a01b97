"""Your own network; in a shell: `datawinnow prune digits --keep 0.3 --model examples.your_network:network`."""

from torch import nn


def network(classes: int, channels: int, size: int) -> nn.Module:
    """Any function that returns a module; its parameters may be any of classes, channels and size."""
    return nn.Sequential(
        nn.Conv2d(channels, 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(32 * (size // 2) ** 2, classes),
    )
