"""Student's t, intervals, paired differences and break-even against SciPy and by hand."""

from __future__ import annotations

import math

import pytest
from scipy import stats

from datawinnow.core.errors import ArgumentError
from datawinnow.core.interval import best_of
from datawinnow.report.statistics import break_even, critical, difference, interval, within


@pytest.mark.parametrize("df", [1, 2, 3, 4, 5, 9, 30, 101])
def test_the_distribution_is_students(df: int) -> None:
    for t in (0.0, 0.3, 1.0, 2.776, 12.7):
        assert within(t, df) == pytest.approx(1 - 2 * stats.t.sf(t, df), abs=1e-12)
    assert critical(df) == pytest.approx(stats.t.ppf(0.975, df), rel=1e-9)


def test_an_interval_is_scipys() -> None:
    values = [0.81, 0.79, 0.83, 0.80, 0.825]
    low, high = stats.t.interval(0.95, 4, loc=sum(values) / 5, scale=stats.sem(values))
    found = interval(values)
    assert (found.low, found.high) == (pytest.approx(low), pytest.approx(high))
    assert interval([0.5]).half is None


def test_differences_are_paired_by_seed() -> None:
    # by seed the method is always 1 point ahead, though the seeds themselves spread over 20
    reference = {0: 0.5, 1: 0.6, 2: 0.7, 9: 0.1}
    found = difference({0: 0.51, 1: 0.61, 2: 0.71}, reference)
    assert found is not None
    assert found.interval.mean == pytest.approx(0.01)
    assert found.interval.half == pytest.approx(0.0, abs=1e-12)
    assert found.verdict == "wins"
    noisy = difference({0: 0.6, 1: 0.5, 2: 0.72}, reference)
    assert noisy is not None
    assert noisy.verdict == "within noise"
    losing = difference({0: 0.4, 1: 0.49, 2: 0.61}, reference)
    assert losing is not None
    assert losing.verdict == "loses"
    assert difference({5: 0.5}, reference) is None


def test_one_seed_is_told_as_one_seed() -> None:
    found = difference({0: 0.6}, {0: 0.5})
    assert found is not None
    assert found.verdict == "ahead, 1 seed"


def test_break_even_by_hand() -> None:
    assert break_even(23.0, 20.0, 30.0) == pytest.approx(2.3)
    assert math.isinf(break_even(1.0, 30.0, 30.0))
    assert break_even(0.0, 10.0, 30.0) == 0


def test_values_that_are_no_numbers_are_refused() -> None:
    with pytest.raises(ArgumentError, match="finite numbers"):
        interval([0.5, float("nan")])


@pytest.mark.parametrize(("n", "k"), [(5, 1), (5, 5), (10, 2), (3, 16)])
def test_the_best_of_many_has_to_clear_bonferronis_interval(n: int, k: int) -> None:
    assert best_of(2.0, n, k) == pytest.approx(
        2 * stats.t.ppf(1 - 0.025 / k, n - 1) / stats.t.ppf(0.975, n - 1), rel=1e-9
    )
