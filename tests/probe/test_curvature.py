"""Input curvature: the literal formulas, a known Hessian, and the gradient with respect to the weights."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from datawinnow.core.curvature import input_curvature
from datawinnow.core.errors import ArgumentError
from tests.probe.helpers import convnet, resnet8, smooth

X = torch.randn(9, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
Y = torch.arange(9) % 3


def draws(seed=0):
    return torch.Generator().manual_seed(seed)


def softmax(z):
    e = np.exp(z - z.max())
    return e / e.sum()


def linear(seed=2):
    layer = nn.Linear(5, 3, dtype=torch.float64)
    with torch.no_grad():
        layer.weight.copy_(torch.randn(3, 5, dtype=torch.float64, generator=draws(seed)))
        layer.bias.copy_(torch.randn(3, dtype=torch.float64, generator=draws(seed + 1)))
    return layer


def gradient(layer, x, y):
    """W^T (softmax(Wx + b) - onehot(y)), the gradient of a linear model's cross-entropy."""
    w, b = layer.weight.detach().numpy(), layer.bias.detach().numpy()
    return w.T @ (softmax(w @ x + b) - np.eye(3)[y])


def test_cure_is_the_literal_formula_of_a_linear_model():
    layer, expected = linear(), []
    for x, y in zip(X.numpy(), Y.numpy(), strict=True):
        g = gradient(layer, x, y)
        z = np.sign(g) / np.linalg.norm(np.sign(g))
        expected.append(np.linalg.norm(gradient(layer, x + 3.0 * z, y) - g))
    result = input_curvature(layer, X, Y)
    np.testing.assert_allclose(result.numpy(), expected, rtol=1e-10)
    squared = input_curvature(layer, X, Y, square=True)
    np.testing.assert_allclose(squared.numpy(), np.square(expected), rtol=1e-10)


def test_rademacher_is_the_mean_of_the_literal_norms():
    layer, expected = linear(), []
    drawn = (2 * torch.randint(0, 2, (9, 4, 5), generator=draws(5), dtype=torch.int8) - 1).numpy()
    for i, (x, y) in enumerate(zip(X.numpy(), Y.numpy(), strict=True)):
        changes = [gradient(layer, x + 0.01 * v, y) - gradient(layer, x, y) for v in drawn[i]]
        expected.append(np.mean([np.linalg.norm(c) for c in changes]))
    result = input_curvature(layer, X, Y, mode="rademacher", h=0.01, repeats=4, generator=draws(5))
    np.testing.assert_allclose(result.numpy(), expected, rtol=1e-7)


def test_a_small_step_gives_the_hessian():
    """H = W^T (diag p - p p^T) W: the change over h is ||H z||, and the mean of ||H v||^2 is tr H^2."""
    layer, ways = linear(), []
    w, b = layer.weight.detach().numpy(), layer.bias.detach().numpy()
    traces = []
    for x, y in zip(X.numpy(), Y.numpy(), strict=True):
        p = softmax(w @ x + b)
        hessian = w.T @ (np.diag(p) - np.outer(p, p)) @ w
        signs = np.sign(gradient(layer, x, y))
        ways.append(np.linalg.norm(hessian @ signs) / np.linalg.norm(signs))
        traces.append(np.trace(hessian @ hessian))
    result = input_curvature(layer, X, Y, h=1e-6) / 1e-6
    np.testing.assert_allclose(result.numpy(), ways, rtol=1e-4)
    drawn = {"mode": "rademacher", "h": 1e-5, "repeats": 1, "square": True}
    tries = torch.stack([input_curvature(layer, X, Y, generator=draws(s), **drawn) for s in range(300)]) / 1e-10
    error = tries.std(dim=0) / 300**0.5
    assert ((tries.mean(dim=0) - torch.tensor(traces)).abs() < 4 * error).all()


@pytest.mark.parametrize(
    "options",
    [{}, {"square": True}, {"mode": "rademacher", "repeats": 2, "h": 0.1}],
    ids=["cure", "cure squared", "rademacher"],
)
def test_gradient_with_respect_to_the_weights_is_that_of_finite_differences(options):
    model = smooth()
    weight = model[0].weight

    def total(graph=False):
        return input_curvature(model, X, Y, generator=draws(3), create_graph=graph, **options).sum()

    (slope,) = torch.autograd.grad(total(graph=True), weight)
    assert slope.abs().max() > 1e-3
    eps = 1e-6
    for row, column in [(0, 0), (3, 2), (6, 4)]:
        with torch.no_grad():
            weight[row, column] += eps
            up = total()
            weight[row, column] -= 2 * eps
            down = total()
            weight[row, column] += eps
        torch.testing.assert_close(slope[row, column], (up - down) / (2 * eps), rtol=1e-5, atol=1e-8)


def test_without_a_graph_nothing_is_kept_and_no_gradient_is_written():
    model, x = smooth(), X.clone()
    result = input_curvature(model, x, Y)
    assert not result.requires_grad
    assert all(p.grad is None for p in model.parameters())
    assert torch.equal(x, X)
    assert not x.requires_grad


def test_a_saturated_example_is_flat_and_its_gradient_is_no_nan():
    layer = linear()
    far = 1e6 * layer.weight.detach()[:1]
    y = layer(far).argmax(dim=1)
    result = input_curvature(layer, far, y, create_graph=True)
    assert result.item() == 0
    result.sum().backward()
    assert torch.equal(layer.weight.grad, torch.zeros(3, 5, dtype=torch.float64))


@pytest.mark.parametrize("mode", ["cure", "rademacher"])
def test_an_example_alone_has_the_curvature_that_it_has_in_a_batch(mode):
    model, generator = smooth(), draws(4)
    full = input_curvature(model, X, Y, mode=mode, generator=draws(4))
    alone = [input_curvature(model, X[i : i + 1], Y[i : i + 1], mode=mode, generator=generator) for i in range(9)]
    torch.testing.assert_close(torch.cat(alone), full, rtol=1e-9, atol=1e-12)


def test_what_is_nearest_to_a_sharp_boundary_is_most_curved():
    sharp = nn.Linear(1, 2, bias=False, dtype=torch.float64)
    with torch.no_grad():
        sharp.weight.copy_(torch.tensor([[5.0], [-5.0]]))
    x, y = torch.tensor([[0.05], [1.0], [-1.0]], dtype=torch.float64), torch.zeros(3, dtype=torch.int64)
    result = input_curvature(sharp, x, y, h=0.1)
    assert result[0] > 100 * result[1]
    assert result[0] > 100 * result[2]


@pytest.mark.parametrize("build", [resnet8, convnet], ids=["in-place first", "instance norm"])
def test_networks_of_images(build):
    model, x = build().eval(), torch.randn(4, 1, 8, 8, generator=draws())
    y = torch.tensor([0, 1, 2, 0])
    leaf = x.clone().requires_grad_()
    (g,) = torch.autograd.grad(F.cross_entropy(model(leaf), y, reduction="sum"), leaf)
    z = g.sign() / g.sign().flatten(1).norm(dim=1).view(4, 1, 1, 1)
    moved = (x + 3 * z).requires_grad_()
    (moved_gradient,) = torch.autograd.grad(F.cross_entropy(model(moved), y, reduction="sum"), moved)
    torch.testing.assert_close(input_curvature(model, x, y), (moved_gradient - g).flatten(1).norm(dim=1))


class InPlace(nn.Module):
    def __init__(self):
        super().__init__()
        self.relu, self.fc = nn.ReLU(inplace=True), nn.Linear(5, 3, dtype=torch.float64)

    def forward(self, x):
        return self.fc(self.relu(x))


def test_a_network_that_begins_in_place_changes_no_input():
    x = X.clone()
    result = input_curvature(InPlace(), x, Y)
    assert torch.equal(x, X)
    assert (result > 0).any()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mode": "hutchinson"}, "mode must be one of 'cure', 'rademacher', got 'hutchinson'"),
        ({"h": 0.0}, "h must be above 0"),
        ({"h": -1.0}, r"h must be a number in \[0, inf\], got -1.0"),
        ({"repeats": 3}, r"repeats must be a whole number in \[1, 1\], got 3"),
        ({"mode": "rademacher"}, "generator must be a torch.Generator, got None"),
        ({"x": torch.zeros(9, 5, dtype=torch.int64)}, "must be floating-point, got x of torch.int64"),
        ({"y": Y[:4]}, r"shape \(9,\), got \(4,\)"),
        ({"model": lambda x: x.detach()}, "no gradient with respect to its input"),
        ({"model": lambda x: (x,)}, r"logits of shape \(9, classes\), got tuple"),
        ({"model": lambda x: x[:4]}, r"logits of shape \(9, classes\), got \(4, 5\)"),
    ],
    ids=["mode", "no step", "negative step", "cure repeated", "no generator", "ids", "labels", "cut", "tuple", "rows"],
)
def test_errors_name_the_argument(change, message):
    options = {"model": linear(), "x": X, "y": Y, **change}
    with pytest.raises(ArgumentError, match=message):
        input_curvature(options.pop("model"), options.pop("x"), options.pop("y"), **options)
