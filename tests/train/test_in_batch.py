"""Choosing inside each loaded batch: who is kept, what it costs by hand, and going on after a kill."""

import itertools

import pytest
import torch
from torch import nn

from datawinnow.core.errors import ArgumentError, RunError, TrainingError
from datawinnow.core.rng import forked, stream
from datawinnow.core.selection import Selection
from datawinnow.data.kept import Kept
from datawinnow.dynamic import UCB, InBatch, selective_backprop
from datawinnow.record import Recorder
from datawinnow.train import Recipe, fit
from datawinnow.train.in_batch import InBatchSelector, freeze_running_stats
from tests.train.helpers import PLAIN, blobs, vector_net, weights

SMALL = {**PLAIN, "batch": 4}


def linear(classes=3, seed=0):
    """5 x 3 weights: 30 FLOPs forward."""
    with forked(seed, "weights"):
        return nn.Linear(5, classes)


def bigger():
    """5 x 6 and 6 x 3 weights: 96 FLOPs forward."""
    with forked(1, "weights"):
        return nn.Sequential(nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 3))


def noting(seen, pick=None):
    """A batch selector that writes down what it is asked, and keeps the first unless told."""

    def by(loss, *, budget, generator):
        seen.append((loss.clone(), budget))
        positions = torch.arange(budget) if pick is None else pick(loss, budget)
        return positions, torch.ones(budget)

    return by


def test_the_highest_losses_are_kept_and_ties_are_drawn():
    chooser, g = InBatch(keep=0.5), stream(0, "g")
    assert sorted(chooser.choose([0.1, 5.0, 0.2, 3.0], budget=2, generator=g).tolist()) == [1, 3]
    kept = {int(chooser.choose([1.0] * 6, budget=1, generator=stream(seed, "g"))) for seed in range(60)}
    assert kept == set(range(6))


def test_drawing_goes_by_loss():
    chooser = InBatch(keep=0.5, selector="drawn")
    draws = [int(chooser.choose([1.0, 3.0], budget=1, generator=stream(seed, "g"))) for seed in range(2000)]
    assert sum(draws) / 2000 == pytest.approx(0.75, abs=0.04)  # four standard errors


def test_a_step_trains_on_what_was_kept_of_a_larger_batch():
    seen, rows = [], []
    chooser = InBatch(keep=0.5, selector=noting(seen, lambda loss, budget: loss.topk(budget).indices))
    data = blobs(24)
    model = bigger()

    class Spy(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = model

        def forward(self, x):
            if torch.is_grad_enabled():
                rows.append(x.clone())
            return self.inner(x)

    before = Spy()
    fit(before, data, epochs=1, in_batch=chooser, **SMALL)
    rows = [row for row in rows if len(row) == 4][-3:]  # not the rehearsal's
    assert [len(loss) for loss, _ in seen] == [8, 8, 8]
    assert [budget for _, budget in seen] == [4, 4, 4]
    order = torch.randperm(24, generator=stream(0, "order", 0))
    for batch_ids, (loss, _), trained in zip(order.split(8), seen, rows, strict=True):
        assert torch.equal(trained, data.x[batch_ids[loss.topk(4).indices]])


def test_by_its_own_losses_a_forward_pass_counts_a_third():
    _, history = fit(bigger(), blobs(12), epochs=2, in_batch=InBatch(keep=0.5), **SMALL)
    assert [row["examples"] for row in history.rows] == [6, 6]  # 12 loaded as 6 + 6, of which 3 + 3
    assert [row["loaded"] for row in history.rows] == [12, 12]
    assert (history.cost.forward, history.cost.backward) == (24, 12)
    assert history.cost.passes == 20
    assert history.cost.flops == pytest.approx(12 * flops_of_bigger() + 24 / 3 * flops_of_bigger())


def flops_of_bigger():
    """Forward 2 (5 * 6 + 6 * 3) = 96; backward as much for the weights, and 2 * 6 * 3 for what flows back."""
    return 96 + 96 + 36


def test_a_proxy_is_charged_by_its_share_of_the_operations():
    chooser = InBatch(keep=0.5, proxy=linear(), every=2)
    _, history = fit(bigger(), blobs(40), epochs=1, in_batch=chooser, **SMALL)
    share = (30 + 30) / flops_of_bigger()  # forward, and the gradient of the weights; nothing flows further back
    # five steps load 8 each and keep 4; steps 0, 2 and 4 teach the proxy 4 each
    assert history.rows[0]["examples"] == 20
    assert history.cost.forward == round(share * 40)
    assert history.cost.backward == 20 + round(share * 12)
    assert history.cost.flops == pytest.approx(20 * flops_of_bigger() + 60 * (40 / 3 + 12))


def test_which_steps_teach_the_proxy_is_counted_from_the_beginning_of_the_run():
    chooser = InBatch(keep=0.5, proxy=linear(), every=2)
    _, history = fit(bigger(), blobs(24), epochs=2, in_batch=chooser, **SMALL)
    share = 60 / flops_of_bigger()  # three steps an epoch: 0 and 2 teach 4 each, and of the second 4 alone
    assert history.cost.backward == 24 + round(share * 8) + round(share * 4)
    assert history.cost.flops == pytest.approx(24 * flops_of_bigger() + 60 * (48 / 3 + 12))


@pytest.mark.parametrize(("proxy", "keep"), [(None, 0.5), (None, 0.25), (linear, 0.5), (linear, 0.7)])
@pytest.mark.parametrize("passes", [1, 2.5, 6])
def test_under_passes_everything_counts_and_the_schedule_ends(proxy, keep, passes):
    chooser = InBatch(keep=keep, proxy=proxy and proxy())
    options = {**SMALL, "schedule": lambda done: 1 - done, "lr": 0.01}
    _, history = fit(bigger(), blobs(90), passes=passes, in_batch=chooser, **options)
    step = chooser.pool(4)
    assert 90 * passes - step < history.cost.passes <= 90 * passes + len(history.rows)  # each row is rounded
    assert 0 < history.rows[-1]["learning_rate"] < 0.01 * 2.5 * 4 / (90 * passes) * (1 / keep)


def test_looking_uses_the_batch_and_leaves_running_statistics_alone():
    norm = nn.BatchNorm1d(5).train()
    x = torch.randn(8, 5) + 3
    with freeze_running_stats(norm), torch.no_grad():
        out = norm(x)
    assert out.mean(0).abs().max() < 1e-5  # of the batch: the running mean is 0
    assert torch.equal(norm.running_mean, torch.zeros(5))
    assert int(norm.num_batches_tracked) == 0
    norm(x)
    assert norm.running_mean.abs().min() > 0.1  # and is kept up again afterwards


def test_the_network_that_looks_for_itself_keeps_its_running_statistics_by_training_alone():
    model, _ = fit(vector_net(norm=True), blobs(24), epochs=2, in_batch=InBatch(0.5), **SMALL)
    assert int(model[1].num_batches_tracked) == 6


def test_the_proxy_learns_at_the_rate_of_the_schedule():
    proxy, by_hand, data = linear(), linear(), blobs(24)
    first = lambda loss, *, budget, generator: (torch.arange(budget), None)  # noqa: E731
    options = {"lr": 0.2, "schedule": lambda done: 1 - done, "momentum": 0.0, "weight_decay": 0.0}
    fit(bigger(), data, epochs=1, in_batch=InBatch(0.5, proxy, every=1, selector=first), **options, **SMALL)
    for step, batch_ids in enumerate(torch.randperm(24, generator=stream(0, "order", 0)).split(8)):
        loss = nn.functional.cross_entropy(by_hand(data.x[batch_ids[:4]]), data.labels[batch_ids[:4]])
        for p, g in zip(by_hand.parameters(), torch.autograd.grad(loss, list(by_hand.parameters())), strict=True):
            p.data -= 0.2 * (1 - step / 3) * g
    torch.testing.assert_close(weights(proxy), weights(by_hand), rtol=1e-5, atol=1e-6)


def test_each_step_draws_anew():
    drawn = []

    def by(loss, *, budget, generator):
        drawn.append(tuple(torch.randperm(len(loss), generator=generator).tolist()))
        return torch.arange(budget), None

    fit(bigger(), blobs(48), epochs=2, in_batch=InBatch(0.5, selector=by), **SMALL)
    assert len(set(drawn)) == len(drawn) == 12


def test_the_proxy_learns_on_one_step_in_every():
    proxy = linear()
    seen = []
    chooser = InBatch(keep=0.5, proxy=proxy, every=3, selector=lambda loss, *, budget, generator: (
        seen.append(weights(proxy)), (torch.arange(budget), None))[1])  # fmt: skip
    fit(bigger(), blobs(64), epochs=1, in_batch=chooser, **SMALL)
    assert len(seen) == 8
    moved = [not torch.equal(a, b) for a, b in itertools.pairwise(seen)]
    assert moved == [True, False, False, True, False, False, True]


def test_the_main_network_learns_from_its_losses_as_without():
    data = blobs(24)
    first = lambda loss, *, budget, generator: (torch.arange(budget), None)  # noqa: E731
    in_batch = InBatch(keep=0.5, selector=first)
    model, _ = fit(bigger(), data, epochs=1, in_batch=in_batch, lr=0.1, schedule="constant", **SMALL)
    other = bigger()
    optimizer = torch.optim.SGD(other.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=5e-4)
    for batch_ids in torch.randperm(24, generator=stream(0, "order", 0)).split(8):
        loss = nn.functional.cross_entropy(other(data.x[batch_ids[:4]]), data.labels[batch_ids[:4]])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    torch.testing.assert_close(weights(model), weights(other), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "kwargs",
    [{"passes": 4}, {"passes": 4, "optimizer": "adamw"}, {"passes": 3.4, "precision": "bf16"}, {"epochs": 4}],
    ids=["sgd", "adamw", "bf16", "epochs"],
)
def test_gone_on_after_a_kill_it_ends_in_the_same_bytes(tmp_path, kwargs):
    options = {**SMALL, **kwargs}

    def killed(epoch, history):
        if epoch == 2:
            raise KeyboardInterrupt

    first, other = linear(), linear()
    model, history = fit(vector_net(norm=True), blobs(), in_batch=InBatch(0.5, first), **options)
    file = tmp_path / "c.safetensors"
    with pytest.raises(KeyboardInterrupt):
        fit(vector_net(norm=True), blobs(), in_batch=InBatch(0.5, other), checkpoint=file, on_epoch=killed, **options)
    again = linear(seed=5)  # whatever it holds: the checkpoint has the weights
    gone_on, later = fit(vector_net(norm=True), blobs(), in_batch=InBatch(0.5, again), checkpoint=file, **options)
    assert torch.equal(weights(model), weights(gone_on))
    assert torch.equal(weights(first), weights(again))
    assert [row["examples"] for row in later.rows] == [row["examples"] for row in history.rows]
    assert later.cost.passes == history.cost.passes


def test_a_checkpoint_of_another_proxy_or_of_none_is_refused(tmp_path):
    file = tmp_path / "c.safetensors"
    fit(bigger(), blobs(), epochs=1, in_batch=InBatch(0.5, linear()), checkpoint=file, **SMALL)
    with pytest.raises(RunError, match="another proxy"):
        fit(bigger(), blobs(), epochs=2, in_batch=InBatch(0.5, linear(classes=4)), checkpoint=file, **SMALL)
    with pytest.raises(RunError, match=r"started with policy=.InBatch.*now it is .none"):
        fit(bigger(), blobs(), epochs=2, checkpoint=file, **SMALL)


@pytest.mark.parametrize(
    ("kwargs", "words"),
    [
        ({"keep": 1.0}, "below 1"),
        ({"keep": 0.0}, "keep"),
        ({"keep": 0.5, "every": 0}, "every"),
        ({"keep": 0.5, "selector": "lowest"}, "selector must be one of"),
        ({"keep": 0.5, "proxy": "resnet8"}, "nn.Module"),
    ],
)
def test_options_out_of_range(kwargs, words):
    with pytest.raises(ArgumentError, match=words):
        InBatch(**kwargs)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"policy": UCB(keep=0.5), "epochs": 2}, "without policy="),
        ({"recorder": Recorder(60, 2), "epochs": 2}, "without recorder="),
        ({"passes": 2, "schedule_epochs": 4}, "`schedule_epochs=` requires `epochs=`"),
    ],
)
def test_what_does_not_go_together(options, words):
    with pytest.raises(ArgumentError, match=words):
        fit(bigger(), blobs(), in_batch=InBatch(0.5), **options, **SMALL)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ((torch.arange(1), None), "must keep 4 of a batch of 8, but kept 1"),
        (torch.arange(4), r"must return \(positions, weights\)"),
        (([0, 1, 2, 3], None), r"must return \(positions, weights\), .* got \(\[0, 1, 2, 3\], None\)"),
        (None, r"must return \(positions, weights\), .* got None"),
        ((torch.ones(4), None), r"as \(4,\) whole numbers, got torch.float32"),
        ((torch.ones(8, dtype=torch.bool), None), r"as \(4,\) whole numbers, got torch.bool"),
        ((torch.arange(4)[:, None], None), r"as \(4,\) whole numbers, got torch.int64 of shape \(4, 1\)"),
        ((torch.tensor([0, 1, 1, 2]), None), r"4 different positions from 0 to 7, got \[0, 1, 1, 2\]"),
        ((torch.tensor([0, 1, 2, 8]), None), "4 different positions from 0 to 7"),
        ((torch.tensor([0, 1, 2, -1]), None), "4 different positions from 0 to 7"),
    ],
    ids=["few", "bare", "list", "none", "float", "mask", "column", "twice", "beyond", "negative"],
)
def test_a_selector_must_keep_what_was_asked(answer, words):
    by = lambda loss, *, budget, generator: answer  # noqa: E731
    with pytest.raises(ArgumentError, match=words):
        fit(bigger(), blobs(24), epochs=1, in_batch=InBatch(0.5, selector=by), **SMALL)


@pytest.mark.parametrize("proxy", [None, linear], ids=["itself", "proxy"])
def test_training_that_diverges_says_so_and_keeps_the_epochs_before(tmp_path, proxy):
    def broken(epoch, history):
        with torch.no_grad():
            for p in (model if chooser.proxy is None else chooser.proxy).parameters():
                p.fill_(torch.nan)

    model, chooser = bigger(), InBatch(0.5, proxy and proxy())
    file, who = tmp_path / "c.safetensors", "proxy" if proxy else "network"
    with pytest.raises(TrainingError, match=f"the {who} that scores the batches has a loss of nan in step 3"):
        fit(model, blobs(24), epochs=2, in_batch=chooser, checkpoint=file, on_epoch=broken, **SMALL)
    assert file.exists()


def test_the_network_is_no_proxy_of_itself():
    model = bigger()
    with pytest.raises(ArgumentError, match="the proxy is the network itself: leave proxy= out"):
        fit(model, blobs(24), epochs=1, in_batch=InBatch(0.5, model), **SMALL)


@pytest.mark.parametrize("proxy", [None, linear], ids=["itself", "proxy"])
def test_in_bf16_the_losses_come_from_a_float32_head(proxy):
    seen = []
    chooser = InBatch(0.5, proxy and proxy(), selector=noting(seen))
    _, history = fit(bigger(), blobs(24), epochs=1, in_batch=chooser, **{**SMALL, "precision": "bf16"})
    assert history.precision == "bf16"
    assert any(not torch.equal(loss, loss.bfloat16().float()) for loss, _ in seen)


def test_a_dataset_that_needs_a_loader_trains_alike():
    data = blobs(24)
    plain = torch.utils.data.TensorDataset(data.x, data.labels)
    nets = [fit(bigger(), each, epochs=2, in_batch=InBatch(0.5, linear()), **{**SMALL, "workers": 0})[0]
            for each in (data, plain)]  # fmt: skip
    torch.testing.assert_close(weights(nets[0]), weights(nets[1]), rtol=0, atol=0)


def test_a_selection_s_weights_go_with_the_examples_kept():
    data, seen = blobs(24), []
    kept = Kept(data, Selection(torch.arange(16), torch.linspace(0.5, 2.0, 16)))
    model, other = bigger(), bigger()
    options = {"lr": 0.1, "schedule": "constant", "momentum": 0.0, "weight_decay": 0.0}
    fit(model, kept, epochs=1, in_batch=InBatch(0.5, selector=noting(seen)), **options, **SMALL)
    for batch_ids in torch.randperm(16, generator=stream(0, "order", 0)).split(8):
        i = batch_ids[:4]
        losses = nn.functional.cross_entropy(other(data.x[i]), data.labels[i], reduction="none")
        loss = (losses * torch.linspace(0.5, 2.0, 16)[i]).mean()
        for p, g in zip(other.parameters(), torch.autograd.grad(loss, list(other.parameters())), strict=True):
            p.data -= 0.1 * g
    torch.testing.assert_close(weights(model), weights(other), rtol=1e-5, atol=1e-6)


def test_a_step_does_not_count_the_epoch_again(monkeypatch):
    counted = []
    epoch_cost = InBatchSelector.epoch_cost
    monkeypatch.setattr(
        InBatchSelector, "epoch_cost", lambda self, *args: counted.append(args) or epoch_cost(self, *args)
    )
    _, history = fit(bigger(), blobs(400), passes=2, in_batch=InBatch(0.5), **SMALL)
    assert sum(row["steps"] for row in history.rows) >= 120
    assert len(counted) < 100  # some at the end of each epoch, and a few more where the last is cut


def test_what_is_afforded_is_the_most_that_is_paid_for():
    selector = InBatchSelector(InBatch(0.5, linear(), every=3), bigger(), recipe=Recipe(batch=4, precision="fp32"),
                               device=torch.device("cpu"), seed=0, flops=100.0, proxy_flops=30.0)  # fmt: skip
    for left, before in itertools.product((1.0, 7.5, 33.0, 61.0), (0, 1, 2)):
        limit = max(m for m in range(1, 200) if m == 1 or selector.epoch_cost(m, before).passes <= left)
        assert selector.affordable(left, before, 1000) == limit, (left, before)
        assert selector.affordable(left, before, 5) == min(5, limit)


def test_the_schedule_goes_by_what_was_paid():
    rates = []
    options = {**SMALL, "schedule": lambda done: rates.append(done) or 1.0}
    _, history = fit(bigger(), blobs(90), passes=2, in_batch=InBatch(0.5), **options)
    rates = rates[-int(sum(row["steps"] for row in history.rows)) :]
    paid = [0.0]
    for row in history.rows:  # 180 in all; a step pays for its kept examples, and a third of its loaded ones
        each = (row["examples"] + round(row["loaded"]) / 3) / row["steps"]
        paid += [paid[-1] + each * (step + 1) for step in range(int(row["steps"]))]
    assert rates == pytest.approx([one / 180 for one in paid[:-1]])


def test_batch_selectors_of_the_library_go_in():
    _, history = fit(bigger(), blobs(24), epochs=1, in_batch=InBatch(0.25, selector=selective_backprop), **SMALL)
    assert history.rows[0]["examples"] == 6  # 12 + 12 loaded, 3 + 3 kept


def test_a_proxy_of_too_few_classes_is_told_before_the_first_step():
    with pytest.raises(ArgumentError, match="2 outputs"):
        fit(bigger(), blobs(24), epochs=1, in_batch=InBatch(0.5, linear(classes=2)), **SMALL)
