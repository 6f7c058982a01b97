"""Warm-up, annealing, rescaling and periods around any policy; unbiased sums."""

import pytest
import torch

from datawinnow.core.errors import ArgumentError
from datawinnow.core.rng import stream
from datawinnow.core.selection import Selection
from datawinnow.dynamic import (
    UCB,
    EpsilonGreedy,
    ExampleSwap,
    InfoBatch,
    OrderDP,
    RandomPruning,
    RepeatedSubset,
    SeTa,
    StaticSubset,
    annealed,
    every,
    rescaled,
    warm_up,
)
from tests.dynamic.helpers import bound, ids, run

N = 40


def sizes(policy, epochs):
    """How many examples each epoch of a run has."""
    return [len(plan) for plan, _, _ in run(policy, N, epochs=epochs)]


def test_warm_up_is_all_data_first_and_is_observed():
    policy = warm_up(UCB(keep=0.5, period=1), 3)
    plans = run(policy, N, epochs=5)
    assert [len(plan) for plan, _, _ in plans] == [N] * 3 + [20, 20]
    assert all(plan.weight.tolist() == [1.0] * N for plan, _, _ in plans[:3])
    alone = run(UCB(keep=0.5, period=1), N, epochs=1)
    assert ids(plans[3][0]) == set(range(20, N))  # hardness rises with the id, seen in the warm-up
    assert not plans[3][1]["mean"].isnan().any()
    assert alone[0][1]["mean"].isnan().all()


@pytest.mark.parametrize("epochs", [8, 90, 100])
def test_annealing_starts_where_the_share_ends_fractional_or_not(epochs):
    policy = annealed(rescaled(RandomPruning(keep=0.25)), epochs)
    for epoch in range(epochs):
        plan, _ = policy.plan(epoch, policy.init(N), bound(0))
        over = epoch >= 0.875 * epochs
        assert len(plan) == (N if over else 10)
        assert set(plan.weight.tolist()) == {1.0 if over else 4.0}


def test_the_three_ways_of_annealing():
    inner = StaticSubset(Selection(torch.arange(10), torch.full((10,), 2.0)))
    full, partial, none = (annealed(inner, 4, share=0.5, mode=annealing) for annealing in ("full", "partial", "none"))
    assert sizes(full, 4) == [10, 10, N, N]
    assert sizes(partial, 4) == sizes(none, 4) == [10] * 4
    plans = [policy.plan(3, policy.init(N), bound(0))[0] for policy in (full, partial, none)]
    assert [set(plan.weight.tolist()) for plan in plans] == [{1.0}, {1.0}, {2.0}]
    assert ids(plans[1]) != set(range(10)) == ids(plans[2])
    assert annealed(inner, 4, share=1.0).plan(3, inner.init(N), bound(0))[0].weight.tolist() == [2.0] * 10


def test_every_holds_the_plan_and_its_weights_in_a_new_order():
    plans = [plan for plan, _, _ in run(every(InfoBatch(epochs=20), 3), N, epochs=9)]
    weights = [dict(zip(p.index.tolist(), p.weight.tolist(), strict=True)) for p in plans]
    for start in (0, 3, 6):
        assert weights[start] == weights[start + 1] == weights[start + 2]
        assert plans[start].index.tolist() != plans[start + 1].index.tolist()
    assert weights[2] != weights[3] != weights[6]
    assert len(plans[2]) == N
    assert max(weights[3].values()) == pytest.approx(2.0, rel=0.2)


def test_every_observes_between_plans():
    policy = every(UCB(keep=0.25, period=1), 4)
    state = policy.init(8)
    for epoch in range(4):
        plan, state = policy.plan(epoch, state, bound(0))
        loss = torch.where(plan.index < 2, float(epoch), 1.0)
        state = policy.observe(state, plan.index, loss=loss)
    assert ids(policy.plan(4, state, bound(0))[0]) == {0, 1}


def test_rescaled_weights_are_one_over_the_chance():
    plan, _ = rescaled(RandomPruning(keep=0.3)).plan(0, {"n": 10}, bound(0))
    assert plan.weight.tolist() == pytest.approx([10 / 3] * 3)
    policy = rescaled(EpsilonGreedy(keep=0.5, epsilon=0.4, period=1))
    state = policy.observe(policy.init(20), torch.arange(20), loss=torch.arange(20.0))
    plan, _ = policy.plan(1, state, bound(0))
    weight = dict(zip(plan.index.tolist(), plan.weight.tolist(), strict=True))
    assert [weight.pop(i) for i in range(14, 20)] == [1.0] * 6
    assert list(weight.values()) == pytest.approx([14 / 4] * 4)


def unbiased():
    """Policies whose expected sum of weighted losses is the sum of all losses."""
    return {
        "random": rescaled(RandomPruning(keep=0.3)),
        "rs2": rescaled(RepeatedSubset(keep=0.3)),
        "rs2 with replacement": rescaled(RepeatedSubset(keep=0.3, replacement=True)),
        "epsilon-greedy": rescaled(EpsilonGreedy(keep=0.4, epsilon=0.4, period=1)),
        "info_batch": InfoBatch(epochs=100),
        "info_batch, other drop": InfoBatch(epochs=100, drop=0.37),
        "info_batch, percentile": InfoBatch(epochs=100, form="percentile"),
        "every": every(rescaled(RandomPruning(keep=0.3)), 5),
        "rescaled every": rescaled(every(RandomPruning(keep=0.3), 5)),
        "warm_up": rescaled(warm_up(RandomPruning(keep=0.3), 1)),
    }


@pytest.mark.parametrize("n", [101, 7], ids=["101 examples", "7 examples"])
@pytest.mark.parametrize("name", unbiased())
def test_the_expected_sum_of_weighted_losses_is_the_sum_of_losses(name, n):
    policy = unbiased()[name]
    loss = torch.empty(n).exponential_(generator=stream(0, "loss"))
    state = policy.observe(policy.init(n), torch.arange(n), loss=loss)
    sums = []
    for seed in range(400):
        plan, _ = policy.plan(2, state, bound(seed))
        sums.append(float((plan.weight * loss[plan.index]).sum()))
    sums = torch.tensor(sums)
    assert sums.std() > 0
    assert abs(sums.mean() - loss.sum()) <= 4 * sums.std() / len(sums) ** 0.5


def test_without_rescaling_the_sum_is_not_all_of_it():
    loss = torch.ones(100)
    plan, _ = RandomPruning(keep=0.3).plan(0, {"n": 100}, bound(0))
    assert float((plan.weight * loss[plan.index]).sum()) == 30


@pytest.mark.parametrize(
    "policy",
    [
        UCB(keep=0.5),
        OrderDP(keep=0.5),
        SeTa(epochs=5),
        ExampleSwap(),
        InfoBatch(epochs=5),
        StaticSubset(Selection.everything(4)),
        warm_up(UCB(keep=0.5), 1),
        rescaled(RandomPruning(keep=0.5)),
    ],
    ids=lambda policy: type(policy).__name__,
)
def test_rescaled_refuses_what_has_no_known_chances(policy):
    with pytest.raises(ArgumentError, match=rf"known chance .*got {type(policy).__name__}"):
        rescaled(policy)


def test_rescaled_refuses_an_epsilon_that_draws_nobody():
    policy = rescaled(EpsilonGreedy(keep=0.5, epsilon=0.1, period=1))
    state = policy.observe(policy.init(10), torch.arange(10), loss=torch.arange(10.0))
    with pytest.raises(ArgumentError, match="5 examples had no chance of being chosen"):
        policy.plan(1, state, bound(0))


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: warm_up(RandomPruning, 2), "policy must be a policy such as"),
        (lambda: every("ucb", 2), "policy must be a policy such as .*got 'ucb'"),
        (lambda: warm_up(RandomPruning(0.5), -1), r"epochs must be a whole number in \[0, .*got -1"),
        (lambda: annealed(RandomPruning(0.5), 0), r"epochs must be a whole number in \[1, .*got 0"),
        (lambda: annealed(RandomPruning(0.5), 5, share=1.2), r"share must be a number in \[0, 1\], got 1.2"),
        (
            lambda: annealed(RandomPruning(0.5), 5, mode="half"),
            "mode must be one of 'none', .*got 'half'",
        ),
        (lambda: every(RandomPruning(0.5), 0), r"k must be a whole number in \[1, .*got 0"),
        (lambda: rescaled(None), "policy must be a policy such as .*got None"),
    ],
)
def test_wrappers_check_what_they_are_given(make, match):
    with pytest.raises(ArgumentError, match=match):
        make()


def test_wrappers_say_what_their_policy_needs():
    assert annealed(every(warm_up(UCB(keep=0.5), 1), 2), 5).needs == ("loss",)
    assert rescaled(RandomPruning(keep=0.5)).needs == ()
    assert warm_up(ExampleSwap(), 1).needs == ("correct",)
