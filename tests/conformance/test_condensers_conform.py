"""What every condenser must do."""

import random

import numpy as np
import pytest
import torch

from datawinnow import models
from datawinnow.condense import METHODS, Synthetic
from datawinnow.core.errors import ArgumentError
from datawinnow.core.rng import stream
from tests.conformance.cases import CONDENSER_OPTIONS, cases

every_condenser = pytest.mark.parametrize(("method", "options"), cases(METHODS, CONDENSER_OPTIONS, defaults=False))
CLASSES, N = 3, 27


def make_images():
    """(n, 1, 8, 8) uint8 of three classes in no order, and labels."""
    g = stream(0, "conformance", "pictures")
    y = torch.randperm(N, generator=g) % CLASSES
    return torch.randint(0, 256, (N, 1, 8, 8), generator=g).to(torch.uint8), y


def build():
    return models.convnet(classes=CLASSES, channels=1, size=8, depth=2, width=4)


def condense(method, options, *, x=None, y=None, per_class=2, seed=0, **extra):
    images, labels = make_images()
    images, labels = images if x is None else x, labels if y is None else y
    kwargs = {"iterations": 2, "real_batch": 6, **options, **extra}
    return method(images, labels, per_class=per_class, build=build, generator=stream(seed, "condense"), **kwargs)


@every_condenser
def test_per_class_finite_images_of_every_class_in_order(method, options):
    synthetic = condense(method, options)
    assert isinstance(synthetic, Synthetic)
    assert synthetic.images.shape == (6, 1, 8, 8)
    assert synthetic.images.dtype == torch.float32
    assert synthetic.images.isfinite().all()
    assert synthetic.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert not synthetic.images.requires_grad
    assert len(synthetic.decode()[0]) == 6 * synthetic.factor**2
    assert synthetic.about["method"] == method.card.key
    x = (make_images()[0] / 255 - synthetic.mean[0]) / synthetic.std[0]
    assert not any((x == image).flatten(1).all(1).any() for image in synthetic.images), "it learned nothing"


@every_condenser
def test_the_same_generator_gives_the_same_and_another_differs(method, options):
    once = condense(method, options)
    assert torch.equal(once.images, condense(method, options).images)
    assert not torch.equal(once.images, condense(method, options, seed=1).images)


@every_condenser
def test_inputs_and_global_randomness_are_untouched(method, options):
    x, y = make_images()
    before = x.clone(), y.clone()
    states = torch.random.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    synthetic = condense(method, options, x=x, y=y)
    synthetic.images.zero_()
    assert torch.equal(x, before[0])
    assert torch.equal(y, before[1])
    assert torch.equal(torch.random.get_rng_state(), states[0])
    assert (np.random.get_state()[1] == states[1]).all()
    assert random.getstate() == states[2]


@every_condenser
def test_memory_maps_lists_and_half_precision(method, options, tmp_path):
    x, y = make_images()
    np.save(tmp_path / "x.npy", x.numpy())
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r", allow_pickle=False)
    expected = condense(method, options)
    assert torch.equal(condense(method, options, x=mapped, y=y.tolist()).images, expected.images)
    half = ((x.float() / 255 - 0.5) / 0.25).half()
    floating = condense(method, options, x=half.float())
    assert torch.equal(condense(method, options, x=half).images, floating.images)
    listed = condense(method, options, x=half.float().tolist())
    torch.testing.assert_close(listed.images, floating.images, rtol=1e-4, atol=1e-5)


@every_condenser
def test_one_class_and_one_image_of_it(method, options):
    x, _ = make_images()
    synthetic = condense(method, options, x=x, y=torch.zeros(N, dtype=torch.int64), per_class=1)
    assert synthetic.labels.tolist() == [0]
    assert synthetic.images.isfinite().all()


@every_condenser
def test_what_cannot_be_is_refused(method, options):
    with pytest.raises(ArgumentError, match=r"per_class must be a whole number in .*got 0"):
        condense(method, options, per_class=0)
    with pytest.raises(ArgumentError, match=f"{method.card.key} has no option 'speed'; its options are: iterations"):
        condense(method, options, speed=3)
    with pytest.raises(ArgumentError, match=r"begin from \d+ real images of every class"):
        condense(method, {**options, "init": "real"}, per_class=10)
    x, y = make_images()
    with pytest.raises(ArgumentError, match=r"generator must be a torch\.Generator, got 3"):
        method(x, y, per_class=1, build=build, generator=3)
    with pytest.raises(TypeError, match="per_class"):
        method(x, y, build=build, generator=stream(0, "x"))
