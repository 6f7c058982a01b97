"""Costs add, share and travel through JSON; break-even is the arithmetic of its docstring."""

import json
import math

import pytest

from datawinnow.core.cost import Cost, break_even

A, B = Cost(1.5, 10, 20, 3e9), Cost(0.5, 2, 4, 1e9)


def test_costs_add():
    assert Cost(2.0, 12, 24, 4e9) == A + B
    assert A + Cost() == A
    assert sum([A, B], Cost()) == A + B


def test_a_forward_pass_counts_a_third():
    assert Cost(forward=30, backward=100).passes == 110
    assert Cost(9.0, flops=1e12).passes == 0


def test_a_share_rounds_to_whole_examples():
    assert A.share(0.5) == Cost(0.75, 5, 10, 1.5e9)
    assert Cost(3.0, 10, 100, 30.0).share(1 / 3) == Cost(1.0, 3, 33, 10.0)
    assert A.share(1.0) == A
    assert A.share(0.0) == Cost()
    costs = [Cost(backward=50_000).share(epochs / 30).backward for epochs in (10, 20, 30)]
    assert costs == [16_667, 33_333, 50_000]


def test_costs_travel_through_json():
    text = json.dumps(A.as_dict())
    assert Cost.from_dict(json.loads(text)) == A
    assert set(json.loads(text)) == {"seconds", "forward", "backward", "flops"}
    with pytest.raises(KeyError, match="flops"):
        Cost.from_dict({"seconds": 1, "forward": 2, "backward": 3})


def test_a_cost_cannot_be_changed():
    with pytest.raises(AttributeError):
        A.seconds = 3.0


@pytest.mark.parametrize(
    ("scoring", "full", "pruned", "runs"),
    [
        (30.0, 30.0, 15.0, 2.0),
        (23.0, 30.0, 20.0, 2.3),
        (0.0, 30.0, 15.0, 0.0),
        (5.0, 10.0, 10.0, math.inf),
        (5, 10, 12, math.inf),
    ],
)
def test_break_even(scoring, full, pruned, runs):
    assert break_even(scoring, full, pruned) == runs
    if math.isfinite(runs):  # at that many runs both ways cost the same
        assert scoring + runs * pruned == pytest.approx(runs * full)
