"""BOSS: the loop's picks, the density's weights, the middling and the duplicate, the three forms, edges."""

import math

import pytest
import torch

from datawinnow import select
from datawinnow.core.draw import tie_order
from datawinnow.core.errors import ArgumentError
from datawinnow.core.rng import stream
from tests.reference import geometry as literal


def g(*path):
    return stream(0, "boss", *path)


def made_up(n, d=4, *path):
    return torch.randn(n, d, generator=g("x", n, d, *path)), torch.rand(n, generator=g("s", n, *path))


def kept(x, score, budget, **options):
    return select.boss(x, score, budget=budget, **options).index.tolist()


@pytest.mark.parametrize(("a", "b"), [(2.0, 2.0), (5.0, 1.5), (0.8, 3.0), (1.0, 1.0)])
def test_picks_are_those_of_the_loop(a, b):
    x, score = made_up(35)
    want = literal.boss(x.tolist(), score.tolist(), 12, a, b, tie_order(len(x), 0).tolist())
    assert kept(x, score, 12, a=a, b=b) == want
    assert kept(x, score, 12, a=a, b=b, form="blocked") == want
    assert kept(x, score, 12, a=a, b=b, form="sparse", neighbours=34) == want


def test_the_density_is_that_of_scipy():
    """With all features the same, coverage says nothing and the first pick is where the density is highest."""
    stats = pytest.importorskip("scipy.stats")
    score = torch.rand(101, generator=g("scipy")).double()
    scaled = (score - score.min()) / (score.max() - score.min())
    for a, b in ((2.0, 2.0), (6.0, 3.0), (2.0, 9.0)):
        density = stats.beta.pdf(scaled.numpy(), a, b)
        assert kept(torch.ones(101, 3), score, 1, a=a, b=b) == [int(density.argmax())]


def test_larger_a_keeps_harder_and_larger_b_easier():
    x, score = made_up(300, 8)
    means = [float(score[kept(x, score, 30, a=a, b=b)].mean()) for a, b in ((2, 9), (2, 2), (9, 2))]
    assert means[0] + 0.15 < means[1] < means[2] - 0.15


def test_the_hardest_and_easiest_wait_and_a_duplicate_adds_nothing():
    x, score = made_up(60)
    score[7], score[8] = 9.0, -9.0  # the extremes of the scale have a density near 0
    score[20] = score[41] = 0.0
    x[41] = x[20]
    order = kept(x, score, 60)
    assert min(order.index(7), order.index(8)) > 10
    first, second = sorted((order.index(20), order.index(41)))
    ties = tie_order(60, 0).tolist()
    assert order[first] == min((20, 41), key=ties.index)
    assert second > first + 10


def test_a_region_of_its_own_is_covered_early():
    x = torch.cat([torch.tensor([[1.0, 0.0]]).repeat(30, 1), torch.tensor([[-1.0, 0.0]]).repeat(5, 1)])
    x = x + 0.05 * torch.randn(35, 2, generator=g("region"))
    score = torch.rand(35, generator=g("flat")) * 0.2 + 0.4
    first, second = kept(x, score, 2, a=1.0, b=1.0)
    assert first < 30 <= second


def test_constant_scores_leave_facility_location():
    x, _ = made_up(30)
    want = select.facility_location(x, budget=9).index.tolist()
    assert kept(x, torch.full((30,), 3.0), 9) == want
    assert kept(x, torch.arange(30.0), 9, a=1.0, b=1.0) == want  # a flat density


def test_sharp_densities_do_not_overflow():
    x, score = made_up(40)
    scaled = (score - score.min()) / (score.max() - score.min())
    assert kept(x, score, 1, a=1e5, b=1e5) == [int((scaled - 0.5).abs().argmin())]
    assert sorted(kept(x, score, 40, a=1e5, b=1e5)) == list(range(40))


def test_no_score_no_choice():
    x, score = made_up(30)
    score[5] = math.nan
    x[6] = math.nan
    rest = [i for i in range(30) if i not in (5, 6)]
    want = literal.boss(x[rest].tolist(), score[rest].tolist(), 8, 2.0, 2.0, tie_order(len(rest), 0).tolist())
    assert kept(x, score, 8, missing="skip") == [rest[i] for i in want]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"a": 0.0}, r"a must be a number in \[1e-06, .* got 0.0"),
        ({"b": -1.0}, r"b must be a number in \[1e-06, .* got -1.0"),
        ({"form": "full"}, "form must be one of .* got 'full'"),
        ({"score": torch.ones(9)}, "features is about 8 examples, but score about 9"),
    ],
    ids=["a", "b", "form", "sizes"],
)
def test_what_cannot_be_is_refused(options, words):
    x, score = made_up(8)
    options = {"score": score} | options
    with pytest.raises(ArgumentError, match=words):
        select.boss(x, budget=2, **options)


def test_the_method_of_the_paper_is_class_by_class_after_a_cut():
    """Drop the lowest AUM of each class, then cover what is left, in proportion (static.md 4.4)."""
    x, score = made_up(40)
    labels = torch.arange(40) % 2
    got = select.per_class(select.boss)(x, score, labels=labels, budget=12).index
    for c in range(2):
        want = literal.boss(
            x[labels == c].tolist(),
            score[labels == c].tolist(),
            6,
            2.0,
            2.0,
            tie_order(int((labels == c).sum()), 0).tolist(),
        )
        assert got[labels[got] == c].tolist() == [2 * i + c for i in want]
