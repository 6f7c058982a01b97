"""capped_by_cost: within the cap, as full as promised, in the selector's order."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from datawinnow import select
from datawinnow.core.errors import ArgumentError
from datawinnow.core.reason import Reason
from datawinnow.core.rng import stream

prices = st.lists(st.floats(0.01, 50), min_size=1, max_size=40)


@settings(max_examples=100, deadline=None)
@given(cost=prices, cap=st.floats(0.5, 300), seed=st.integers(0, 10**6))
def test_stop_takes_the_longest_prefix_within_the_cap(cost, cap, seed):
    score = torch.rand(len(cost), generator=stream(seed, "s"))
    order = select.top(score, budget=len(cost)).index.tolist()
    fits, total = [], 0.0
    for i in order:
        total += cost[i]
        if total > cap * (1 + 1e-9):
            break
        fits.append(i)
    if not fits:
        with pytest.raises(ArgumentError, match="raise the cap"):
            select.capped_by_cost(select.top)(score, cost=cost, cap=cap)
        return
    got = select.capped_by_cost(select.top)(score, cost=cost, cap=cap)
    assert got.index.tolist() == fits
    assert got.weight.tolist() == [1] * len(fits)
    assert [i for i in range(len(cost)) if got.reason[i] == Reason.RANKED] == sorted(fits)
    assert set(got.reason.tolist()) <= {Reason.RANKED, Reason.BELOW_CUT}


@settings(max_examples=100, deadline=None)
@given(cost=prices, cap=st.floats(0.5, 300), seed=st.integers(0, 10**6))
def test_skip_leaves_out_only_what_does_not_fit(cost, cap, seed):
    score = torch.rand(len(cost), generator=stream(seed, "s"))
    if min(cost) > cap * (1 + 1e-9):
        with pytest.raises(ArgumentError, match="is below the cheapest example's cost"):
            select.capped_by_cost(select.top, past="skip")(score, cost=cost, cap=cap)
        return
    got = select.capped_by_cost(select.top, past="skip")(score, cost=cost, cap=cap)
    total = 0.0
    kept = set(got.index.tolist())
    for i in select.top(score, budget=len(cost)).index.tolist():
        assert (i in kept) == (total + cost[i] <= cap * (1 + 1e-9))
        total += cost[i] if i in kept else 0
    assert total <= cap * (1 + 1e-9)


def test_a_bigger_cap_only_adds():
    g = stream(0, "nest")
    score, cost = torch.rand(50, generator=g), torch.rand(50, generator=g) + 0.1
    before = []
    for cap in (1.0, 3.0, 9.0, 100.0):
        now = select.capped_by_cost(select.top)(score, cost=cost, cap=cap).index.tolist()
        assert now[: len(before)] == before
        assert len(now) > len(before)
        before = now
    assert len(before) == 50


def test_equal_costs_are_a_budget_and_rounding_does_not_cost_one():
    score = torch.rand(20, generator=stream(0, "s"))
    for cost in (torch.full((20,), 0.1), [0.1] * 20, torch.full((20,), 0.1, dtype=torch.float16)):
        got = select.capped_by_cost(select.top)(score, cost=cost, cap=1.0)
        assert got.index.tolist() == select.top(score, budget=10).index.tolist()


def test_the_selector_is_asked_for_no_more_than_could_fit_and_gives_what_it_can():
    budgets = []

    def spy(score, *, budget):
        budgets.append(budget)
        return select.top(score, budget=budget)

    cost = torch.arange(1.0, 11)
    select.capped_by_cost(spy)(torch.ones(10), cost=cost, cap=11.0)
    assert budgets == [4]  # 1 + 2 + 3 + 4
    select.capped_by_cost(spy, past="skip")(torch.ones(10), cost=cost, cap=11.0, budget=7)
    assert budgets == [4, 7]
    cut = select.capped_by_cost(select.coverage)
    score = torch.rand(10, generator=stream(0, "c"))
    got = cut(score, cost=torch.ones(10), cap=100.0, cutoff=0.3, generator=stream(0, "x"))
    want = select.coverage(score, budget=7, cutoff=0.3, generator=stream(0, "x"))
    assert torch.equal(got.index, want.index)
    balanced = select.per_class(select.coverage)
    labels = torch.arange(10) % 2
    kwargs = {"labels": labels, "cutoff": 0.4}
    same = torch.ones(10)  # one bin, in random order
    got = select.capped_by_cost(balanced)(same, cost=torch.ones(10), cap=100.0, generator=stream(0, "x"), **kwargs)
    want = balanced(same, budget=6, generator=stream(0, "x"), **kwargs)
    assert torch.equal(got.index, want.index), "the draw starts anew when it is asked again"


def test_it_goes_outermost_and_keeps_classes_balanced():
    labels = torch.arange(40) % 2
    balanced = select.capped_by_cost(select.per_class(select.top))
    got = balanced(torch.rand(40), labels=labels, cost=torch.ones(40), cap=11.0)
    assert torch.bincount(labels[got.index]).tolist() in ([6, 5], [5, 6])


def test_what_was_drawn_but_does_not_fit_was_not_drawn():
    drawn = select.capped_by_cost(select.random, past="skip")
    got = drawn(torch.zeros(6, dtype=torch.long), cost=torch.ones(6), cap=4.0, generator=stream(1, "r"))
    words = [Reason(int(r)).word for r in got.reason]
    assert (words.count("drawn"), words.count("not_drawn")) == (4, 2)


def test_weights_keep_their_mean():
    def weighted(score, *, budget):
        chosen = select.top(score, budget=budget)
        weight = torch.arange(1.0, budget + 1)
        return select.top(score, budget=budget).__class__(chosen.index, weight / weight.mean(), None)

    got = select.capped_by_cost(weighted)([4.0, 3, 2, 1], cost=[1.0, 1, 5, 1], cap=4.0)
    assert got.weight.tolist() == pytest.approx([2 / 3, 4 / 3])
    assert [Reason(int(r)).word for r in got.reason] == ["kept", "kept", "below_cut", "below_cut"]


def test_it_refuses_what_it_cannot_use():
    capped = select.capped_by_cost(select.top)
    with pytest.raises(ArgumentError, match="cost must be at least 0, got -2 for example 1"):
        capped([1.0, 2.0], cost=[1.0, -2.0], cap=1.0)
    with pytest.raises(ArgumentError, match="cost is nan for example 0"):
        capped([1.0, 2.0], cost=[torch.nan, 2.0], cap=1.0)
    with pytest.raises(ArgumentError, match="cap must be a number"):
        capped([1.0, 2.0], cost=[1.0, 2.0], cap=-1.0)
    with pytest.raises(ArgumentError, match=r"cap=0.5 is below the cheapest example's cost, 1; raise the cap"):
        capped([1.0, 2.0], cost=[1.0, 2.0], cap=0.5)
    with pytest.raises(ArgumentError, match=r'does not hold the first choice, example 1, which costs 2;.*past="skip"'):
        capped([1.0, 2.0], cost=[1.0, 2.0], cap=1.5)
    with pytest.raises(ArgumentError, match="past must be one of 'stop', 'skip', got 'prefix'"):
        select.capped_by_cost(select.top, past="prefix")
    with pytest.raises(ArgumentError, match=r"generator must be a torch\.Generator, got None"):
        select.capped_by_cost(select.random)([0, 0], cost=[1.0, 2.0], cap=2.0)
    with pytest.raises(ArgumentError, match="capped_by_cost would take cost="):
        select.capped_by_cost(capped)
