"""Budgets: whole numbers that always sum."""

import math
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datawinnow.core.budget import budget_of, check_budget, shares
from datawinnow.core.errors import ArgumentError


@pytest.mark.parametrize(
    ("keep", "n", "want"),
    [(0.1, 50_000, 5000), (0.2, 50_000, 10_000), (0.29, 100, 29), (0.005, 100, 1), (1e-9, 10, 1), (1, 7, 7),
     (1.0, 7, 7), (0.5, 5, 3), (0.5, 1, 1), (0.999999, 10, 10)],
)  # fmt: skip
def test_budget_of_rounds_the_kept_fraction(keep, n, want):
    assert budget_of(keep, n) == want


@settings(max_examples=150, deadline=None)
@given(st.integers(1, 1000), st.integers(1, 5000))
def test_budget_of_is_the_nearest_whole_number(thousandths, n):
    got = budget_of(thousandths / 1000, n)
    exact = Fraction(thousandths, 1000) * n
    assert 1 <= got <= n
    assert got == max(1, math.floor(exact + Fraction(1, 2)))


@pytest.mark.parametrize("keep", [0, -0.1, 1.01, float("nan"), True, "0.3", None])
def test_budget_of_refuses_other_fractions(keep):
    with pytest.raises(ArgumentError, match=r"keep must be in \(0, 1\], got .*fraction of examples kept"):
        budget_of(keep, 10)


def test_budget_of_nothing():
    with pytest.raises(ArgumentError, match="n=0 examples: the dataset is empty"):
        budget_of(0.5, 0)


def test_check_budget():
    assert check_budget(3, 3) == 3
    with pytest.raises(ArgumentError, match="between 1 and the 3 images, got 4"):
        check_budget(4, 3, items="images")
    with pytest.raises(ArgumentError, match=r"must be an integer number of examples, got 0\.5.*budget_of"):
        check_budget(0.5, 3)


@st.composite
def splits(draw):
    weights = draw(st.lists(st.integers(0, 30), min_size=1, max_size=12).filter(any))
    maxima = draw(st.lists(st.integers(0, 40), min_size=len(weights), max_size=len(weights)))
    room = sum(m for m, w in zip(maxima, weights, strict=True) if w)
    return draw(st.integers(0, room)), weights, maxima


@settings(max_examples=200, deadline=None)
@given(splits())
def test_shares_sum_and_respect_caps(split):
    total, weights, maxima = split
    split_shares = shares(total, weights, limits=maxima)
    assert sum(split_shares) == total
    assert all(0 <= p <= m for p, m in zip(split_shares, maxima, strict=True))
    assert all(p == 0 for p, w in zip(split_shares, weights, strict=True) if w == 0)


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 500), st.lists(st.integers(0, 30), min_size=1, max_size=12).filter(any))
def test_shares_are_within_one_of_exact_by_largest_remainders(total, weights):
    split_shares = shares(total, weights)
    exact = [Fraction(total * w, sum(weights)) for w in weights]
    assert sum(split_shares) == total
    assert all(math.floor(e) <= p <= math.ceil(e) for p, e in zip(split_shares, exact, strict=True))
    up = [e - math.floor(e) for p, e in zip(split_shares, exact, strict=True) if p > e]
    down = [e - math.floor(e) for p, e in zip(split_shares, exact, strict=True) if p < e]
    assert not up or not down or min(up) >= max(down)


def test_shares_by_hand():
    assert shares(10, [1, 1, 1]) == [4, 3, 3]
    assert shares(10, [8, 1, 1], limits=[2, 9, 9]) == [2, 4, 4]
    assert shares(0, [1, 2]) == [0, 0]


def test_shares_refuse_what_cannot_be():
    with pytest.raises(ArgumentError, match="weights must be non-negative numbers with a positive sum"):
        shares(3, [0, 0])
    with pytest.raises(ArgumentError, match="weights must be non-negative"):
        shares(3, [1, -1])
    with pytest.raises(ArgumentError, match=r"cannot split 5 into shares of at most \[2, 2\]"):
        shares(5, [1, 1], limits=[2, 2])
