"""A loss and a metric of the user's: regression, several labels an example, masks; what needs classes says so."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import TensorDataset

import datawinnow as dw
from datawinnow.core.errors import ArgumentError
from tests.train.helpers import PLAIN, blobs, vector_net, weights

G = torch.Generator().manual_seed(0)
X = torch.randn(40, 5, generator=G)
TARGETS = {
    "regression": (X @ torch.ones(5, 1), 1, lambda out, y: F.mse_loss(out, y, reduction="none").mean(1)),
    "several labels": (
        (X[:, :3] > 0).float(),
        3,
        lambda out, y: F.binary_cross_entropy_with_logits(out, y, reduction="none").mean(1),
    ),
    "masks": (
        (X[:, :4] > 0).long(),
        8,
        lambda out, y: F.cross_entropy(out.view(-1, 2, 4), y, reduction="none").mean(1),
    ),
}


def net(outputs: int) -> nn.Module:
    torch.manual_seed(0)
    return nn.Linear(5, outputs)


@pytest.mark.parametrize(("y", "outputs", "loss"), TARGETS.values(), ids=TARGETS)
def test_a_loss_of_the_user_is_trained_on_recorded_and_reported(y, outputs, loss):
    data, model = TensorDataset(X, y), net(outputs)
    expected = loss(model(X), y).detach()
    recorder = dw.Recorder(n=40, epochs=2, signals=("loss",))
    options = {**PLAIN, "batch": 40, "lr": 0.01, "weight_decay": 0.0, "momentum": 0.0}
    _, history = dw.fit(model, data, epochs=2, test=data, loss=loss, recorder=recorder, **options)
    torch.testing.assert_close(recorder["loss"][0], expected)
    assert history.rows[0]["loss"] == pytest.approx(float(expected.mean()), rel=1e-5)
    assert np.isnan(history.rows[0]["accuracy"])
    assert np.isnan(history.test_accuracy)
    assert history.test_loss < float(expected.mean())
    # the first step is that of plain gradient descent on the mean
    step = net(outputs)
    loss(step(X), y).mean().backward()
    literal = copy.deepcopy(step)
    with torch.no_grad():
        for parameter, gradient in zip(literal.parameters(), [p.grad for p in step.parameters()], strict=True):
            parameter -= 0.01 * gradient
    trained, _ = dw.fit(net(outputs), data, epochs=1, schedule_epochs=1, schedule="constant", loss=loss, **options)
    torch.testing.assert_close(weights(trained), weights(literal))
    arrays, _ = dw.fit(net(outputs), (X.numpy(), y.numpy()), epochs=1, schedule="constant", loss=loss, **options)
    torch.testing.assert_close(weights(arrays), weights(literal))


def test_a_metric_stands_in_place_of_the_accuracy():
    def close(out, y):
        return ((out - y).abs() < 1).float().mean(1)

    y, outputs, loss = TARGETS["regression"]
    data = TensorDataset(X, y)
    model, history = dw.fit(net(outputs), data, epochs=1, test=data, loss=loss, metric=close, **PLAIN)
    value, mean_loss = dw.evaluate(model, data, loss=loss, metric=close)
    assert history.test_accuracy == value == pytest.approx(float(close(model(X), y).mean()))
    assert 0 <= history.rows[0]["accuracy"] <= 1
    assert history.test_loss == mean_loss


def test_the_cross_entropy_as_a_loss_of_the_user_is_the_default():
    expected, before = dw.fit(vector_net(), blobs(), epochs=2, test=blobs(), **PLAIN)
    loss = nn.CrossEntropyLoss(reduction="none")
    trained, history = dw.fit(vector_net(), blobs(), epochs=2, test=blobs(), loss=loss, **PLAIN)
    assert torch.equal(weights(trained), weights(expected))
    assert history.rows[-1]["accuracy"] == before.rows[-1]["accuracy"]
    assert history.test_accuracy == before.test_accuracy


def test_weights_of_a_selection_multiply_the_losses():
    y, outputs, loss = TARGETS["regression"]
    index = torch.arange(40)
    selection = dw.Selection(index, torch.linspace(0, 2, 40))
    options = {**PLAIN, "batch": 40, "lr": 0.1, "weight_decay": 0.0, "momentum": 0.0, "schedule": "constant"}
    trained, _ = dw.fit(net(outputs), dw.Kept(TensorDataset(X, y), selection), epochs=1, loss=loss, **options)
    step = net(outputs)
    (loss(step(X), y) * selection.weight).mean().backward()
    torch.testing.assert_close(trained.weight, step.weight - 0.1 * step.weight.grad)


def test_a_policy_observes_the_loss_and_one_that_needs_classes_says_so():
    y, outputs, loss = TARGETS["regression"]
    _, history = dw.fit(net(outputs), TensorDataset(X, y), epochs=2, loss=loss, policy="ucb", **PLAIN)
    assert [row["examples"] for row in history.rows] == [40, 28]


@pytest.mark.parametrize(
    ("loss", "options", "message"),
    [
        (nn.MSELoss(), {}, "returns one number for the batch.*reduction='none'"),
        (nn.MSELoss(reduction="none"), {}, r"shape \(2,\), got shape \(2, 1\).*flatten\(1\).mean\(1\)"),
        (lambda out, y: out @ y, {}, r"the loss fails on outputs \(2, 1\) and targets \(2, 1\) of torch.float32"),
        (TARGETS["regression"][2], {"focal": 1.0}, "focal changes the cross-entropy"),
    ],
    ids=["mean", "matrix", "fails", "focal"],
)
def test_a_loss_that_is_not_one_number_an_example_is_refused(loss, options, message):
    with pytest.raises(ArgumentError, match=message):
        dw.fit(net(1), TensorDataset(X, TARGETS["regression"][0]), epochs=1, loss=loss, **PLAIN, **options)


@pytest.mark.filterwarnings("ignore:Using a target size")
def test_a_loss_that_pairs_every_output_with_every_target_is_refused_with_what_to_do():
    data = TensorDataset(X, X.sum(1))
    with pytest.raises(ArgumentError, match=r"outputs have shape \(2, 1\).*squeeze\(1\)") as error:
        dw.fit(net(1), data, epochs=1, loss=nn.MSELoss(reduction="none"), **PLAIN)
    # a mean over the other axis would train on every target at once
    assert "mean(1)" not in str(error.value)
    dw.fit(net(1), data, epochs=1, loss=lambda out, y: F.mse_loss(out.squeeze(1), y, reduction="none"), **PLAIN)


def test_signals_of_classes_are_not_recorded():
    y, outputs, loss = TARGETS["regression"]
    with pytest.raises(ArgumentError, match=r"p_label.* need classes.*signals=\('loss',\)"):
        dw.fit(net(outputs), TensorDataset(X, y), epochs=1, loss=loss, recorder=dw.Recorder(n=40, epochs=1), **PLAIN)


def test_the_verbs_record_choose_and_train_without_classes(tmp_path):
    y, outputs, loss = TARGETS["regression"]
    data, recipe = TensorDataset(X, y), dw.Recipe(**PLAIN, loss=loss)
    messages = []
    kwargs = {"recipe": recipe, "model": lambda: net(outputs), "epochs": 2}
    kept = dw.prune(data, keep=0.5, score="loss", run=tmp_path / "prune", test=data, log=messages.append, **kwargs)
    assert len(kept) == 20
    assert set(kept.run.arrays()) == {"loss", "seen"}
    losses = kept.run.arrays()["loss"]
    assert torch.isfinite(losses).all()
    assert kept.run.metadata["result"]["test_accuracy"] is None
    trained = dw.api.train(data, select=tmp_path / "prune", test=data, run=tmp_path / "train", **kwargs)
    assert trained.accuracy is None
    assert trained.run.metadata["result"]["test_loss"] > 0
    with pytest.raises(ArgumentError, match=r"DUAL\+Beta needs p_label, which only classes have"):
        dw.prune(data, keep=0.5, run=tmp_path / "dual", **kwargs)
    with pytest.raises(ArgumentError, match="has no classes, so its network cannot be chosen"):
        dw.prune(data, keep=0.5, score="loss", recipe=recipe, epochs=1)
    with pytest.raises(ArgumentError, match="race compares accuracies"):
        dw.race(data, test=data, budget=1, recipe=recipe)
