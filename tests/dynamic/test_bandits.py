"""Uniform random, epsilon-greedy and UCB against their equations, and the defects of published code."""

import pytest
import torch

from datawinnow.core.errors import ArgumentError
from datawinnow.core.reason import Reason
from datawinnow.core.rng import stream
from datawinnow.dynamic import UCB, EpsilonGreedy, RandomPruning, RepeatedSubset
from tests.dynamic.helpers import bound, ids
from tests.reference import dynamic as literal

N = 30


def visited(policy, epochs=6, n=N, fraction=1.0, seed=0):
    """A state after some epochs, and the losses of every example's visits."""
    g, state, visits = stream(seed, "visits"), policy.init(n), {i: [] for i in range(n)}
    for epoch in range(epochs):
        index = torch.randperm(n, generator=g)[: n if epoch == 0 else int(fraction * n)]
        loss = torch.rand(index.numel(), generator=g) * 4
        state = policy.observe(state, index, loss=loss)
        for i, x in zip(index.tolist(), loss.tolist(), strict=True):
            visits[i].append(x)
    return state, visits


@pytest.mark.parametrize("fraction", [1.0, 0.4], ids=["all", "part"])
@pytest.mark.parametrize(("alpha", "c"), [(0.8, 1.0), (0.3, 2.0), (1.0, 0.0)])
def test_ucb_is_its_equation(fraction, alpha, c):
    policy = UCB(keep=0.3, alpha=alpha, c=c)
    state, visits = visited(policy, fraction=fraction)
    means, variances = zip(*(literal.running(visits[i], alpha) for i in range(N)), strict=True)
    torch.testing.assert_close(state["mean"], torch.tensor(means))
    torch.testing.assert_close(state["variance"], torch.tensor(variances), rtol=1e-4, atol=1e-5)
    plan, _ = policy.plan(7, state, bound(0))
    assert ids(plan) == literal.highest([m + c * v for m, v in zip(means, variances, strict=True)], 9)


def test_the_first_visit_sets_the_mean_and_no_variance():
    # one published form starts the mean at 0: variance 0.8 x^2; the other halts at 0.8 x
    policy = UCB(keep=0.5)
    state = policy.observe(policy.init(3), torch.tensor([2]), loss=torch.tensor([5.0]))
    assert state["mean"][2] == 5.0
    assert state["variance"].tolist() == [0.0, 0.0, 0.0]
    state = policy.observe(state, torch.tensor([2]), loss=torch.tensor([6.0]))
    assert float(state["mean"][2]) == pytest.approx(5.8)
    assert float(state["variance"][2]) == pytest.approx(0.8)


@pytest.mark.parametrize("policy", [UCB(keep=0.4), EpsilonGreedy(keep=0.4, epsilon=0.0)], ids=["ucb", "epsilon"])
def test_unvisited_examples_keep_what_they_had(policy):
    state, _ = visited(policy)
    after = policy.observe(state, torch.arange(5), loss=torch.full((5,), 100.0))
    for name in ("mean", "variance", "score"):
        if name in state:
            assert after[name][5:].equal(state[name][5:])
            assert not after[name][:5].equal(state[name][:5])


@pytest.mark.parametrize("policy", [UCB(keep=0.3), EpsilonGreedy(keep=0.3)], ids=["ucb", "epsilon"])
def test_decided_at_0_10_20_from_the_losses_before(policy):
    n, state, sets = 40, policy.init(40), []
    for epoch in range(25):
        plan, state = policy.plan(epoch, state, bound(1))
        sets.append(ids(plan))
        # what is kept becomes easy, so that a new decision is another one
        state = policy.observe(state, plan.index, loss=plan.index * 0.01 + 5.0 / (epoch + 1))
    assert len(sets[0]) == n
    assert len({frozenset(s) for s in sets[1:10]}) == 1
    assert sets[9] != sets[10]
    assert len({frozenset(s) for s in sets[10:20]}) == 1
    assert sets[19] != sets[20]
    assert len({frozenset(s) for s in sets[20:]}) == 1


@pytest.mark.parametrize("policy", [UCB(keep=0.3, period=1), EpsilonGreedy(keep=0.3, period=1, epsilon=0.0)])
def test_no_lag_of_an_epoch(policy):
    # published DDP code decides epoch e before epoch e - 1 has produced losses
    state = policy.observe(policy.init(10), torch.arange(10), loss=torch.arange(10.0))
    assert ids(policy.plan(1, state, bound(0))[0]) == {7, 8, 9}
    state = policy.plan(1, state, bound(0))[1]
    state = policy.observe(state, torch.arange(10), loss=20 - 2 * torch.arange(10.0))
    assert ids(policy.plan(2, state, bound(0))[0]) == {0, 1, 2}


@pytest.mark.parametrize("policy", [UCB(keep=0.59), EpsilonGreedy(keep=0.59)], ids=["ucb", "epsilon"])
def test_the_first_period_drops_no_class(policy):
    # published: scores all 0 and a stable sort, so the first 41% of ids, in order of class, wait ten epochs
    labels = torch.arange(100) // 10
    plan, state = policy.plan(0, policy.init(100), bound(0))
    assert len(plan) == 100
    state = policy.observe(state, plan.index, loss=torch.rand(100, generator=stream(0, "loss"))[plan.index])
    plan, _ = policy.plan(1, state, bound(0))
    assert len(plan) == 59
    assert labels[plan.index].unique().numel() == 10


def test_a_random_first_period_shows_everything_before_it_ranks():
    policy = UCB(keep=0.5, period=1, first="random")
    first, state = policy.plan(0, policy.init(20), bound(0))
    state = policy.observe(state, first.index, loss=torch.full((10,), 9.0))
    second, _ = policy.plan(1, state, bound(0))
    assert ids(first) | ids(second) == set(range(20))
    assert Reason(int(first.reason[first.index[0]])) is Reason.DRAWN


@pytest.mark.parametrize("n", [40, 41])
@pytest.mark.parametrize("epsilon", [0.0, 0.1, 0.38, 1.0])
def test_epsilon_greedy_ranks_most_and_draws_the_rest(epsilon, n):
    policy = EpsilonGreedy(keep=0.5, epsilon=epsilon, period=1)
    loss = torch.rand(n, generator=stream(n, "loss"))
    state = policy.observe(policy.init(n), torch.arange(n), loss=loss)
    k = 20 if n == 40 else 21
    drawn = int(epsilon * k)
    best = literal.highest(loss.tolist(), k - drawn)
    counts = torch.zeros(n)
    for seed in range(80):
        plan, _ = policy.plan(1, state, bound(seed))
        assert best <= ids(plan)
        assert {i for i in ids(plan) if plan.reason[i] == Reason.RANKED} == best
        counts[plan.index] += 1
    rest = [i for i in range(n) if i not in best]
    share = drawn / len(rest)
    assert bool(((counts[rest] / 80 - share).abs() <= 4 * (share * (1 - share) / 80) ** 0.5 + 1e-6).all())


def test_a_share_of_random_that_a_float_misses_is_met():
    assert 0.58 * 50 < 29
    policy = EpsilonGreedy(keep=0.5, epsilon=0.58)
    state = policy.observe(policy.init(100), torch.arange(100), loss=torch.arange(100.0))
    plan, _ = policy.plan(1, state, bound(0))
    assert int((plan.reason == int(Reason.DRAWN)).sum()) == 29


@pytest.mark.parametrize("policy", [UCB(keep=0.3), EpsilonGreedy(keep=0.3, epsilon=0.0)], ids=["ucb", "epsilon"])
def test_what_was_never_visited_ranks_first(policy):
    state = policy.observe(policy.init(10), torch.arange(8), loss=torch.arange(8.0) + 100)
    for seed in range(5):
        plan, _ = policy.plan(1, state, bound(seed))
        assert ids(plan) == {7, 8, 9}
        assert set(plan.reason[plan.index].tolist()) == {Reason.RANKED}


def test_epsilon_greedys_score_is_a_running_mean():
    policy = EpsilonGreedy(keep=0.3, epsilon=0.0, alpha=0.6)
    state, visits = visited(policy, fraction=0.5)
    means = [literal.running(visits[i], 0.6)[0] for i in range(N)]
    torch.testing.assert_close(state["mean"], torch.tensor(means))
    assert ids(policy.plan(1, state, bound(0))[0]) == literal.highest(means, 9)


def test_random_pruning_draws_every_id_alike_and_anew():
    counts = torch.zeros(20)
    policy = RandomPruning(keep=0.3)
    for epoch in range(400):
        plan, _ = policy.plan(epoch, policy.init(20), bound(0))
        counts[plan.index] += 1
    assert bool(((counts / 400 - 0.3).abs() <= 4 * (0.21 / 400) ** 0.5).all())


@pytest.mark.parametrize(("n", "keep"), [(12, 0.25), (13, 0.3), (10, 0.7), (7, 1.0)])
def test_rs2_hands_out_chunks_of_one_permutation(n, keep):
    policy = RepeatedSubset(keep=keep)
    state = policy.init(n)
    plans = [policy.plan(epoch, state, bound(5))[0].index.tolist() for epoch in range(9)]
    k = len(plans[0])
    rounds = -(-n // k)
    for start in range(0, 9 - rounds + 1, rounds):
        one = [i for plan in plans[start : start + rounds] for i in plan]
        permutation = one[:n]
        assert sorted(permutation) == list(range(n))
        assert [literal.chunk(permutation, k, c) for c in range(rounds)] == plans[start : start + rounds]
    if rounds > 1:
        assert plans[0] != plans[rounds]


def test_rs2_is_a_function_of_the_epoch_so_a_resume_cannot_drift():
    policy = RepeatedSubset(keep=0.25)
    fresh, _ = policy.plan(6, policy.init(12), bound(2))
    state = policy.init(12)
    for epoch in range(7):
        plan, state = policy.plan(epoch, state, bound(2))
    assert plan.index.equal(fresh.index)


def test_rs2_with_replacement_repeats_ids_across_epochs():
    policy = RepeatedSubset(keep=0.5, replacement=True)
    first, second = (ids(policy.plan(epoch, policy.init(20), bound(0))[0]) for epoch in (0, 1))
    assert first & second
    assert not ids(RepeatedSubset(0.5).plan(0, {"n": 20}, bound(0))[0]) & ids(
        RepeatedSubset(0.5).plan(1, {"n": 20}, bound(0))[0]
    )


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: RandomPruning(keep=0), r"keep must be in \(0, 1\], got 0.*fraction of examples kept"),
        (lambda: RepeatedSubset(keep=1.5), r"keep must be in \(0, 1\], got 1.5"),
        (lambda: RepeatedSubset(keep=0.5, replacement=2), "replacement must be one of False, True, got 2"),
        (lambda: EpsilonGreedy(keep=0.5, epsilon=1.1), r"epsilon must be a number in \[0, 1\], got 1.1"),
        (lambda: EpsilonGreedy(keep=0.5, alpha=0), r"alpha must be a number in .*got 0"),
        (lambda: UCB(keep="half"), "keep must be in"),
        (lambda: UCB(keep=0.5, period=0), r"period must be a whole number in \[1, .*got 0"),
        (lambda: UCB(keep=0.5, c=-1.0), r"c must be a number in \[0, .*got -1"),
        (lambda: UCB(keep=0.5, first="ids"), "first must be one of 'all', 'random', got 'ids'"),
    ],
)
def test_options_out_of_range_are_refused(make, match):
    with pytest.raises(ArgumentError, match=match):
        make()
