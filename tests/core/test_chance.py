"""A network near chance: the binomial test, and the sentence about it."""

from __future__ import annotations

import math

import pytest
from scipy.stats import binom

from datawinnow.core.chance import NOISE_LEVEL, Baseline, chance_sentence


@pytest.mark.parametrize(("majority", "n"), [(0.5, 24), (0.1, 359), (0.97, 200), (0.3, 5000), (0.5, 100_000)])
def test_it_is_a_one_sided_binomial_test(majority, n):
    for correct in {round(n * min(1.0, majority + step)) for step in (-0.05, 0.0, 0.005, 0.02, 0.1, 0.3)}:
        probability = binom.sf(correct - 1, n, majority)
        if abs(probability - NOISE_LEVEL) > 1e-3:  # the normal approximation of large n
            assert Baseline(majority, n).is_near_chance(correct / n) == (probability >= NOISE_LEVEL)


def test_what_is_no_accuracy_and_a_single_class_are_not_near_chance():
    assert not Baseline(0.5, 10).is_near_chance(math.nan)
    assert not Baseline(1.0, 10).is_near_chance(1.0)


def test_the_sentence_names_both_rates_and_what_to_do():
    train, test = Baseline.of([0, 1] * 48), Baseline.of([0, 0, 1, 1] * 6)
    assert (
        "52.1% right on 96 training examples, where always predicting the largest class has 50.0%"
        in chance_sentence(train, 50 / 96, test, 0.5)
    )
    assert "24 held-out examples" in chance_sentence(train, 1.0, test, 0.5)
    assert "24 held-out examples" in chance_sentence(None, 0.5, test, 0.5)
    assert chance_sentence(train, 1.0, test, 0.9) == chance_sentence(None, None, None, None) == ""
