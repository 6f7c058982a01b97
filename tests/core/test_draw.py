"""Weighted draws: the same distribution as drawing one after the other, exact ties, prefixes that nest."""

import math
import random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from datawinnow.core import draw
from datawinnow.core.draw import gumbel_top_k, largest, shuffled
from datawinnow.core.rng import stream
from tests.reference.selection import successive


def test_inclusion_frequencies_match_successive_sampling():
    """Gumbel top-k against the literal loop, within 4 sigma of the difference of the two shares."""
    weights = [0.5, 1.0, 2.0, 4.0, 8.0, 0.25]
    n, budget, trials = len(weights), 3, 6000
    log_weight = torch.tensor(weights).log()
    uniform = random.Random(0).random
    generator = stream(0, "draw")
    counts = np.zeros((2, n))
    first = np.zeros((2, n))
    for _ in range(trials):
        slow = successive(weights, budget, uniform)
        fast = gumbel_top_k(log_weight, n, budget, generator).tolist()
        for row, ids in enumerate((slow, fast)):
            counts[row, ids] += 1
            first[row, ids[0]] += 1
    for table in (counts, first):  # who is in, and who comes first: the order is that of successive draws too
        share = table / trials
        pooled = share.mean(axis=0)
        error = np.sqrt(2 * pooled * (1 - pooled) / trials)
        assert (np.abs(share[0] - share[1]) <= 4 * error).all(), share
    exact = np.array(weights) / sum(weights)
    error = np.sqrt(exact * (1 - exact) / trials)
    assert (np.abs(first[1] / trials - exact) <= 4 * error).all()


def test_prefixes_nest():
    log_weight = torch.randn(500, generator=stream(0, "w"))
    everything = gumbel_top_k(log_weight, 500, 500, stream(0, "draw"))
    assert sorted(everything.tolist()) == list(range(500))
    for budget in (1, 2, 37, 499):
        assert torch.equal(gumbel_top_k(log_weight, 500, budget, stream(0, "draw")), everything[:budget])


def test_chunks_and_functions_give_the_same_draw(monkeypatch):
    log_weight = torch.randn(1000, generator=stream(0, "w"))
    want = gumbel_top_k(log_weight, 1000, 50, stream(0, "draw"))
    got = gumbel_top_k(lambda a, b: log_weight[a:b], 1000, 50, stream(0, "draw"))
    assert torch.equal(got, want)
    monkeypatch.setattr(draw, "KEYS_PER_CHUNK", 64)
    calls = []
    assert sorted(
        gumbel_top_k(lambda a, b: calls.append((a, b)) or log_weight[a:b], 1000, 1000, stream(0, "draw")).tolist()
    ) == list(range(1000))
    assert calls[0] == (0, 64)
    assert calls[-1] == (960, 1000)


def test_zero_weights_come_last_in_random_order():
    log_weight = torch.tensor([-math.inf, -700.0, -math.inf, 0.0, -math.inf, 700.0])
    lasts = set()
    for seed in range(30):
        ids = gumbel_top_k(log_weight, 6, 6, stream(seed, "z")).tolist()
        assert set(ids[:3]) == {1, 3, 5}
        lasts.add(tuple(ids[3:]))
    assert len(lasts) == 6


@settings(max_examples=80, deadline=None)
@given(st.lists(st.integers(-3, 3), min_size=1, max_size=40), st.data())
def test_largest_breaks_ties_by_the_smaller_id(values, data):
    budget = data.draw(st.integers(1, len(values)))
    want = sorted(range(len(values)), key=lambda i: (-values[i], i))[:budget]
    keys = torch.tensor(values, dtype=torch.float32)
    before = keys.clone()
    assert largest(keys, budget).tolist() == want
    assert torch.equal(keys, before)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.int64])
def test_largest_of_any_dtype(dtype):
    assert largest(torch.tensor([3, 9, 1, 9], dtype=dtype), 3).tolist() == [1, 3, 0]


def test_shuffled_is_a_permutation_by_the_generator():
    assert sorted(shuffled(20, stream(0, "s")).tolist()) == list(range(20))
    assert torch.equal(shuffled(20, stream(0, "s")), shuffled(20, stream(0, "s")))
    assert not torch.equal(shuffled(20, stream(0, "s")), shuffled(20, stream(1, "s")))
