"""One comparison: paired by seed, decided only where the interval excludes 0, an indication below five seeds."""

import math
import statistics
import subprocess
import sys

import pytest

from datawinnow.core.verdict import (
    CLAIM_SEEDS,
    RANDOM,
    SHORTER,
    clause,
    compare,
    indication_note,
    outcome_words,
    points,
    verdict,
)


def runs(*values: float) -> dict[int, float]:
    return dict(enumerate(values))


def test_numbers_are_those_of_a_paired_t_interval():
    ours, reference = runs(0.91, 0.93, 0.90, 0.95), runs(0.90, 0.90, 0.91, 0.92)
    differences = [0.01, 0.03, -0.01, 0.03]
    result = compare(ours, reference)
    assert result is not None
    assert result.difference == pytest.approx(statistics.fmean(differences))
    assert result.half == pytest.approx(3.182446 * statistics.stdev(differences) / math.sqrt(4), rel=1e-6)
    assert (result.ours, result.reference) == (pytest.approx(0.9225), pytest.approx(0.9075))
    assert result.num_seeds == 4


@pytest.mark.parametrize(
    ("ours", "outcome"),
    [((0.9, 0.92, 0.91), "wins"), ((0.7, 0.72, 0.71), "loses"), ((0.9, 0.7, 0.81), "ties"), ((0.9,), "ties")],
)
def test_only_an_interval_without_zero_decides(ours, outcome):
    result = compare(runs(*ours), runs(0.8, 0.82, 0.81))
    assert result is not None
    assert result.outcome == outcome


def test_differences_are_paired_by_seed():
    # by seed the run is always 1 point ahead, though the seeds themselves spread over 20
    reference = {0: 0.5, 1: 0.6, 2: 0.7, 9: 0.1}
    result = compare({0: 0.51, 1: 0.61, 2: 0.71}, reference)
    assert result is not None
    assert (result.difference, result.half) == (pytest.approx(0.01), pytest.approx(0.0, abs=1e-12))
    assert result.outcome == "wins"


def test_only_seeds_that_both_have_count():
    result = compare({1: 0.9, 2: 0.8}, {2: 0.7, 3: 0.1})
    assert result is not None
    assert (result.num_seeds, result.ours, result.reference, result.half) == (1, 0.8, 0.7, None)
    assert compare({0: 0.5}, {1: 0.5}) is None


def test_below_five_seeds_it_is_an_indication_in_every_wording():
    few, enough = compare(runs(*[0.9] * 4), runs(*[0.8] * 4)), compare(runs(*[0.9] * 5), runs(*[0.8] * 5))
    assert few is not None
    assert few.is_indication
    assert outcome_words(few) == "better"
    assert enough is not None
    assert not enough.is_indication
    assert outcome_words(enough) == "better"
    assert outcome_words(compare(runs(0.9), runs(0.8))) == "ahead, 1 seed"
    assert outcome_words(compare(runs(0.7), runs(0.8))) == "behind, 1 seed"
    assert "indication (4 seeds)" in indication_note(4)
    assert indication_note(CLAIM_SEEDS) == ""


def test_points_show_no_zero_that_is_none():
    assert points(compare(runs(0.9001), runs(0.9))) == "+0.01"
    assert points(compare(runs(0.91), runs(0.9))) == "+1.0"
    assert (points(None), outcome_words(None)) == ("-", "")


def test_it_does_without_torch():
    code = "import sys, datawinnow.core.verdict; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def result_rows(ours: list[float], reference: list[float], test_n: int) -> list[dict]:
    cost = {"train": {"seconds": 1.0, "flops": 0.0}}
    return [
        {
            "method": method, "label": method, "seed": seed, "keep": 1.0, "n": 100, "test_n": test_n,
            "accuracy": accuracy, "trained_epochs": 4, "passes": 400, "total_passes": 400, "cost": cost,
        }
        for method, values in (("policy", ours), (SHORTER, reference))
        for seed, accuracy in enumerate(values)
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("ours", "reference", "test_n", "word"),
    [
        ([1.0], [0.0], 1, "level"),
        ([1.0] * 10, [0.0] * 10, 1, "ties"),  # the same example ten times
        ([0.0] * 10, [1.0] * 10, 5, "ties"),
        ([1.0] * 5, [0.0] * 5, 6, "wins"),  # six on one side: 2 / 2^6 < 0.05
        ([0.0] * 5, [1.0] * 5, 6, "loses"),
        ([0.55] * 5, [0.50] * 5, 99, "ties"),
        ([0.52] * 5, [0.50] * 5, 100, "wins"),
        ([0.60] * 5, [0.50] * 5, 80, "wins"),  # eight on one side
        ([0.55, 0.56, 0.55], [0.50, 0.50, 0.50], 400, "wins"),  # the interval over seeds decides
        # 95% binomial interval of the difference of 0.9 and 0.85: 1.96 sqrt((0.09 + 0.1275) / n)
        ([0.9], [0.85], 300, "level"),
        ([0.9], [0.85], 400, "ahead"),
        ([0.85], [0.9], 400, "behind"),
    ],
)
def test_few_test_examples_decide_nothing(ours, reference, test_n, word):
    answer = verdict(result_rows(ours, reference, test_n), "policy")
    assert answer.word == word
    comparison = answer.comparisons[SHORTER]
    assert (comparison.sign == 0) == (word in ("level", "ties"))
    is_said = "cannot tell" in answer.line
    assert is_said == (word in ("level", "ties"))
    assert ("does best" in answer.details) == (word in ("wins", "ahead"))
    table = outcome_words(comparison)
    assert ("within noise" in table) == (comparison.sign == 0)
    assert ("ahead of" in clause(comparison, RANDOM)) == (word == "ahead")


def test_rows_that_do_not_say_how_many_were_tested_count_as_before():
    rows = [{key: value for key, value in row.items() if key != "test_n"} for row in result_rows([1.0], [0.0], 1)]
    assert verdict(rows, "policy").word == "ahead"
