"""Batches of texts: padded to their longest only, dealt by length, and charged by the length that a step had."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

import datawinnow as dw
from datawinnow import SizeSchedule
from datawinnow.core.operations import flop_counter
from datawinnow.core.rng import forked, stream
from datawinnow.data.batches import LoaderBatches, batch_sizes, batches_of, pads_to_longest
from datawinnow.data.padding import CHUNK, group_by_length, text_lengths
from datawinnow.data.texts import Texts
from datawinnow.data.tokens import Vocabulary
from datawinnow.dynamic import UCB
from datawinnow.dynamic.in_batch import InBatch
from datawinnow.models import build
from datawinnow.probe import probe
from datawinnow.train import Recipe, evaluate, fit
from datawinnow.train.state import planned_sizes
from tests.data.texts import sentences, write_model, write_texts, written
from tests.train.helpers import PLAIN, weights

CPU = torch.device("cpu")
TIMINGS = ("seconds", "planning_seconds", "test_accuracy", "test_loss")


def texts(n=90, length=24, seed=0):
    """Texts of 1 to ``length`` tokens in two classes, which differ in their words."""
    g = stream(seed)
    labels = torch.arange(n) % 2
    x = torch.randint(2, 20, (n, length), generator=g) + 20 * labels[:, None]
    lengths = torch.randint(1, length + 1, (n,), generator=g)
    lengths[0] = length
    x = torch.where(torch.arange(length) < lengths[:, None], x, 0).int()
    ids = [str(i) for i in range(n)]
    words = Vocabulary(tuple(map(str, range(40))), length)
    return Texts(x, labels, ("a", "b"), "t", "train", ids, texts=ids, vocabulary=words, vocabulary_size=42)


class Items:
    """The same as a map-style dataset, which goes through a DataLoader and does not tell its lengths."""

    def __init__(self, data):
        self.data, self.classes, self.vocabulary_size, self.shape = data, data.classes, 42, data.shape

    def __len__(self):
        return len(self.data)

    def __getitem__(self, i):
        return self.data[i]


def text_net(name="text_cnn", seed=0, **options):
    with forked(seed, "weights"):
        return build(name, shape=(24,), classes=2, vocabulary=42, **{"width": 6, **options})


class Watched(nn.Module):
    """A network that notes the ids of texts and tokens of each forward pass, in training and in evaluation."""

    def __init__(self, net):
        super().__init__()
        self.net, self.steps, self.tests = net, [], []

    def forward(self, x):
        if len(x) > 2:  # passes over two examples are trials
            (self.steps if self.training else self.tests).append(x)
        return self.net(x)


class MeanOverAll(nn.Module):
    """A mean over all positions, padding too; the last layer may begin at zero."""

    def __init__(self, zero=False):
        super().__init__()
        self.embedding, self.head = nn.Embedding(42, 4), nn.Linear(4, 2)
        if zero:
            nn.init.zeros_(self.head.weight)
            nn.init.zeros_(self.head.bias)

    def forward(self, x):
        return self.head(self.embedding(x.long()).mean(1))


class ForOneLength(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = nn.Linear(24, 2)

    def forward(self, x):
        return self.head((x > 0).float())


class LastToken(nn.Module):
    """Blind to padding, and a user's: an output in a dict."""

    def __init__(self):
        super().__init__()
        self.embedding, self.head = nn.Embedding(42, 4), nn.Linear(4, 2)

    def forward(self, x):
        last = x.gather(1, (x != 0).sum(1, keepdim=True) - 1)[:, 0].long()
        return {"logits": self.head(self.embedding(last))}


@pytest.mark.parametrize("name", ["text_cnn", "bag_of_embeddings"])
def test_networks_give_the_same_however_much_is_padded(name):
    net, x = text_net(name), texts().x[1:]
    x[:, 9:] = 0
    grads, outputs = [], []
    for width in (9, 10, 17, 24):
        net.zero_grad()
        outputs.append(net.eval()(x[:, :width]))
        outputs[-1].square().sum().backward()
        grads.append(torch.cat([p.grad.flatten() for p in net.parameters()]))
    for output, grad in zip(outputs[1:], grads[1:], strict=True):
        assert float((output - outputs[0]).detach().abs().max()) <= 1e-6
        torch.testing.assert_close(grad, grads[0], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("data", [texts(), Items(texts())], ids=["resident", "loader"])
@pytest.mark.parametrize("similar", [True, False])
def test_each_batch_is_as_long_as_its_longest_text(data, similar):
    net = Watched(text_net())
    fit(net, data, epochs=3, test=data, similar_lengths=similar, **PLAIN)
    assert len(net.steps) == 3 * math.ceil(90 / 16)
    assert all(x.shape[1] == int(text_lengths(x).max()) for x in net.steps + net.tests)
    padded = sum(int((x == 0).sum()) for x in net.steps)
    # of 90 texts whose lengths are spread evenly over 24 tokens
    assert padded < 3 * 90 * 3 if similar else padded > 3 * 90 * 6


def test_every_pass_over_texts_is_padded_to_its_longest():
    data, net = texts(), text_net()
    short = data.subset((data.text_lengths < 8).nonzero().flatten())
    for dataset in (short, Items(short)):
        watched = Watched(net)
        evaluate(watched, dataset)
        probe(watched, dataset, arrays=("features", "probs", "grad_norm"))
        assert {x.shape[1] for x in watched.tests} == {7}


def test_a_training_is_that_with_all_texts_at_one_length(monkeypatch):
    options = {"epochs": 3, "test": texts(seed=1), "seed": 2, "similar_lengths": False, **PLAIN}
    actual, history = fit(text_net(), texts(), **options)
    monkeypatch.setattr("datawinnow.data.batches.ignores_padding", lambda *args: False)
    watched = Watched(text_net())
    _, expected = fit(watched, texts(), **options)
    assert {x.shape[1] for x in watched.steps} == {24}
    torch.testing.assert_close(weights(actual), weights(watched.net), atol=1e-5, rtol=1e-4)
    for ours, theirs in zip(history.rows, expected.rows, strict=True):
        assert ours["loss"] == pytest.approx(theirs["loss"], abs=1e-5)
    assert history.test_loss == pytest.approx(expected.test_loss, abs=1e-5)


@pytest.mark.parametrize(
    ("make", "blind"),
    [
        (text_net, True),
        (lambda: text_net("bag_of_embeddings"), True),
        (LastToken, True),
        (MeanOverAll, False),
        (lambda: MeanOverAll(zero=True), False),
        (ForOneLength, False),
    ],
)
@pytest.mark.parametrize("data", [texts(), Items(texts())], ids=["resident", "loader"])
def test_a_network_that_depends_on_padding_gets_one_length_and_says_so(make, blind, data):
    net = Watched(make())
    _, history = fit(net, data, epochs=1, test=data, **PLAIN)
    assert (len({x.shape[1] for x in net.steps}) > 1) == blind
    assert any("depend on padding" in note for note in history.notes) != blind
    if not blind:
        assert {x.shape[1] for x in net.tests} == {24}


def test_a_proxy_that_depends_on_padding_keeps_the_length_too():
    net, proxy = Watched(text_net()), Watched(MeanOverAll())
    fit(net, texts(), epochs=1, in_batch=InBatch(keep=0.5, proxy=proxy), **PLAIN)
    assert {x.shape[1] for x in net.steps + proxy.steps} == {24}


def test_transformers_are_blind_to_padding(tmp_path):
    name = write_model(tmp_path / "tiny")
    write_texts(tmp_path / "r.tsv", 60)
    train, _ = dw.load(tmp_path / "r.tsv", tokenizer=name)
    net = build(name, shape=train.shape, classes=2, vocabulary=train.vocabulary_size, tokenizer=name)
    assert pads_to_longest(net, train, CPU)
    longest = int(train.text_lengths.max())
    with torch.no_grad():
        wide = torch.nn.functional.pad(train.x[:, :longest], (0, 5))
        torch.testing.assert_close(net.eval()(train.x[:, :longest]), net(wide), atol=1e-6, rtol=1e-5)


def test_other_data_are_left_alone():
    x = torch.tensor([[3, 0, 0], [4, 0, 0], [5, 0, 0]])
    pairs = [(row, i % 2) for i, row in enumerate(x)]
    assert not pads_to_longest(text_net(), pairs, CPU)
    assert [tuple(x.shape) for _, x, _ in batches_of(pairs, CPU, workers=0).test(2)] == [(2, 3), (1, 3)]
    batches = LoaderBatches(Items(texts()), CPU, workers=2, to_longest=True)
    assert all(x.shape[1] == int(text_lengths(x).max()) for _, x, _ in batches.test(16))


class TestGroups:
    @pytest.mark.parametrize(("n", "batch"), [(1000, 16), (997, 10), (37, 50), (1, 4), (2 * CHUNK * 7 + 3, 7)])
    def test_a_batch_holds_neighbours_of_its_chunk(self, n, batch):
        lengths = torch.randint(1, 30, (n + 5,), generator=stream(1))
        order = torch.randperm(n + 5, generator=stream(2))[:n]
        sizes = batch_sizes(n, batch)
        dealt = group_by_length(order, lengths, sizes, stream(3))
        assert sorted(dealt.tolist()) == sorted(order.tolist())
        for first in range(0, len(sizes), CHUNK):
            start, count = sum(sizes[:first]), sum(sizes[first : first + CHUNK])
            mine, before_dealing = dealt[start : start + count], order[start : start + count]
            assert sorted(mine.tolist()) == sorted(before_dealing.tolist())
            groups = sorted(mine.split(sizes[first : first + CHUNK]), key=lambda ids: int(lengths[ids].min()))
            edges = [(int(lengths[ids].min()), int(lengths[ids].max())) for ids in groups]
            assert all(
                before[1] <= after[0] or before == after
                for before, after in zip(sorted(edges), sorted(edges)[1:], strict=False)
            )

    def test_it_follows_the_generator_and_not_the_length(self):
        lengths, order = torch.arange(1, 401), torch.randperm(400, generator=stream(0))
        dealt = [group_by_length(order, lengths, [10] * 40, stream(seed)) for seed in (5, 5, 6)]
        assert torch.equal(dealt[0], dealt[1])
        assert not torch.equal(dealt[0], dealt[2])
        means = [float(lengths[ids].float().mean()) for ids in dealt[0].split(10)]
        assert means != sorted(means)

    def test_texts_of_one_length_stay_shuffled(self):
        order = torch.randperm(60, generator=stream(0))
        assert group_by_length(order, torch.full((60,), 7), [60], stream(1)).tolist() == order.tolist()


def test_every_text_is_trained_on_once_an_epoch():
    orders = []
    for similar in (True, False, True):
        fit(
            text_net(), texts(), epochs=2, similar_lengths=similar,
            on_plan=lambda epoch, order: orders.append(order.tolist()), **PLAIN,
        )  # fmt: skip
    assert all(sorted(order) == list(range(90)) for order in orders)
    assert orders[:2] == orders[4:]
    assert orders[0] not in (orders[1], orders[2])


def _operations(net, steps):
    """Counted operations of training on batches, by torch's counter of a forward and a backward pass."""
    total = 0
    for x in steps:
        with flop_counter() as counter:
            net.eval()(x).sum().backward()
        total += counter.get_total_flops()
    return total


@pytest.mark.parametrize("similar", [True, False])
@pytest.mark.parametrize("policy", [None, UCB(keep=0.5, period=1)], ids=["all", "ucb"])
@pytest.mark.parametrize("data", [texts(), Items(texts())], ids=["resident", "loader"])
def test_operations_are_those_of_the_steps(data, policy, similar):
    net = Watched(text_net())
    _, history = fit(net, data, epochs=3, policy=policy, similar_lengths=similar, **PLAIN)
    assert history.cost.flops == pytest.approx(_operations(net.net, net.steps), rel=1e-6)
    if policy is None:  # the average example costs one
        assert history.cost.backward == 3 * 90


def test_operations_of_attention_too(tmp_path):
    name = write_model(tmp_path / "tiny")
    rows = [(text + " good" * (i % 20), label) for i, (text, label) in enumerate(sentences(60))]
    (tmp_path / "r.tsv").write_text(written(rows, "tsv"))
    train, _ = dw.load(tmp_path / "r.tsv", tokenizer=name)
    with forked(0):
        net = build(name, shape=train.shape, classes=2, vocabulary=train.vocabulary_size, tokenizer=name)
    net = Watched(net)
    _, history = fit(net, train, epochs=1, **PLAIN)
    assert len({x.shape[1] for x in net.steps}) > 1
    assert history.cost.flops == pytest.approx(_operations(net.net, net.steps), rel=1e-3)


@pytest.mark.parametrize("similar", [True, False])
@pytest.mark.parametrize(
    ("policy", "schedule"),
    [(UCB(keep=0.5, period=1), None), (None, SizeSchedule(start=6)), (UCB(keep=0.5, period=1), SizeSchedule(start=6))],
    ids=["ucb", "sizes", "both"],
)
def test_a_budget_is_of_the_operations_of_a_usual_epoch(policy, schedule, similar):
    data, passes = texts(300), 4
    usual = Watched(text_net())
    fit(usual, data, epochs=8, similar_lengths=similar, **PLAIN)
    epoch = _operations(usual.net, usual.steps) / 8
    net = Watched(text_net())
    _, history = fit(net, data, passes=passes, policy=policy, size_schedule=schedule, similar_lengths=similar, **PLAIN)
    spent = _operations(net.net, net.steps)
    # within a batch, and the noise of which texts share one
    assert spent == pytest.approx(passes * epoch, rel=0.04)
    assert history.cost.flops == pytest.approx(spent, rel=1e-6)
    charged = sum(row["full_size_examples"] for row in history.rows)
    assert charged <= passes * 300 + 1e-6
    assert charged > passes * 300 - 16
    assert len(net.steps) > passes * math.ceil(300 / 16)


@pytest.mark.parametrize("policy", [None, UCB(keep=0.7, period=1)], ids=["all", "ucb"])
@pytest.mark.parametrize("schedule", [None, SizeSchedule(start=6, view="window")], ids=["full", "sizes"])
@pytest.mark.parametrize("data", [texts(), Items(texts())], ids=["resident", "loader"])
def test_resumed_to_the_byte(tmp_path, policy, schedule, data):
    options = {"passes": 5, "policy": policy, "size_schedule": schedule, "seed": 3, **PLAIN}
    expected, unbroken = fit(text_net(), data, **options)
    checkpoint = tmp_path / "checkpoint.safetensors"

    def interrupt(epoch, history):
        if epoch == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(text_net(), data, checkpoint=checkpoint, on_epoch=interrupt, **options)
    actual, history = fit(text_net(seed=1), data, checkpoint=checkpoint, **options)
    assert torch.equal(weights(actual), weights(expected))
    assert [{k: v for k, v in row.items() if k not in TIMINGS} for row in history.rows] == [
        {k: v for k, v in row.items() if k not in TIMINGS} for row in unbroken.rows
    ]


@pytest.mark.parametrize("similar", [True, False])
def test_the_cost_of_a_stage_is_that_of_the_usual_texts_cut_to_its_size(similar):
    data, usual = texts(300), Watched(text_net())
    fit(usual, data, epochs=8, similar_lengths=similar, **PLAIN)
    recipe = Recipe(size_schedule=SizeSchedule(start=6), similar_lengths=similar, **PLAIN)
    plan = planned_sizes(usual.net, data, recipe, CPU)
    at_full_length = _operations(usual.net, usual.steps)
    for size, cost in zip(plan.sizes, plan.costs, strict=True):
        cut = _operations(usual.net, [x[:, :size] for x in usual.steps])
        assert cost == pytest.approx(cut / at_full_length, rel=0.03)
    assert plan.costs[-1] == pytest.approx(1)
    assert len(set(plan.costs)) == len(plan.sizes)
