"""Sentences on a table agree with its verdict."""

from __future__ import annotations

import pytest

from datawinnow.report import words
from datawinnow.report.table import table
from tests.report import fixtures


@pytest.mark.parametrize(("test_n", "is_ahead"), [(20, False), (10_000, True)])
def test_one_seed_is_ahead_only_beyond_the_noise_of_the_test_split(test_n, is_ahead):
    rows = [row | {"test_n": test_n} for row in fixtures.grid() if row["seed"] == 0 and row["keep"] in (0.1, 1.0)]
    sentence = words.headline(table(rows), "clean")
    assert ("Pruning was ahead of random choice" in sentence) == is_ahead
    assert ("No method was ahead of random choice" in sentence) != is_ahead
