"""Every method at the sizes that people have: Fashion-MNIST's 28x28 grey, and real CIFAR-10 at reduced width."""

import pytest
import torch

from datawinnow import condense
from datawinnow.condense import evaluate
from datawinnow.core.rng import stream
from datawinnow.data import load
from datawinnow.models import convnet
from tests.condense.helpers import QUICK, build, make_images, run_condenser
from tests.data.test_load_parquet import shared_data


def moves(method, x, y, size):
    """(classes,) how far each class's image went in an iteration, and the image."""
    channels = 1 if x.ndim == 4 and x.shape[1] == 1 else 3

    def learned(lr):
        return getattr(condense, method)(
            x, y, per_class=1, build=lambda: convnet(classes=10, channels=channels, size=size, depth=3, width=8),
            generator=stream(0, "sizes"), iterations=1, real_batch=4, lr=lr, **QUICK[method],
        )  # fmt: skip

    moved, still = learned(1.0), learned(1e-12)
    assert moved.images.shape == (10, channels, size, size)
    assert bool(torch.isfinite(moved.images).all())
    return (moved.images - still.images).flatten(1).norm(dim=1)


@pytest.mark.parametrize("method", QUICK)
def test_every_class_learns_at_the_size_of_fashion_mnist(method):
    x, y = make_images(n=60, side=28, classes=10)
    assert int((moves(method, x, y, 28) > 1e-4).sum()) == 10


@pytest.mark.data
@pytest.mark.parametrize(
    "method", [pytest.param(name, marks=pytest.mark.slow) if name == "dc" else name for name in QUICK]
)
def test_every_class_learns_on_cifar10(method):
    train, _ = load(shared_data("cifar10"), limit=200)
    assert int((moves(method, train.x, train.labels, 32) > 1e-4).sum()) == 10


@pytest.mark.parametrize("method", QUICK)
def test_images_that_are_not_square_are_condensed(method):
    x, y = make_images(channels=3, side=20)
    x = x[:, :, 2:14]
    result = run_condenser(method, data=(x, y), build=build(3, (12, 20)), per_class=2)
    assert result.decode()[0].shape[1:] == (3, 12, 20)
    assert result.images.isfinite().all()
    outcome = evaluate(result, x, y, build=build(3, (12, 20)), generator=stream(0, "judge"), networks=1, epochs=2)
    assert len(outcome.accuracies) == 1
