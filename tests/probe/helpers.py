"""Networks and data for the tests of probing."""

import torch
from torch import nn

from datawinnow import models
from datawinnow.core.rng import forked
from datawinnow.data.examples import Augment, Examples


def vectors(n=23, d=6, classes=4, seed=0):
    draws = torch.Generator().manual_seed(seed)
    x, labels = torch.randn(n, d, generator=draws), torch.randint(classes, (n,), generator=draws)
    return Examples(x, labels, tuple("abcdefghij"[:classes]))


def images(n=13, size=8, classes=3, seed=0, channels=1):
    draws = torch.Generator().manual_seed(seed)
    x = torch.randint(0, 256, (n, channels, size, size), dtype=torch.uint8, generator=draws)
    labels = torch.randint(classes, (n,), generator=draws)
    return Examples(x, labels, tuple("abcdefghij"[:classes]), augment=Augment(crop=2))


def normalised(examples):
    """What a network is given, written out."""
    if examples.x.dtype is not torch.uint8:
        return examples.x
    mean, std = (torch.tensor(v).view(1, -1, 1, 1) for v in (examples.mean, examples.std))
    return (examples.x.float() / 255 - mean) / std


def build_network(build, *, dtype=torch.float32):
    """A network with weights of its own and, where it has batch norm, statistics unlike the first ones."""
    with forked(0, "tests"):
        model = build()
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d | nn.BatchNorm1d) and module.running_mean is not None:
                module.running_mean.normal_(std=0.3)
                module.running_var.uniform_(0.5, 2)
    return model.to(dtype)


def mlp(dtype=torch.float32, d=6, classes=4):
    return build_network(lambda: models.mlp(classes=classes, features=d, width=16), dtype=dtype)


def smooth(d=5, classes=3, width=7):
    """Twice differentiable everywhere, in double precision."""
    return build_network(
        lambda: nn.Sequential(nn.Linear(d, width), nn.Tanh(), nn.Linear(width, classes)), dtype=torch.float64
    )


def resnet8():
    return build_network(lambda: models.resnet8(classes=3, channels=1, width=4))


def convnet(norm="instance"):
    return build_network(lambda: models.convnet(classes=3, channels=1, size=8, depth=2, width=6, norm=norm))


class Backwards(nn.Module):
    """Its head is registered first and runs last; batch norm, and dropout that evaluation mode must silence."""

    def __init__(self, d=6, classes=4, then=None):
        super().__init__()
        self.out = nn.Linear(8, classes)
        self.norm = nn.BatchNorm1d(8)
        self.first = nn.Linear(d, 8)
        self.then = then or (lambda z: z)

    def hidden(self, x):
        return torch.relu(self.norm(self.first(x)))

    def forward(self, x):
        hidden = nn.functional.dropout(self.hidden(x), 0.5, self.training)
        return self.then(self.out(hidden))
