"""IES: who is mastered, from which visit on, and how an example comes back."""

import pytest
import torch

from datawinnow.core.errors import ArgumentError
from datawinnow.core.reason import Reason
from datawinnow.core.rng import stream
from datawinnow.dynamic import StopMastered
from tests.dynamic.helpers import bound, ids
from tests.reference import dynamic as literal


def visited(policy, losses):
    """The state after visits with ``losses`` (visits, n)."""
    state = policy.init(losses.shape[1])
    for row in losses:
        state = policy.observe(state, torch.arange(losses.shape[1]), loss=row)
    return state


def left_out(policy, state, n):
    """Ids that some epoch of a cycle leaves out."""
    plans = [policy.plan(epoch, state, bound(0))[0] for epoch in range(policy.look)]
    return set(range(n)) - set.intersection(*(ids(plan) for plan in plans))


@pytest.mark.parametrize("visits", [1, 3, 4, 5, 6, 9])
@pytest.mark.parametrize("delta", [0.02, 0.1, 1.0])
def test_the_mastered_are_the_literal_ones(visits, delta):
    n, policy = 60, StopMastered(delta=delta)
    noise = torch.rand(visits, n, generator=stream(0, "ies")) * torch.logspace(-3, 0.5, n)
    losses = torch.linspace(2, 1, visits)[:, None] + noise
    expected = {i for i in range(n) if literal.mastered(losses[:, i].double().tolist(), delta)}
    assert bool(expected) == (visits >= 5)
    assert left_out(policy, visited(policy, losses), n) == expected


def test_a_straight_line_is_dropped_after_five_visits_and_not_before():
    policy = StopMastered()
    losses = torch.stack([torch.linspace(3, 1, 5), torch.tensor([3.0, 1.0, 2.0, 0.5, 2.0])], dim=1)
    assert left_out(policy, visited(policy, losses[:4]), 2) == set()
    assert left_out(policy, visited(policy, losses), 2) == {0}


def test_each_mastered_example_is_visited_once_in_look_epochs_and_may_come_back():
    n, policy = 20, StopMastered(delta=0.1, look=4)
    state = visited(policy, torch.ones(5, n))
    plans = [policy.plan(epoch, state, bound(0))[0] for epoch in range(4)]
    assert [len(plan) for plan in plans] == [5] * 4
    assert set.union(*(ids(plan) for plan in plans)) == set(range(n))
    assert set(plans[0].reason.tolist()) == {int(Reason.DRAWN), int(Reason.BELOW_CUT)}
    state = policy.observe(state, torch.tensor([7]), loss=torch.tensor([4.0]))
    assert all(7 in ids(policy.plan(epoch, state, bound(0))[0]) for epoch in range(4))


def test_options_are_checked():
    for options, match in (
        ({"delta": -1.0}, "delta must be a number in"),
        ({"look": 1}, "look must be a whole number"),
    ):
        with pytest.raises(ArgumentError, match=match):
            StopMastered(**options)
