"""SeTa, OrderDP, the example swap and the static subset against their descriptions."""

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans

from datawinnow.core.errors import ArgumentError
from datawinnow.core.reason import Reason
from datawinnow.core.rng import stream
from datawinnow.core.selection import Selection
from datawinnow.dynamic import ExampleSwap, OrderDP, SeTa, StaticSubset
from datawinnow.dynamic.seta import kmeans_1d
from tests.dynamic.helpers import bound, ids
from tests.reference import dynamic as literal


def seen(policy, loss):
    """A state that has seen ``loss`` of every example."""
    return policy.observe(policy.init(loss.numel()), torch.arange(loss.numel()), loss=loss)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("k", [1, 2, 5, 10])
@pytest.mark.parametrize("m", [1, 3, 60, 200])
def test_groups_are_the_best_of_all_divisions(m, k, seed):
    values = torch.empty(m).exponential_(generator=stream(seed, "values", m)) ** 2
    ends = kmeans_1d(values, k)
    assert len(ends) == min(m, k)
    assert inertia(values, ends) == pytest.approx(literal.best_division_on_a_line(values.double().tolist(), k)[1])


def inertia(values, ends):
    """Squared distances to the means of the groups that begin at ``ends``."""
    group = torch.bucketize(values.double(), ends, right=True) - 1
    members = [values.double()[group == j] for j in range(len(ends))]
    return sum(float((losses - losses.mean()).square().sum()) for losses in members)


@pytest.mark.parametrize("tail", ["lognormal", "converged"])
def test_groups_of_losses_with_a_heavy_tail_are_as_good_as_the_best_of_many_starts(tail):
    rng = np.random.default_rng(0)
    if tail == "lognormal":
        losses = np.exp(1.5 * rng.normal(size=5000))
    else:  # nine in ten are learned
        losses = np.concatenate([rng.exponential(size=4500) * 0.01, rng.exponential(size=500) * 2])
    best = KMeans(10, random_state=0, n_init=10).fit(losses[:, None]).inertia_
    values = torch.from_numpy(losses)
    assert inertia(values, kmeans_1d(values, 10)) < 1.02 * best


def test_groups_of_exponential_losses_are_as_unequal_as_measured():
    # dynamic.md 1.3: 19464/13149/7700/3728/959 of 45,000
    values = torch.empty(45_000).exponential_(generator=stream(0, "values"))
    ends = kmeans_1d(values, 5)
    sizes = torch.bincount(torch.bucketize(values.double(), ends, right=True) - 1)
    assert all(abs(int(a) - b) < 1000 for a, b in zip(sizes, (19464, 13149, 7700, 3728, 959), strict=True))


def test_equal_losses_are_one_group():
    assert kmeans_1d(torch.full((9,), 0.1), 4).tolist() == pytest.approx([0.1])
    assert len(kmeans_1d(torch.tensor([1.0, 1.0, 2.0, 2.0]), 4)) == 2
    assert kmeans_1d(torch.tensor([5.0, 0.0, 5.0, 3.0, 0.0, 5.0]), 2).tolist() == [0.0, 3.0]


@pytest.mark.parametrize(
    ("groups", "window", "rounding", "wide"),
    [
        (10, 0.5, "round", 5),
        (5, 0.9, "round", 4),
        (5, 0.75, "round", 4),  # of 3.75
        (5, 0.7, "round", 4),  # 3.5 goes to the even number, as 4.5 does
        (5, 0.9, "ceil", 5),
        (5, 0.6, "round", 3),
        (5, 0.01, "round", 1),
    ],
)
def test_the_window_slides_over_groups_by_the_epoch(groups, window, rounding, wide):
    loss = torch.rand(100, generator=stream(1, "loss"))
    members, _ = literal.best_division_on_a_line(loss.double().tolist(), groups)
    assert len(members) == groups
    policy = SeTa(epochs=100, groups=groups, window=window, rounding=rounding)
    state = seen(policy, loss)
    for epoch in range(1, 20):
        start = epoch % (groups - wide + 1)
        plan, _ = policy.plan(epoch, state, bound(0))
        assert ids(plan) == {i for group in members[start : start + wide] for i in group}


def test_seta_goes_from_easy_to_hard():
    policy = SeTa(epochs=100, groups=5, window=0.2)
    loss = torch.rand(100, generator=stream(1, "loss"))
    state = seen(policy, loss)
    means = [float(loss[policy.plan(epoch, state, bound(0))[0].index].mean()) for epoch in range(5, 10)]
    assert means == sorted(means)
    assert means[0] < 0.25 < 0.75 < means[-1]


def test_seta_drops_at_random_first_and_last():
    policy = SeTa(epochs=10, groups=2, window=1.0, drop=0.3)
    assert len(policy.plan(0, policy.init(50), bound(0))[0]) == 35
    state = seen(policy, torch.rand(50, generator=stream(0, "loss")))
    plans = [policy.plan(epoch, state, bound(0))[0] for epoch in range(1, 10)]
    assert [len(plan) for plan in plans] == [35] * 9
    assert len({frozenset(ids(plan)) for plan in plans}) == 9
    # 8.75: epoch 8 has the window, 9 the annealing
    assert {int(plan.reason[plan.index[0]]) for plan in plans[:-1]} == {Reason.RANKED}
    assert int(plans[-1].reason[plans[-1].index[0]]) == Reason.DRAWN


def test_the_window_ends_at_a_boundary_that_a_float_misses():
    assert 0.55 * 100 > 55
    policy = SeTa(epochs=100, groups=5, window=0.2, delta=0.55)
    state = seen(policy, torch.rand(50, generator=stream(0, "loss")))
    assert [len(policy.plan(epoch, state, bound(0))[0]) == 50 for epoch in (54, 55)] == [False, True]


def test_seta_keeps_an_example_never_seen():
    policy = SeTa(epochs=10, groups=2)
    state = policy.observe(policy.init(5), torch.arange(4), loss=torch.tensor([0.1, 2.0, 0.2, 3.0]))
    assert [ids(policy.plan(epoch, state, bound(0))[0]) for epoch in (2, 3)] == [{0, 2, 4}, {1, 3, 4}]


def test_order_dp_keeps_the_top_of_its_pool():
    n, loss = 40, torch.rand(40, generator=stream(0, "loss"))
    policy = OrderDP(keep=0.3, pool=0.8)
    state = seen(policy, loss)
    for seed in range(20):
        plan, _ = policy.plan(1, state, bound(seed))
        pool = [i for i in range(n) if plan.reason[i] != Reason.NOT_DRAWN]
        assert len(pool) == 32
        kept = literal.highest([loss[i].item() for i in pool], 12)
        assert ids(plan) == {pool[j] for j in kept}


def test_order_dp_ranks_what_was_never_visited_first():
    policy = OrderDP(keep=0.3, pool=1.0)
    state = policy.observe(policy.init(10), torch.arange(8), loss=torch.arange(8.0) + 100)
    for seed in range(5):
        plan, _ = policy.plan(1, state, bound(seed))
        assert ids(plan) == {7, 8, 9}
        assert set(plan.reason[plan.index].tolist()) == {Reason.RANKED}


def test_order_dp_pools_are_uniform_and_new_every_epoch():
    policy = OrderDP(keep=0.3, pool=0.6)
    state = seen(policy, torch.arange(20.0))
    counts = torch.zeros(20)
    for epoch in range(300):
        plan, _ = policy.plan(epoch, state, bound(0))
        counts[plan.reason != Reason.NOT_DRAWN] += 1
    assert bool(((counts / 300 - 0.6).abs() <= 4 * (0.24 / 300) ** 0.5).all())


def test_order_dp_starts_with_a_uniform_draw_of_the_same_size():
    plan, _ = OrderDP(keep=0.3).plan(0, OrderDP(keep=0.3).init(20), bound(0))
    assert len(plan) == 6
    assert ids(plan) != set(range(6))
    plan, _ = OrderDP(keep=0.3, first="all").plan(0, OrderDP(keep=0.3).init(20), bound(0))
    assert len(plan) == 20


def swapping(policy, n, answer, epochs, seed=0):
    """Sets of a run in which example i is right in epoch e where ``answer(i, e)``."""
    state, sets = policy.init(n), []
    for epoch in range(epochs):
        plan, state = policy.plan(epoch, state, bound(seed))
        sets.append(ids(plan))
        correct = torch.tensor([float(answer(int(i), epoch)) for i in plan.index])
        state = policy.observe(state, plan.index, correct=correct)
    return sets


@pytest.mark.parametrize("seed", range(5))
def test_the_least_forgotten_leave_and_as_many_come_in(seed):
    n, period = 40, 6

    def answer(i, epoch):  # forgotten i % 4 times in six visits; where i % 4 is 3 and i > 20 never right
        if i % 4 == 3 and i > 20:
            return False
        return epoch % period >= 2 * (i % 4) or epoch % 2 == 0

    policy = ExampleSwap(keep=0.5, period=period, swap=0.1)
    sets = swapping(policy, n, answer, 2 * period, seed)
    before, after = sets[0], sets[period]
    assert sets[:period] == [before] * period
    assert sets[period:] == [after] * period
    assert len(before) == len(after) == 20
    counts = {i: literal.forgetting([answer(i, e) for e in range(period)], period) for i in before}
    left = before - after
    assert len(left) == len(after - before) == 4
    assert max(counts[i] for i in left) <= min(counts[i] for i in before - left)


def test_never_learned_counts_as_most_forgotten_and_stays():
    sets = swapping(ExampleSwap(keep=0.5, period=3, swap=0.2), 20, lambda i, e: i % 2 == 0, 4)
    assert len({i for i in sets[0] if i % 2 == 0}) >= 4  # as many as leave
    assert {i for i in sets[0] if i % 2} <= sets[3]
    assert len(sets[0] - sets[3]) == 4


def test_counts_begin_at_zero_with_every_period():
    policy = ExampleSwap(keep=0.5, period=2, swap=0.1)
    state = policy.init(10)
    for epoch, right in enumerate([1.0, 0.0, 1.0]):
        plan, state = policy.plan(epoch, state, bound(0))
        state = policy.observe(state, plan.index, correct=torch.full((5,), right))
        if epoch == 1:
            assert int(state["forgotten"].sum()) == 5
    assert int(state["forgotten"].sum()) == 0
    assert int((state["last"] == 1).sum()) == 5  # the visit of epoch 2 alone


def test_swaps_stop_and_survive_a_resume():
    # published: the trigger compares with a counter that a resume resets, and never fires again
    policy = ExampleSwap(keep=0.5, period=2, swap=0.1, swaps=3)
    sets = swapping(policy, 40, lambda i, e: (i + e) % 3 > 0, 12)
    changes = [epoch for epoch in range(1, 12) if sets[epoch] != sets[epoch - 1]]
    assert changes == [2, 4, 6]


def test_what_left_cannot_return_in_the_same_swap():
    sets = swapping(ExampleSwap(keep=0.5, period=1, swap=0.5, swaps=1), 20, lambda i, e: True, 2)
    assert sets[0] | sets[1] == set(range(20))  # all ten leave, so the other ten come
    assert not sets[0] & sets[1]


@pytest.mark.parametrize("visited", [4, 2], ids=["as many as leave", "fewer"])
def test_who_was_not_visited_in_the_period_does_not_leave(visited):
    policy = ExampleSwap(keep=0.5, period=1, swap=0.2)
    for seed in range(5):
        before, state = policy.plan(0, policy.init(20), bound(seed))
        state = policy.observe(state, before.index[:visited], correct=torch.zeros(visited))  # never right: last to go
        after, _ = policy.plan(1, state, bound(seed))
        assert ids(before) - ids(after) == set(before.index[:visited].tolist())
        assert len(ids(after) - ids(before)) == visited


def test_a_full_set_has_nobody_to_swap_with():
    sets = swapping(ExampleSwap(keep=1.0, period=1), 20, lambda i, e: True, 3)
    assert sets == [set(range(20))] * 3


def test_correct_must_be_zero_or_one():
    policy = ExampleSwap()
    with pytest.raises(ArgumentError, match=r"correct must hold only 0 and 1, got 0.25"):
        policy.observe(policy.init(3), torch.arange(3), correct=torch.tensor([0.0, 0.25, 1.0]))


def test_a_static_subset_has_its_ids_and_weights_every_epoch():
    chosen = Selection(torch.tensor([7, 2, 5]), torch.tensor([0.5, 2.0, 3.0]))
    policy = StaticSubset(chosen)
    orders = set()
    for epoch in range(12):
        plan, _ = policy.plan(epoch, policy.init(9), bound(0))
        assert dict(zip(plan.index.tolist(), plan.weight.tolist(), strict=True)) == {7: 0.5, 2: 2.0, 5: 3.0}
        orders.add(tuple(plan.index.tolist()))
    assert len(orders) > 2
    reasoned = Selection.of(torch.tensor([1, 0]), 4, dropped=Reason.SUSPECT)
    plan, _ = StaticSubset(reasoned).plan(0, StaticSubset(reasoned).init(4), bound(0))
    assert plan.reason.equal(reasoned.reason)


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: SeTa(epochs=10, groups=0), r"groups must be a whole number in \[1, .*got 0"),
        (lambda: SeTa(epochs=10, window=0), r"window must be a number in .*got 0"),
        (lambda: SeTa(epochs=10, rounding="floor"), "rounding must be one of 'round', 'ceil', got 'floor'"),
        (lambda: SeTa(epochs=10, drop=1), r"drop must be a number in \[0, .*got 1"),
        (lambda: OrderDP(keep=0.8), r"keep=0.8 cannot be more than pool=0.75.*raise the pool"),
        (lambda: OrderDP(keep=0.5, pool=1.2), r"pool must be a number in .*got 1.2"),
        (lambda: ExampleSwap(swap=0), r"swap must be a number in .*got 0"),
        (lambda: ExampleSwap(period=10**6), r"period must be a whole number in \[1, 32767\], got 1000000"),
        (lambda: StaticSubset([1, 2]), r"selection must be a Selection, got \[1, 2\]"),
        (lambda: StaticSubset(Selection.of(torch.arange(0), 5)), "selection is empty"),
        (lambda: StaticSubset(Selection.of(torch.arange(3), 5)).init(4), r"about 5 examples or more, but .* n=4"),
        (lambda: StaticSubset(Selection(torch.tensor([6]), torch.ones(1))).init(4), "about 7 examples or more"),
    ],
)
def test_options_out_of_range_are_refused(make, match):
    with pytest.raises(ArgumentError, match=match):
        make()
