"""KAKURENBO: who is hidden, who is moved back, how much is allowed in which stage, and the weights."""

import pytest
import torch

from datawinnow.core.errors import ArgumentError, MissingArrayError
from datawinnow.core.reason import Reason
from datawinnow.core.rng import stream
from datawinnow.dynamic import HideEasy, expected_fraction
from tests.dynamic.helpers import bound, ids
from tests.reference import dynamic as literal

N = 200


def observed(n=N, seed=0):
    """Losses, with whether they are right and the probability of the label drawn apart from them."""
    g = stream(seed, "hide")
    return {
        "loss": torch.rand(n, generator=g) * 3,
        "correct": (torch.rand(n, generator=g) > 0.3).float(),
        "p_label": torch.rand(n, generator=g),
    }


def seen(policy, signals):
    """The state after every example was visited once."""
    n = len(signals["loss"])
    return policy.observe(policy.init(n), torch.arange(n), **signals)


@pytest.mark.parametrize("epoch", [1, 29, 30, 59, 60, 79, 80, 99, 150])
@pytest.mark.parametrize(("drop", "confidence"), [(0.3, 0.7), (0.6, 0.2), (0.9, 0.0)])
def test_the_hidden_are_the_literal_ones_in_every_stage(epoch, drop, confidence):
    policy, signals = HideEasy(epochs=100, drop=drop, confidence=confidence), observed()
    factor = 1.0 if epoch < 30 else 0.8 if epoch < 60 else 0.6 if epoch < 80 else 0.4
    values = [signals[name].tolist() for name in ("loss", "correct", "p_label")]
    hidden = literal.hidden(*values, int(drop * factor * N + 1e-9), confidence)
    plan, _ = policy.plan(epoch, seen(policy, signals), bound(0))
    assert hidden
    assert set(range(N)) - ids(plan) == hidden
    assert {int(plan.reason[i]) for i in hidden} == {int(Reason.BELOW_CUT)}


def test_a_wrong_or_unsure_example_of_lowest_loss_is_never_hidden():
    signals = {
        "loss": torch.tensor([0.0, 0.1, 0.2, 5.0, 6.0, 7.0]),
        "correct": torch.tensor([0.0, 1.0, 1.0, 1.0, 1.0, 1.0]),
        "p_label": torch.tensor([0.99, 0.6, 0.99, 0.99, 0.99, 0.99]),
    }
    policy = HideEasy(epochs=10, drop=0.5)
    plan, _ = policy.plan(1, seen(policy, signals), bound(0))
    assert set(range(6)) - ids(plan) == {2}


def test_without_a_fraction_to_hide_nothing_is_hidden():
    policy = HideEasy(epochs=10, drop=0.0)
    assert len(policy.plan(3, seen(policy, observed()), bound(0))[0]) == N


def test_what_was_never_visited_is_not_hidden():
    policy, signals = HideEasy(epochs=10, drop=0.9, confidence=0.0), observed(20)
    signals["correct"] = torch.ones(20)
    state = policy.observe(policy.init(40), torch.arange(20), **signals)
    plan, _ = policy.plan(1, state, bound(0))
    assert ids(plan) == set(range(20, 40))


@pytest.mark.parametrize("rescale", ["none", "realised", "allowed"])
def test_weights_are_of_the_share_they_say(rescale):
    policy, signals = HideEasy(epochs=10, drop=0.4, rescale=rescale), observed()
    plan, _ = policy.plan(1, seen(policy, signals), bound(0))
    assert N * 0.6 < len(plan) < N
    expected = {"none": 1.0, "realised": N / len(plan), "allowed": 1 / 0.6}[rescale]
    assert plan.weight.tolist() == pytest.approx([expected] * len(plan))


def test_the_expected_fraction_is_the_least_that_is_kept():
    policy = HideEasy(epochs=10, drop=0.5)
    assert [policy.fraction(epoch) for epoch in (0, 1, 2, 3, 6, 8)] == pytest.approx([1.0, 0.5, 0.5, 0.6, 0.7, 0.8])
    assert expected_fraction(policy) == pytest.approx((1 + 2 * 0.5 + 3 * 0.6 + 2 * 0.7 + 2 * 0.8) / 10)


def test_every_signal_is_needed_and_options_are_checked():
    policy = HideEasy(epochs=10)
    assert policy.needs == ("loss", "correct", "p_label")
    signals = observed(4)
    del signals["p_label"]
    with pytest.raises(MissingArrayError, match="needs the signal 'p_label'"):
        policy.observe(policy.init(4), torch.arange(4), **signals)
    with pytest.raises(ArgumentError, match=r"drop must be a number in \[0, .*got 1"):
        HideEasy(epochs=10, drop=1.0)
    with pytest.raises(ArgumentError, match="rescale must be one of 'none', 'realised', 'allowed', got 'lr'"):
        HideEasy(epochs=10, rescale="lr")
