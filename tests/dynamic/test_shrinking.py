"""A keep that goes from start to end; what an epoch is expected to train on."""

import dataclasses
import itertools
import math

import pytest
import torch

from datawinnow.core.budget import budget_of
from datawinnow.core.changing_keep import ChangingKeep
from datawinnow.core.errors import ArgumentError
from datawinnow.core.selection import Selection
from datawinnow.dynamic import (
    UCB,
    EpsilonGreedy,
    ExampleSwap,
    InfoBatch,
    LossPower,
    MiddleLoss,
    OrderDP,
    RandomPruning,
    RepeatedSubset,
    Replay,
    SeTa,
    StaticSubset,
    annealed,
    build_policy,
    every,
    expected_fraction,
    guarded,
    recorded,
    rescaled,
    shrinking,
    warm_up,
)
from datawinnow.dynamic.info_batch import BELOW_MEAN
from tests.dynamic.helpers import bound, logged, run, static

N = 40


def sizes(policy, epochs, n=N):
    """How many examples each epoch of a run has."""
    return [len(plan) for plan, _, _ in run(policy, n, epochs=epochs)]


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
@pytest.mark.parametrize(("start", "end"), [(1.0, 0.3), (0.9, 0.1), (0.2, 0.7)], ids=str)
@pytest.mark.parametrize("epochs", [2, 7, 30])
def test_the_ends_are_met_and_between_it_goes_one_way(schedule, start, end, epochs):
    policy = shrinking(RandomPruning(keep=0.5), epochs, end=end, start=start, shape=schedule)
    kept = [policy.keep_at(epoch) for epoch in range(epochs + 3)]
    assert kept[0] == start
    assert kept[epochs - 1 :] == [end] * 4
    steps = [b - a for a, b in itertools.pairwise(kept[:epochs])]
    assert all(step * (end - start) > 0 for step in steps)
    for epoch in range(epochs):
        t = epoch / (epochs - 1)
        t = t if schedule == "linear" else (1 - math.cos(math.pi * t)) / 2
        assert kept[epoch] == pytest.approx(start + (end - start) * t)
    assert sizes(policy, epochs) == [budget_of(keep, N) for keep in kept[:epochs]]


@pytest.mark.parametrize(("shape", "count"), [("step", 3), ("oscillating", 2), ("cosine", None)])
@pytest.mark.parametrize("policy", [RandomPruning(0.5), UCB(0.5, 1), LossPower(0.5), MiddleLoss(0.5)], ids=repr)
def test_every_epoch_of_every_shape_has_its_exact_budget(policy, shape, count):
    schedule = ChangingKeep(0.9, 0.2, shape, count)
    shrunk = shrinking(policy, 9, end=0.2, start=0.9, shape=shape, count=count)
    expected = [budget_of(schedule.at(epoch / 8), N) for epoch in range(9)]
    expected[0] = N if policy.needs else expected[0]
    assert sizes(shrunk, 9) == expected
    assert len(set(expected)) >= 3
    assert expected_fraction(shrunk, 9) == pytest.approx(sum(expected) / (9 * N), abs=0.5 / N)


@pytest.mark.parametrize("text", ["0.3..1.0", "1.0..0.4:step:4", "0.9..0.3:oscillating:2"])
def test_by_name_a_keep_that_changes_is_this_wrapper_inside_the_others(text):
    start, end, shape, count = dataclasses.astuple(ChangingKeep.from_text(text))
    for keywords in ({"keep": text}, {"options": {"keep": text}}, {"keep": ChangingKeep.from_text(text)}):
        policy = build_policy("random", epochs=10, wrap=["annealed=full:0.5"], **keywords)
        assert policy == annealed(shrinking(RandomPruning(start), 10, end, start, shape, count), 10, 0.5)
    # a budget of passes makes as many epochs as the mean keep says
    policy = build_policy("random", passes=8, keep=text)
    assert abs(sum(sizes(policy, policy.epochs)) / N - 8) <= 0.5
    assert policy.epochs >= 11


def test_by_name_it_needs_a_length_and_a_policy_with_a_keep():
    with pytest.raises(ArgumentError, match="a keep that changes needs the length of the run"):
        build_policy("random", keep="0.3..1.0")
    with pytest.raises(ArgumentError, match="the policy 'info_batch' sets the number of examples itself"):
        build_policy("info_batch", epochs=5, keep="0.3..1.0")
    with pytest.raises(ArgumentError, match=r"end must be in \(0, 1\], got 30"):
        build_policy("ucb", epochs=5, keep="1..30")


def test_one_epoch_has_the_start_and_no_epoch_leaves_the_range():
    policy = shrinking(RandomPruning(keep=0.5), 1, end=0.25, start=0.75)
    assert sizes(policy, 3) == [30, 10, 10]
    assert policy.expected == 0.75


def test_each_epoch_is_the_policy_with_that_keep():
    loss, policy = torch.linspace(0.1, 3.0, N), shrinking(UCB(keep=0.1, period=1), 5, end=0.2, start=0.6)
    state = policy.observe(policy.init(N), torch.arange(N), loss=loss)
    for epoch in (1, 3, 4):
        plan, _ = policy.plan(epoch, state, bound(0))
        alone, _ = UCB(keep=policy.keep_at(epoch), period=1).plan(epoch, state, bound(0))
        assert plan.index.equal(alone.index)


def test_a_policy_with_a_period_holds_its_keep_until_the_next_decision():
    policy = shrinking(UCB(keep=1.0, period=4), 12, end=0.1)
    kept = [policy.keep_at(epoch) for epoch in range(12)]
    expected_keep = [1.0] + [kept[1]] * 3 + [kept[4]] * 4 + [kept[8]] * 4
    assert sizes(policy, 12) == [budget_of(keep, N) for keep in expected_keep]
    assert policy.expected == pytest.approx(sum(expected_keep) / 12)


def test_it_composes():
    policy = annealed(shrinking(RandomPruning(keep=1.0), 6, end=0.5), 8, share=0.75)
    assert sizes(policy, 8) == [40, 36, 32, 28, 24, 20, 40, 40]
    assert expected_fraction(policy) == pytest.approx(sum(sizes(policy, 8)) / (8 * N))
    weight = rescaled(shrinking(RandomPruning(keep=1.0), 6, end=0.5)).plan(5, {"n": N}, bound(0))[0].weight
    assert weight.tolist() == [2.0] * 20
    weight = shrinking(rescaled_by_hand(), 6, end=0.25).plan(5, {"n": N, "mean": torch.ones(N)}, bound(0))[0].weight
    assert weight.tolist() == [4.0] * 10


def rescaled_by_hand():
    return LossPower(keep=1.0, weighted=True)


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: shrinking(InfoBatch(epochs=5), 5, 0.5), "reads its keep .*got InfoBatch"),
        (lambda: shrinking(ExampleSwap(), 5, 0.5), "reads its keep at every decision.*got ExampleSwap"),
        (lambda: shrinking(warm_up(RandomPruning(0.5), 1), 5, 0.5), "got WarmUp; put warm_up.* around"),
        (lambda: shrinking(RandomPruning(0.5), 0, 0.5), r"epochs must be a whole number in \[1, .*got 0"),
        (lambda: shrinking(RandomPruning(0.5), 5, 0.0), r"end must be in \(0, 1\], got 0.0"),
        (lambda: shrinking(RandomPruning(0.5), 5, 0.5, start=1.1), r"start must be in \(0, 1\], got 1.1"),
        (
            lambda: shrinking(RandomPruning(0.5), 5, 0.5, shape="jump"),
            "shape must be one of 'linear', 'cosine', 'step', 'oscillating', got 'jump'",
        ),
        (lambda: shrinking(OrderDP(0.5), 5, 0.5), "keep=1.0 cannot be more than pool=0.75"),
        (lambda: shrinking("ucb", 5, 0.5), "policy must be a policy such as .*got 'ucb'"),
    ],
    ids=lambda x: str(x)[:30] if isinstance(x, str) else "",
)
def test_what_it_cannot_shrink_is_refused(make, match):
    with pytest.raises(ArgumentError, match=match):
        make()
    assert shrinking(OrderDP(0.5), 5, 0.5, start=0.75).expected == pytest.approx(0.625)


EXACT = {
    "random": RandomPruning(keep=0.3),
    "rs2": RepeatedSubset(keep=0.3),
    "ucb": UCB(keep=0.3, period=3),
    "ucb, random first": UCB(keep=0.3, first="random"),
    "epsilon-greedy": EpsilonGreedy(keep=0.3),
    "order_dp": OrderDP(keep=0.3),
    "order_dp, all first": OrderDP(keep=0.3, first="all"),
    "loss_power": LossPower(keep=0.3),
    "example_swap": ExampleSwap(keep=0.3, period=2),
    "replay": Replay(logged(N, epochs=8, fraction=0.3)),
    "static_subset": StaticSubset(Selection.of(torch.arange(12), N)),
    "warm_up": warm_up(UCB(keep=0.3, period=1), 2),
    "annealed": annealed(UCB(keep=0.3, period=1), 8, share=0.7),
    "partly annealed": annealed(UCB(keep=0.3, period=1), 8, mode="partial"),
    "not annealed": annealed(UCB(keep=0.3, period=1), 8, mode="none"),
    "every": every(UCB(keep=0.3, period=1), 3),
    "rescaled": rescaled(RandomPruning(keep=0.3)),
    "guarded": guarded(UCB(keep=0.3, period=1), first=2, separation=0.0),
    "recorded": recorded(warm_up(UCB(keep=0.3, period=1), 2)),
    "shrinking": shrinking(UCB(keep=1.0, period=1), 8, end=0.2),
    "shrinking with a period": shrinking(EpsilonGreedy(keep=1.0, period=3, first="random"), 8, end=0.2, start=0.8),
    "shrinking every": every(shrinking(UCB(keep=1.0, period=1), 8, end=0.2), 3),
    "warm_up of annealed": warm_up(annealed(rescaled(RandomPruning(keep=0.3)), 8), 3),
}


@pytest.mark.parametrize("name", EXACT)
def test_the_expected_fraction_is_that_of_a_run(name):
    policy = EXACT[name]
    passed = sum(sizes(policy, 8)) / (8 * N)
    assert expected_fraction(policy, epochs=8) == pytest.approx(passed, abs=0.5 / N)
    if "period" in name or name in ("warm_up", "ucb", "annealed"):
        assert abs(passed - 0.3) > 0.05  # a first epoch or a boundary that must have been counted


@pytest.mark.parametrize(
    ("policy", "expected_keep"),
    [
        (UCB(keep=0.7), 0.7),
        (RandomPruning(keep=0.4), 0.4),
        (warm_up(UCB(keep=0.7), 5), 0.7),
        (guarded(recorded(UCB(keep=0.7)).policy), 0.7),
        (annealed(warm_up(RandomPruning(keep=0.5), 1), 8), (2 + 6 * 0.5) / 8),
        (rescaled(shrinking(RandomPruning(keep=1.0), 4, end=0.25)), 0.625),
    ],
    ids=str,
)
def test_without_epochs_it_is_that_of_the_run_it_was_told_of_or_of_one_without_end(policy, expected_keep):
    assert expected_fraction(policy) == pytest.approx(expected_keep)


def test_info_batch_by_its_formula():
    for epochs, drop in ((200, 0.5), (40, 0.3)):
        pruned = (math.floor(0.875 * epochs) - 1) / epochs
        assert expected_fraction(InfoBatch(epochs, drop)) == pytest.approx(1 - pruned * drop * BELOW_MEAN)
        share = 0.2 * (1 - (1 - drop) ** 2) + 0.65 * drop
        assert expected_fraction(InfoBatch(epochs, drop, form="percentile")) == pytest.approx(1 - pruned * share)
    assert 0.68 < expected_fraction(InfoBatch(epochs=200)) < 0.73
    assert 1 - expected_fraction(InfoBatch(epochs=200, form="percentile")) == pytest.approx(0.4133, abs=1e-4)


@pytest.mark.parametrize("options", [{}, {"groups": 5, "window": 0.9}, {"groups": 5, "window": 0.6, "drop": 0.2}])
def test_seta_of_exponential_losses(options):
    n, epochs, policy = 20_000, 30, SeTa(epochs=30, **options)
    loss = torch.empty(n).exponential_(generator=bound(0)("losses"))
    state = policy.observe(policy.init(n), torch.arange(n), loss=loss)
    passed = [len(policy.plan(e, state if e else policy.init(n), bound(0))[0]) / n for e in range(epochs)]
    assert expected_fraction(policy) == pytest.approx(sum(passed) / epochs, abs=0.03)


def test_a_policy_of_ones_own_says_it_or_it_is_an_error():
    class Own:
        expected = 0.25

    assert expected_fraction(Own()) == 0.25
    with pytest.raises(ArgumentError, match="data that object trains on is unknown: give it an attribute `expected`"):
        expected_fraction(object())
    with pytest.raises(ArgumentError, match="the selection has no reasons"):
        expected_fraction(StaticSubset(static(N)))
    with pytest.raises(ArgumentError, match=r"epochs must be a whole number .*got 0"):
        expected_fraction(UCB(keep=0.5), epochs=0)
