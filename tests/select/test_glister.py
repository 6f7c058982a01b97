"""GLISTER: the held-out gradient after a step, the greedy, and which rows come first."""

import pytest
import torch

from datawinnow import select
from datawinnow.core.errors import ArgumentError
from datawinnow.core.rng import stream
from datawinnow.select import glister
from datawinnow.select.glister import gradient_after_step
from datawinnow.select.last_layer import LastLayer
from tests.reference import gradients as literal
from tests.select.gradient_cases import arrays, draw_arrays, noisy


def test_the_held_out_gradient_after_a_step_is_that_of_autograd():
    """A real last layer takes a real step on the chosen examples."""
    g = stream(0, "linear")
    linear = torch.nn.Linear(4, 3, dtype=torch.float64)
    with torch.no_grad():
        linear.weight.normal_(generator=g)
        linear.bias.normal_(generator=g)
    features, _, labels = draw_arrays(20)
    held, _, held_labels = draw_arrays(10, seed=1)
    with torch.no_grad():
        train, val = linear(features).softmax(1), linear(held).softmax(1)
    chosen = [3, 8, 15]
    error, row = LastLayer(features, train, labels).factors(torch.tensor(chosen))
    got = gradient_after_step(LastLayer(held, val, held_labels), error.T @ row, 0.3)
    optimiser = torch.optim.SGD(linear.parameters(), lr=0.3)
    torch.nn.functional.cross_entropy(linear(features[chosen]), labels[chosen], reduction="sum").backward()
    optimiser.step()
    optimiser.zero_grad()
    torch.nn.functional.cross_entropy(linear(held), held_labels).backward()
    torch.testing.assert_close(got, torch.cat([linear.weight.grad, linear.bias.grad[:, None]], 1))


@pytest.mark.parametrize("reduce", ["sum", "mean"])
@pytest.mark.parametrize("refresh", [1, 4])
@pytest.mark.parametrize("step", [0.0, 0.05, 1.0])
def test_it_chooses_as_the_literal_greedy(step, refresh, reduce):
    inputs, held = draw_arrays(30, seed=2), draw_arrays(12, seed=3)
    grads = literal.gradients(*arrays(inputs))
    for budget in (1, 10, 30):
        got = glister(*inputs, *held, budget=budget, step=step, refresh=refresh, reduce=reduce)
        want = literal.glister(grads, arrays(held), budget, step, refresh, reduce)
        assert got.index.tolist() == want
        assert got.weight.tolist() == [1] * budget


def test_mislabelled_rows_come_last():
    train, held, wrong = noisy(100, 40)
    order = glister(*train, *held, budget=100, refresh=1).index
    assert not wrong[order[:80]].any()
    assert wrong[order[80:]].all()


def test_rows_along_the_held_out_gradient_come_first():
    """Like a held-out row and labelled like it; unlike all of them; like one, but labelled otherwise."""
    held = [torch.eye(2, 4).double() * 3, torch.full((2, 3), 1 / 3).double(), torch.tensor([0, 1])]
    features = torch.cat([held[0], torch.eye(4).double()[2:] * 3, held[0]])[[4, 0, 2, 5, 1, 3]]
    labels = torch.tensor([0, 1, 2, 2, 2, 2])[[4, 0, 2, 5, 1, 3]]
    order = glister(features, torch.full((6, 3), 1 / 3), labels, *held, budget=6, step=0).index.tolist()
    assert order[:2] == [1, 4]
    assert sorted(order[2:4]) == [2, 5]
    assert sorted(order[4:]) == [0, 3]


def test_renewing_the_direction_turns_to_what_is_not_learned_yet():
    """Two groups of rows in directions of their own, the first stronger: once taught, the second comes in between."""
    features = torch.zeros(20, 2, dtype=torch.float64)
    features[:10, 0], features[10:, 1] = 2, 1.5
    labels = torch.ones(20, dtype=torch.long)
    unsure = torch.full((20, 2), 0.5, dtype=torch.float64)
    inputs = (features, unsure, labels)
    once = glister(*inputs, *inputs, budget=10, step=0.2, refresh=10).index
    assert (once < 10).all()
    renewed = glister(*inputs, *inputs, budget=10, step=0.2, refresh=1).index
    assert int((renewed >= 10).sum()) >= 3
    assert int(renewed[0]) < 10


def test_a_step_on_the_chosen_lowers_the_held_out_loss_more_than_one_on_others():
    inputs, held = draw_arrays(80, seed=4), draw_arrays(80, seed=5)

    def after(ids):
        error, row = LastLayer(*inputs).factors(ids)
        logits = held[1].log() - 0.01 * torch.cat([held[0], torch.ones(80, 1).double()], 1) @ (error.T @ row).T
        return float(torch.nn.functional.cross_entropy(logits, held[2]))

    mine = after(glister(*inputs, *held, budget=20).index)
    drawn = [after(torch.randperm(80, generator=stream(s, "r"))[:20]) for s in range(30)]
    worst = after(glister(*inputs, *held, budget=80).index[-20:])
    assert mine < min(drawn)
    assert worst > max(drawn)


def test_prefixes_nest_with_a_block_of_ones_own_and_the_default_is_a_fifteenth():
    inputs, held = draw_arrays(60), draw_arrays(20, seed=1)
    complete = glister(*inputs, *held, budget=60, refresh=7, step=1.0).index
    for budget in (1, 7, 8, 30):
        assert torch.equal(glister(*inputs, *held, budget=budget, refresh=7, step=1.0).index, complete[:budget])
    default = glister(*inputs, *held, budget=31, step=1.0).index
    assert torch.equal(default, glister(*inputs, *held, budget=31, refresh=3, step=1.0).index)
    assert not torch.equal(default, glister(*inputs, *held, budget=31, refresh=31, step=1.0).index)


def test_per_class_hands_the_held_out_arrays_on_whole():
    inputs, held = draw_arrays(60), draw_arrays(20, seed=1)
    labels = inputs[2]
    got = select.per_class(glister)(*inputs, *held, labels=labels, budget=20)
    sizes = torch.bincount(labels[got.index], minlength=3)
    assert ((sizes - torch.bincount(labels) / 3).abs() < 1).all()
    for c in range(3):
        ids = torch.nonzero(labels == c).flatten()
        held_labels = glister(*[p[ids] for p in inputs], *held, budget=int(sizes[c])).index
        assert got.index[labels[got.index] == c].tolist() == ids[held_labels].tolist()


def test_it_refuses_what_it_cannot_use():
    inputs, held = draw_arrays(8), draw_arrays(5, seed=1)
    with pytest.raises(ArgumentError, match=r"refresh must be a whole number in \[1, 1e\+12\], got 0"):
        glister(*inputs, *held, budget=2, refresh=0)
    with pytest.raises(ArgumentError, match="step must be a number"):
        glister(*inputs, *held, budget=2, step=-0.1)
    with pytest.raises(ArgumentError, match="reduce must be one of 'sum', 'mean', got 'max'"):
        glister(*inputs, *held, budget=2, reduce="max")
    with pytest.raises(ArgumentError, match="val_probs has 2 columns, but probs has 3; probe both with the same model"):
        glister(*inputs, held[0], held[1][:, :2], held[2], budget=2)
    with pytest.raises(ArgumentError, match="val_labels has class 3 at example 0, but val_probs only 3 columns"):
        glister(*inputs, *held[:2], torch.tensor([3, 1, 2, 0, 1]), budget=2)
    with pytest.raises(ArgumentError, match="val_features has 5, val_probs has 5, val_labels has 4"):
        glister(*inputs, *held[:2], held[2][:4], budget=2)
    bad = held[0].clone()
    bad[1] = torch.nan
    with pytest.raises(ArgumentError, match="val_features is nan for example 1"):
        glister(*inputs, bad, *held[1:], budget=2)
