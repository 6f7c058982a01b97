"""`fit` against a literal loop, and what it promises about seeds, selections, datasets and devices."""

import math
from dataclasses import dataclass

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from datawinnow.core.errors import ArgumentError, DataError, TrainingError
from datawinnow.core.selection import Selection
from datawinnow.data.examples import Augment, Examples
from datawinnow.data.kept import Kept
from datawinnow.dynamic import RandomPruning
from datawinnow.record import Recorder
from datawinnow.train import Recipe, fit
from datawinnow.train.network import device_for
from tests.train.helpers import PLAIN, blobs, image_net, images, literal_fit, vector_net, weights


def half_cosine(t):
    return 0.5 * (1 + math.cos(math.pi * t))


def up_and_down(t):
    if t < 0.3:
        return 1 / 25 + (1 - 1 / 25) * (0.5 - 0.5 * math.cos(math.pi * t / 0.3))
    return half_cosine((t - 0.3) / 0.7)


SELECTION = Selection(torch.arange(59, 20, -1), torch.linspace(0, 3, 39))
CASES = {
    "sgd cosine": ({}, {}, None),
    "first part of a long run": ({"schedule_epochs": 7}, {"schedule_epochs": 7}, None),
    "adamw one-cycle": (
        {"optimizer": "adamw", "schedule": "one_cycle", "lr": 0.01},
        {"optimizer": "adamw", "factor": up_and_down, "peak": 0.01},
        None,
    ),
    "adamw default lr": ({"optimizer": "adamw"}, {"optimizer": "adamw", "peak": 0.001}, None),
    "label smoothing": ({"label_smoothing": 0.2}, {"smoothing": 0.2}, None),
    "focal": ({"focal": 2.0}, {"gamma": 2.0}, None),
    "focal, weighted": ({"focal": 0.5}, {"gamma": 0.5}, SELECTION),
    "constant": ({"schedule": "constant"}, {"factor": lambda t: 1.0}, None),
    "own schedule": ({"schedule": lambda t: 1 - t}, {"factor": lambda t: 1 - t}, None),
    "weighted selection": ({}, {}, SELECTION),
    "one a batch": ({"batch": 1, "lr": 0.01}, {"batch": 1, "peak": 0.01}, SELECTION),
}


@pytest.mark.parametrize("case", list(CASES), ids=list(CASES))
def test_fit_matches_the_literal_loop(case):
    options, literally, selection = CASES[case]
    data, model = blobs(), vector_net()
    kwargs = {"epochs": 3, "schedule_epochs": 3, "batch": 16, "seed": 5, "peak": 0.1, "factor": half_cosine} | literally
    weight = None
    if selection is not None:
        weight = torch.zeros(60)
        weight[selection.index] = selection.weight
    index = torch.arange(60) if selection is None else selection.index
    expected, rates = literal_fit(model, data.x, data.labels, index=index, weight=weight, **kwargs)
    dataset = data if selection is None else Kept(data, selection)
    trained, history = fit(model, dataset, epochs=3, seed=5, **{**PLAIN, **options})
    assert trained is model
    torch.testing.assert_close(weights(trained), expected, rtol=2e-4, atol=2e-5)
    ends = rates[len(rates) // 3 - 1 :: len(rates) // 3]
    assert [row["learning_rate"] for row in history.rows] == pytest.approx(ends, abs=1e-12)
    assert [row["examples"] for row in history.rows] == [len(index)] * 3
    assert history.cost.backward == 3 * len(index)
    assert history.cost.forward == 0


@pytest.mark.parametrize(
    ("epochs", "counts"),
    [(1.5, [60, 30]), (0.4, [24]), (2.05, [60, 60]), (2.13, [60, 60, 8]), (0.01, [1]), (2.0, [60, 60])],
)
def test_a_fraction_of_an_epoch_is_its_first_examples_and_the_schedule_ends_with_it(epochs, counts, tmp_path):
    data, model, seen = blobs(), vector_net(), []
    kwargs = {"index": torch.arange(60), "batch": 16, "seed": 5, "peak": 0.1, "factor": half_cosine}
    expected, rates = literal_fit(
        model, data.x, data.labels, epochs=len(counts), schedule_epochs=None, last=counts[-1], **kwargs
    )
    on_step = lambda stage, done, total: seen.append((done, total))  # noqa: E731
    stop = tmp_path / "checkpoint.safetensors"
    _, history = fit(model, data, epochs=epochs, seed=5, progress=on_step, checkpoint=stop, test=data, **PLAIN)
    torch.testing.assert_close(weights(model), expected, rtol=2e-4, atol=2e-5)
    assert [row["examples"] for row in history.rows] == counts
    assert history.cost.backward == sum(counts)
    assert history.rows[-1]["learning_rate"] == pytest.approx(rates[-1], abs=1e-12)
    assert seen == [(i + 1, len(rates)) for i in range(len(rates))]
    # the means are over what was passed, and a finished run is not gone on with
    assert 0 < history.rows[-1]["loss"] < 3
    assert math.isfinite(history.test_accuracy)
    again, told_again = fit(vector_net(), data, epochs=epochs, seed=5, checkpoint=stop, test=data, **PLAIN)
    assert torch.equal(weights(again), weights(model))
    assert repr(told_again.rows) == repr(history.rows)  # NaN is not NaN


@pytest.mark.parametrize(
    ("net", "match"),
    [
        (lambda: nn.Linear(5, 2), "the model Linear has 2 outputs, but the dataset has 3 classes: build it with cla"),
        (lambda: nn.Sequential(nn.Linear(5, 3), nn.Flatten(0)), r"must give logits of shape \(batch, classes\), got"),
        (lambda: nn.LSTM(5, 4), "the model LSTM must give logits .* got tuple"),
    ],
    ids=["few", "flat", "tuple"],
)
@pytest.mark.parametrize("outside", [False, True])
def test_outputs_that_fit_no_loss_are_named_before_training(net, match, outside):
    steps, data = [], blobs()
    if outside:  # tells its labels, but not its classes
        data = TensorDataset(data.x, data.labels)
        data.labels = blobs().labels
    with pytest.raises(ArgumentError, match=match):
        fit(net(), data, epochs=1, progress=lambda *_: steps.append(1), **PLAIN)
    assert not steps


def test_a_self_normalised_step_does_not_grow_with_the_weights():
    chosen, kwargs = torch.arange(59, 20, -1), {**PLAIN, "batch": 64}
    light = Selection(chosen, torch.linspace(0.5, 3, 39))
    heavy = Selection(chosen, 10 * torch.linspace(0.5, 3, 39))
    nets = []
    for selection, reduction in ((light, "self_normalised"), (heavy, "self_normalised"), (light, "mean")):
        nets.append(vector_net())
        fit(nets[-1], Kept(blobs(), selection), epochs=2, reduction=reduction, **kwargs)
    torch.testing.assert_close(weights(nets[0]), weights(nets[1]))
    assert not torch.allclose(weights(nets[0]), weights(nets[2]))
    # one batch an epoch of mean weight 1.75: the mean is 1.75 times the weighted mean
    again = vector_net()
    scaled = Selection(chosen, light.weight / light.weight.mean())
    fit(again, Kept(blobs(), scaled), epochs=2, reduction="mean", **kwargs)
    torch.testing.assert_close(weights(nets[0]), weights(again), rtol=1e-4, atol=1e-6)


def test_compile_runs_the_compiled_network_to_the_same_weights(monkeypatch):
    compiled, plain = [], torch.compile

    def eager(network):
        compiled.append(network)
        return plain(network, backend="eager")

    monkeypatch.setattr(torch, "compile", eager)
    one, _ = fit(vector_net(norm=True), blobs(), epochs=2, test=blobs(), compile=True, **PLAIN)
    two, _ = fit(vector_net(norm=True), blobs(), epochs=2, test=blobs(), **PLAIN)
    assert len(compiled) == 1
    torch.testing.assert_close(weights(one), weights(two))


def test_the_history_is_the_training_batches_before_each_step():
    data = blobs(16)
    recorder = Recorder(16, 2)
    _, history = fit(vector_net(), data, epochs=2, recorder=recorder, **PLAIN)
    for row, loss, correct in zip(history.rows, recorder["loss"], recorder["correct"], strict=True):
        assert row["loss"] == pytest.approx(float(loss.mean()), rel=1e-6)
        assert row["accuracy"] == pytest.approx(float(correct.float().mean()))
    logits = vector_net()(data.x)  # the first batch holds all 16, seen by the fresh network
    assert history.rows[0]["loss"] == pytest.approx(
        float(nn.functional.cross_entropy(logits, data.labels).detach()), rel=1e-5
    )


def test_same_seed_same_weights_other_seed_other():
    def train(seed):
        return weights(fit(vector_net(dropout=0.5), blobs(), epochs=2, seed=seed, **PLAIN)[0])

    assert torch.equal(train(1), train(1))
    assert not torch.allclose(train(1), train(2))


@pytest.mark.parametrize("seed", [0, 1])
def test_dropout_depends_on_the_seed_and_not_on_the_global_state(seed):
    result = []
    for state in (11, 12):
        torch.manual_seed(state)
        result.append(weights(fit(vector_net(dropout=0.5), blobs(), epochs=1, seed=seed, **PLAIN)[0]))
    assert torch.equal(result[0], result[1])
    without = weights(fit(vector_net(), blobs(), epochs=1, seed=seed, **PLAIN)[0])
    assert not torch.allclose(result[0], without)


def test_dropout_is_another_in_every_epoch_and_for_every_seed():
    one = Examples(torch.ones(1, 40), torch.tensor([0]), ("a", "b"))  # its order cannot differ
    losses = {
        row["loss"]
        for seed in range(3)
        for row in fit(
            nn.Sequential(nn.Dropout(0.5), nn.Linear(40, 2)).apply(_counting),
            one,
            epochs=3,
            seed=seed,
            **{**PLAIN, "lr": 1e-12},
        )[1].rows
    }
    assert len(losses) == 9


def _counting(module):
    if isinstance(module, nn.Linear):
        nn.init.zeros_(module.bias)
        module.weight.data = torch.arange(80.0).reshape(2, 40).square() / 4000


class Jittered(torch.utils.data.Dataset):
    """A dataset whose transform draws from the global generator."""

    def __len__(self):
        return 20

    def __getitem__(self, i):
        return torch.randn(5) + i % 3, i % 3


@pytest.mark.parametrize("data", [blobs(), Jittered()], ids=["examples", "drawing dataset"])
@pytest.mark.parametrize("precision", ["fp32", "auto"])
def test_the_global_generator_is_untouched(data, precision, tmp_path):
    torch.manual_seed(3)
    before = torch.get_rng_state()
    options = {**PLAIN, "precision": precision}
    fit(vector_net(dropout=0.5), data, epochs=1, checkpoint=tmp_path / "c.safetensors", **options)
    assert torch.equal(torch.get_rng_state(), before)


def test_of_is_the_first_part_of_the_long_run():
    at = {}

    def keep(epoch, history):
        at[epoch] = weights(long), dict(history.rows[-1])

    long = vector_net(dropout=0.2, norm=True)
    fit(long, blobs(), epochs=5, on_epoch=keep, **PLAIN)
    short, history = fit(vector_net(dropout=0.2, norm=True), blobs(), epochs=2, schedule_epochs=5, **PLAIN)
    assert torch.equal(weights(short), at[1][0])
    assert history.rows[1]["loss"] == at[1][1]["loss"]
    alone, _ = fit(vector_net(dropout=0.2, norm=True), blobs(), epochs=2, **PLAIN)
    assert not torch.allclose(weights(alone), at[1][0])


def test_batches_are_balanced_and_every_example_comes_once_an_epoch():
    sizes, ids = [], []

    class Counting(Recorder):
        def write(self, epoch, index, logits, labels):
            sizes.append(len(index))
            ids.extend(index.tolist())
            return super().write(epoch, index, logits, labels)

    fit(vector_net(norm=True), blobs(50), epochs=1, recorder=Counting(50, 1), **{**PLAIN, "batch": 16})
    assert sizes == [13, 13, 12, 12]  # 16, 16, 16, 2 would leave batch norm two examples
    assert sorted(ids) == list(range(50))
    assert ids != list(range(50))


def test_kept_trains_on_its_examples_under_the_ids_of_the_whole():
    selection = Selection.of(torch.tensor([40, 3, 17, 58]), 60)
    recorder = Recorder(60, 2)
    data = blobs()
    fit(vector_net(), Kept(data, selection), epochs=2, recorder=recorder, **PLAIN)
    assert torch.equal(recorder["seen"], selection.mask(60).expand(2, 60))
    assert torch.equal(recorder.labels[selection.index], data.labels[selection.index])


def test_bf16_runs_the_head_in_float32_and_probabilities_do_not_tie():
    data = images(64, size=8)
    recorder = Recorder(64, 1)
    fit(image_net(), data, epochs=1, recorder=recorder, **{**PLAIN, "precision": "bf16", "batch": 64})
    margin = recorder["margin"][0]
    assert margin.unique().numel() > 60
    assert (margin.bfloat16().float() != margin).float().mean() > 0.9  # values that bf16 has not


class NoLinear(nn.Module):
    """A network that ends in a convolution."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 3)

    def forward(self, x):
        return self.conv(x).mean((2, 3))


@pytest.mark.parametrize("precision", ["fp32", "bf16", "auto"])
def test_a_users_network_without_a_linear_layer(precision):
    torch.manual_seed(0)
    recorder = Recorder(48, 8)
    model, history = fit(NoLinear(), images(), epochs=8, recorder=recorder, **{**PLAIN, "precision": precision})
    assert isinstance(model, NoLinear)
    assert history.rows[-1]["loss"] < history.rows[0]["loss"]
    assert recorder["seen"].all()


def test_channels_last_equals_contiguous():
    data = images(augment=Augment(crop=2))
    plain, last = (
        fit(image_net(width=16), data, epochs=2, channels_last=c, **{**PLAIN, "lr": 0.01}) for c in (False, True)
    )
    assert last[1].channels_last
    assert last[0].features[0].weight.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(weights(last[0]), weights(plain[0]), rtol=1e-3, atol=1e-4)
    assert not torch.equal(weights(plain[0]), weights(image_net()))


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("kind", ["TensorDataset", "list of tuples"])
def test_a_users_dataset_trains_as_the_same_examples_do(kind, workers):
    data = blobs(24)
    outside = TensorDataset(data.x, data.labels) if kind == "TensorDataset" else [(x, int(y)) for x, y in data]
    recorders = Recorder(24, 2), Recorder(24, 2)
    expected, expected_history = fit(vector_net(), data, epochs=2, test=data, recorder=recorders[0], **PLAIN)
    result, history = fit(
        vector_net(), outside, epochs=2, test=outside, recorder=recorders[1], **{**PLAIN, "workers": workers}
    )
    assert torch.equal(weights(result), weights(expected))
    assert history.test_accuracy == expected_history.test_accuracy
    assert history.test_loss == pytest.approx(expected_history.test_loss)
    assert torch.equal(recorders[0]["loss"], recorders[1]["loss"])


def test_a_selection_of_a_users_dataset_keeps_its_ids():
    data = blobs(24)
    outside = [(x, int(y)) for x, y in data]
    selection = Selection(torch.tensor([20, 1, 7]), torch.tensor([1.0, 2.0, 0.5]))
    expected, _ = fit(vector_net(), Kept(data, selection), epochs=2, **PLAIN)
    result, _ = fit(vector_net(), Kept(outside, selection), epochs=2, **PLAIN)
    assert torch.equal(weights(result), weights(expected))


def test_whole_numbers_of_a_users_dataset_stay_whole():
    tokens = [(torch.tensor([i % 4, 1]), i % 2) for i in range(20)]
    model = nn.Sequential(nn.Embedding(4, 6), nn.Flatten(), nn.Linear(12, 2))
    _, history = fit(model, tokens, epochs=20, **PLAIN)
    assert history.rows[-1]["accuracy"] == 1.0


@pytest.mark.parametrize(
    ("items", "match"),
    [
        ([(torch.zeros(5), 0.5)] * 4, "labels must be integer class ids, got 0.5 at example 0"),
        ([(torch.zeros(5), torch.tensor([1, 1]))] * 4, r"labels of shape \(4, 2\) are not one class an example"),
        ([("text", 0)] * 4, "x must be a tensor .*got str"),
        ([(object(), 0)] * 4, "x must be a tensor .*got object; add a transform such as ToTensor"),
        ([(torch.zeros(5), 0, 1)] * 4, r"an item of the dataset must be \(x, y\), got tuple of length 3"),
    ],
    ids=["float label", "several labels", "text", "object", "three"],
)
def test_a_dataset_that_gives_something_else_is_told(items, match):
    with pytest.raises((DataError, ArgumentError), match=match):
        fit(vector_net(), items, epochs=1, **PLAIN)


def test_the_last_epoch_is_evaluated_and_others_when_asked():
    data, test = blobs(), blobs(30, seed=9)
    model, history = fit(vector_net(), data, epochs=5, test=test, evaluate_every=2, **PLAIN)
    assert [not math.isnan(row["test_accuracy"]) for row in history.rows] == [False, True, False, True, True]
    logits = model(test.x)
    assert history.test_accuracy == pytest.approx(float((logits.argmax(1) == test.labels).float().mean()))
    assert history.test_loss == pytest.approx(
        float(nn.functional.cross_entropy(logits, test.labels).detach()), rel=1e-5
    )
    _, without = fit(vector_net(), data, epochs=1, **PLAIN)
    assert math.isnan(without.test_accuracy)
    assert math.isnan(without.test_loss)
    quiet, _ = fit(vector_net(), data, epochs=5, **PLAIN)
    assert torch.equal(weights(quiet), weights(model))  # evaluating changes nothing


def test_the_model_comes_back_as_it_was_but_trained():
    model = image_net()
    model.train()
    fit(model, images(), epochs=1, test=images(), **{**PLAIN, "precision": "bf16"})
    assert not model.training
    assert type(model.classifier) is nn.Linear
    assert {p.device.type for p in model.parameters()} == {"cpu"}
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert model(torch.randn(2, 3, 12, 12)).shape == (2, 2)


@pytest.mark.parametrize("mode", [True, False])
def test_an_interrupt_puts_the_model_back_and_drops_the_open_epoch(mode):
    model = vector_net().train(mode)
    recorder = Recorder(60, 3)

    def stop(stage, done, total):
        if done == 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(model, blobs(), epochs=3, recorder=recorder, progress=stop, **PLAIN)
    assert model.training is mode
    assert type(model[-1]) is nn.Linear
    assert recorder.finished == 1
    assert recorder["seen"].any(1).tolist() == [True, False, False]


@pytest.mark.parametrize("gamma", [0.5, 1.0, 3.0])
def test_the_focal_loss_has_a_slope_where_everything_is_learned(gamma):
    logits = torch.tensor([[200.0, -200.0], [0.0, 0.0]], requires_grad=True)
    losses = Recipe(focal=gamma).losses(F.cross_entropy(logits, torch.tensor([0, 0]), reduction="none"))
    losses.sum().backward()
    assert losses.tolist() == pytest.approx([0.0, 0.5**gamma * math.log(2)])
    assert logits.grad.isfinite().all()
    assert logits.grad[0].abs().max() == 0
    # of (1 - p)^g * -log p by the logit of the label at p = 1/2: -(1 - p)^g * (1 - p - g p log p)
    slope = -(0.5**gamma) * (0.5 + gamma * 0.5 * math.log(2))
    assert logits.grad[1, 0].item() == pytest.approx(slope)


def test_a_policy_and_a_recorder_get_the_cross_entropy_under_a_focal_loss():
    recorder, seen = Recorder(60, 2), []

    @dataclass(frozen=True)
    class Watch(RandomPruning):
        needs = ("loss",)

        def observe(self, state, index, **signals):
            seen.append((index, signals["loss"]))
            return state

    fit(vector_net(), blobs(), epochs=2, policy=Watch(0.5), recorder=recorder, focal=2.0, **PLAIN)
    ((index, loss),) = seen
    torch.testing.assert_close(loss, recorder["loss"][0, index])
    torch.testing.assert_close(loss, -recorder["p_label"][0, index].log(), rtol=1e-4, atol=1e-5)


def test_progress_is_told_of_every_step():
    calls = []
    fit(vector_net(), blobs(50), epochs=2, schedule_epochs=9, progress=lambda *call: calls.append(call), **PLAIN)
    assert calls == [("training", step, 8) for step in range(1, 9)]


def test_on_epoch_may_copy_the_model():
    import copy

    copies = []
    data = blobs(16)

    def keep(epoch, history):
        copies.append(copy.deepcopy(model))

    model = vector_net()
    fit(model, data, epochs=2, on_epoch=keep, **{**PLAIN, "precision": "bf16"})
    with torch.no_grad():
        copies[0][-1].weight.zero_()
        copies[0][-1].bias.fill_(7)
        assert (copies[0](data.x) == 7).all()  # its own head and not that of the model
        torch.testing.assert_close(copies[1].eval()(data.x), model(data.x))


@pytest.mark.parametrize("n", [1, 2])
def test_one_example_and_one_class(n):
    data = Examples(torch.randn(n, 5), torch.zeros(n, dtype=torch.int64), ("only", "other", "third"))
    recorder = Recorder(n, 20)
    _, history = fit(vector_net(), data, epochs=20, recorder=recorder, **{**PLAIN, "lr": 0.5})
    assert history.rows[-1]["loss"] < 0.1
    assert recorder["p_label"][-1].min() > 0.9


@pytest.mark.parametrize("precision", ["fp32", "auto"])
def test_a_network_that_cpus_compute_wrongly_in_channels_last_stays_out_of_it(precision):
    # a strided 1x1 convolution of 4 channels: PyTorch's backward pass writes past its buffer and may crash
    options = {**PLAIN, "precision": precision, "batch": 24}
    model, history = fit(image_net(), images(), epochs=1, channels_last=True, **options)
    assert not history.channels_last
    assert "not in channels-last" in history.notes[0]
    assert "channels-last 0" not in history.notes[0]
    if precision == "fp32":
        plain, _ = fit(image_net(), images(), epochs=1, **options)
        assert torch.equal(weights(model), weights(plain))


def test_precision_auto_says_what_it_measured():
    data = images()
    model, history = fit(image_net(width=16), data, epochs=1, **{**PLAIN, "precision": "auto"})
    number = r"[0-9.]+ ms"
    sentence = (
        rf"^{history.precision}(, channels-last)? \(measured per step: fp32 {number}, bf16 {number}, "
        rf"fp32 channels-last {number}, bf16 channels-last {number}\)$"
    )
    assert len(history.notes) == 1
    import re

    assert re.match(sentence, history.notes[0]), history.notes
    assert history.channels_last is ("channels-last (" in history.notes[0])
    assert not any(p.grad is not None for p in model.parameters())


def test_measuring_changes_no_weight(monkeypatch):
    from datawinnow.train import network

    monkeypatch.setattr(network, "fastest_precision", lambda *a: ("fp32", False, "told"))
    expected = weights(fit(image_net(), images(), epochs=1, **{**PLAIN, "precision": "auto"})[0])
    monkeypatch.undo()
    real = network.fastest_precision
    monkeypatch.setattr(network, "fastest_precision", lambda *a: ("fp32", False, real(*a)[2]))
    assert torch.equal(weights(fit(image_net(), images(), epochs=1, **{**PLAIN, "precision": "auto"})[0]), expected)


def test_flops_are_counted_for_every_example():
    _, history = fit(vector_net(), blobs(), epochs=2, **PLAIN)
    multiplies = 5 * 10 + 10 * 10 + 10 * 12 + 12 * 3
    # forward once, backward once for the weights and once for the inputs of every layer but the first
    assert history.cost.flops == 2 * (3 * multiplies - 5 * 10) * 60 * 2


def test_nan_loss_stops_with_advice():
    data = blobs()
    with pytest.raises(TrainingError, match=r"the loss is nan in epoch [01].*lower `lr=` \(it was 1e\+06\)"):
        fit(vector_net(), data, epochs=2, **{**PLAIN, "lr": 1e6})


@pytest.mark.parametrize("scale", [1, 1e4])
def test_nan_loss_of_columns_that_are_not_standardised_says_so(scale):
    x, labels = next(iter(DataLoader(blobs(), batch_size=60)))[-2:]
    data = TensorDataset(x * scale, labels)
    with pytest.raises(TrainingError, match="the loss is") as error:
        fit(vector_net(), data, epochs=2, **{**PLAIN, "lr": 1e6})
    assert ("standardise=True" in str(error.value)) == (scale > 1)


def test_frozen_parameters_stay():
    model = vector_net()
    model[0].requires_grad_(False)
    before = weights(model[0]), weights(model[-1])
    fit(model, blobs(), epochs=1, **PLAIN)
    assert torch.equal(weights(model[0]), before[0])
    assert not torch.equal(weights(model[-1]), before[1])


@pytest.mark.parametrize(
    ("kwargs", "match"),
    [
        ({"epochs": 0}, "epochs must be above 0, got 0"),
        ({"epochs": 3, "schedule_epochs": 2}, r"schedule_epochs must be a number in \[3, .* got 2"),
        ({"learning_rate": 1}, "fit has no option 'learning_rate'; how to train is set by: batch, lr"),
        ({"optimizer": "adam"}, "optimizer must be one of 'sgd', 'adamw', got 'adam'"),
        ({"schedule": "cosin"}, "no schedule is called 'cosin'. Did you mean 'cosine'"),
        ({"precision": "fp16"}, "precision must be one of auto, fp32, bf16, got 'fp16'"),
        ({"focal": -1}, r"focal must be a number in \[0, 100\], got -1"),
        ({"focal": 1.0, "label_smoothing": 0.1}, "focal and label_smoothing change the same loss"),
        ({"label_smoothing": 2}, r"label_smoothing must be a number in \[0, 1\], got 2"),
        ({"lr": 0}, "lr must be a number"),
        ({"batch": 0.5}, "batch must be a whole number"),
        ({"workers": -1}, "workers must be a whole number"),
        ({"device": "cuda:99"}, "no device 'cuda:99': torch sees"),
        ({"device": "tpu"}, "device must be 'auto', 'cpu', 'cuda' or 'cuda:1', got 'tpu'"),
        ({"device": "cuda:x"}, "device must be .* got 'cuda:x'"),
        ({"recorder": Recorder(50, 9)}, r"the recorder is for n=50 .* dataset has 60 .*Recorder\(n=60, epochs=2\)"),
        ({"recorder": Recorder(60, 1)}, r"and 1 epochs, but .* epochs=2"),
        ({"test": [1]}, None),
        ({"test": iter([1])}, "a dataset must be map-style .* got list_iterator"),
        ({"test": []}, "holds no examples"),
    ],
    ids=lambda value: str(value).partition(" object at")[0][:40] if isinstance(value, dict) else "",
)
def test_bad_options_are_named_before_training(kwargs, match):
    steps = []
    if match is None:
        kwargs, match = {"data": []}, "holds no examples"
    options = {"data": blobs(), "epochs": 2, **PLAIN, **kwargs}
    with pytest.raises((ArgumentError, DataError), match=match):
        fit(vector_net(), options.pop("data"), progress=lambda *a: steps.append(a), **options)
    assert steps == []


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
@pytest.mark.parametrize("device", ["cuda", "cuda:0"])
def test_cuda_without_a_device(device):
    with pytest.raises(ArgumentError, match=f"no device '{device}': torch sees 0 of that kind; use `device='cpu'`"):
        device_for(device)


def test_device_auto_is_there():
    assert device_for("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")


def test_a_model_without_parameters_and_a_stream_are_refused():
    with pytest.raises(ArgumentError, match="the model Flatten has no parameters to train"):
        fit(nn.Flatten(), blobs(), epochs=1, **PLAIN)
    with pytest.raises(ArgumentError, match="a dataset must be map-style"):
        fit(vector_net(), iter([]), epochs=1, **PLAIN)


def test_recipe_facts_and_peak():
    metadata = Recipe(schedule=half_cosine, batch=3).metadata()
    assert metadata["schedule"] == "half_cosine"
    assert metadata["batch"] == 3
    assert (Recipe().peak_lr, Recipe(optimizer="adamw").peak_lr, Recipe(lr=0.3).peak_lr) == (0.1, 0.001, 0.3)


def test_a_selection_for_another_dataset_or_of_a_selection_is_refused():
    with pytest.raises(ArgumentError, match="the selection has id 60, but the dataset only 60 examples"):
        Kept(blobs(), Selection.of(torch.tensor([60]), 61))
    with pytest.raises(ArgumentError, match="is a selection already"):
        Kept(Kept(blobs(), SELECTION), Selection.of(torch.tensor([0]), 2))


def test_stop_is_asked_after_each_epoch_and_ends_the_training_there():
    data, test, evaluations, recorder = blobs(), blobs(), [], Recorder(60, 5)

    def stop(epoch):
        assert recorder.finished == epoch + 1  # the epoch is recorded by then
        evaluations.append(epoch)
        return epoch == 2

    stopped, history = fit(vector_net(), data, epochs=5, seed=3, test=test, stop=stop, recorder=recorder, **PLAIN)
    expected, unbroken = fit(vector_net(), data, epochs=3, schedule_epochs=5, seed=3, test=test, **PLAIN)
    assert evaluations == [0, 1, 2]
    assert [row["loss"] for row in history.rows] == [row["loss"] for row in unbroken.rows]
    assert torch.equal(weights(stopped), weights(expected))
    assert history.test_accuracy == unbroken.test_accuracy
    assert history.cost.backward == 3 * 60


def test_a_training_that_stopped_does_not_go_on_from_its_checkpoint(tmp_path):
    kwargs = {"epochs": 5, "checkpoint": tmp_path / "c.safetensors", "test": blobs(), "stop": lambda epoch: epoch >= 1}
    stopped, history = fit(vector_net(), blobs(), **kwargs, **PLAIN)
    again, history_again = fit(vector_net(seed=4), blobs(), **kwargs, **PLAIN)
    assert len(history_again.rows) == len(history.rows) == 2
    assert history_again.test_accuracy == history.test_accuracy
    assert torch.equal(weights(again), weights(stopped))
