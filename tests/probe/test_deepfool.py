"""DeepFool: the closed form of a linear model, a literal loop, and where it stops."""

import numpy as np
import pytest
import torch
from torch import nn

from datawinnow.core.errors import ArgumentError
from datawinnow.probe import deepfool
from tests.probe.helpers import build_network, smooth

X = torch.randn(12, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def literal(model, x, max_iter=50, overshoot=0.02):
    """Algorithm 2 of arXiv 1511.04599 for one example, looking at the overshot point for the answer."""
    x0 = x.detach().clone()

    def slopes(at):
        jacobian = torch.autograd.functional.jacobian(lambda v: model(v[None])[0], at)
        return model(at[None])[0].detach().numpy(), jacobian.numpy()

    predicted = int(model(x0[None]).argmax())
    walked = np.zeros_like(x0.numpy())
    for _ in range(max_iter):
        f, jacobian = slopes(x0 + torch.from_numpy(walked))
        best, step = np.inf, None
        for k in range(len(f)):
            if k == predicted:
                continue
            w = jacobian[k] - jacobian[predicted]
            if abs(f[k] - f[predicted]) / np.linalg.norm(w) < best:
                best = abs(f[k] - f[predicted]) / np.linalg.norm(w)
                step = abs(f[k] - f[predicted]) / np.linalg.norm(w) ** 2 * w
        walked = walked + step
        if int(model((x0 + (1 + overshoot) * torch.from_numpy(walked))[None]).argmax()) != predicted:
            break
    return np.linalg.norm(walked)


def test_of_a_linear_model_it_is_the_closed_form():
    layer = build_network(lambda: nn.Linear(5, 4), dtype=torch.float64)
    w, f = layer.weight.detach(), layer(X).detach()
    expected = []
    for row in f:
        k = int(row.argmax())
        expected.append(min(abs(row[j] - row[k]) / (w[j] - w[k]).norm() for j in range(4) if j != k))
    walk = deepfool(layer, X)
    torch.testing.assert_close(walk.distance, torch.stack(expected))
    assert walk.reached.all()
    assert (walk.forward, walk.backward) == (12 + 12, 12 * 4)  # one step is enough


def test_of_a_curved_model_it_is_the_literal_loop():
    model = smooth(width=20)
    with torch.no_grad():
        model[0].weight.mul_(3)
    expected = [literal(model, x) for x in X]
    walk = deepfool(model, X)
    np.testing.assert_allclose(walk.distance.numpy(), expected, rtol=1e-8)
    assert walk.backward > 12 * 3  # some took more than one step: the model is not linear there
    alone = torch.cat([deepfool(model, X[i : i + 1]).distance for i in range(12)])
    torch.testing.assert_close(alone, walk.distance)


def test_within_half_the_distance_no_answer_changes():
    model = smooth(width=20)
    walk = deepfool(model, X)
    assert walk.reached.all()
    for direction in torch.randn(20, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(2)):
        moved = X + 0.5 * walk.distance[:, None] * direction / direction.norm()
        assert torch.equal(model(moved).argmax(dim=1), model(X).argmax(dim=1))


def test_candidates_leaves_out_the_far_classes_only():
    layer = nn.Linear(2, 3, bias=True, dtype=torch.float64)
    with torch.no_grad():
        # class 1 is the runner-up but its boundary is far; class 2, last of all, is nearest
        layer.weight.copy_(torch.tensor([[0.0, 0.0], [0.1, 0.0], [0.0, 100.0]]))
        layer.bias.copy_(torch.tensor([1.0, 0.5, 0.0]))
    x = torch.zeros(1, 2, dtype=torch.float64)
    assert deepfool(layer, x).distance.item() == pytest.approx(0.01)
    assert deepfool(layer, x, candidates=2).distance.item() == pytest.approx(5.0)


def test_an_example_on_the_boundary_has_distance_zero_at_once():
    layer = nn.Linear(2, 2, bias=False, dtype=torch.float64)
    walk = deepfool(layer, torch.zeros(1, 2, dtype=torch.float64))
    assert walk.distance.item() == 0
    assert walk.reached.all()
    assert walk.backward == 2


def test_a_step_too_few_is_said():
    model = smooth(width=20)
    with torch.no_grad():
        model[0].weight.mul_(3)
    once, all_steps = deepfool(model, X, max_iter=1), deepfool(model, X)
    assert not once.reached.all()
    assert all_steps.reached.all()
    assert torch.equal(once.distance[once.reached], all_steps.distance[once.reached])


def test_flat_logits_have_nowhere_to_go():
    model = build_network(lambda: nn.Sequential(nn.ReLU(), nn.Linear(2, 3)))
    walk = deepfool(model, torch.tensor([[-1.0, -2.0], [1.0, 2.0]]))
    assert walk.flat.tolist() == [True, False]
    assert walk.distance[0] == 0
    assert walk.distance[1] > 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"max_iter": 0}, r"max_iter must be a whole number in \[1, inf\], got 0"),
        ({"overshoot": -0.1}, r"overshoot must be a number in \[0, inf\], got -0.1"),
        ({"candidates": 1}, r"candidates must be a whole number in \[2, inf\], got 1"),
        ({"x": torch.zeros(3, 5, dtype=torch.int64)}, "must be floating-point, got x of torch.int64"),
        ({"model": lambda x: x[:, :1]}, "no boundary between classes: the model has 1 output"),
        ({"model": lambda x: x.detach()}, "logits have no gradient"),
    ],
    ids=["steps", "overshoot", "candidates", "ids", "one class", "cut"],
)
def test_errors_name_the_argument(change, message):
    arguments = {"model": smooth(), "x": X, **change}
    with pytest.raises(ArgumentError, match=message):
        deepfool(arguments.pop("model"), arguments.pop("x"), **arguments)


def test_a_slope_that_is_no_number_is_not_taken_for_none():
    """The root of nothing has an infinite slope; a distance made up for it would rank the example somewhere."""

    def network(x):
        return torch.stack([x[:, 0] + 1, (x[:, 1] * 0).sqrt() * x[:, 1], x[:, 2] - 1], dim=1)

    walk = deepfool(network, torch.tensor([[1.0, 0.0, 0.5]]))
    assert walk.distance.isnan().tolist() == [True]
    assert not bool(walk.reached.any())
