"""InfoBatch in both published forms against its equations, and the defects of published code."""

import pytest
import torch

from datawinnow.core.errors import ArgumentError
from datawinnow.core.reason import Reason
from datawinnow.core.rng import stream
from datawinnow.dynamic import InfoBatch
from tests.dynamic.helpers import bound, ids
from tests.reference import dynamic as literal


def seen(policy, loss):
    """A state that has seen ``loss`` of every example."""
    return policy.observe(policy.init(loss.numel()), torch.arange(loss.numel()), loss=loss)


@pytest.mark.parametrize("form", ["mean", "percentile"])
@pytest.mark.parametrize("drop", [0.5, 0.3, 0.0])
@pytest.mark.parametrize("n", [80, 81, 7, 2])
def test_groups_shares_and_weights(form, drop, n):
    loss = torch.empty(n).exponential_(generator=stream(n, "loss"))
    policy = InfoBatch(epochs=10, drop=drop, form=form)
    plan, _ = policy.plan(3, seen(policy, loss), bound(0))
    weight = dict(zip(plan.index.tolist(), plan.weight.tolist(), strict=True))
    outside = set(range(n))
    for group, share in literal.info_batch_groups(loss.double().tolist(), form, drop):
        kept = [i for i in group if i in weight]
        assert abs(len(kept) - share * len(group)) <= max(0.5 + 1e-9, 1 - share * len(group))
        assert all(weight[i] == pytest.approx(len(group) / len(kept)) for i in kept)
        outside -= set(group)
    assert all(weight.get(i) == 1.0 for i in outside)


def test_at_the_published_settings_weights_are_2_and_4_2_1():
    loss = torch.linspace(0.0, 1.0, 201)
    for form, expected in (("mean", {1.0: 101, 2.0: 50}), ("percentile", {1.0: 31, 2.0: 65, 4.0: 10})):
        policy = InfoBatch(epochs=10, form=form)
        plan, _ = policy.plan(1, seen(policy, loss), bound(0))
        counts = {w: int((plan.weight == w).sum()) for w in plan.weight.unique().tolist()}
        assert counts == expected


@pytest.mark.parametrize("form", ["mean", "percentile"])
def test_hard_examples_are_always_kept_with_weight_one(form):
    loss = torch.cat([torch.full((95,), 0.1), torch.full((5,), 9.0)])[torch.randperm(100, generator=stream(0, "mix"))]
    policy = InfoBatch(epochs=10, form=form)
    hard = set(torch.nonzero(loss > 1).flatten().tolist())
    for seed in range(10):
        plan, _ = policy.plan(1, seen(policy, loss), bound(seed))
        assert hard <= ids(plan)
        assert set(plan.weight[loss[plan.index] > 1].tolist()) == {1.0}


@pytest.mark.parametrize("epochs", [90, 100, 200, 7, 1])
@pytest.mark.parametrize("form", ["mean", "percentile"])
def test_no_weight_is_left_after_delta(epochs, form):
    # published: reset only when the counter equals delta * epochs + 1, which for 78.75 or 87.5 never happens
    policy = InfoBatch(epochs=epochs, form=form)
    state = seen(policy, torch.arange(50.0))
    for epoch in range(epochs):
        plan, state = policy.plan(epoch, state, bound(0))
        if epoch >= 0.875 * epochs:
            assert len(plan) == 50
            assert plan.weight.tolist() == [1.0] * 50
        else:
            assert len(plan) < 50
            assert float(plan.weight.max()) > 1


def test_a_boundary_that_a_float_misses_is_met():
    assert 0.55 * 100 > 55
    policy = InfoBatch(epochs=100, delta=0.55)
    state = seen(policy, torch.arange(50.0))
    assert [len(policy.plan(epoch, state, bound(0))[0]) == 50 for epoch in range(53, 57)] == [False] * 2 + [True] * 2
    policy = InfoBatch(epochs=3, delta=1.1 / 3)  # 1.1: epoch 1 still pruned
    assert [len(policy.plan(epoch, state, bound(0))[0]) == 50 for epoch in range(3)] == [False, False, True]


def test_the_threshold_is_the_mean_of_all_stale_losses_too():
    policy = InfoBatch(epochs=10)
    state = seen(policy, torch.tensor([1.0, 2.0, 3.0, 10.0, 10.0, 10.0]))
    state = policy.observe(state, torch.tensor([0, 1]), loss=torch.tensor([4.0, 9.0]))
    assert state["loss"].tolist() == [4.0, 9.0, 3.0, 10.0, 10.0, 10.0]  # mean 7.67
    plan, _ = policy.plan(1, state, bound(0))
    drawn_from = {i for i in range(6) if plan.reason[i] in (Reason.DRAWN, Reason.NOT_DRAWN)}
    assert drawn_from == {0, 2}


def test_no_id_twice_and_no_lag():
    # published ImageNet code draws with replacement, and for epoch e + 1 before e has produced losses
    policy = InfoBatch(epochs=10)
    n = 500
    low_first = torch.cat([torch.full((250,), 0.1), torch.full((250,), 5.0)])
    state = seen(policy, low_first)
    plan, state = policy.plan(1, state, bound(0))
    assert len(ids(plan)) == len(plan) == 375
    assert ids(plan) >= set(range(250, n))
    state = policy.observe(state, torch.arange(n), loss=low_first.flip(0))
    plan, _ = policy.plan(2, state, bound(0))
    assert ids(plan) >= set(range(250))


def test_epoch_0_is_full_and_an_example_never_seen_is_kept():
    policy = InfoBatch(epochs=10)
    plan, state = policy.plan(0, policy.init(10), bound(0))
    assert len(plan) == 10
    state = policy.observe(state, torch.arange(9), loss=torch.tensor([0.1] * 8 + [9.0]))  # 9 fell with a last batch
    for seed in range(12):
        plan, _ = policy.plan(1, state, bound(seed))
        assert {8, 9} <= ids(plan)
        assert len(plan) == 6


@pytest.mark.parametrize("form", ["mean", "percentile"])
def test_equal_losses_have_nobody_below(form):
    policy = InfoBatch(epochs=10, form=form)
    plan, _ = policy.plan(1, seen(policy, torch.full((1000,), 0.1)), bound(0))
    assert len(plan) == 1000  # in float32 the mean of 0.1 is above 0.1


@pytest.mark.parametrize("size", [3, 10, 101, 1000])
def test_percentiles_by_partition_are_percentiles(size):
    from datawinnow.dynamic.info_batch import percentiles

    values = torch.randn(size, generator=stream(size, "values"))
    for shares in ((0.2, 0.85), (0.0, 1.0), (0.5, 0.5)):
        expected = [literal.quantile(values.double().tolist(), share) for share in shares]
        assert percentiles(values, shares) == pytest.approx(expected, rel=1e-9)


def test_the_batch_mean_grows_by_n_over_m():
    # the docstring's promise, and section 1.2: sums are unbiased, means over the kept are not
    loss = torch.empty(2000).exponential_(generator=stream(0, "loss"))
    policy = InfoBatch(epochs=10)
    plan, _ = policy.plan(1, seen(policy, loss), bound(0))
    mean = float((plan.weight * loss[plan.index]).mean())
    assert mean / float(loss.mean()) == pytest.approx(2000 / len(plan), rel=0.05)
    assert len(plan) < 1500


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"epochs": 0}, r"epochs must be a whole number in \[1, .*got 0"),
        ({"drop": 1.0}, r"drop must be a number in \[0, .*got 1.0"),
        ({"delta": 2}, r"delta must be a number in \[0, 1\], got 2"),
        ({"form": "median"}, "form must be one of 'mean', 'percentile', got 'median'"),
    ],
)
def test_options_out_of_range_are_refused(options, match):
    with pytest.raises(ArgumentError, match=match):
        InfoBatch(**{"epochs": 10, **options})
