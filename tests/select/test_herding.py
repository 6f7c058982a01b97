"""Herding: the loop's picks, its own objective against random and the wrong sign, the outlier and the duplicate."""

import math

import pytest
import torch

from datawinnow import select
from datawinnow.core.draw import tie_order
from datawinnow.core.errors import ArgumentError
from datawinnow.core.rng import stream
from tests.reference import geometry as literal


def g(*path):
    return stream(0, "herding", *path)


def herd(x, budget, **options):
    return select.herding(x, budget=budget, **options).index.tolist()


def off(x, chosen):
    """How far the mean of the chosen is from the mean of all."""
    return float((x[chosen].double().mean(0) - x.double().mean(0)).norm())


@pytest.mark.parametrize(("d", "normalise"), [(1, False), (3, False), (3, True), (30, False), (30, True)])
def test_picks_are_those_of_the_loop(d, normalise):
    x = torch.randn(45, d, generator=g(d)) + 0.7
    rows = (x / x.norm(dim=1, keepdim=True) if normalise else x).tolist()
    assert herd(x, 45, normalise=normalise) == literal.herding(rows, 45)


def test_it_beats_random_on_its_own_objective_and_the_wrong_sign_does_not():
    x = torch.randn(400, 16, generator=g("own")).exp()
    for budget in (5, 20, 80):
        draws = [off(x, torch.randperm(400, generator=g("random", budget, s))[:budget]) for s in range(40)]
        assert off(x, herd(x, budget)) < 0.5 * min(draws)
        wrong = literal.herding(x[:60].tolist(), min(budget, 20), take=max)
        assert off(x[:60], wrong) > 2 * off(x[:60], herd(x[:60], min(budget, 20)))
        fair = [off(x[:60], torch.randperm(60, generator=g("r", s))[: min(budget, 20)]) for s in range(40)]
        assert off(x[:60], wrong) > max(fair)


def test_the_mean_comes_first_and_the_outlier_late():
    x = torch.randn(100, 5, generator=g("planted"))
    x[41] = x.mean(0)
    x[77] = 30.0
    x[41] += (x.mean(0) - x[41]) * 100 / 99  # the mean moved with the outlier
    order = herd(x, 100)
    assert order[0] == 41
    assert order.index(77) > 10
    assert literal.herding(x.tolist(), 1, take=max) == [77]


def test_a_pick_makes_up_for_the_last():
    assert herd([[0.0], [2.0], [3.0], [7.0]], 4) == [2, 1, 3, 0]
    rows = [[-1.0], [1.0], [-1.0], [1.0]]  # ties, then the other side
    assert herd(rows, 4) == literal.herding(rows, 4, order=tie_order(4, 0).tolist()) != [0, 1, 2, 3]


def test_prefixes_nest_and_everything_is_covered():
    x = torch.randn(80, 6, generator=g("nest"))
    complete = herd(x, 80)
    assert sorted(complete) == list(range(80))
    for budget in (1, 9, 79):
        assert herd(x, budget) == complete[:budget]


def test_far_from_the_origin_and_after_many_picks_nothing_drifts():
    x = torch.randn(2000, 8, generator=g("offset"))
    exact = herd(x.double(), 1500)
    assert herd(x, 1500)[:500] == exact[:500]
    moved = herd(x.double() + 1e5, 1500)
    assert moved[:1000] == exact[:1000]
    moved32 = herd(x + 1e3, 1000)
    assert off(x, moved32) < 2e-3


def test_lengths_do_not_count_when_normalised():
    x = torch.randn(50, 7, generator=g("norm"))
    longer = x * torch.rand(50, 1, generator=g("length")).add(0.5)
    assert herd(longer, 50, normalise=True)[:30] == herd(x, 50, normalise=True)[:30]
    assert herd(longer, 50) != herd(x, 50)
    with pytest.raises(ArgumentError, match="normalise must be one of False, True, got 'l2'"):
        herd(x, 5, normalise="l2")


def test_skipped_examples_are_not_in_the_mean():
    x = torch.randn(30, 4, generator=g("nan"))
    x[3] = math.nan
    x[9, 2] = math.nan
    rest = [i for i in range(30) if i not in (3, 9)]
    want = literal.herding(x[rest].tolist(), 10)
    assert herd(x, 10, missing="skip") == [rest[i] for i in want]


def test_class_by_class_each_mean_is_matched():
    x = torch.randn(90, 3, generator=g("class")) + torch.arange(90)[:, None] % 3 * 4.0
    labels = torch.arange(90) % 3
    got = select.per_class(select.herding)(x, labels=labels, budget=15).index
    for c in range(3):
        members = torch.nonzero(labels == c).flatten()
        want = members[literal.herding(x[members].tolist(), 5)]
        assert got[labels[got] == c].tolist() == want.tolist()
