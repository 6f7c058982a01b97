"""The head is found by running the model, and an error says what to pass where it cannot be."""

import pytest
import torch
from torch import nn

from datawinnow.core.errors import ArgumentError
from datawinnow.models.head import find_head
from datawinnow.probe import probe
from tests.probe.helpers import Backwards, build_network, convnet, images, mlp, normalised, resnet8, vectors


@pytest.mark.parametrize(
    ("build", "data", "name", "upto"),
    [
        (resnet8, images(), "classifier", lambda m, x: m.features(x)),
        (convnet, images(), "classifier", lambda m, x: m.features(x)),
        (mlp, vectors(), "classifier", lambda m, x: m.hidden(x)),
        (lambda: build_network(Backwards), vectors(), "out", lambda m, x: m.hidden(x)),
    ],
    ids=["resnet8", "convnet", "mlp", "head registered first"],
)
def test_features_are_what_goes_into_it_and_probs_what_comes_out(build, data, name, upto):
    model = build()
    result = probe(model, data, batch=5)
    assert result.head == name
    assert result.notes == ()
    with torch.no_grad():
        expected = upto(model.eval(), normalised(data))
        logits = model(normalised(data))
    assert expected.std() > 0
    torch.testing.assert_close(result["features"], expected)
    torch.testing.assert_close(result["probs"], logits.softmax(dim=1))


def test_the_last_linear_layer_to_run_need_not_be_the_head():
    class Aside(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc, self.aside = nn.Linear(6, 4), nn.Linear(6, 4)

        def forward(self, x):
            logits = self.fc(x)
            self.seen = self.aside(x)  # runs after the head, and is not returned
            return logits

    assert probe(build_network(Aside), vectors()).head == "fc"


@pytest.mark.parametrize(
    "then",
    [lambda z: z / 2, lambda z: z.log_softmax(dim=1), lambda z: z.mul_(2), lambda z: z.flip(1)],
    ids=["temperature", "log-softmax", "in place", "reordered"],
)
def test_an_output_through_another_operation_is_refused_and_told_the_way_out(then):
    model, data = build_network(lambda: Backwards(then=then)).eval(), vectors()
    with pytest.raises(
        ArgumentError, match=r"something comes after. Pass head='out' to take its output for the logits"
    ):
        probe(model, data)
    result = probe(model, data, head="out")
    with torch.no_grad():
        hidden = model.hidden(data.x)
        expected = model.out(hidden).softmax(dim=1)
    torch.testing.assert_close(result["probs"], expected)
    torch.testing.assert_close(result["features"], hidden)
    assert "is not what the model returns" in result.notes[0]


@pytest.mark.parametrize("then", [lambda z: z.clone(), lambda z: z.double()], ids=["copied", "another type"])
def test_the_same_numbers_in_another_tensor_are_the_heads(then):
    assert probe(build_network(lambda: Backwards(then=then)), vectors()).head == "out"


def test_a_model_that_returns_more_than_logits_can_be_told_its_head():
    model, data = build_network(lambda: Backwards(then=lambda z: {"logits": z})), vectors()
    with pytest.raises(ArgumentError, match=r"logits of shape \(batch, classes\), got dict: wrap it .* or pass head="):
        probe(model, data)
    plain = build_network(Backwards)
    for head in ("out", model.out):
        result = probe(model, data, arrays=("features", "probs", "grad_norm", "curvature"), head=head)
        expected = probe(plain, data, arrays=("features", "probs", "grad_norm", "curvature"))
        for name, array in expected.items():
            assert torch.equal(result[name], array), name


class Convolutional(nn.Module):
    """A head of 1 x 1 convolution, averaged over the image."""

    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 3, 1)

    def forward(self, x):
        return self.head(self.body(x).relu()).mean(dim=(2, 3))


def test_without_a_linear_layer_the_error_says_what_to_pass():
    model, data = build_network(Convolutional), images()
    message = r"runs no torch.nn.Linear.* pass head= the module .* whose input are the features. A backbone"
    with pytest.raises(ArgumentError, match=message):
        probe(model, data)
    result = probe(model, data, head="head")
    with torch.no_grad():
        torch.testing.assert_close(result["features"], model.body(normalised(data)).relu().flatten(1))
        torch.testing.assert_close(result["probs"], model(normalised(data)).softmax(dim=1))
    assert result.notes == ("the head 'head' is not a linear layer",)


def test_a_backbone_alone_gives_features_as_the_error_says():
    body = build_network(lambda: nn.Sequential(nn.Linear(6, 5), nn.ReLU()))
    result = probe(nn.Sequential(body, nn.Identity()), vectors(), arrays="features", head="1")
    torch.testing.assert_close(result["features"], body(vectors().x).detach())


def test_a_head_that_runs_twice_is_said():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(6, 6)

        def forward(self, x):
            return self.fc(self.fc(x).relu())

    model = build_network(Twice)
    result = probe(model, vectors())
    torch.testing.assert_close(result["features"], model.fc(vectors().x).relu().detach())
    assert "runs 2 times" in result.notes[0]


def test_no_hook_is_left_behind():
    model = mlp()
    probe(model, vectors())
    with pytest.raises(ArgumentError):
        probe(model, vectors(), head="nothing")
    assert not any(module._forward_hooks for module in model.modules())


class Tokens(nn.Module):
    """The head sees every token of every example, and the model their mean."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(2, 4)

    def forward(self, x):
        return self.head(x.view(-1, 2)).view(len(x), 3, 4).mean(dim=1)


@pytest.mark.parametrize(
    ("build", "head", "message"),
    [
        (
            mlp,
            "fc",
            "head='fc' is not a module of the model MLP; it has the linear layers hidden.1, hidden.3, classifier",
        ),
        (mlp, "", "head='' is not a module"),
        (mlp, nn.Linear(2, 2), "got a Linear that is not in it; it has the linear layers"),
        (Tokens, "head", r"logits of shape \(2, classes\) for 2 examples, got \(6, 4\)"),
    ],
    ids=["unknown name", "the model itself", "another's module", "tokens"],
)
def test_a_head_that_is_none_is_refused(build, head, message):
    with pytest.raises(ArgumentError, match=message):
        probe(build(), vectors(), head=head)


def test_a_head_that_does_not_run_is_refused():
    model = build_network(Backwards)
    model.spare = nn.Linear(3, 3)
    with pytest.raises(ArgumentError, match="head='spare' does not run in the model Backwards"):
        find_head(model.eval(), vectors().x, "spare")


def test_features_whose_rows_are_not_the_examples_are_refused():
    class Patches(nn.Module):
        def __init__(self):
            super().__init__()
            self.body, self.fc = nn.Identity(), nn.Linear(6, 4)

        def forward(self, x):
            self.body(x.view(-1, 2))
            return self.fc(x)

    with pytest.raises(ArgumentError, match=r"the head 'body' got an input of shape \(69, 2\) for 23 examples"):
        probe(build_network(Patches), vectors(), head="body")
