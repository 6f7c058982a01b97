"""`signal=`: what a policy ranks by, with its sign; and `on_resize=`: running values when the size changes."""

import dataclasses

import pytest
import torch

from datawinnow.core.errors import ArgumentError, MissingArrayError
from datawinnow.core.rng import stream
from datawinnow.dynamic import (
    POLICIES,
    UCB,
    EpsilonGreedy,
    InfoBatch,
    LossMass,
    LossPower,
    OrderDP,
    PolicySampler,
    guarded,
)
from datawinnow.dynamic.running import rank_within_size
from tests.dynamic.helpers import bound, build_policy, ids
from tests.reference import dynamic as literal

OF_LOSS = {key: method for key, method in POLICIES.items() if "loss" in method.card.needs}


def test_every_policy_of_losses_has_the_option():
    assert {key for key, method in POLICIES.items() if "signal" in method.card.options} == set(OF_LOSS) != set()


@pytest.mark.parametrize("key", OF_LOSS)
def test_a_signal_of_your_own_ranks_as_the_loss_does(key):
    n, x = 40, torch.rand(40, generator=stream(0, "signal")) * 2
    by_loss = build_policy(OF_LOSS[key], {}, n)
    by_reward = dataclasses.replace(by_loss, signal="reward")
    assert by_reward.needs == ("reward", *by_loss.needs[1:])
    further = {"correct": torch.ones(n), "p_label": torch.ones(n)}
    a = by_loss.observe(by_loss.init(n), torch.arange(n), loss=x, **further)
    b = by_reward.observe(by_reward.init(n), torch.arange(n), reward=x, loss=-x, **further)
    plans = [policy.plan(1, state, bound(0))[0].index for policy, state in ((by_loss, a), (by_reward, b))]
    assert plans[0].equal(plans[1])
    with pytest.raises(MissingArrayError, match="needs the signal 'reward' observed"):
        by_reward.observe(by_reward.init(n), torch.arange(n), loss=x, **further)


@pytest.mark.parametrize("signal", ["p_label", "margin", "margin_softmax", "margin_top2", "correct"])
def test_signals_that_are_high_for_easy_examples_are_turned_around(signal):
    values = torch.tensor([0.9, 0.1, 0.8, 0.2])
    for policy in (UCB(keep=0.5, signal=signal), OrderDP(keep=0.5, pool=1.0, signal=signal)):
        state = policy.observe(policy.init(4), torch.arange(4), **{signal: values})
        assert ids(policy.plan(1, state, bound(0))[0]) == {1, 3}


@pytest.mark.parametrize("signal", ["p_label", "margin_softmax", "margin_top2"])
def test_turned_around_they_are_not_negative_as_chances_and_masses_need(signal):
    policy = LossMass(mass=0.9, min_keep=0.1, signal=signal)
    state = policy.observe(policy.init(3), torch.arange(3), **{signal: torch.tensor([1.0, 0.0, 0.5])})
    assert state["mean"].tolist() == pytest.approx([0.0, 1.0, 0.5])


def test_a_sampler_observes_the_signal():
    sampler = PolicySampler(UCB(keep=0.5, period=1, signal="reward"), n=4)
    sampler.observe(torch.arange(4), torch.ones(4), reward=torch.tensor([0.1, 3.0, 0.2, 2.0]))
    sampler.set_epoch(1)
    assert set(sampler) == {1, 3}
    with pytest.raises(ArgumentError, match="UCB needs reward observed, got loss"):
        sampler.observe(torch.arange(4), torch.ones(4))


def test_what_is_no_name_is_refused():
    for signal in ("", "two words", 3, "index", "input_size"):
        with pytest.raises(ArgumentError, match="signal must be the name of a number observed of each example"):
            UCB(keep=0.5, signal=signal)


def visits(policy, values, sizes):
    """The state after visits of one example with ``values`` at ``sizes``."""
    state = policy.init(2)
    for x, size in zip(values, sizes, strict=True):
        at = {"loss": torch.tensor([x]), "input_size": torch.tensor([float(size)])}
        state = policy.observe(state, torch.tensor([1]), **at)
    return float(state["mean"][1]), float(state["variance"][1]) if "variance" in state else None


VALUES, SIZES = [2.0, 1.0, 4.0, 3.0], [16, 16, 32, 32]


@pytest.mark.parametrize("make", [lambda **o: UCB(keep=0.5, **o), LossMass], ids=["ucb", "loss_mass"])
def test_moments_at_a_change_of_size(make):
    mean, variance = literal.running(VALUES, 0.8)
    assert visits(make(), VALUES, SIZES) == pytest.approx((mean, variance))
    # counted as the first: nothing of the visits at 16 is left
    assert visits(make(on_resize="reset"), VALUES, SIZES) == pytest.approx(literal.running(VALUES[2:], 0.8))
    # the mean as always, the variance from 0 at the change: one step of the recursion with the mean before it
    before = literal.running(VALUES[:3], 0.8)[0]
    expected = (mean, 0.8 * (3.0 - before) ** 2)
    assert visits(make(on_resize="reset_variance"), VALUES, SIZES) == pytest.approx(expected)
    for on_resize in ("reset", "reset_variance"):  # where the size does not change, nothing does
        assert visits(make(on_resize=on_resize), VALUES, [32] * 4) == pytest.approx((mean, variance))


@pytest.mark.parametrize("make", [EpsilonGreedy, LossPower], ids=["epsilon_greedy", "loss_power"])
def test_a_mean_at_a_change_of_size(make):
    assert visits(make(keep=0.5), VALUES, SIZES)[0] == pytest.approx(literal.running(VALUES, 0.8)[0])
    assert visits(make(keep=0.5, on_resize="reset"), VALUES, SIZES)[0] == pytest.approx(
        literal.running(VALUES[2:], 0.8)[0]
    )


def test_ranks_are_within_one_size():
    # those last seen at 16 have higher losses, and none of them is hard among its like but the first
    loss = torch.tensor([9.0, 5.0, 5.1, 5.2, 1.0, 0.1, 0.2, 0.3])
    size = torch.tensor([16.0, 16, 16, 16, 32, 32, 32, 32])
    for on_resize, kept in (("keep", {0, 3}), ("rank", {0, 4})):
        policy = UCB(keep=0.25, period=1, on_resize=on_resize)
        state = policy.observe(policy.init(8), torch.arange(8), loss=loss, input_size=size)
        assert ids(policy.plan(1, state, bound(0))[0]) == kept
    rank = rank_within_size(torch.tensor([3.0, 1.0, 1.0, 7.0, torch.inf]), torch.tensor([16, 16, 16, 32, -1]))
    assert rank.tolist() == pytest.approx([5 / 6, 1 / 3, 1 / 3, 0.5, torch.inf])


def test_the_size_is_needed_only_where_it_is_used_and_passes_through_wrappers():
    assert UCB(keep=0.5).needs == ("loss",)
    policy = guarded(UCB(keep=0.5, on_resize="reset"))
    assert policy.needs == ("loss", "input_size")
    with pytest.raises(ArgumentError, match="on_resize must be one of 'keep', 'reset_variance', 'reset', 'rank'"):
        UCB(keep=0.5, on_resize="forget")
    with pytest.raises(ArgumentError, match="on_resize must be one of 'keep', 'reset'"):
        LossPower(keep=0.5, on_resize="rank")


def test_info_batch_takes_its_mean_of_the_signal():
    policy = InfoBatch(epochs=10, signal="error_norm")
    state = policy.observe(policy.init(4), torch.arange(4), error_norm=torch.tensor([0.1, 0.1, 0.1, 1.3]))
    plan, _ = policy.plan(1, state, bound(0))
    assert 3 in ids(plan)
    assert len(plan) == 3
