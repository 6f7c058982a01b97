"""Training with the curvature of SLo-Curves in the loss."""

import copy

import pytest
import torch
import torch.nn.functional as F

from datawinnow.core.curvature import input_curvature
from datawinnow.core.errors import ArgumentError
from datawinnow.train import Recipe, fit
from tests.train.helpers import PLAIN, blobs, vector_net, weights

ONE_STEP = {**PLAIN, "batch": 60, "momentum": 0.0, "weight_decay": 0.0, "schedule": "constant", "lr": 0.1}


def literal_curvature(model, x, y, h):
    """condense.md 1.9 (A), an example at a time."""
    norms = []
    for i in range(len(x)):
        grads = []
        for step in (0.0, h):
            if step:
                sign = grads[0].detach().sign()
                at = x[i : i + 1] + step * sign / sign.norm()
            else:
                at = x[i : i + 1].clone()
            at.requires_grad_()
            loss = F.cross_entropy(model(at), y[i : i + 1])
            grads.append(torch.autograd.grad(loss, at, create_graph=True)[0])
        norms.append((grads[1] - grads[0]).norm())
    return torch.stack(norms).mean()


@pytest.mark.parametrize("h", [0.5, 3.0])
def test_one_step_follows_the_gradient_of_the_loss_and_of_the_curvature(h):
    data, model = blobs(), vector_net()
    literal = copy.deepcopy(model).double()
    loss = F.cross_entropy(literal(data.x.double()), data.labels)
    loss = loss + 2.0 * literal_curvature(literal, data.x.double(), data.labels, h)
    parameters = list(literal.parameters())
    # the last bias moves nothing that curvature sees
    grads = torch.autograd.grad(loss, parameters, allow_unused=True)
    expected = torch.cat([(p - 0.1 * g).flatten() for p, g in zip(parameters, grads, strict=True)])
    fit(model, data, epochs=1, curvature=2.0, curvature_h=h, **ONE_STEP)
    torch.testing.assert_close(weights(model), expected.detach(), rtol=1e-4, atol=1e-5)


def test_the_regulariser_flattens_and_is_charged():
    flat, plain = vector_net(), vector_net()
    _, costly = fit(flat, blobs(), epochs=20, curvature=5.0, **PLAIN)
    _, cheap = fit(plain, blobs(), epochs=20, **PLAIN)
    data = blobs()
    bend = [float(input_curvature(m, data.x, data.labels).mean()) for m in (flat, plain)]
    assert bend[0] < 0.5 * bend[1]
    ratio = costly.cost.backward / cheap.cost.backward
    assert 3 < ratio < 8  # two more gradients, each differentiated again
    assert costly.cost.flops / cheap.cost.flops == pytest.approx(ratio, rel=0.01)
    assert [row["examples"] for row in cheap.rows] == [60] * 20


def test_a_weight_below_zero_is_refused():
    with pytest.raises(ArgumentError, match="curvature must be a number"):
        Recipe(curvature=-1)
