"""Objectives: their values against loops written from the equations, their gradients against finite differences."""

from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import nn

from datawinnow.condense import SIAMESE
from datawinnow.condense.augment import to_augmentation
from datawinnow.condense.cafe import feature_alignment
from datawinnow.condense.dc import gradient_matching
from datawinnow.condense.dm import distribution_matching
from datawinnow.condense.gradients import GRADIENT_METRICS, gradient_distance, real_gradients, synthetic_gradients
from datawinnow.condense.idm import regularised_matching
from datawinnow.core.rng import stream
from tests.condense.helpers import CLASSES, make_step, network
from tests.reference import condense as reference

CAFE = partial(feature_alignment, layers=None, shallow=0.1, discriminate=0.01)
OBJECTIVES = {
    "dm": (distribution_matching, {}),
    "dsa": (partial(gradient_matching, metric="rows"), {"augment": SIAMESE}),
    "dc": (partial(gradient_matching, metric="rows"), {}),
    "dc one by one": (partial(gradient_matching, metric="rows"), {"together": False}),
    "dc mse": (partial(gradient_matching, metric="mse"), {}),
    "dc cos": (partial(gradient_matching, metric="cos"), {}),
    "cafe": (CAFE, {}),
    "idm": (partial(regularised_matching, ce_weight=0.5), {"factor": 2, "percent": 60.0, "augment": SIAMESE}),
}
each = pytest.mark.parametrize(("objective", "kwargs"), OBJECTIVES.values(), ids=OBJECTIVES.keys())


def smooth():
    """A network whose gradients are smooth, so that finite differences of gradients exist."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(1, 3, 3, padding=1), nn.Sigmoid(), nn.AvgPool2d(2), nn.Conv2d(3, 4, 3, padding=1),
            nn.GroupNorm(4, 4), nn.Sigmoid(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(16, CLASSES),
        )  # fmt: skip


def value_and_gradient(step, objective):
    losses = list(objective(step))
    return float(sum(losses).detach()), sum(torch.autograd.grad(loss, step.leaf)[0] for loss in losses)


def by_class(step):
    every = torch.arange(CLASSES)
    real, x, y = step.real(), *step.synthetic(every)
    return [(real[step.y == c], step.y[step.y == c]) for c in every], [(x[y == c].detach(), y[y == c]) for c in every]


@each
def test_gradients_of_pixels_are_those_of_finite_differences(objective, kwargs):
    step = make_step(smooth(), **kwargs)
    value, gradient = value_and_gradient(step, objective)
    assert value > 0
    assert float(gradient.abs().max()) > 1e-8
    for row in stream(0, "pixels"), stream(1, "pixels"), stream(2, "pixels"):
        direction = torch.randn(gradient.shape, generator=row, dtype=torch.float64)
        ends = []
        for sign in (1, -1):
            moved = make_step(smooth(), **kwargs)
            moved.leaf = (step.leaf.detach() + sign * 1e-5 * direction).requires_grad_()
            ends.append(sum(float(loss.detach()) for loss in objective(moved)))
        slope = (ends[0] - ends[1]) / 2e-5
        assert float((gradient * direction).sum()) == pytest.approx(slope, rel=1e-4, abs=1e-8)


def test_gradient_matching_is_the_loop_over_classes_and_rows():
    step = make_step(smooth())
    value, _ = value_and_gradient(step, OBJECTIVES["dc"][0])
    assert value == pytest.approx(reference.gradient_matching(step.net, *by_class(step)), rel=1e-9)


@pytest.mark.parametrize("factor", [1, 2])
@pytest.mark.parametrize("metric", GRADIENT_METRICS)
def test_gradients_in_one_pass_are_those_of_a_class_at_a_time(metric, factor):
    steps = [make_step(network(), together=together, factor=factor) for together in (True, False)]
    results = [value_and_gradient(step, partial(gradient_matching, metric=metric)) for step in steps]
    assert results[0][0] == pytest.approx(results[1][0], rel=1e-9)
    torch.testing.assert_close(results[0][1], results[1][1], rtol=1e-7, atol=1e-10)


def test_parameters_of_one_dimension_count_nothing_in_rows_and_something_in_mse():
    step = make_step(network())
    real, (_, synthetic) = real_gradients(step), next(synthetic_gradients(step))
    flat = [i for i, p in enumerate(step.net.parameters()) if p.ndim < 2]
    assert len(flat) == 7  # biases and norms of two blocks, and the last bias
    other = [g if i not in flat else g + 5 for i, g in enumerate(real[0])]
    with torch.no_grad():
        assert float(gradient_distance(synthetic[0], other, "rows")) == float(
            gradient_distance(synthetic[0], real[0], "rows")
        )
        assert (
            float(gradient_distance(synthetic[0], other, "mse"))
            > float(gradient_distance(synthetic[0], real[0], "mse")) + 1
        )


def test_distribution_matching_is_the_loop_over_classes_and_features():
    step = make_step(network())
    value, _ = value_and_gradient(step, distribution_matching)
    assert value == pytest.approx(reference.mean_matching(step.net.features, *by_class(step)), rel=1e-9)


def test_cafe_is_layers_the_last_pool_twice_and_the_discrimination():
    step = make_step(network())
    real, synthetic = by_class(step)
    net, features = step.net, step.net.features
    layers = [nn.Sequential(*features[:3]), nn.Sequential(*features[:7])]  # after either activation
    expected = 0.1 * reference.mean_matching(lambda x: layers[0](x).flatten(1), real, synthetic)
    expected += 1.0 * reference.mean_matching(lambda x: layers[1](x).flatten(1), real, synthetic)
    expected += 2.0 * reference.mean_matching(features, real, synthetic)
    expected += 0.01 * reference.discrimination(features, real, synthetic)
    assert isinstance(net.features[2], nn.ReLU)
    assert value_and_gradient(step, CAFE)[0] == pytest.approx(expected, rel=1e-9)


def test_idm_weighs_the_cross_entropy_by_percent_and_leaves_untrained_networks_alone():
    kwargs = {"factor": 2}
    matching = value_and_gradient(make_step(network(), **kwargs), distribution_matching)[0]
    idm = partial(regularised_matching, ce_weight=0.5)
    assert value_and_gradient(make_step(network(), **kwargs), idm)[0] == pytest.approx(matching)
    step = make_step(network(), percent=60.0, **kwargs)
    _, synthetic = by_class(step)
    entropy = sum(float(nn.functional.cross_entropy(step.net(x), y).detach()) for x, y in synthetic)
    assert len(synthetic[0][0]) == 8  # two images of four tiles
    assert value_and_gradient(step, idm)[0] == pytest.approx(matching + 0.5 * 60 * entropy, rel=1e-9)


SAVING = {
    # what is set, and the passes of a step over images of 3 classes: 15 real ones and 6 (idm: 24 tiles) synthetic ones
    "dm at_once": ("dm", {"at_once": 1, "chunk": 15}, [15, 2, 2, 2]),
    "dm chunk": ("dm", {"chunk": 4, "at_once": 3}, [4, 4, 4, 3, 6]),
    "dm recompute": ("dm", {"recompute": True, "chunk": 15, "at_once": 3}, [15, 6, 6]),
    "dc one by one": ("dc", {"together": False, "chunk": 15}, [5, 5, 5, 2, 2, 2]),
    "dc chunk": ("dc", {"together": False, "chunk": 3}, [3, 2, 3, 2, 3, 2, 2, 2, 2]),
    "dc at_once": ("dc", {"together": True, "chunk": 15, "at_once": 1}, [5, 5, 5, 2, 2, 2]),
    "dc together": ("dc", {"together": True, "chunk": 15, "at_once": 3}, [5, 5, 5, 2]),
    "cafe chunk": ("cafe", {"chunk": 6}, [5, 5, 5, 6]),
    "cafe recompute": ("cafe", {"recompute": True, "chunk": 15}, [15, 6, 6]),
    "idm at_once": ("idm", {"at_once": 2, "chunk": 15}, [15, 16, 8]),
    "idm recompute": ("idm", {"recompute": True, "chunk": 15, "at_once": 3}, [15, 24, 24]),
}


@pytest.mark.parametrize(("name", "kwargs", "passes"), SAVING.values(), ids=SAVING.keys())
def test_what_saves_memory_passes_less_at_once_and_changes_nothing(name, kwargs, passes):
    objective, step_kwargs = OBJECTIVES[name]
    plain = value_and_gradient(make_step(network(), **step_kwargs), objective)
    step, seen = make_step(network(), **step_kwargs, **kwargs), []
    step.net.register_forward_pre_hook(lambda net, inputs: seen.append(len(inputs[0])))
    saving = value_and_gradient(step, objective)
    assert sorted(seen) == sorted(passes)
    assert saving[0] == pytest.approx(plain[0], rel=1e-9)
    torch.testing.assert_close(saving[1], plain[1], rtol=1e-7, atol=1e-10)


@pytest.mark.parametrize("name", ["dm", "cafe"])
def test_batch_norms_see_all_classes_at_once_whatever_saves_memory(name):
    objective = OBJECTIVES[name][0]
    plain = value_and_gradient(make_step(network(norm="batch").train()), objective)
    saving = value_and_gradient(make_step(network(norm="batch").train(), at_once=1, chunk=2), objective)
    assert saving[0] == pytest.approx(plain[0], rel=1e-9)


def test_real_images_are_not_differentiated():
    step = make_step(network())
    features, _ = step.real_output()
    assert not features.requires_grad
    assert all(not g.requires_grad for g in real_gradients(step)[0])


@pytest.mark.parametrize("name", ["dc", "dm", "cafe", "idm"])
def test_real_images_get_the_augmentation_of_their_own_class(name):
    """The draw of a class is shared by its real and its synthetic images, and no other class's."""
    step = make_step(network(), augment=to_augmentation("crop"))
    shifts = torch.linspace(0.05, 0.95, 9).view(3, 1, 3)
    step.draw = replace(step.draw, u=shifts)
    drawn = step.draw
    value, _ = value_and_gradient(step, OBJECTIVES[name][0])
    plain = make_step(network())
    # The same images, augmented by hand, class by class, and then no draw.
    plain.x = torch.cat([drawn(plain.x[plain.y == c], torch.full((5,), c)) for c in range(3)])
    leaf = torch.cat([drawn(plain.leaf.detach()[2 * c : 2 * c + 2], torch.full((2,), c)) for c in range(3)])
    plain.leaf = leaf.requires_grad_()
    assert value == pytest.approx(value_and_gradient(plain, OBJECTIVES[name][0])[0], rel=1e-9)
    assert not torch.equal(drawn(plain.x, plain.y), drawn(plain.x, (plain.y + 1) % 3))
