"""Layers frozen and learning rates by layer: what is trained, how fast, and what it costs."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from datawinnow import Recipe, fit
from datawinnow.core.errors import ArgumentError, RunError
from datawinnow.dynamic import UCB
from datawinnow.models import build
from tests.data.texts import write_model
from tests.train.helpers import PLAIN, blobs, vector_net


def values_of(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def changed(model: nn.Module, before: dict[str, torch.Tensor]) -> set[str]:
    """Names of what is no longer as it was."""
    return {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}


def backbone_net() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        body = nn.Sequential(nn.Linear(5, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU())
        return nn.Sequential(body, nn.Linear(8, 3))


@pytest.mark.parametrize(
    ("freeze", "trained"),
    [
        (("0.0",), {"0.1", "0.3", "1"}),
        (("0.0", "0.1"), {"0.3", "1"}),
        ("0", {"1"}),
        (("backbone",), {"1"}),
        (("0.3.weight",), {"0.0", "0.1", "0.3", "1"}),
    ],
)
def test_what_is_frozen_stays_and_the_rest_is_trained(freeze, trained):
    net = backbone_net()
    before = values_of(net)
    fit(net, blobs(), epochs=1, freeze=freeze, **PLAIN)
    assert {name.rsplit(".", 1)[0] for name in changed(net, before)} == trained
    if freeze == ("0.3.weight",):
        assert "0.3.weight" not in changed(net, before)
    # the next training is free to train all of it
    assert all(p.requires_grad for p in net.parameters())


def test_a_refused_training_leaves_nothing_frozen():
    net = backbone_net()
    with pytest.raises(ArgumentError, match="plans full epochs"):
        fit(net, blobs(), epochs=1.5, policy=UCB(keep=0.5), freeze="backbone", **PLAIN)
    assert all(p.requires_grad for p in net.parameters())


def test_a_module_named_backbone_is_that_module():
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.backbone, self.neck, self.fc = nn.Linear(5, 4), nn.Linear(4, 4), nn.Linear(4, 3)

        def forward(self, x):
            return self.fc(self.neck(self.backbone(x)).relu())

    net = Net()
    before = values_of(net)
    fit(net, blobs(), epochs=1, freeze="backbone", **PLAIN)
    assert changed(net, before) == {"neck.weight", "neck.bias", "fc.weight", "fc.bias"}


def test_what_the_user_froze_stays_frozen():
    net = backbone_net()
    net[0][3].requires_grad_(False)
    fit(net, blobs(), epochs=1, freeze="0", **PLAIN)
    assert [p.requires_grad for p in net[0][3].parameters()] == [False, False]
    assert all(p.requires_grad for p in net[0][0].parameters())


def test_names_of_transformers_leave_out_the_wrapper_and_the_base_model(tmp_path):
    name = write_model(tmp_path / "tiny")
    g = torch.Generator().manual_seed(0)
    x = torch.randint(1, 20, (24, 6), generator=g).int()
    for freeze in (("embeddings", "encoder.layer.0"), ("bert.embeddings", "network.bert.encoder.layer.0")):
        net = build(name, shape=(6,), classes=3, vocabulary=40, tokenizer=name)
        before = values_of(net)
        fit(net, [(row, i % 3) for i, row in enumerate(x)], epochs=1, freeze=freeze, **PLAIN)
        names = changed(net, before)
        assert not any("embeddings" in each or "layer.0" in each for each in names)
        assert any("layer.1" in each for each in names)
        assert any("classifier" in each for each in names)


@pytest.mark.parametrize("lr_scale", [{"backbone": 0.1, "0.3": 0.5}, {"0.3": 0.5, "0": 0.1}])
def test_learning_rates_by_layer_are_those_of_torchs_groups(lr_scale):
    """One step of SGD without momentum: the step is the gradient times the rate."""
    steps = {}
    for key, options in (("plain", {}), ("scaled", {"lr_scale": lr_scale})):
        net = backbone_net()
        before = values_of(net)
        plain = {**PLAIN, "batch": 60, "schedule": "constant"}
        fit(net, blobs(), epochs=1, momentum=0.0, weight_decay=0.0, **options, **plain)
        steps[key] = {name: p.detach() - before[name] for name, p in net.named_parameters()}
    factors = {"0.0": 0.1, "0.1": 0.1, "0.3": 0.5, "1": 1.0}
    for name, step in steps["scaled"].items():
        # a bias before batch norm has no gradient
        assert name == "0.0.bias" or step.abs().max() > 1e-4
        assert torch.allclose(step, factors[name.rsplit(".", 1)[0]] * steps["plain"][name], rtol=1e-3, atol=1e-7)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_interrupted_and_resumed_ends_in_the_same_bytes(tmp_path, optimizer):
    options = {**PLAIN, "optimizer": optimizer, "lr": 0.01, "freeze": ["0.0"], "lr_scale": {"1": 3.0, "0.3": 0.5}}
    uninterrupted = fit(backbone_net(), blobs(), epochs=4, **options)[0]
    file = tmp_path / "checkpoint.safetensors"
    fit(backbone_net(), blobs(), epochs=4, checkpoint=file, stop=lambda epoch: epoch == 1, **options)
    resumed = fit(backbone_net(), blobs(), epochs=4, checkpoint=file, **options)[0]
    assert changed(resumed, values_of(uninterrupted)) == set()
    with pytest.raises(RunError, match="parameter_groups"):
        fit(backbone_net(), blobs(), epochs=4, checkpoint=file, **{**options, "freeze": ["0.3"], "lr_scale": {}})
    with pytest.raises(RunError, match="parameter_groups"):
        fit(backbone_net(), blobs(), epochs=4, checkpoint=file, **{**options, "freeze": [], "lr_scale": {}})


def test_a_frozen_backbone_is_charged_its_forward_pass():
    multiplies = [5 * 8, 8 * 8, 8 * 3]  # of each linear layer
    full = fit(backbone_net(), blobs(), epochs=2, **PLAIN)[1].cost
    head = fit(backbone_net(), blobs(), epochs=2, freeze="backbone", **PLAIN)[1].cost
    # forward through all; backward for the weights of the head alone
    operations = 2 * (sum(multiplies) + multiplies[2])
    assert head.flops == operations * 60 * 2
    assert full.flops == 2 * (3 * sum(multiplies) - multiplies[0]) * 60 * 2
    assert full.backward == 120
    assert head.backward == round(60 * head.flops / full.flops) * 2
    # a frozen layer below a trained one: a gradient passes through it, but none is taken for its weights
    middle = fit(backbone_net(), blobs(), epochs=2, freeze="0.3", **PLAIN)[1].cost
    assert middle.flops == full.flops - 2 * multiplies[1] * 120


def test_the_counted_step_is_the_real_one():
    from datawinnow.core.operations import flop_counter

    data = blobs()
    options = {**PLAIN, "batch": 60, "freeze": "backbone"}
    net = backbone_net()
    history = fit(net, data, epochs=1, **options)[1]
    for parameter in net[0].parameters():
        parameter.requires_grad_(False)
    with flop_counter() as counter:
        torch.nn.functional.cross_entropy(net.train()(data.x), data.labels).backward()
    assert history.cost.flops == counter.get_total_flops()


def test_it_is_written_into_the_metadata_only_where_it_is_set():
    assert {"freeze", "lr_scale"}.isdisjoint(Recipe().metadata())
    recipe = Recipe(freeze="backbone", lr_scale={"head": 2})
    assert recipe.freeze == ("backbone",)
    assert recipe.metadata()["lr_scale"] == {"head": 2}


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"freeze": "layer1"}, r"has no module or parameter 'layer1'; it has 0, 1, and 'backbone'"),
        ({"freeze": ["0.0.weigh"]}, "has no module or parameter '0.0.weigh'"),
        ({"freeze": ["0", "1"]}, r"leaves nothing to train .*: leave its head out"),
        ({"lr_scale": {"2": 0.1}}, r"lr_scale={'2': ...}.*has no module"),
        ({"freeze": "0", "lr_scale": {"0.0": 0.1}}, "is for frozen parameters only"),
        ({"lr_scale": {"0": 0}}, "lr_scale of '0' must be a number"),
        ({"lr_scale": {"0": "a"}}, "lr_scale of '0' must be a number"),
        ({"freeze": [3]}, "take names of modules, got 3"),
    ],
)
def test_names_and_factors_that_cannot_be_meant_are_refused(options, match):
    with pytest.raises(ArgumentError, match=match):
        fit(backbone_net(), blobs(), epochs=1, **options, **PLAIN)


def test_a_head_that_cannot_be_found_is_no_backbone():
    net = nn.Sequential(vector_net(), nn.Softmax(1))
    with pytest.raises(ArgumentError, match=r"head, which is not found.*Name the modules instead"):
        fit(net, blobs(), epochs=1, freeze="backbone", **PLAIN)


def test_batch_norms_of_frozen_layers_keep_their_statistics():
    net = backbone_net()
    mean = net[0][1].running_mean.clone()
    fit(net, blobs(), epochs=1, freeze="0.1", **PLAIN)
    assert torch.equal(net[0][1].running_mean, mean)
    fit(net, blobs(), epochs=1, **PLAIN)
    assert not torch.equal(net[0][1].running_mean, mean)
