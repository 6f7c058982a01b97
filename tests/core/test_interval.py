"""Student's t and intervals, against SciPy."""

from __future__ import annotations

import pytest
from scipy import stats

from datawinnow.core.errors import ArgumentError
from datawinnow.core.interval import best_of, central_probability, critical, interval


@pytest.mark.parametrize("df", [1, 2, 3, 4, 5, 9, 30, 101])
def test_the_distribution_is_students(df: int) -> None:
    for t in (0.0, 0.3, 1.0, 2.776, 12.7):
        assert central_probability(t, df) == pytest.approx(1 - 2 * stats.t.sf(t, df), abs=1e-12)
    assert critical(df) == pytest.approx(stats.t.ppf(0.975, df), rel=1e-9)


def test_an_interval_is_scipys() -> None:
    values = [0.81, 0.79, 0.83, 0.80, 0.825]
    low, high = stats.t.interval(0.95, 4, loc=sum(values) / 5, scale=stats.sem(values))
    result = interval(values)
    assert (result.low, result.high) == (pytest.approx(low), pytest.approx(high))
    assert interval([0.5]).half is None


def test_values_that_are_no_numbers_are_refused() -> None:
    with pytest.raises(ArgumentError, match="finite numbers"):
        interval([0.5, float("nan")])


@pytest.mark.parametrize(("n", "k"), [(5, 1), (5, 5), (10, 2), (3, 16)])
def test_the_best_of_many_has_to_clear_bonferronis_interval(n: int, k: int) -> None:
    assert best_of(2.0, n, k) == pytest.approx(
        2 * stats.t.ppf(1 - 0.025 / k, n - 1) / stats.t.ppf(0.975, n - 1), rel=1e-9
    )
