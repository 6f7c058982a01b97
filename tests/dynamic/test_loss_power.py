"""Chances by a power of the loss: the probabilities, the draw of fixed size, unbiased sums, the new and the equal."""

import pytest
import torch

from datawinnow.core.budget import budget_of
from datawinnow.core.errors import ArgumentError
from datawinnow.core.reason import Reason
from datawinnow.core.rng import stream
from datawinnow.dynamic import LossPower
from datawinnow.dynamic.loss_power import chances, systematic
from tests.dynamic.helpers import bound, ids
from tests.reference import dynamic as literal

N, SEEDS = 30, 1000


def losses(n=N, power=2.0):
    """Losses of very different sizes."""
    return torch.rand(n, generator=stream(0, "losses")) ** power * 4


def seen(policy, loss):
    """The state after every example was visited once."""
    return policy.observe(policy.init(loss.numel()), torch.arange(loss.numel()), loss=loss)


@pytest.mark.parametrize("k", [1, 9, 20, 29, 30])
@pytest.mark.parametrize(("a", "floor"), [(1.0, 0.01), (0.0, 0.01), (2.0, 0.3), (0.5, 1e-9), (40.0, 0.01)])
def test_chances_are_the_literal_ones_and_sum_to_the_budget(k, a, floor):
    loss = losses()
    got = chances(loss, k, a, floor)
    assert got.tolist() == pytest.approx(literal.loss_power_chances(loss.double().tolist(), k, a, floor), rel=1e-6)
    assert float(got.sum()) == pytest.approx(k)
    assert float(got.max()) <= 1


def test_who_has_too_much_is_certain_and_the_rest_share():
    # 9 of 12 in total and 2 drawn: 1.5 for the first, so it is in, and the other three share one place
    assert chances(torch.tensor([9.0, 1.0, 1.0, 1.0]), 2, 1.0, 0.01).tolist() == pytest.approx([1, 1 / 3, 1 / 3, 1 / 3])
    assert chances(torch.tensor([-3.0, 0.0, 0.0]), 2, 1.0, 0.01).tolist() == pytest.approx([2 / 3] * 3)
    low = chances(torch.tensor([0.0, 2.0, 2.0, 4.0]), 2, 1.0, 0.5)  # 0 counts as half the mean: 1
    assert low.tolist() == pytest.approx([2 / 9, 4 / 9, 4 / 9, 8 / 9])


@pytest.mark.parametrize("k", [1, 7, 19])
def test_the_draw_is_the_line_with_points_one_apart(k):
    chance = chances(losses(), k, 0.3, 0.01)
    rest = (chance < 1).nonzero().flatten()
    left = k - int((chance >= 1).sum())
    for seed in range(40):
        g, copy = stream(seed, "draw"), stream(seed, "draw")
        drawn = systematic(chance[rest], left, g)
        order = literal_order(rest.numel(), copy)
        u = 1 - float(torch.rand((), dtype=torch.float64, generator=copy))
        assert drawn.tolist() == literal.laid_out(chance[rest].tolist(), order, u)


def literal_order(n, generator):
    from datawinnow.dynamic.plan import in_random_order

    return in_random_order(torch.arange(n), generator).tolist()


@pytest.mark.parametrize(
    ("keep", "a"),
    [
        pytest.param(keep, a, marks=[] if keep == 0.4 or a == 1.0 else [pytest.mark.slow])
        for keep in (0.1, 0.4, 0.8)
        for a in (0.0, 1.0, 2.0)
    ],
)
def test_examples_come_in_as_often_as_their_chance_says(keep, a):
    policy, loss = LossPower(keep=keep, a=a), losses()
    state, k = seen(policy, loss), budget_of(keep, N)
    pi = torch.tensor(literal.loss_power_chances(loss.tolist(), k, a, policy.floor))
    counts = torch.zeros(N)
    for seed in range(SEEDS):
        plan, _ = policy.plan(1, state, bound(seed))
        assert len(plan) == k
        counts[plan.index] += 1
    assert bool(((counts / SEEDS - pi).abs() <= 4 * (pi * (1 - pi) / SEEDS).sqrt() + 1e-6).all())


def test_pairs_are_no_fixed_ones():
    # with ids in a fixed order equal examples would come as the odd or as the even ones
    policy = LossPower(keep=0.5)
    state, together = seen(policy, torch.ones(10)), torch.zeros(10, 10)
    for seed in range(SEEDS):
        mask = policy.plan(1, state, bound(seed))[0].mask(10).float()
        together += mask[:, None] * mask
    pairs = together[~torch.eye(10, dtype=torch.bool)] / SEEDS
    assert float((pairs - 5 * 4 / 90).abs().max()) <= 4.5 * (0.2222 * 0.7778 / SEEDS) ** 0.5


@pytest.mark.parametrize("n", [pytest.param(101, marks=pytest.mark.slow), 7])
@pytest.mark.parametrize("options", [{"a": 0.5}, {"a": 2.0}, {"a": 0.0}, {"floor": 0.1}], ids=str)
def test_the_expected_sum_of_weighted_losses_is_the_sum_of_losses(n, options):
    # a floor, since of 600 draws too few would hold an example of weight 1,000 to tell the standard error
    policy = LossPower(keep=0.3, weighted=True, **{"floor": 0.5} | options)
    loss, other = losses(n), torch.rand(n, generator=stream(1, "other"))  # of any numbers, not only those drawn by
    state = seen(policy, loss)
    sums = []
    for seed in range(600):
        plan, _ = policy.plan(2, state, bound(seed))
        sums.append([float((plan.weight * x[plan.index]).sum()) for x in (loss, other)])
    sums, expected = torch.tensor(sums), torch.stack([loss.sum(), other.sum()])
    assert sums[:, 1].std() > 0
    assert bool(((sums.mean(0) - expected).abs() <= 4 * sums.std(0) / len(sums) ** 0.5 + 1e-4 * expected).all())


def test_without_weights_the_plan_is_the_same_and_weighs_one():
    loss = losses()
    plain, weighted = LossPower(keep=0.3), LossPower(keep=0.3, weighted=True)
    a, _ = plain.plan(4, seen(plain, loss), bound(0))
    b, _ = weighted.plan(4, seen(weighted, loss), bound(0))
    assert a.index.equal(b.index)
    assert a.weight.tolist() == [1.0] * len(a)
    pi = literal.loss_power_chances(loss.tolist(), len(b), 1.0, 0.01)
    assert b.weight.tolist() == pytest.approx([1 / pi[i] for i in b.index.tolist()], rel=1e-5)
    assert float(b.weight.max()) <= 1.01 * N / (len(b) * 0.01)


def test_running_means_are_those_of_the_equation():
    policy = LossPower(keep=0.5, alpha=0.3)
    state = policy.init(3)
    for x in (2.0, 1.0, 4.0):
        state = policy.observe(state, torch.tensor([1]), loss=torch.tensor([x]))
    assert float(state["mean"][1]) == pytest.approx(literal.running([2.0, 1.0, 4.0], 0.3)[0])
    assert state["mean"].isnan().tolist() == [True, False, True]


def test_the_unvisited_are_in_for_sure():
    policy = LossPower(keep=0.5)
    state = policy.observe(policy.init(20), torch.arange(4, 20), loss=torch.ones(16))
    for seed in range(30):
        plan, _ = policy.plan(1, state, bound(seed))
        assert ids(plan) >= {0, 1, 2, 3}
        assert len(plan) == 10
        assert plan.reason[:4].tolist() == [int(Reason.KEPT)] * 4


def test_of_too_many_unvisited_each_has_the_same_chance():
    policy, counts = LossPower(keep=0.25), torch.zeros(20)
    state = policy.observe(policy.init(20), torch.arange(10), loss=torch.full((10,), 9.0))
    for seed in range(400):
        plan, _ = policy.plan(1, state, bound(seed))
        assert len(plan) == 5
        assert set(plan.reason[:10].tolist()) == {int(Reason.ZERO_WEIGHT)}
        counts[plan.index] += 1
    assert counts[:10].sum() == 0
    assert float((counts[10:] / 400 - 0.5).abs().max()) <= 4 * (0.25 / 400) ** 0.5


def test_harder_examples_come_more_often_and_a_power_sharpens_that():
    loss, share = torch.linspace(0.1, 1.0, 100), {}
    for a in (0.0, 1.0, 3.0):
        policy = LossPower(keep=0.3, a=a)
        state = seen(policy, loss)
        share[a] = sum(float(loss[policy.plan(1, state, bound(s))[0].index].mean()) for s in range(60)) / 60
    assert share[0.0] == pytest.approx(0.55, abs=0.03)
    assert share[0.0] < share[1.0] - 0.1 < share[3.0] - 0.2


@pytest.mark.parametrize("value", [0.0, 1e-30, 1e30], ids=str)
def test_equal_losses_of_any_size_are_drawn_alike(value):
    policy = LossPower(keep=0.5, a=3.0, weighted=True)
    plan, _ = policy.plan(1, seen(policy, torch.full((10,), value)), bound(0))
    assert plan.weight.tolist() == pytest.approx([2.0] * 5)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"keep": 1.5}, r"keep must be in \(0, 1\], got 1.5"),
        ({"a": -1.0}, r"a must be a number in \[0, 100\], got -1"),
        ({"alpha": 0.0}, r"alpha must be a number in .*got 0"),
        ({"weighted": "yes"}, "weighted must be one of False, True, got 'yes'"),
        ({"first": "none"}, "first must be one of 'all', 'random', got 'none'"),
        ({"floor": 0.0}, r"floor must be a number in .*got 0"),
    ],
    ids=lambda x: str(x)[:20],
)
def test_options_are_checked(options, match):
    with pytest.raises(ArgumentError, match=match):
        LossPower(**{"keep": 0.5, **options})
