"""Where networks come from: how often they are matched, what they are trained on, and that every loop ends."""

import pytest
import torch
from torch import nn

from datawinnow.condense import matching, networks
from datawinnow.condense.matching import MatchingContext
from datawinnow.condense.networks import (
    DynamicBilevel,
    FreshNetworks,
    NetworkQueue,
    TrainedOnSynthetic,
    set_batch_norm_statistics,
)
from datawinnow.condense.pixels import LearnedPixels
from datawinnow.condense.real_images import RealImages
from datawinnow.core.errors import ArgumentError
from datawinnow.core.rng import stream
from datawinnow.core.synthetic import Synthetic
from tests.condense.helpers import CLASSES, QUICK, build, make_images, run_condenser

METHODS = list(QUICK)
CAFE = {"still": 0.04, "moves": 0.03, "window": 4, "query": 4, "max_outer": 7, "max_inner": 6, "lr": 0.01, "batch": 8}
QUEUE = {
    "num_initial": 2,
    "capacity": 3,
    "push_every": 2,
    "num_trained": 1,
    "steps": 3,
    "batch": 8,
    "lr": 0.01,
    "momentum": 0.9,
    "weight_decay": 0.0,
    "reset_every": 100,
}


def make_context(channels=1, side=8, **options):
    x, y = make_images(channels=channels, side=side)
    start = torch.randn(CLASSES, channels, side, side, generator=stream(0, "start"))
    options = {"build": build(channels, side), **options}
    pixels = LearnedPixels(start, CLASSES, 0.5)
    return MatchingContext(RealImages(x, y), pixels, torch.arange(CLASSES), seed=0, **options)


def weights(net):
    return torch.cat([p.detach().flatten().clone() for p in net.parameters()])


def test_fresh_networks_are_new_each_iteration_and_the_same_each_time():
    context = make_context()
    nets = [weights(next(FreshNetworks().iterate(k, context))[0]) for k in (0, 1, 0)]
    assert torch.equal(nets[0], nets[2])
    assert not torch.equal(nets[0], nets[1])


@pytest.mark.parametrize(("side", "beside"), [(8, False), (16, True)])
def test_channels_lie_side_by_side_where_that_is_faster(side, beside, monkeypatch):
    context = make_context(3, side)
    start = context.pixels.x
    net = context.fresh_network(0)
    assert net.features[4].weight.is_contiguous(memory_format=torch.channels_last) is beside
    monkeypatch.setattr(matching, "CHANNELS_LAST_SIDE", 1000)
    plain = context.fresh_network(0)
    assert torch.equal(weights(net), weights(plain))
    torch.testing.assert_close(net(start), plain(start))


@pytest.mark.parametrize("method", METHODS)
def test_channels_side_by_side_change_rounding_and_nothing_else(method, monkeypatch):
    kwargs = {"data": make_images(channels=3, side=16), "build": build(3, 16), "seed": 1, "iterations": 1}
    beside = run_condenser(method, **kwargs)
    monkeypatch.setattr(matching, "CHANNELS_LAST_SIDE", 1000)
    torch.testing.assert_close(beside.images, run_condenser(method, **kwargs).images, rtol=1e-3, atol=1e-3)


def test_a_trained_one_is_matched_outer_times_and_trained_in_between_on_the_images_as_they_are():
    context, seen_networks = make_context(), []
    for net, _ in TrainedOnSynthetic(3, 2, 0.1, 8).iterate(0, context):
        seen_networks.append(weights(net))
    assert len(seen_networks) == 3
    assert not torch.equal(seen_networks[0], seen_networks[1])
    assert context.images_seen["backward"] == 2 * 2 * CLASSES  # not after the last
    moved = make_context()
    other = []
    for net, _ in TrainedOnSynthetic(3, 2, 0.1, 8).iterate(0, moved):
        other.append(weights(net))
        moved.pixels.x = moved.pixels.x + 1
    assert torch.equal(seen_networks[0], other[0])
    assert not torch.equal(seen_networks[1], other[1])


def test_batch_norms_take_the_statistics_of_real_images_and_stay_there():
    context = make_context(build=build(norm="batch"))
    net = context.fresh_network(0)
    norm = next(m for m in net.modules() if isinstance(m, nn.BatchNorm2d))
    set_batch_norm_statistics(net, context, 0, 0)
    assert not norm.training
    assert net.training
    assert float(norm.running_mean.abs().max()) > 0


class Scripted(DynamicBilevel):
    """Reads accuracies from a list instead of measuring them."""

    def __init__(self, readings, **kwargs):
        super().__init__(**{**CAFE, **kwargs})
        self.readings = readings
        self.epochs = 0

    def measure(self, net, context, k, t, epoch):
        self.epochs += epoch >= 0
        return self.readings(t, epoch)


def test_the_inner_loop_ends_where_accuracy_stays_flat_and_so_does_the_outer():
    flat = Scripted(lambda t, epoch: 0.5 if epoch >= 0 else 0.1 * t)  # inner never moves, outer never stands still
    steps = len(list(flat.iterate(0, make_context())))
    assert steps == CAFE["max_outer"]
    assert flat.epochs == (CAFE["max_outer"] - 1) * CAFE["max_inner"]


def test_the_outer_loop_ends_when_the_last_measures_stand_still():
    readings = [0.1, 0.5, 0.9, 0.9, 0.9, 0.91]
    scripted = Scripted(lambda t, epoch: readings[t] if epoch < 0 else epoch)
    assert len(list(scripted.iterate(0, make_context()))) == 6  # the last four are within 0.04
    assert scripted.epochs == 5 * CAFE["window"]  # inner readings move as soon as the window is full


def test_measures_of_a_real_network_are_its_accuracy():
    context = make_context()
    net = context.fresh_network(0)
    with torch.no_grad():
        net.classifier.weight.zero_()
        net.classifier.bias.copy_(torch.tensor([0.0, 1.0, 0.0]))
    assert DynamicBilevel(**CAFE).measure(net, context, 0, 0, 0) == pytest.approx(1 / 3)
    assert context.images_seen["forward"] == 4 * CLASSES


def test_the_queue_pushes_pops_trains_and_counts():
    context, queue = make_context(), NetworkQueue(**QUEUE)
    sizes, percents = [], []
    for k in range(8):
        before = [weights(net) for net in queue.nets]
        for net, percent in queue.iterate(k, context):
            assert not net.training
            percents.append(percent)
        sizes.append(len(queue.nets))
        if k % 2:  # nothing pushed: one network was trained, on 3 batches of 8
            changed = [not torch.equal(a, weights(net)) for a, net in zip(before, queue.nets, strict=True)]
            assert sum(changed) == 1
    assert sizes == [3] * 8
    assert queue.num_built == 2 + 4
    assert context.images_seen["backward"] == 8 * 3 * 8
    assert percents[0] == 0
    assert max(percents) > 1  # percent, not a share
    assert all(right <= seen for right, seen in queue.counts)


def test_the_oldest_leaves_with_its_optimizer_and_its_counts():
    context, queue = make_context(), NetworkQueue(**{**QUEUE, "num_trained": 3})
    for k in range(2):
        list(queue.iterate(k, context))
    nets, optimizers, counts = list(queue.nets), list(queue.optimizers), [list(each) for each in queue.counts]
    assert len(nets) == 3
    next(queue.iterate(2, context))  # pushes a fourth
    assert [id(net) for net in queue.nets[:2]] == [id(net) for net in nets[1:]]
    assert [id(each) for each in queue.optimizers[:2]] == [id(each) for each in optimizers[1:]]
    assert queue.counts == [*counts[1:], [0, 0]]


def test_counts_are_forgotten_now_and_then():
    context, queue = make_context(), NetworkQueue(**{**QUEUE, "reset_every": 4})
    for k in range(4):
        list(queue.iterate(k, context))
    assert sum(seen for _, seen in queue.counts) > 0
    matched = queue.iterate(4, context)
    assert next(matched)[1] == 0
    assert sum(seen for _, seen in queue.counts) == 0


def test_a_queue_is_put_back_whole():
    context, queue, again = make_context(), NetworkQueue(**QUEUE), NetworkQueue(**QUEUE)
    for k in range(3):
        list(queue.iterate(k, context))
    saved = {name: tensor.clone() for name, tensor in queue.tensors().items()}
    again.load(saved, context)
    assert any("velocity" in name for name in saved)
    assert set(again.tensors()) == set(saved)
    assert all(torch.equal(tensor, saved[name]) for name, tensor in again.tensors().items())
    for k in range(3, 6):
        one, other = list(queue.iterate(k, context)), list(again.iterate(k, context))
        assert one[0][1] == other[0][1]
        assert torch.equal(weights(one[0][0]), weights(other[0][0]))
    assert (again.counts, again.num_built) == (queue.counts, queue.num_built)


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: TrainedOnSynthetic(0, 1, 0.1, 8), "outer must be a whole number"),
        (lambda: TrainedOnSynthetic(1, 1, 0.1, 2.5), "net_batch must be a whole number"),
        (lambda: DynamicBilevel(**{**CAFE, "batch": 2.5}), "net_batch must be a whole number"),
        (lambda: DynamicBilevel(**{**CAFE, "still": 2}), "still must be a number in"),
        (lambda: DynamicBilevel(**{**CAFE, "window": 0}), "window must be a whole number"),
        (lambda: NetworkQueue(**{**QUEUE, "push_every": 0}), "push_every must be a whole number"),
        (lambda: NetworkQueue(**{**QUEUE, "momentum": 3}), "net_momentum must be a number"),
    ],
    ids=["outer", "batch", "cafe batch", "still", "window", "push_every", "momentum"],
)
def test_settings_that_cannot_be_are_refused(make, match):
    with pytest.raises(ArgumentError, match=match):
        make()


def test_networks_train_on_the_images_that_the_set_decodes_to():
    context = make_context(factor=2)
    x, y = context.decoded()
    expected_x, expected_y = Synthetic(context.pixels.x, context.labels, 2).decode()
    assert torch.equal(x, expected_x)
    assert y.tolist() == expected_y.tolist() == [0, 1, 2] * 4


def test_every_epoch_between_steps_and_every_statistic_has_draws_of_its_own(monkeypatch):
    context = make_context(build=build(norm="batch"))
    seeds = {"train": [], "real": []}
    train, draw = networks.train_epoch, RealImages.draw_per_class

    def trained(*arguments, generator, **options):
        seeds["train"].append(generator.initial_seed())
        train(*arguments, generator=generator, **options)

    def drawn(real, count, generator):
        seeds["real"].append(generator.initial_seed())
        return draw(real, count, generator)

    monkeypatch.setattr(networks, "train_epoch", trained)
    monkeypatch.setattr(RealImages, "draw_per_class", drawn)
    for k in range(2):
        for _ in TrainedOnSynthetic(outer=3, inner=2, lr=0.01, batch=4).iterate(k, context):
            pass
    assert len(seeds["train"]) == len(set(seeds["train"])) == 2 * 2 * 2
    assert len(seeds["real"]) == len(set(seeds["real"])) == 2 * 3
