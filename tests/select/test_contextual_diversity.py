"""Contextual diversity: the loop's picks, the confusion that nobody else has, zeros, and what is no distribution."""

import math

import pytest
import torch

from datawinnow import select
from datawinnow.core.draw import tie_order, tie_seed_of
from datawinnow.core.errors import ArgumentError
from datawinnow.core.rng import stream
from tests.reference import geometry as literal


def g(*path):
    return stream(0, "contextual diversity", *path)


def diverse(probs, budget, **options):
    return select.contextual_diversity(probs, budget=budget, generator=g("unused"), **options).index.tolist()


def made_up(n, c, *path):
    return (2 * torch.randn(n, c, generator=g(n, c, *path))).softmax(1)


@pytest.mark.parametrize("c", [2, 3, 20])
def test_picks_are_those_of_the_loop(c):
    probs = made_up(60, c).double()
    assert diverse(probs, 60, first=4) == literal.k_center(probs.tolist(), 60, 4, apart=literal.symmetric_kl)
    assert diverse(probs.float(), 20, first=4) == diverse(probs, 20, first=4)


def test_the_divergence_is_that_of_scipy():
    special = pytest.importorskip("scipy.special")
    probs = made_up(200, 5).double()
    p = probs.numpy()
    far = 0.5 * (special.rel_entr(p, p[0]) + special.rel_entr(p[0], p)).sum(1)
    assert diverse(probs, 2, first=0)[1] == int(far.argmax())


def test_a_confusion_that_nobody_else_has_comes_first():
    sure = torch.eye(4).mul(0.97).add(0.0075)[torch.arange(60) % 4]
    sure[23] = torch.tensor([0.0002, 0.4999, 0.4997, 0.0002])
    got = diverse(sure, 6, first=0)
    assert {0, 23} < set(got[:5])
    assert sorted(i % 4 for i in got[:5] if i != 23) == [0, 1, 2, 3]
    ties = tie_order(60, tie_seed_of(g("unused"))).tolist()
    assert got[5] == next(i for i in ties if i not in got[:5])  # the rest repeat what is chosen


def test_a_class_predicted_with_zero_is_far_but_not_infinitely():
    probs = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.5, 0.5, 0.0], [1.0, 0.0, 0.0]])
    assert diverse(probs, 4, first=0) == [0, 1, 2, 3]


def test_it_begins_with_what_diverges_least_from_the_mean_prediction():
    probs = made_up(40, 6).double()
    mean = literal.mean_of(probs.tolist())
    nearest = min(range(40), key=lambda i: literal.symmetric_kl(probs[i].tolist(), mean))
    assert diverse(probs, 1, first="mean") == [nearest]
    assert (
        len({int(select.contextual_diversity(probs, budget=1, generator=stream(s, "x")).index) for s in range(40)}) > 9
    )


@pytest.mark.parametrize(
    ("probs", "words"),
    [
        ([[0.5, 0.5], [2.0, -1.0]], r"probs must hold probabilities in \[0, 1\], got 2 for example 1"),
        ([[0.5, 0.5], [0.6, 0.5]], "probs must sum to 1 over the classes, got 1.1 for example 1"),
        ([[0.5, 0.5], [math.nan, 0.5]], "probs is nan for example 1"),
        ([0.5, 0.5], r"probs must have shape \(n, c\), got \(2,\)"),
    ],
    ids=["logits", "sum", "nan", "shape"],
)
def test_what_is_no_distribution_is_refused(probs, words):
    with pytest.raises(ArgumentError, match=words):
        diverse(probs, 1)


def test_an_example_without_numbers_is_left_out():
    probs = made_up(30, 4).double()
    probs[7] = math.nan
    rest = [i for i in range(30) if i != 7]
    want = literal.k_center(probs[rest].tolist(), 12, 3, apart=literal.symmetric_kl)
    assert diverse(probs, 12, first=3, missing="skip") == [rest[i] for i in want]
