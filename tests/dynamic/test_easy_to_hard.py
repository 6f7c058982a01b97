"""Easy to hard: which stretch of the sorted losses an epoch has."""

import pytest
import torch

from datawinnow.core.budget import budget_of
from datawinnow.core.errors import ArgumentError
from datawinnow.core.rng import stream
from datawinnow.dynamic import EasyToHard, build_policy
from tests.dynamic.helpers import bound, ids


@pytest.mark.parametrize("keep", [0.1, 0.45, 1.0])
@pytest.mark.parametrize("epochs", [2, 9])
def test_the_stretch_moves_evenly_from_the_easiest_to_the_hardest(keep, epochs):
    n, policy = 31, EasyToHard(keep=keep, epochs=epochs)
    loss = torch.rand(n, generator=stream(0, "stretch"))
    state = policy.observe(policy.init(n), torch.arange(n), loss=loss)
    order, k = sorted(range(n), key=lambda i: float(loss[i])), budget_of(keep, n)
    for epoch in range(epochs + 2):
        start = int(min(1, epoch / (epochs - 1)) * (n - k) + 0.5)
        assert ids(policy.plan(epoch, state, bound(0))[0]) == set(order[start : start + k])
    assert set(order[:k]) == ids(policy.plan(0, state, bound(0))[0])
    assert set(order[-k:]) == ids(policy.plan(epochs - 1, state, bound(0))[0])


def test_equal_losses_are_drawn_alike_and_the_unvisited_are_kept():
    policy, counts = EasyToHard(keep=0.5, epochs=5), torch.zeros(12)
    state = policy.observe(policy.init(12), torch.arange(12), loss=torch.ones(12))
    for seed in range(300):
        counts[policy.plan(2, state, bound(seed))[0].index] += 1
    assert float((counts / 300 - 0.5).abs().max()) <= 4 * (0.25 / 300) ** 0.5
    state = policy.observe(policy.init(12), torch.arange(3, 12), loss=torch.rand(9))
    plan, _ = policy.plan(4, state, bound(0))
    assert ids(plan) >= {0, 1, 2}
    assert len(plan) == 6


def test_by_name_with_a_budget_and_a_keep_that_changes():
    policy = build_policy("easy_to_hard", passes=7, keep=0.7)
    assert (policy.epochs, policy.keep) == (10, 0.7)
    assert build_policy("easy_to_hard", epochs=6, keep="0.3..1.0").policy.epochs == 6
    with pytest.raises(ArgumentError, match="the length of the run"):
        build_policy("easy_to_hard", keep=0.7)
