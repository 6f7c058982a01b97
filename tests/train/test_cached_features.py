"""A head trained on features that were computed once ends where it ends without the cache."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from datawinnow import fit
from datawinnow.core.errors import ArgumentError
from datawinnow.core.selection import Selection
from datawinnow.data.examples import Augment, Examples
from datawinnow.data.kept import Kept
from datawinnow.dynamic import UCB
from tests.train.helpers import PLAIN, blobs
from tests.train.test_parameter_groups import backbone_net

HEAD = {**PLAIN, "freeze": "backbone"}


@pytest.mark.parametrize("policy", [None, "ucb"])
@pytest.mark.parametrize("kept", [False, True])
def test_it_ends_as_without_the_cache(policy, kept):
    data, networks, histories = blobs(), [], []
    if kept:
        data = Kept(data, Selection.of(torch.arange(0, 60, 2).flip(0), 60))
    for cache in (False, True):
        options = {**HEAD, "policy": None if policy is None else UCB(keep=0.5), "cache_features": cache}
        network, history = fit(backbone_net(), data, epochs=4, test=blobs(), **options)
        networks.append(network)
        histories.append(history)
    for (name, value), other in zip(networks[0].named_parameters(), networks[1].parameters(), strict=True):
        assert torch.allclose(value, other, atol=1e-5), name
        assert value.requires_grad
    assert histories[0].test_accuracy == pytest.approx(histories[1].test_accuracy)
    assert histories[0].test_loss == pytest.approx(histories[1].test_loss, rel=1e-4)
    assert histories[0].rows[-1]["loss"] == pytest.approx(histories[1].rows[-1]["loss"], rel=1e-4)


def test_one_forward_pass_is_charged_and_the_head_for_each_epoch():
    history = fit(backbone_net(), blobs(), epochs=10, cache_features=True, **HEAD)[1]
    body, head = 5 * 8 + 8 * 8, 8 * 3
    assert history.cost.forward == 60
    # the head forward and backward for its weights; the pass also runs the head
    assert history.cost.flops == 2 * (body + head) * 60 + 2 * (2 * head) * 60 * 10
    full = 3 * (body + head) - 5 * 8
    assert history.cost.backward == round(60 * 2 * head / full) * 10


def test_resumed_ends_in_the_same_bytes_and_cost(tmp_path):
    options = {**HEAD, "cache_features": True}
    network, history = fit(backbone_net(), blobs(), epochs=4, **options)
    file = tmp_path / "checkpoint.safetensors"
    fit(backbone_net(), blobs(), epochs=4, checkpoint=file, stop=lambda epoch: epoch == 1, **options)
    resumed, again = fit(backbone_net(), blobs(), epochs=4, checkpoint=file, **options)
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), resumed.parameters(), strict=True))
    assert (again.cost.forward, again.cost.backward, again.cost.flops) == (
        history.cost.forward,
        history.cost.backward,
        history.cost.flops,
    )


def test_augmentation_is_off_and_that_is_said():
    g = torch.Generator().manual_seed(0)
    x = torch.randint(0, 256, (30, 3, 8, 8), generator=g, dtype=torch.uint8)
    data = Examples(x, torch.arange(30) % 3, ("a", "b", "c"), augment=Augment())
    _, history = fit("resnet8", data, epochs=1, cache_features=True, **HEAD)
    assert any("augmentation is off" in note for note in history.notes)


class Random(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Sequential(nn.Linear(5, 8), nn.Dropout(0.5)), nn.Linear(8, 3)

    def forward(self, x):
        return self.head(self.body(x))


class Changing(list):
    def __getitem__(self, i):
        return torch.rand(5), i % 3


@pytest.mark.parametrize(
    ("network", "data", "options", "match"),
    [
        (Random(), blobs(), {}, "other features in training"),
        (backbone_net(), blobs(), {"freeze": "0.0"}, "0.1.weight is trained too"),
        (backbone_net(), blobs(), {"freeze": ()}, "add `freeze='backbone'`"),
        (backbone_net(), Changing(range(9)), {}, "differs when it is read twice"),
    ],
)
def test_where_features_change_they_are_not_cached(network, data, options, match):
    with pytest.raises(ArgumentError, match=match):
        fit(network, data, epochs=1, cache_features=True, **{**HEAD, **options})
    assert all(p.requires_grad for p in network.parameters())
