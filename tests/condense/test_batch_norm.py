"""Networks with batch norm: statistics of real images, frozen while gradients are matched, in every step of a run."""

import copy

import pytest
import torch
from torch import nn

from datawinnow.condense.training import accuracy
from datawinnow.core.errors import ArgumentError
from datawinnow.core.module_mode import restore_mode
from tests.condense.helpers import CLASSES, make_images, network, run_condenser
from tests.condense.test_loop import Stop, killed_at
from tests.reference import condense as reference

OPTIONS = {"per_class": 2, "real_batch": 999, "outer": 1, "inner": 1}


def build():
    return network(seed=7, norm="batch").train()


def real_images():
    x, y = make_images()
    x = x.float()
    x = (x - x.mean()) / x.std()
    return x, y


@pytest.mark.parametrize(("iterations", "outer"), [(1, 1), (2, 1), (1, 2)])
@pytest.mark.parametrize("options", [{}, {"chunk": 64}, {"together": True}], ids=["default", "chunk", "together"])
def test_every_step_is_that_of_the_published_loop(iterations, outer, options):
    x, y = real_images()
    states = []
    result = run_condenser(
        "dc",
        data=(x, y),
        build=build,
        iterations=iterations,
        on_iteration=lambda done, loss, synthetic: states.append(synthetic().images.clone()),
        **{**OPTIONS, "outer": outer},
        **options,
    )
    expected = reference.condensed_with_batch_norm(
        build,
        [x[y == c] for c in range(CLASSES)],
        states[0],
        torch.arange(CLASSES).repeat_interleave(2),
        iterations=iterations,
        outer=outer,
        lr=0.1,
        momentum=0.5,
        net_lr=0.01,
    )
    movement = float((expected - states[0]).abs().max())
    assert float((result.images - expected).abs().max()) < 1e-3 * movement


def test_a_resumed_run_is_the_unbroken_one(tmp_path):
    kwargs = {"data": real_images(), "build": build, "iterations": 4, **OPTIONS}
    unbroken = run_condenser("dc", **kwargs)
    saving = {"checkpoint": tmp_path / "run.safetensors", "every": 1}
    with pytest.raises(Stop):
        run_condenser("dc", on_iteration=killed_at(2), **saving, **kwargs)
    assert torch.equal(run_condenser("dc", **saving, **kwargs).images, unbroken.images)


def test_one_image_a_class_before_a_norm_without_positions():
    class Pooled(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.AdaptiveAvgPool2d(1), nn.Flatten())
            self.norm, self.head = nn.BatchNorm1d(8), nn.Linear(8, CLASSES)

        def forward(self, x):
            return self.head(self.norm(self.body(x)))

    assert run_condenser("dc", build=Pooled, iterations=1).images.isfinite().all()


def test_measuring_leaves_frozen_modules_frozen_and_an_error_too():
    net = build()
    net.features[1].eval()
    modes = [m.training for m in net.modules()]
    x, y = real_images()
    accuracy(net, x, y)
    with pytest.raises(ArgumentError), restore_mode(net):
        net.eval()(x[:, :0])  # no channel
    assert [m.training for m in net.modules()] == modes
    assert not all(modes)
    other = copy.deepcopy(net)
    with restore_mode(other):
        other.train()
    assert [m.training for m in other.modules()] == modes
