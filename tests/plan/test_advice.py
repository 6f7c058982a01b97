"""Advice from pilots of known curves: the route, its share, and whether its promise is kept."""

import math

import numpy as np
import pytest

from datawinnow.core.errors import ArgumentError
from datawinnow.plan import Route, advise
from datawinnow.plan.advice import advice_sentence

SHARES = (0.125, 0.25, 0.5)
TRUTH = {
    "random": lambda s: 0.25 + 0.05 * s**-0.6,
    "shorter_full": lambda s: 0.28 + 0.02 * s**-1.1,
    "cheaper": lambda s: 0.27 + 0.008 * s**-1.3,
}
"""Errors by share; the first two meet at the full training (0.30), the third is at 0.278 there."""


def measured(truth, sd, folds, rng, of_fold):
    return {s: (truth(s) + of_fold + rng.normal(0, sd, folds)).tolist() for s in SHARES}


def pilots(sd=0.003, folds=3, seed=0, fold_sd=0.01, names=("random", "shorter_full", "cheaper")):
    rng = np.random.default_rng(seed)
    of_fold = rng.normal(0, fold_sd, folds)
    axes = {"random": "examples", "shorter_full": "epochs", "cheaper": "epochs"}
    routes = [
        Route(n, n, axes[n], measured(TRUTH[n], sd, folds, rng, of_fold), ends_at_full=n != "cheaper") for n in names
    ]
    return routes, (0.30 + of_fold + rng.normal(0, sd, folds)).tolist()


def advice_of(max_drop=0.01, has_full=True, seed=0, runs=10, **options):
    routes, full = pilots(seed=seed, **options)
    return advise(routes, full if has_full else None, n=10_000, max_drop=max_drop, pilots_cost=8, seed=seed, runs=runs)


def test_the_cheapest_route_is_chosen_near_its_true_share():
    advice = advice_of(sd=0.001, folds=5)
    assert advice.chosen.route.name == "cheaper"
    # 0.27 + 0.008 s^-1.3 = 0.31 at s = 0.29: what noise leaves uncertain is added
    assert 0.29 <= advice.chosen.share <= 0.34
    assert advice.cost == advice.chosen.share
    assert advice.break_even == pytest.approx(8 / (1 - advice.chosen.share))


def test_noise_makes_the_promise_dearer():
    shares = [advice_of(sd=sd, folds=4).cost for sd in (0.0005, 0.003, 0.008)]
    assert shares[0] < shares[1] < shares[2]


@pytest.mark.parametrize("folds", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_the_promise_is_kept(folds):
    lost = []
    for seed in range(30):
        advice = advice_of(sd=0.006, folds=folds, seed=seed)
        if advice.chosen is not None:
            lost.append(TRUTH[advice.chosen.route.name](advice.chosen.share) - 0.30)
    assert len(lost) >= 25
    assert sum(drop <= 0.01 for drop in lost) >= len(lost) - 2


def test_what_all_pilots_of_a_fold_share_changes_nothing():
    routes, full = pilots(fold_sd=0.0)
    shift = np.array([0.05, -0.03, 0.08])
    shifted = [
        Route(r.name, r.label, r.axis, {s: (np.array(e) + shift).tolist() for s, e in r.errors.items()}, r.ends_at_full)
        for r in routes
    ]
    plain = advise(routes, full, n=10_000, max_drop=0.01, pilots_cost=8)
    moved = advise(shifted, (np.array(full) + shift).tolist(), n=10_000, max_drop=0.01, pilots_cost=8)
    assert moved.chosen.share == pytest.approx(plain.chosen.share, abs=0.02)


def test_scoring_is_spread_over_the_runs():
    routes, full = pilots(sd=0.0005)
    random, shorter, cheaper = routes
    scored = Route("scored", "scored", "examples", {s: [e + 0.001 for e in full] for s in SHARES}, overhead=1.0)
    once = advise([scored, shorter, cheaper], full, n=100, max_drop=0.01, pilots_cost=8, runs=1)
    often = advise([scored, shorter, cheaper], full, n=100, max_drop=0.01, pilots_cost=8, runs=100)
    assert once.chosen.route.name == "cheaper"
    assert often.chosen.route.name == "scored"
    assert often.cost == pytest.approx(often.chosen.share + 0.01)
    assert random.overhead == 0


def test_no_drop_at_all_is_promised_only_by_what_is_better_than_the_full_training():
    advice = advice_of(max_drop=0.0, sd=0.0005)
    assert advice.chosen.route.name == "cheaper"
    # 0.27 + 0.008 s^-1.3 = 0.30 at s = 0.36
    assert 0.36 <= advice.chosen.share <= 0.45
    nothing = advice_of(max_drop=0.0, sd=0.0005, names=("random", "shorter_full"))
    assert nothing.chosen is None
    assert nothing.cost == 1
    assert nothing.break_even == float("inf")
    sentence = advice_sentence(nothing, 30, 10_000)
    assert sentence.startswith("Nothing cheaper can be promised")
    assert "30 epochs" in sentence


def test_without_a_full_training_it_is_extrapolated_and_said():
    with_full, without = (advice_of(sd=0.001, fold_sd=0.0, has_full=has_full) for has_full in (True, False))
    spread = [advice.full_error[2] - advice.full_error[1] for advice in (with_full, without)]
    assert spread[1] > spread[0]
    assert without.full_error[1] < 0.30 < without.full_error[2]
    assert all(curve.is_extrapolated for curve in without.curves)
    assert "extrapolated" in advice_sentence(without, 30, 10_000)
    assert "extrapolated" not in advice_sentence(with_full, 30, 10_000)


def test_more_labels_bring_what_the_curve_over_examples_says():
    advice = advice_of(sd=0.0002, folds=5)
    truth = TRUTH["random"](1.0) - TRUTH["random"](1.1)
    median, low, high = advice.labels_gain
    assert low <= truth <= high
    assert median == pytest.approx(truth, rel=0.2)
    assert advice_of(names=("shorter_full",)).labels_gain is None


def test_advice_says_what_to_do():
    [_, shorter, cheaper], full = pilots(sd=0.0005)
    by_examples = Route("random", "random examples", "examples", cheaper.errors, ends_at_full=False)
    keep = advise([by_examples, shorter], full, n=10_000, max_drop=0.01, pilots_cost=8)
    assert keep.chosen.route.name == "random"
    sentence = advice_sentence(keep, 30, 10_000)
    share = keep.chosen.share
    assert f"Keep {share:.0%} of the examples ({math.ceil(share * 10_000):,} of 10,000)" in sentence
    assert "within 1 point of" in sentence
    assert "95% confidence" in sentence
    faster = advice_of(sd=0.0005)
    epochs = math.ceil(faster.chosen.share * 30)
    assert f"for the operations of {epochs} epochs instead of 30" in advice_sentence(faster, 30, 10_000)


def test_two_seeds_of_the_bootstrap_agree():
    first, second = advice_of(seed=1), advice_of(seed=1)
    assert first.chosen.share == second.chosen.share
    routes, full = pilots(seed=1)
    other = advise(routes, full, n=10_000, max_drop=0.01, pilots_cost=8, seed=2)
    assert other.chosen.route.name == first.chosen.route.name
    assert other.chosen.share == pytest.approx(first.chosen.share, abs=0.02)


def test_too_few_pilots_are_an_error():
    routes, full = pilots()
    with pytest.raises(ArgumentError, match="no way to train"):
        advise([], full, n=100, max_drop=0.01, pilots_cost=1)
    one_fold = [Route("r", "r", "epochs", {s: [0.3] for s in SHARES})]
    with pytest.raises(ArgumentError, match="two or more folds"):
        advise(one_fold, [0.2], n=100, max_drop=0.01, pilots_cost=1)
    with pytest.raises(ArgumentError, match="same folds"):
        advise(routes, full[:2], n=100, max_drop=0.01, pilots_cost=1)
    two = [Route("r", "r", "epochs", {s: [0.3, 0.31] for s in SHARES[:2]})]
    with pytest.raises(ArgumentError, match="3 or more shares, got 2"):
        advise(two, None, n=100, max_drop=0.01, pilots_cost=1)
    with pytest.raises(ArgumentError, match="end at the full training"):
        advise([routes[2]], None, n=100, max_drop=0.01, pilots_cost=1)


def test_the_full_training_that_was_run_counts_with_few_folds():
    # the curves of the pilots below it end near 0.30; what was measured at 1 is 0.27
    estimates = []
    for seed in range(5):
        routes, full = pilots(sd=0.002, folds=2, fold_sd=0.0, seed=seed)
        estimates.append(advise(routes, [e - 0.03 for e in full], n=100, max_drop=0.01, pilots_cost=8).full_error[0])
    assert np.mean(estimates) == pytest.approx(0.27, abs=0.012)


def test_a_curve_that_misses_its_pilots_by_more_than_the_promise_promises_nothing():
    for seed in range(3):
        rng = np.random.default_rng(seed)
        level = {s: (0.30 + rng.normal(0, 0.003, 3)).tolist() for s in SHARES}
        also = {s: (0.30 + rng.normal(0, 0.003, 3)).tolist() for s in SHARES}
        routes = [Route("random", "random", "examples", level), Route("shorter", "shorter", "epochs", also)]
        fallen = (0.20 + rng.normal(0, 0.003, 3)).tolist()  # no curve through these is flat until half
        assert advise(routes, fallen, n=100, max_drop=0.01, pilots_cost=8).chosen is None


def test_few_held_out_examples_that_are_all_right_promise_little():
    errors = {s: [0.0, 0.0, 0.0] for s in SHARES}
    routes = [Route("random", "random", "examples", errors), Route("shorter", "shorter", "epochs", errors)]

    def advice(max_drop, num_judged):
        return advise(routes, [0.0] * 3, n=100, max_drop=max_drop, pilots_cost=3, num_judged=num_judged).chosen

    assert advice(0.005, 60) is None  # one of 60 examples is 1.7 points
    assert advice(0.10, 60) is not None
    assert advice(0.005, 6000).share == 0.13


def test_more_labels_are_counted_from_all_examples_though_pilots_train_on_fewer():
    routes, full = pilots(sd=0.0002, folds=5)
    # shares of the curve are of 8,000 examples: 10,000 and 11,000 are 1.25 and 1.375 of them
    truth = TRUTH["random"](1.25) - TRUTH["random"](1.375)
    gain = advise(routes, full, n=10_000, max_drop=0.01, pilots_cost=8, num_trained=8_000).labels_gain[0]
    assert gain == pytest.approx(truth, rel=0.05)


def test_the_promise_is_shared_out_over_the_routes():
    advice = advice_of(sd=0.004, folds=4)
    chosen, needed = advice.chosen, 1 - 0.05 / 3
    assert chosen.confidence_at(chosen.share, 0.01) >= needed
    assert chosen.confidence_at(chosen.share - 0.01, 0.01) < needed


def test_what_is_not_paid_back_or_extrapolated_is_said():
    assert "more than the 2 that will follow" in advice_sentence(advice_of(sd=0.0005, runs=2), 30, 10_000)
    assert "that will follow" not in advice_sentence(advice_of(sd=0.0005, runs=100), 30, 10_000)
    [_, shorter, cheaper], full = pilots(sd=0.0005)
    dear = Route("cheaper", "cheaper", "epochs", {s: [e + 0.02 for e in of] for s, of in cheaper.errors.items()}, False)
    # 0.29 + 0.008 s^-1.3 = 0.304 at s = 0.65, above the last pilot
    advice = advise([shorter, dear], [0.31 + e - 0.30 for e in full], n=100, max_drop=0.005, pilots_cost=8)
    assert advice.chosen.route.name == "cheaper"
    assert advice.chosen.share > 0.5
    assert "pilots end at 50%" in advice_sentence(advice, 30, 10_000)


def test_what_is_nearest_loses_least_however_sure_it_is():
    # the errors of the first fall in no curve, so that anything may be lost; the second loses 4 points for sure
    rng = np.random.default_rng(0)
    noise = [rng.normal(0, 0.001, 3) for _ in range(7)]
    steep = dict(
        zip(SHARES, [(e + n).tolist() for e, n in zip((0.90, 0.85, 0.40), noise[:3], strict=True)], strict=True)
    )
    level = dict(
        zip(SHARES, [(e + n).tolist() for e, n in zip((0.22, 0.18, 0.14), noise[3:6], strict=True)], strict=True)
    )
    routes = [Route("random", "steep", "examples", steep), Route("shorter", "level", "epochs", level)]
    advice = advise(routes, (0.10 + noise[6]).tolist(), n=100, max_drop=0.001, pilots_cost=8)
    assert advice.chosen is None
    assert "Nearest to it is level" in advice_sentence(advice, 30, 100)
    assert max(curve.drops.max() for curve in advice.curves) <= 1  # no accuracy falls by more than all of it
