"""D2 pruning: the loop's picks, both forms, hard and crowded and duplicate, negative scores, ties, edges."""

import math

import pytest
import torch

from datawinnow import select
from datawinnow.core.errors import ArgumentError
from datawinnow.core.rng import stream
from tests.reference import geometry as literal


def g(*path):
    return stream(0, "d2", *path)


def made_up(n, d=3, *path):
    return torch.rand(n, generator=g("s", n, *path)), torch.randn(n, d, generator=g("x", n, d, *path))


def kept(score, x, budget, **options):
    return select.d2(score, x, budget=budget, **options).index.tolist()


@pytest.mark.parametrize("power", [1, 2])
@pytest.mark.parametrize(("k", "gamma"), [(1, 0.1), (5, 0.1), (5, 2.0), (47, 0.0)])
def test_picks_are_those_of_the_loop(k, gamma, power):
    score, x = made_up(48)
    want = literal.d2(score.tolist(), x.tolist(), 48, k, gamma, power=power)
    assert kept(score, x, 48, neighbours=k, gamma=gamma, power=power) == want
    other = literal.d2(score.tolist(), x.tolist(), 48, k, gamma, 0.3, power)
    assert kept(score, x, 48, neighbours=k, gamma=gamma, gamma_forward=0.3, power=power) == other


def test_scores_below_zero_lift_their_neighbours_and_nobody_is_taken_twice():
    """As with the negative of AUM: where U is negative the reverse message raises it."""
    score, x = made_up(40, 2)
    score = score - 2
    got = kept(score, x, 40, neighbours=4)
    assert sorted(got) == list(range(40))
    assert got == literal.d2(score.tolist(), x.tolist(), 40, 4, 0.1)


def test_without_messages_it_is_the_ranking():
    score, x = made_up(50)
    got = kept(score, 1e4 * x, 50)  # so far apart that nothing is heard
    assert got == select.top(score, budget=50).index.tolist()


def test_the_hard_come_first_but_not_the_duplicate_of_one():
    score, x = made_up(80, 6)
    score[12] = 5.0
    score[70], x[70] = 4.9, x[12] + 1e-3
    score[33], x[33] = 4.0, x[33] + 20  # alone: lifted by nobody, lowered by nobody
    order = kept(score, x, 80)
    assert order[:2] == [12, 33]
    assert order.index(70) > 15
    assert select.top(score, budget=3).index.tolist() == [12, 70, 33]


def test_a_hard_neighbourhood_lifts_and_is_then_spread_out():
    """Two crowds of the same size: each pick lowers its own crowd, so that the picks alternate."""
    x = torch.cat([torch.zeros(10, 2), torch.full((10, 2), 50.0)]) + 0.01 * torch.randn(20, 2, generator=g("crowd"))
    score = torch.cat([torch.full((10,), 1.0), torch.full((10,), 0.9)])
    order = kept(score, x, 6, neighbours=9, gamma=1.0)
    assert order[0] < 10
    assert order[1] >= 10
    alone = torch.tensor([[500.0, 0.0]])
    lonely = kept(torch.cat([score, torch.tensor([1.05])]), torch.cat([x, alone]), 1, neighbours=5)
    assert lonely[0] < 10  # the crowd is lifted above the slightly harder loner


def test_gamma_is_how_far_the_reverse_message_reaches():
    score, x = made_up(60, 2)
    spread = [len(set(kept(score, x, 10, gamma=gamma)) ^ set(kept(score, x, 10, gamma=1e9))) for gamma in (0.0, 50.0)]
    assert spread[0] > spread[1]


def test_examples_that_all_tie_are_taken_in_any_order():
    same = kept(torch.ones(7), torch.zeros(7, 2), 7, neighbours=6)
    assert sorted(same) == list(range(7))


def test_one_example_and_fewer_than_neighbours():
    assert kept([1.0], [[2.0]], 1) == [0]
    score, x = made_up(4)
    assert kept(score, x, 4, neighbours=50) == literal.d2(score.tolist(), x.tolist(), 4, 3, 0.1)


def test_prefixes_nest():
    score, x = made_up(200)
    complete = kept(score, x, 200)
    for budget in (1, 50, 199):
        assert kept(score, x, budget) == complete[:budget]


def test_an_example_without_numbers_is_not_heard():
    score, x = made_up(30)
    score[3] = math.nan
    x[8, 1] = math.nan
    rest = [i for i in range(30) if i not in (3, 8)]
    want = literal.d2(score[rest].tolist(), x[rest].tolist(), 28, 5, 0.1)
    assert kept(score, x, 28, missing="skip") == [rest[i] for i in want]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"neighbours": 0}, r"neighbours must be a whole number in \[1, .* got 0"),
        ({"gamma": -0.1}, r"gamma must be a number in \[0, .* got -0.1"),
        ({"gamma_forward": -1}, r"gamma_forward must be a number in \[0, .* got -1"),
        ({"power": 3}, "power must be one of 1, 2, got 3"),
        ({"score": torch.ones(9)}, "score is about 9 examples, but features about 8"),
    ],
    ids=["neighbours", "gamma", "forward", "power", "sizes"],
)
def test_what_cannot_be_is_refused(options, words):
    score, x = made_up(8)
    options = {"score": score} | options
    with pytest.raises(ArgumentError, match=words):
        select.d2(features=x, budget=2, **options)


def test_each_class_has_a_graph_of_its_own_when_wrapped():
    score, x = made_up(60)
    labels = torch.arange(60) % 2
    got = select.per_class(select.d2)(score, x, labels=labels, budget=20).index
    for c in range(2):
        want = literal.d2(score[labels == c].tolist(), x[labels == c].tolist(), 10, 5, 0.1)
        assert got[labels[got] == c].tolist() == [2 * i + c for i in want]
