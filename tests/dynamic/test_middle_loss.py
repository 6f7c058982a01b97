"""The middle of the losses: chances by the equation, and that both tails are seldom drawn."""

import pytest
import torch

from datawinnow.core.budget import budget_of
from datawinnow.core.errors import ArgumentError
from datawinnow.core.rng import stream
from datawinnow.dynamic import MiddleLoss
from tests.dynamic.helpers import bound, ids
from tests.reference import dynamic as literal

N, SEEDS = 30, 800


def seen(policy, loss):
    """The state after every example was visited once."""
    return policy.observe(policy.init(loss.numel()), torch.arange(loss.numel()), loss=loss)


@pytest.mark.parametrize("options", [{}, {"times_loss": False}, {"width": 0.4}], ids=str)
def test_examples_come_as_often_as_the_equation_says(options):
    policy, loss = MiddleLoss(keep=0.3, **options), torch.rand(N, generator=stream(0, "middle")) * 4
    state, k = seen(policy, loss), budget_of(0.3, N)
    sizes = literal.middle_sizes(loss.double().tolist(), policy.width, policy.times_loss)
    pi = torch.tensor(literal.loss_power_chances(sizes, k, 1.0, policy.floor))
    counts = torch.zeros(N)
    for seed in range(SEEDS):
        plan, _ = policy.plan(1, state, bound(seed))
        assert len(plan) == k
        counts[plan.index] += 1
    assert bool(((counts / SEEDS - pi).abs() <= 4 * (pi * (1 - pi) / SEEDS).sqrt() + 1e-6).all())


def test_weights_are_one_over_the_chance():
    loss = torch.linspace(0, 4, N)
    policy = MiddleLoss(keep=0.3, weighted=True, times_loss=False)
    plan, _ = policy.plan(1, seen(policy, loss), bound(0))
    pi = literal.loss_power_chances(literal.middle_sizes(loss.tolist(), 1.0, False), len(plan), 1.0, policy.floor)
    assert plan.weight.tolist() == pytest.approx([1 / pi[i] for i in plan.index.tolist()], rel=1e-4)


def test_both_tails_are_avoided_a_wrong_label_first():
    # 4 learned, 20 in the middle, 4 that look mislabelled
    loss = torch.cat([torch.full((4,), 0.01), torch.linspace(0.9, 1.1, 20), torch.full((4,), 6.0)])
    policy, counts = MiddleLoss(keep=0.5), torch.zeros(28)
    for seed in range(200):
        counts[policy.plan(1, seen(policy, loss), bound(seed))[0].index] += 1
    share = counts / 200
    assert float(share[4:24].min()) > 5 * float(share[:4].max())
    assert float(share[4:24].min()) > 1.8 * float(share[24:].max())


def test_equal_losses_are_drawn_alike_and_the_unvisited_are_certain():
    policy = MiddleLoss(keep=0.5, weighted=True)
    assert policy.plan(1, seen(policy, torch.ones(10)), bound(0))[0].weight.tolist() == pytest.approx([2.0] * 5)
    state = policy.observe(policy.init(20), torch.arange(4, 20), loss=torch.rand(16))
    assert ids(policy.plan(1, state, bound(0))[0]) >= {0, 1, 2, 3}


def test_options_are_checked():
    for options in ({"width": 0.0}, {"alpha": 0.0}, {"floor": 0.0}, {"times_loss": "yes"}, {"keep": 2.0}):
        with pytest.raises(ArgumentError, match=f"{next(iter(options))} must be"):
            MiddleLoss(**{"keep": 0.5, **options})
