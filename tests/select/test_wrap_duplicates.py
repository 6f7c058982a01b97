"""deduplicated: no two kept within the threshold, the better one stays, and no more is refused than must be."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from datawinnow import select
from datawinnow.core.errors import ArgumentError, CapacityError
from datawinnow.core.reason import Reason
from datawinnow.core.rng import stream
from datawinnow.select import wrap_duplicates


def distance(a, b, metric):
    a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if metric == "euclidean":
        return np.sqrt(((a - b) ** 2).sum())
    return 1 - (a * b).sum() / np.sqrt((a**2).sum() * (b**2).sum())


def walk(order, features, threshold, metric):
    """Down the order, without what is near something kept: (kept, duplicates)."""
    kept, twice = [], []
    for i in order:
        near = any(distance(features[i], features[j], metric) <= threshold for j in kept)
        (twice if near else kept).append(i)
    return kept, twice


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    n=st.integers(2, 60),
    threshold=st.floats(0.01, 1.0),
    metric=st.sampled_from(["cosine", "euclidean"]),
    share=st.floats(0.05, 1),
)
def test_it_keeps_what_the_literal_walk_keeps(seed, n, threshold, metric, share):
    g = stream(seed, "d")
    features, score = torch.randn(n, 2, generator=g, dtype=torch.float64), torch.rand(n, generator=g)
    kept, _ = walk(select.top(score, budget=n).index.tolist(), features.numpy(), threshold, metric)
    budget = max(1, round(share * n))
    unique = select.deduplicated(select.top, threshold=threshold, metric=metric)
    if budget > len(kept):
        with pytest.raises(CapacityError, match=f"at most {len(kept)} examples, since the others lie within") as at:
            unique(score, features=features, budget=budget)
        assert at.value.capacity == len(kept)
        budget = len(kept)
    got = unique(score, features=features, budget=budget)
    assert got.index.tolist() == kept[:budget]
    order = select.top(score, budget=n).index.tolist()
    _, twice = walk(order[: order.index(kept[budget - 1]) + 1], features.numpy(), threshold, metric)
    assert [i for i in range(n) if got.reason[i] == Reason.DUPLICATE] == sorted(twice)


def test_planted_twins_go_and_the_better_one_stays():
    g = stream(0, "twins")
    features = torch.randn(30, 16, generator=g)
    score = torch.rand(30, generator=g)
    features[20] = features[3] * 1.5  # the same direction
    score[3], score[20] = 5, 6
    got = select.deduplicated(select.top, threshold=1e-6)(score, features=features, budget=10)
    plain = select.top(score, budget=11).index.tolist()
    assert plain[:2] == [20, 3]
    assert got.index.tolist() == [20, *plain[2:]]
    assert Reason(int(got.reason[3])) is Reason.DUPLICATE
    far = select.deduplicated(select.top, threshold=1e-6, metric="euclidean")(score, features=features, budget=10)
    assert far.index.tolist() == plain[:10], "1.5 times as long is another point"


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_a_threshold_of_0_finds_equal_rows_whatever_their_size(metric, dtype):
    g = stream(0, "equal")
    rows = (torch.randn(10, 300, generator=g) * torch.logspace(-2, 2, 10)[:, None]).to(dtype)
    features = torch.cat([rows, rows, rows])
    got = select.deduplicated(select.top, threshold=0.0, metric=metric)(
        torch.arange(30.0), features=features, budget=10
    )
    assert sorted(i % 10 for i in got.index.tolist()) == list(range(10))
    with pytest.raises(CapacityError, match="at most 10"):
        select.deduplicated(select.top, threshold=0.0, metric=metric)(torch.rand(30), features=features, budget=11)


def test_blocks_change_nothing(monkeypatch):
    g = stream(0, "blocks")
    features, score = torch.randn(300, 3, generator=g), torch.rand(300, generator=g)
    unique = select.deduplicated(select.top, threshold=1e-3)
    complete = unique(score, features=features, budget=100)
    monkeypatch.setattr(wrap_duplicates, "DISTANCE_ENTRIES", 1)
    small = unique(score, features=features, budget=100)
    assert torch.equal(small.index, complete.index)
    assert torch.equal(small.reason, complete.reason)


def test_a_draw_goes_on_when_more_is_asked_for():
    """Ten groups of five: a draw meets twins again and again, and is asked for more without starting anew."""
    features = torch.eye(10).repeat(5, 1)
    unique = select.deduplicated(select.random, threshold=0.1)
    labels = torch.zeros(50, dtype=torch.long)
    complete = unique(labels, features=features, budget=10, generator=stream(0, "g")).index
    assert sorted(i % 10 for i in complete.tolist()) == list(range(10))
    for budget in range(1, 10):
        assert torch.equal(
            unique(labels, features=features, budget=budget, generator=stream(0, "g")).index, complete[:budget]
        )
    variants = {
        tuple(unique(labels, features=features, budget=3, generator=stream(s, "g")).index.tolist()) for s in range(9)
    }
    assert len(variants) > 5


def test_it_asks_a_selector_for_no_more_than_it_can_give():
    features = torch.eye(12)
    features[1] = features[0]
    cut = select.deduplicated(select.coverage, threshold=0.01)
    score = torch.cat([torch.full((8,), 1.0), torch.zeros(4)])
    got = cut(score, features=features, budget=7, cutoff=1 / 3, generator=stream(0, "c"))
    assert {0, 1} - set(got.index.tolist()), "both are never kept"
    assert got.reason.tolist().count(Reason.SUSPECT) == 4
    with pytest.raises(CapacityError, match="deduplicated_coverage can give at most 7"):
        cut(score, features=features, budget=8, cutoff=1 / 3, generator=stream(0, "c"))
    with pytest.raises(CapacityError, match="coverage can give at most 8 of 12"):
        cut(score, features=features, budget=9, cutoff=1 / 3, generator=stream(0, "c"))


def test_rows_without_numbers_or_direction_are_twins_of_nothing():
    features = torch.tensor([[0.0, 0.0], [0.0, 0.0], [1.0, 0.0], [torch.nan, 0.0], [torch.nan, 0.0]])
    unique = select.deduplicated(select.top, threshold=0.5)
    got = unique([5.0, 4, 3, 2, 1], features=features, budget=5, missing="skip")
    assert got.index.tolist() == [0, 1, 2, 3, 4]
    with pytest.raises(ArgumentError, match="features is nan for example 3"):
        unique([5.0, 4, 3, 2, 1], features=features, budget=2)
    drawn = select.deduplicated(select.random, threshold=0.5)
    labels = [0, 0, 0, 0, 0]
    assert len(drawn(labels, features=features, budget=5, missing="skip", generator=stream(0, "r"))) == 5


def test_it_refuses_what_it_cannot_use():
    with pytest.raises(ArgumentError, match="threshold must be a number"):
        select.deduplicated(select.top, threshold=-1)
    with pytest.raises(ArgumentError, match="metric must be one of 'cosine', 'euclidean', got 'dot'"):
        select.deduplicated(select.top, threshold=0.1, metric="dot")
    unique = select.deduplicated(select.top, threshold=0.1)
    with pytest.raises(ArgumentError, match=r"features must have shape \(n, d\), got \(3,\)"):
        unique([1.0, 2, 3], features=[1.0, 2, 3], budget=1)
    with pytest.raises(ArgumentError, match="budget must be between 1 and the 2 examples, got 3"):
        unique([1.0, 2], features=[[1.0], [2.0]], budget=3)
    with pytest.raises(ArgumentError, match="deduplicated would take features="):
        select.deduplicated(unique, threshold=0.1)
