"""Draws by sorting integers: uniform, in uniform order, without repeats."""

import itertools

import pytest
import torch

from datawinnow.core.rng import stream
from datawinnow.dynamic.plan import in_random_order, nonzero_ids, sample_without_replacement, topk_random_ties


@pytest.mark.parametrize("count", [2, 4])
def test_every_ordered_outcome_is_equally_likely(count):
    ids, runs, g = torch.tensor([7, 0, 300, 12]), 4800, stream(0, "draw")
    drawn_by_seed = {}
    for _ in range(runs):
        outcome = tuple(sample_without_replacement(ids, count, g).tolist())
        drawn_by_seed[outcome] = drawn_by_seed.get(outcome, 0) + 1
    outcomes = list(itertools.permutations(ids.tolist(), count))
    assert set(drawn_by_seed) == set(outcomes)
    p = 1 / len(outcomes)
    assert all(abs(drawn_by_seed[o] / runs - p) <= 4.5 * (p * (1 - p) / runs) ** 0.5 for o in outcomes)


@pytest.mark.parametrize("n", [1, 2, 1000, 65_537])
def test_a_shuffle_is_a_permutation_and_leaves_its_input(n):
    ids = torch.arange(n)
    out = in_random_order(ids, stream(1, "order"))
    assert ids.equal(torch.arange(n))
    assert out.sort().values.equal(ids)
    assert n < 3 or not out.equal(ids)


def test_ids_far_beyond_32_bits_come_back_whole():
    ids = torch.tensor([2**40 + 3, 5, 2**33])
    assert set(sample_without_replacement(ids, 3, stream(0, "x")).tolist()) == {2**40 + 3, 5, 2**33}
    assert sample_without_replacement(ids, 0, stream(0, "x")).tolist() == []


def test_highest_draws_only_among_ties_at_the_cut():
    score = torch.tensor([1.0, 3.0, 2.0, 2.0, 2.0, 0.0, torch.inf])
    counts = torch.zeros(7)
    for seed in range(300):
        kept = topk_random_ties(score, 3, stream(seed, "x"))
        assert {1, 6} < set(kept.tolist())
        counts[kept] += 1
    assert counts[[0, 5]].tolist() == [0, 0]
    assert bool(((counts[[2, 3, 4]] / 300 - 1 / 3).abs() <= 4 * (2 / 9 / 300) ** 0.5).all())
    assert topk_random_ties(score, 7, stream(0, "x")).tolist() == list(range(7))


def test_where_gives_rising_ids():
    assert nonzero_ids(torch.tensor([True, False, True])).tolist() == [0, 2]
