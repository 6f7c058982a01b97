"""Training on a random share of the patches: the tokens that reach the blocks, their cost, and schedules in `fit`."""

import copy
import math

import pytest
import torch

from datawinnow import SizeSchedule, vit
from datawinnow.core.errors import ArgumentError
from datawinnow.core.rng import forked
from datawinnow.data.examples import Augment
from datawinnow.models import build
from datawinnow.train import Recipe, fit
from datawinnow.train.flops import flops_per_example
from datawinnow.vit.anatomy import anatomy_of
from tests.train.helpers import PLAIN, weights
from tests.train.helpers import images as labelled_images
from tests.vit.networks import MAKERS, PATCHES, images, logits, make_network

SMALL_VIT = {"shape": (3, 16, 16), "classes": 2, "width": 16, "depth": 2, "heads": 2, "patch": 4}


class Tokens:
    """Notes the tokens that reach a block."""

    def __init__(self, block):
        self.tokens = []
        block.register_forward_pre_hook(lambda _, args: self.tokens.append(args[0].detach()))


@pytest.mark.parametrize("name", MAKERS)
def test_training_keeps_a_random_share_with_their_positions_and_evaluation_all(name):
    model = make_network(name)
    anatomy = anatomy_of(model)
    first = Tokens(anatomy.blocks[0])  # before the patches are dropped
    patches = vit.random_patches(model)
    second = Tokens(anatomy.blocks[0])
    x, prefix = images(), anatomy.prefix
    unchanged = logits(model, x)
    patches.share = 0.3
    assert torch.equal(logits(model, x), unchanged)
    model.train()
    with forked(5, "patches"):
        logits(model, x)
    before, after = first.tokens[-1], second.tokens[-1]
    count = math.ceil(0.3 * PATCHES)
    assert after.shape[1] == prefix + count
    assert torch.equal(after[:, :prefix], before[:, :prefix])
    chosen = []
    for i in range(len(x)):
        positions = [int(torch.nonzero((before[i] == token).all(1)).item()) for token in after[i, prefix:]]
        assert positions == sorted(set(positions))
        assert min(positions) >= prefix
        chosen.append(tuple(positions))
    assert len(set(chosen)) == len(x)  # others for each image
    with forked(5, "patches"):
        logits(model, x)
    assert torch.equal(second.tokens[-1], after)  # the same draws, the same patches
    logits(model, x)
    assert not torch.equal(second.tokens[-1], after)


def test_each_patch_is_kept_equally_often():
    patches = vit.random_patches(build("vit", **SMALL_VIT))
    patches.share = 0.25
    tokens = torch.arange(17.0)[None, :, None].expand(4000, -1, -1)
    with forked(0, "patches"):
        (kept,) = patches(torch.nn.Identity().train(), (tokens,))
    counts = kept.flatten().long().bincount(minlength=17)
    assert int(counts[0]) == 4000
    # 4 standard errors of a binomial count
    assert (counts[1:] - 1000).abs().max() < 4 * math.sqrt(4000 * 0.25 * 0.75)


def test_the_share_is_counted_in_operations_and_put_back():
    model = build("vit", **SMALL_VIT)
    x = torch.zeros(2, 3, 16, 16)
    full = sum(flops_per_example(model, x))
    patches = vit.random_patches(model)
    with patches.fixed(0.25):
        quarter = sum(flops_per_example(model, x))
    assert 0.25 * full < quarter < 0.4 * full
    assert patches.share == 1
    assert sum(flops_per_example(model, x)) == full
    assert copy.deepcopy(model).random_patches is not patches


def test_weights_load_and_a_second_call_adds_nothing():
    model = build("vit", **SMALL_VIT)
    names = list(model.state_dict())
    assert vit.random_patches(model) is vit.random_patches(model)
    assert list(model.state_dict()) == names
    counted = Tokens(anatomy_of(model).blocks[1])
    model.random_patches.share = 0.5
    model.train()(torch.zeros(2, 3, 16, 16))
    assert counted.tokens[-1].shape[1] == 1 + 8  # half of 16, once


def test_fit_follows_the_schedule_at_equal_operations(tmp_path):
    data = labelled_images(60, size=16)
    model = build("vit", **SMALL_VIT)
    counted = Tokens(anatomy_of(model).blocks[1])
    schedule = SizeSchedule(start=8, view="patches")
    _, history = fit(model, data, passes=4, size_schedule=schedule, seed=1, **PLAIN)
    seen = [tokens.shape[1] for tokens in counted.tokens if tokens.shape[0] > 2]  # trials are of two
    # sides 8 and 12 of 16 are a quarter and 9/16 of 16 patches, beside the class token
    assert sorted(set(seen)) == [5, 10, 17]
    assert seen == sorted(seen)
    assert sum(row["examples"] for row in history.rows) > 4 * 60
    assert history.cost.passes == pytest.approx(4 * 60, rel=0.05)
    below = SizeSchedule(sizes=(8,), shares=(1.0,), view="patches")
    fit(model, data, passes=1, size_schedule=below, **PLAIN)
    assert model.random_patches.share == 1  # for a training of one's own that comes after


def test_resumed_in_the_middle_of_the_schedule(tmp_path):
    data = labelled_images(60, size=16, augment=Augment(crop=2))
    kwargs = {"passes": 4, "size_schedule": SizeSchedule(start=8, view="patches"), "seed": 3, **PLAIN}

    def network(seed=0):
        with forked(seed, "network"):
            return build("vit", **SMALL_VIT)

    expected, _ = fit(network(), data, **kwargs)
    checkpoint = tmp_path / "checkpoint.safetensors"

    def interrupt(epoch, history):
        if epoch == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(network(), data, checkpoint=checkpoint, on_epoch=interrupt, **kwargs)
    actual, _ = fit(network(1), data, checkpoint=checkpoint, **kwargs)
    assert torch.equal(weights(actual), weights(expected))


def test_in_a_loop_of_ones_own():
    model = build("vit", **SMALL_VIT)
    counted = Tokens(anatomy_of(model).blocks[1])
    patches, schedule = vit.random_patches(model), SizeSchedule(start=8, view="patches")
    x = torch.zeros(4, 3, 16, 16)
    for step in range(10):
        patches.share = schedule.patch_share(x, step / 10)
        model(x)
    assert [tokens.shape[1] for tokens in counted.tokens] == [5, 5, 5, 10, 10, 10, 17, 17, 17, 17]


def test_errors():
    model = build("vit", **SMALL_VIT)
    patches = vit.random_patches(model)
    for share in (0, -0.5, 1.5, math.nan):
        with pytest.raises(ArgumentError, match="share"):
            patches.share = share
    with pytest.raises(ArgumentError, match="sparse already"):
        vit.random_patches(vit.sparsify(build("vit", **SMALL_VIT), at=[1]))
    with pytest.raises(ArgumentError, match="vision transformer"):
        vit.random_patches(build("resnet8", shape=(3, 32, 32), classes=2))
    with pytest.raises(ArgumentError, match="patch_share"):
        SizeSchedule(start=8, view="patches")(torch.zeros(2, 3, 16, 16), 0.1)
    recipe = Recipe(precision="fp32", size_schedule=SizeSchedule(start=8, view="patches"))
    with pytest.raises(ArgumentError, match="vision transformer"):
        fit(build("resnet8", shape=(3, 16, 16), classes=2), labelled_images(40, size=16), passes=2, recipe=recipe)


def test_a_training_that_is_interrupted_puts_the_share_back():
    model = build("vit", **SMALL_VIT)

    def interrupt(epoch, history):
        assert model.random_patches.share < 1
        raise KeyboardInterrupt

    schedule = SizeSchedule(start=8, view="patches")
    with pytest.raises(KeyboardInterrupt):
        fit(model, labelled_images(60, size=16), passes=4, size_schedule=schedule, on_epoch=interrupt, **PLAIN)
    assert model.random_patches.share == 1


def test_a_network_and_what_holds_it_drop_the_same_patches():
    inner = build("vit", **SMALL_VIT)
    outer = torch.nn.Sequential(inner)
    assert vit.random_patches(outer) is vit.random_patches(inner)
    counted = Tokens(anatomy_of(inner).blocks[1])
    vit.random_patches(outer).share = 0.5
    outer.train()(torch.zeros(2, 3, 16, 16))
    assert counted.tokens[-1].shape[1] == 1 + 8  # once


def test_random_patches_and_sparsity_are_refused_in_either_order():
    model = build("vit", **SMALL_VIT)
    vit.random_patches(model)
    with pytest.raises(ArgumentError, match="random patches"):
        vit.sparsify(model, at=[1])
    with pytest.raises(ArgumentError, match="patches are of images"):
        SizeSchedule(start=2, view="patches").patch_share(torch.zeros(2, 8, dtype=torch.int64), 0)
