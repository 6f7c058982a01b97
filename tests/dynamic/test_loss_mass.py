"""An adaptive share: how many hold the mass, and that it falls as the losses part."""

import pytest
import torch

from datawinnow.core.errors import ArgumentError
from datawinnow.core.rng import stream
from datawinnow.dynamic import LossMass
from tests.dynamic.helpers import bound, ids
from tests.reference import dynamic as literal


def seen(policy, *losses):
    """The state after a visit with each of the (n,) losses."""
    state = policy.init(losses[0].numel())
    for loss in losses:
        state = policy.observe(state, torch.arange(loss.numel()), loss=loss)
    return state


@pytest.mark.parametrize("mass", [0.05, 0.5, 0.95, 1.0])
@pytest.mark.parametrize("min_keep", [0.02, 0.3])
@pytest.mark.parametrize("power", [0.2, 1, 6])
def test_the_kept_are_the_literal_ones(mass, min_keep, power):
    n, policy = 50, LossMass(mass=mass, min_keep=min_keep, c=0.7)
    visits = [torch.rand(n, generator=stream(i, "mass")).double().pow(power).float() * 3 for i in range(3)]
    state = seen(policy, *visits)
    moments = [literal.running([float(x[i]) for x in visits], 0.8) for i in range(n)]
    plan, _ = policy.plan(3, state, bound(0))
    assert ids(plan) == literal.holding([m + 0.7 * v for m, v in moments], mass, round(min_keep * n))


def test_more_are_dropped_as_the_losses_part():
    policy, sizes = LossMass(), []
    for easy in (1.0, 0.3, 0.1, 1e-6):
        loss = torch.cat([torch.full((80,), easy), torch.full((20,), 2.0)])
        sizes.append(len(policy.plan(1, seen(policy, loss), bound(0))[0]))
    assert sizes[0] > sizes[1] > sizes[2] > sizes[3] == 30


def test_a_mass_that_is_reached_on_paper_is_reached():
    # ten equal losses of 0.1: nine of them hold 90%, and no tenth is added by a rounding error
    policy = LossMass(mass=0.9, min_keep=0.1)
    assert len(policy.plan(1, seen(policy, torch.full((10,), 0.1)), bound(0))[0]) == 9


def test_the_unvisited_are_kept_besides_and_all_zero_is_all():
    policy = LossMass(mass=0.5, min_keep=0.1)
    state = policy.observe(policy.init(20), torch.arange(10), loss=torch.tensor([9.0] + [0.1] * 9))
    assert ids(policy.plan(1, state, bound(0))[0]) == {0, *range(10, 20)}
    assert len(policy.plan(1, seen(policy, torch.zeros(10)), bound(0))[0]) == 10


@pytest.mark.parametrize("mass", [0.5, 0.8, 0.95])
def test_the_expected_fraction_is_that_of_exponential_losses(mass):
    policy = LossMass(mass=mass, min_keep=0.01)
    loss = -torch.log1p(-(torch.arange(20_000) + 0.5) / 20_000)
    share = len(policy.plan(1, seen(policy, loss), bound(0))[0]) / 20_000
    assert policy.fraction(1) == pytest.approx(share, abs=0.002)
    assert (policy.fraction(0), LossMass(mass=mass, min_keep=0.9).fraction(5)) == (1.0, 0.9)


def test_options_are_checked():
    for options in ({"mass": 0.0}, {"mass": 1.1}, {"min_keep": 0.0}, {"alpha": 0.0}, {"c": -1.0}):
        with pytest.raises(ArgumentError, match=f"{next(iter(options))} must be"):
            LossMass(**options)
