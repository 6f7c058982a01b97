from __future__ import annotations

import pytest
import torch

from datawinnow.data.examples import Examples
from datawinnow.train import Recipe

FAST = Recipe(batch=32, lr=0.05, precision="fp32", workers=0)


class Bare:
    """A map-style dataset that tells nothing but its items."""

    def __init__(self, examples):
        self.examples = examples

    def __len__(self):
        return len(self.examples)

    def __getitem__(self, i):
        return self.examples[i]


def make_blobs(n: int = 60, seed: int = 0, name: str = "blobs") -> Examples:
    """Three overlapping classes of vectors."""
    g = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % 3
    x = torch.randn(n, 4, generator=g) + labels[:, None].float()
    return Examples(x, labels, ("a", "b", "c"), name)


def make_images(n: int = 48, seed: int = 0) -> Examples:
    """Two classes of 8x8 grey images: a bright left or right half."""
    g = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % 2
    x = torch.randint(0, 60, (n, 1, 8, 8), generator=g, dtype=torch.uint8)
    for i in range(n):
        x[i, :, :, :4] += 150 * (1 - int(labels[i]))
        x[i, :, :, 4:] += 150 * int(labels[i])
    return Examples(x, labels, ("left", "right"), "halves", ids=[f"{i}.png" for i in range(n)])


@pytest.fixture
def blobs():
    return make_blobs()


@pytest.fixture
def images():
    return make_images()
