"""Per-example gradients: the literal autograd loop, and the last layer's from its factors."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from datawinnow.core.errors import ArgumentError
from datawinnow.probe import gradient_norms, last_layer_gradient, makers, probe
from datawinnow.probe.gradients import gradient_chunk, gradient_norms_one_by_one, loss_of
from tests.probe.helpers import Backwards, build_network, convnet, images, mlp, normalised, resnet8, vectors


def literal(model, x, y):
    """Norm over all parameters, an example at a time, by backward()."""
    norms = []
    for i in range(len(x)):
        model.zero_grad()
        F.cross_entropy(model(x[i : i + 1]), y[i : i + 1], reduction="sum").backward()
        norms.append(sum(p.grad.double().square().sum() for p in model.parameters() if p.grad is not None).sqrt())
    model.zero_grad()
    return torch.stack(norms).float()


NETWORKS = pytest.mark.parametrize(
    ("build", "data"),
    [
        (resnet8, images()),
        (convnet, images()),
        (lambda: convnet("batch"), images()),
        (mlp, vectors()),
        (lambda: build_network(Backwards), vectors()),
    ],
    ids=["resnet8", "convnet", "convnet with batch norm", "mlp", "a module with its head first"],
)


@NETWORKS
def test_norms_are_those_of_the_autograd_loop(build, data):
    model = build().eval()
    expected = literal(model, normalised(data), data.labels)
    assert expected.max() > 1.2 * expected.min()
    result = probe(model, data, arrays="grad_norm")
    torch.testing.assert_close(result["grad_norm"], expected, rtol=1e-4, atol=1e-6)
    assert result.notes == ()
    assert all(p.grad is None for p in model.parameters())


@NETWORKS
def test_one_by_one_is_the_same(build, data):
    model = build().eval()
    x, y = normalised(data)[:5], data.labels[:5]
    result = gradient_norms_one_by_one(model, x, y)
    torch.testing.assert_close(result, literal(model, x, y), rtol=1e-4, atol=1e-6)


def test_frozen_and_shared_parameters_count_once_each():
    model = build_network(lambda: nn.Sequential(nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 6), nn.Linear(6, 4)))
    model[2].weight = model[0].weight  # tied
    data = vectors()
    expected = literal(model, data.x, data.labels)
    model[0].bias.requires_grad_(False)
    model[0].weight.requires_grad_(False)
    torch.testing.assert_close(gradient_norms(model, data.x, data.labels), expected)
    torch.testing.assert_close(gradient_norms_one_by_one(model, data.x, data.labels), expected)


class Branching(nn.Module):
    """What it computes depends on the example's numbers, which vmap cannot do."""

    def __init__(self):
        super().__init__()
        self.one, self.other, self.head = nn.Linear(6, 8), nn.Linear(6, 8), nn.Linear(8, 4)

    def forward(self, x):
        # for a batch of several the rows are sorted one by one, so that the answer is each example's own
        hidden = torch.cat([(self.one if row.sum().item() > 0 else self.other)(row[None]) for row in x])
        return self.head(hidden.tanh())


def test_what_cannot_be_vectorised_is_done_one_by_one_and_said(monkeypatch):
    model, data, tries = build_network(Branching), vectors(), []
    expected = literal(model, data.x, data.labels)
    monkeypatch.setattr(makers, "gradient_norms", lambda *a, **k: tries.append(a) or gradient_norms(*a, **k))
    result = probe(model, data, arrays="grad_norm", batch=5)
    assert len(tries) == 1  # of five batches, only the first is tried
    torch.testing.assert_close(result["grad_norm"], expected)
    assert len(result.notes) == 1
    assert result.notes[0].startswith("grad_norm is made an example at a time, since the model cannot be vectorised")


class Broken(nn.Module):
    def __init__(self):
        super().__init__()
        self.head, self.calls = nn.Linear(6, 4), 0

    def forward(self, x):
        if len(x) == 1:
            raise ZeroDivisionError("this network wants two")
        return self.head(x)


def test_a_model_that_cannot_run_at_all_raises_its_own_error():
    with pytest.raises(ZeroDivisionError, match="this network wants two"):
        probe(Broken(), vectors(), arrays="grad_norm")


def test_a_chunk_of_gradients_is_half_a_gigabyte_at_most():
    assert gradient_chunk(nn.Linear(1, 1)) == 128
    assert gradient_chunk(nn.Linear(1 << 20, 16, device="meta")) == (1 << 29) // (4 * ((1 << 24) + 16))
    assert gradient_chunk(nn.Linear(1 << 20, 1 << 10, device="meta")) == 1


@pytest.mark.parametrize("kind", [torch.float32, torch.float64], ids=["float32", "float64"])
def test_the_last_layers_gradient_is_that_of_autograd(kind):
    model, data = mlp(kind).eval(), vectors()
    got = probe(model, data)
    result = last_layer_gradient(got["features"], got["probs"], got["labels"])
    assert result.dtype is kind
    for i in range(len(data)):
        loss = F.cross_entropy(model(data.x[i : i + 1].to(kind)), data.labels[i : i + 1])
        weight, bias = torch.autograd.grad(loss, [model.classifier.weight, model.classifier.bias])
        torch.testing.assert_close(result[i], torch.cat([weight, bias[:, None]], dim=1).flatten())
    # and its norm is that of the factors
    error = got["probs"] - F.one_hot(got["labels"], 4)
    closed = error.norm(dim=1) * (1 + got["features"].square().sum(dim=1)).sqrt()
    torch.testing.assert_close(result.norm(dim=1), closed)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (
            (torch.ones(3, 2), torch.ones(2, 4), torch.zeros(2, dtype=torch.int64)),
            "must have the same number of examples",
        ),
        ((torch.ones(2, 2), torch.ones(2, 4), torch.tensor([0, 4])), "label 4 at example 1, but probs has 4 columns"),
        (
            (torch.ones(1, 1).expand(300_000, 1), torch.ones(1, 1).expand(300_000, 1000), torch.zeros(300_000).long()),
            "would fill 2.4 GB: give fewer rows",
        ),
    ],
    ids=["lengths", "label", "size"],
)
def test_errors_name_the_argument(arrays, message):
    with pytest.raises(ArgumentError, match=message):
        last_layer_gradient(*arrays)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_loss_of_half_precision_is_computed_in_float32(dtype):
    logits = torch.tensor([[8.0, 0.1, -3.0]], dtype=dtype)
    loss = loss_of(logits, torch.tensor([0]))
    assert loss.dtype is torch.float32
    torch.testing.assert_close(loss, torch.nn.functional.cross_entropy(logits.float(), torch.tensor([0])))
    assert 0 < float(loss) < 1e-3  # of which bfloat16 would leave nothing
