"""Networks as users have them: what they return, what they take, modes, frozen and lazy layers, classes and names."""

from __future__ import annotations

import copy
import pickle
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from datawinnow.core.errors import ArgumentError, TrainingError
from datawinnow.data.examples import Examples
from datawinnow.models import build
from datawinnow.models.outputs import select_logits
from datawinnow.train import evaluate, fit
from tests.train.helpers import PLAIN, blobs, images, vector_net, weights


class Returning(nn.Module):
    """A linear layer whose logits are handed to ``form``."""

    def __init__(self, form, classes: int = 3) -> None:
        super().__init__()
        self.layer, self.form = nn.Linear(5, classes), form

    def forward(self, x):
        return self.form(self.layer(x))


FORMS = {
    "dict": lambda z: {"loss": None, "logits": z},
    "other_key": lambda z: {"features": torch.zeros(len(z), 7), "out": z},
    "tuple": lambda z: (torch.zeros(len(z), 7), z),
    "object": lambda z: SimpleNamespace(logits=z, loss=None),
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_logits_are_taken_out_of_what_the_network_returns(form):
    torch.manual_seed(0)
    plain = Returning(lambda z: z)
    wrapped = copy.deepcopy(plain)
    wrapped.form = form
    expected, _ = fit(plain, blobs(), epochs=2, test=blobs(), **PLAIN)
    trained, history = fit(wrapped, blobs(), epochs=2, test=blobs(), **PLAIN)
    assert torch.equal(weights(trained), weights(expected))
    assert history.test_accuracy == evaluate(trained, blobs())[0]
    assert not isinstance(trained(blobs().x), torch.Tensor)  # unchanged afterwards


def test_a_tuple_of_two_possible_logits_is_refused():
    with pytest.raises(ArgumentError, match=r"0 \(2, 3\), 1 \(2, 3\), of which several can be the logits"):
        fit(Returning(lambda z: (z, z)), blobs(), epochs=1, **PLAIN)
    assert select_logits((torch.zeros(2, 3), torch.zeros(2, 4)), 4).shape == (2, 4)


def test_both_shapes_are_named_where_the_network_cannot_take_the_examples():
    with pytest.raises(ArgumentError, match=r"x of shape \(5,\).*takes 7 features, an example has 5"):
        fit(nn.Linear(7, 3), blobs(), epochs=1, **PLAIN)
    convolution = nn.Sequential(nn.Conv2d(1, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    with pytest.raises(ArgumentError, match=r"x of shape \(3, 12, 12\).*takes 1 channels, an example has 3"):
        fit(convolution, images(), epochs=1, **PLAIN)


def test_half_precision_and_missing_weights_are_refused():
    with pytest.raises(ArgumentError, match=r"weights of torch\.float16.*model.float\(\)"):
        fit(vector_net().half(), blobs(), epochs=1, **PLAIN)
    with pytest.raises(ArgumentError, match="meta device"):
        fit(nn.Linear(5, 3, device="meta"), blobs(), epochs=1, **PLAIN)


def test_frozen_parts_keep_their_batch_norm_statistics_and_modes_are_restored():
    net = nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.BatchNorm1d(4), nn.Linear(4, 3))
    for parameter in net[:2].parameters():
        parameter.requires_grad = False
    net[3].eval()  # a choice of the user that evaluation must not change
    frozen, trained = net[1].running_mean.clone(), net[3].running_mean.clone()
    evaluate(net, blobs())
    assert [module.training for module in net] == [True, True, True, False, True]
    fit(net, blobs(), epochs=1, **PLAIN)
    assert torch.equal(net[1].running_mean, frozen)
    assert not torch.equal(net[3].running_mean, trained)


def test_unused_parameters_do_not_stop_training():
    net = Returning(lambda z: z)
    net.unused = nn.Linear(2, 2)
    before = net.unused.weight.clone()
    fit(net.eval(), blobs(), epochs=1, **PLAIN)
    assert torch.equal(net.unused.weight, before)


def test_lazy_layers_are_initialised_by_the_seed():
    def train(seed):
        return weights(
            fit(nn.Sequential(nn.LazyLinear(6), nn.ReLU(), nn.LazyLinear(3)), blobs(), epochs=1, seed=seed, **PLAIN)[0]
        )

    torch.manual_seed(5)
    first = train(1)
    torch.manual_seed(6)
    assert torch.equal(train(1), first)
    assert not torch.equal(train(2), first)


class Narrow(nn.Module):
    """Named as in timm and torchvision."""

    def __init__(self, in_features: int, num_classes: int, hidden: int = 4) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(in_features, hidden), nn.ReLU(), nn.Linear(hidden, num_classes))

    def forward(self, x):
        return {"logits": self.layers(x)}


@pytest.mark.parametrize("model", [Narrow, lambda: Narrow(5, 3), "mlp", None], ids=["class", "factory", "name", "none"])
def test_fit_builds_the_network_from_its_seed(model):
    torch.manual_seed(1)
    net, history = fit(model, blobs(), epochs=1, seed=3, **PLAIN)
    torch.manual_seed(2)
    again, _ = fit(model, blobs(), epochs=1, seed=3, **PLAIN)
    assert torch.equal(weights(net), weights(again))
    assert history.rows
    assert isinstance(net, nn.Module)


def test_what_is_no_network_is_refused():
    with pytest.raises(ArgumentError, match="Module, its name, or a class"):
        fit(3, blobs(), epochs=1, **PLAIN)


def test_a_network_is_copied_with_its_weights_and_stays_as_it_is():
    torch.manual_seed(0)
    net = Narrow(5, 3)
    before = weights(net)
    copied = build(net, shape=(5,), classes=3)
    assert torch.equal(weights(copied), before)
    with torch.no_grad():
        copied.layers[0].weight.zero_()
    assert torch.equal(weights(net), before)
    assert isinstance(copied(torch.zeros(2, 5)), torch.Tensor)
    pickle.dumps(copied)
    with pytest.raises(ArgumentError, match="is built already: give model=Narrow"):
        build(net, shape=(5,), classes=3, hidden=2)


def test_a_function_that_needs_more_than_the_examples_tell_is_named():
    def net(depth, classes):
        return nn.Linear(5, classes + depth)

    with pytest.raises(ArgumentError, match=r"model net needs depth.*model_options=.'depth': ....*without arguments"):
        build(net, shape=(5,), classes=3)
    assert build(net, shape=(5,), classes=3, depth=1).out_features == 4


def test_a_module_of_the_working_directory_is_imported(tmp_path, monkeypatch):
    (tmp_path / "nets_of_user.py").write_text(
        "from torch import nn\nimport helper_of_user\n"
        "def net(classes, features):\n    return nn.Linear(features, classes)\n"
    )
    (tmp_path / "helper_of_user.py").write_text("")
    monkeypatch.chdir(tmp_path)
    assert build("nets_of_user:net", shape=(5,), classes=3).out_features == 3


def test_nan_in_the_data_is_named_and_not_blamed_on_the_learning_rate():
    data = blobs()
    x = data.x.clone()
    x[[7, 31], 2] = float("nan")
    with pytest.raises(TrainingError, match=r"x holds NaN or infinity \(examples 7, 31\).*began in step \d of 4"):
        fit(vector_net(), [(row, int(y)) for row, y in zip(x, data.labels, strict=True)], epochs=1, **PLAIN)


def test_the_step_in_which_the_loss_became_nan_is_named():
    def train(lr):
        fit(vector_net(), blobs(), epochs=3, lr=lr, weight_decay=0.0, **PLAIN)

    with pytest.raises(TrainingError, match=r"epoch 0: try a lower `lr=` .*It began in step [2-4] of 4. The 0 epochs"):
        train(1e6)


def test_examples_is_not_made_of_nan():
    x = torch.zeros(4, 2)
    x[2, 1] = float("inf")
    with pytest.raises(ValueError, match="x is inf for example 2"):
        Examples(x, torch.tensor([0, 1, 0, 1]), ("a", "b"))
