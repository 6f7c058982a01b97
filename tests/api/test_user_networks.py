"""``model=`` in every verb: a network, a class, a function; where several are needed, what happens to its weights."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import datawinnow as dw
from datawinnow.core.errors import ArgumentError, RunError
from tests.train.helpers import PLAIN, blobs, images, weights

RECIPE = dw.Recipe(**PLAIN)


class Net(nn.Module):
    """A network whose outputs are a dict."""

    def __init__(self, features: int = 5, classes: int = 3) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(features, 4), nn.ReLU(), nn.Linear(4, classes))

    def forward(self, x):
        return {"logits": self.layers(x)}


def test_a_network_starts_every_training_from_its_weights_and_stays_as_it_is(tmp_path):
    torch.manual_seed(0)
    net = Net()
    before = weights(net)
    options = {"recipe": RECIPE, "model": net, "test": blobs(12)}
    kept = dw.prune(blobs(), keep=0.5, score="el2n", epochs=1, check=True, run=tmp_path / "prune", **options)
    assert len(kept) == 30
    trained = dw.api.train(kept.dataset, epochs=1, run=tmp_path / "train", **options)
    expected, _ = dw.fit(Net(), blobs(), epochs=1, **PLAIN)
    assert trained.run.metadata["model"]["parameters"] == sum(p.numel() for p in expected.parameters())
    result = dw.race(blobs(), budget=1, policy="ucb", seeds=2, out=tmp_path / "race", report=False, **options)
    assert len(result.rows) == 4
    with pytest.raises(RunError, match="model"):  # rows of another network
        dw.race(blobs(), budget=1, policy="ucb", out=tmp_path / "race", report=False, **{**options, "model": Net()})
    assert torch.equal(weights(net), before)


def test_a_recording_of_a_network_with_other_weights_is_not_taken_for_this_one(tmp_path):
    torch.manual_seed(0)
    dw.api.record(blobs(), epochs=1, recipe=RECIPE, model=Net(), run=tmp_path / "run")
    torch.manual_seed(0)
    dw.api.record(blobs(), epochs=1, recipe=RECIPE, model=Net(), run=tmp_path / "run")
    with pytest.raises(RunError, match="model"):
        dw.api.record(blobs(), epochs=1, recipe=RECIPE, model=Net(), run=tmp_path / "run")


def test_a_class_draws_its_weights_from_the_seed(tmp_path):
    first, second = (
        dw.api.record(blobs(), epochs=1, recipe=RECIPE, model=Net, run=tmp_path / str(i), seed=3).arrays()["loss"]
        for i in range(2)
    )
    assert torch.equal(first, second)


def test_condensing_takes_a_class_and_refuses_one_network():
    data = images(40, size=8)
    options = {"per_class": 1, "iterations": 1, "judging": None}
    with pytest.raises(ArgumentError, match="give the class, model=Net"):
        dw.api.condense(data, model=Net(), **options)
