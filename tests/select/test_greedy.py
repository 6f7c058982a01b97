"""Greedy: the lazy one picks what the naive one picks, the stochastic one keeps its promise."""

import math

import numpy as np
import pytest
import torch

from datawinnow.core.draw import tie_order
from datawinnow.core.errors import ArgumentError
from datawinnow.core.rng import stream
from datawinnow.select.greedy import check_greedy, maximise
from tests.reference import submodular as literal


class Cover:
    """Coverage of ``of`` items by sets: whole-number gains, so that ties are everywhere."""

    def __init__(self, sets, width=4):
        self.sets, self.n, self.width = sets, len(sets), width
        self.covered = set()
        self.evaluated = []

    def gains(self, ids):
        self.evaluated.append(len(ids))
        return np.array([float(len(self.sets[j] - self.covered)) for j in ids])

    def add(self, j):
        self.covered |= self.sets[j]

    def value(self, chosen):
        return len(set().union(*(self.sets[j] for j in chosen))) if chosen else 0


def some_sets(seed, n=14, items=20):
    drawn = torch.rand(n, items, generator=stream(seed, "sets")) < 0.25
    return [set(torch.nonzero(row).flatten().tolist()) for row in drawn]


def run(sets, budget, greedy, epsilon=0.1, sample_seed=0, width=4):
    objective = Cover(sets, width)
    picks = maximise(objective, budget, greedy=greedy, epsilon=epsilon, sample_seed=sample_seed, tie_seed=5)
    return picks.tolist(), objective


@pytest.mark.parametrize("width", [1, 64])
@pytest.mark.parametrize("seed", range(20))
def test_lazy_is_naive_is_the_literal_loop_ties_and_all(seed, width):
    sets = some_sets(seed)
    want = literal.greedy(Cover(sets).value, 14, 14, order=tie_order(14, 5).tolist())
    assert run(sets, 14, "naive")[0] == want
    assert run(sets, 14, "lazy", width=width)[0] == want


def test_lazy_looks_at_fewer():
    sets = some_sets(0, n=400, items=600)
    lazy, naive = run(sets, 60, "lazy")[1], run(sets, 60, "naive")[1]
    assert sum(naive.evaluated) == 60 * 400
    assert sum(lazy.evaluated) < sum(naive.evaluated) / 4


def test_stochastic_looks_at_so_many_and_repeats_itself():
    sets = some_sets(1, n=200, items=300)
    picks, objective = run(sets, 20, "stochastic", epsilon=0.2)
    size = math.ceil(200 / 20 * math.log(1 / 0.2))
    assert len(objective.evaluated) == 20
    assert max(objective.evaluated) <= size
    assert np.mean(objective.evaluated) > 0.9 * size  # a few are drawn twice
    assert len(set(picks)) == 20
    assert run(sets, 20, "stochastic", epsilon=0.2)[0] == picks
    assert any(run(sets, 20, "stochastic", epsilon=0.2, sample_seed=s)[0] != picks for s in (1, 2, 3))


def test_stochastic_that_looks_at_all_is_naive():
    sets = some_sets(2)
    assert run(sets, 14, "stochastic", epsilon=1e-9)[0] == run(sets, 14, "naive")[0]


def test_stochastic_keeps_its_promise_on_average():
    """At least 1 - 1/e - epsilon of the best in expectation; the loop must also beat picking at random."""
    epsilon, budget, of_best, of_random = 0.3, 4, [], []
    for seed in range(15):
        sets = some_sets(seed)
        cover = Cover(sets)
        top = literal.best(cover.value, 14, budget)
        for s in range(4):
            of_best.append(cover.value(run(sets, budget, "stochastic", epsilon, s)[0]) / top)
            of_random.append(cover.value(torch.randperm(14, generator=stream(s, "r", seed))[:budget].tolist()) / top)
    assert np.mean(of_best) >= 1 - 1 / math.e - epsilon
    assert np.mean(of_best) > np.mean(of_random) + 0.05


def test_every_id_can_be_sampled_until_the_last():
    sets = [{i} for i in range(30)]
    picks, _ = run(sets, 30, "stochastic", epsilon=0.9)
    assert sorted(picks) == list(range(30))
    assert picks != list(range(30))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"greedy": "fast"}, "greedy must be one of 'lazy', 'stochastic', 'naive', got 'fast'"),
        ({"epsilon": 1.0}, r"epsilon must be a number in .*got 1\.0"),
        ({"epsilon": 0.0}, r"epsilon must be a number in .*got 0\.0"),
        ({"sample_seed": None}, "sample_seed must be a whole number .*got None"),
    ],
    ids=["greedy", "one", "zero", "seed"],
)
def test_options_out_of_range_are_named(options, words):
    with pytest.raises(ArgumentError, match=words):
        check_greedy(**({"greedy": "lazy", "epsilon": 0.1, "sample_seed": 0, "tie_seed": 0} | options))
