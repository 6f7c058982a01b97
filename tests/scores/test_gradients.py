"""GraNd in closed form against autograd, and the scores that probe computes."""

import math

import numpy as np
import pytest
import torch

from datawinnow import scores
from datawinnow.core.errors import ArgumentError
from datawinnow.core.rng import stream
from tests.reference import scores_static as literal


def last_layer(n=25, d=7, c=4, seed=0):
    g = stream(seed, "last layer")
    layer = torch.nn.Linear(d, c).double()
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=g))
    h = torch.randn(n, d, generator=g, dtype=torch.float64).relu() * 2
    return layer, h, torch.randint(0, c, (n,), generator=g)


def test_the_closed_form_is_autograd_of_a_linear_layer():
    layer, h, y = last_layer()
    want = []
    for i in range(len(h)):
        loss = torch.nn.functional.cross_entropy(layer(h[i : i + 1]), y[i : i + 1])
        gradient = torch.autograd.grad(loss, list(layer.parameters()))
        want.append(torch.cat([layer_gradient.flatten() for layer_gradient in gradient]).norm())
    p = layer(h).softmax(1)
    got = scores.grand_last(h, p, y)
    assert not got.requires_grad
    torch.testing.assert_close(got, torch.stack(want), rtol=1e-10, atol=1e-12)
    loops = [literal.grand_last(a, b, c) for a, b, c in zip(h.tolist(), p.tolist(), y.tolist(), strict=True)]
    torch.testing.assert_close(got, torch.tensor(loops, dtype=torch.float64), rtol=1e-10, atol=1e-12)


def test_confident_and_right_keeps_its_digits():
    """||P - y||^2 = sum P^2 - 2 p + 1 would be 0 in float32 here."""
    p = torch.tensor([[1 - 3e-7, 2e-7, 1e-7]], dtype=torch.float64)
    want = literal.grand_last([1.0], p[0].tolist(), 0)
    assert float(scores.grand_last([[1.0]], p, [0])) == pytest.approx(want, rel=1e-6)
    assert float(scores.grand_last(np.ones((1, 1), np.float32), p.float(), [0])) == pytest.approx(want, rel=0.2)


def test_an_answer_does_not_depend_on_the_block_it_falls_in(monkeypatch):
    layer, h, y = last_layer(60)
    p = layer(h).softmax(1).detach()
    complete = scores.grand_last(h, p, y)
    monkeypatch.setattr("datawinnow.scores.inputs.ROW_BLOCK_ENTRIES", 7 * 11)
    torch.testing.assert_close(scores.grand_last(h, p, y), complete, rtol=1e-15, atol=0)


@pytest.mark.parametrize("double", ["features", "probs"])
def test_one_array_in_double_precision_is_enough_for_a_double_score(double):
    arrays = {"features": torch.tensor([[1 / 3]]), "probs": torch.tensor([[0.25, 0.75]])}
    arrays[double] = arrays[double].double()
    got = scores.grand_last(*arrays.values(), [0])
    want = literal.grand_last(arrays["features"][0].tolist(), [0.25, 0.75], 0)
    torch.testing.assert_close(got, torch.tensor([want], dtype=torch.float64), rtol=1e-15, atol=0)


def test_what_moves_the_layer_comes_first():
    """Right and sure; right and unsure; wrong; wrong with a long feature: in this order."""
    h = torch.tensor([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0], [5.0, 5.0]])
    p = torch.tensor([[0.98, 0.02], [0.6, 0.4], [0.98, 0.02], [0.98, 0.02]])
    score = scores.grand_last(h, p, [0, 0, 1, 1])
    assert score.argsort().tolist() == [0, 1, 2, 3]
    assert scores.grand_last.card.end == "high"


def test_arrays_about_different_examples_and_labels_without_a_class():
    h, p, y = torch.ones(5, 2), torch.full((5, 3), 1 / 3), torch.tensor([0, 1, 2, 0, 1])
    with pytest.raises(ArgumentError, match=r"same number of examples.*features has 4, probs has 5, labels has 5"):
        scores.grand_last(h[:4], p, y)
    with pytest.raises(ArgumentError, match=r"same number of examples.*labels has 3"):
        scores.grand_last(h, p, y[:3])
    y[3] = 3
    with pytest.raises(ArgumentError, match="labels is 3 for example 3, but probs has 3 classes, 0 to 2"):
        scores.grand_last(h, p, y)
    with pytest.raises(ArgumentError, match="labels must be integer class ids"):
        scores.grand_last(h, p, y.float())


@pytest.mark.parametrize("nan", ["features", "probs"])
def test_nan_in_one_array_is_nan_in_the_score(nan):
    arrays = {"features": torch.ones(4, 2), "probs": torch.full((4, 2), 0.5)}
    arrays[nan][2, 1] = math.nan
    with pytest.raises(ArgumentError, match=rf"{nan} is nan for example 2 in column 1"):
        scores.grand_last(*arrays.values(), [0, 1, 0, 1])
    score = scores.grand_last(*arrays.values(), [0, 1, 0, 1], missing="skip")
    assert score.isnan().tolist() == [False, False, True, False]


GIVEN = {
    "grand_full": ("grad_norm", "high"),
    "curvature": ("curvature", "low"),
    "deepfool": ("boundary_distance", "low"),
}


@pytest.mark.parametrize("name", GIVEN)
def test_what_probe_made_is_checked_and_given_back(name):
    need, end = GIVEN[name]
    method = scores.METHODS[name]
    assert method.card.needs == (need,)
    assert method.card.end == end
    values = torch.tensor([0.0, 2.5, 1e-20])
    assert method(values).tolist() == values.tolist()
    with pytest.raises(ArgumentError, match=rf"{need} must be 0 or above, as a norm is, got -0\.5 for example 1"):
        method([0.1, -0.5, -3.0])
    with pytest.raises(ArgumentError, match=rf"{need} is inf for example 2"):
        method([0.1, 0.5, math.inf], missing="skip")
    assert method([math.nan, 1.0], missing="skip")[1] == 1
