"""GradMatch: the factorised gradients, the pursuit, the weights, and which rows it takes."""

import numpy as np
import pytest
import scipy.optimize
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from datawinnow import select
from datawinnow.core.draw import tie_order
from datawinnow.core.errors import ArgumentError, CapacityError
from datawinnow.core.reason import Reason
from datawinnow.core.rng import stream
from datawinnow.select import grad_match, last_layer
from datawinnow.select.last_layer import LastLayer
from datawinnow.select.nnls import nonnegative
from tests.reference import gradients as literal
from tests.select.gradient_cases import Largest, arrays, draw_arrays

# ---- the gradients, never written out


def test_the_factors_are_the_gradients_of_autograd():
    features, probs, labels = draw_arrays(9)
    direction = torch.randn(3, 5, generator=stream(0, "direction"), dtype=torch.float64)
    layer = LastLayer(features, probs, labels)
    total = torch.zeros(3, 5, dtype=torch.float64)
    for i in range(9):
        linear = torch.nn.Linear(4, 3, dtype=torch.float64)
        with torch.no_grad():  # a layer whose softmax at this example is probs[i]
            linear.weight.normal_(generator=stream(i, "layer"))
            linear.bias.copy_(probs[i].log() - linear.weight @ features[i])
        torch.nn.functional.cross_entropy(linear(features[i : i + 1]), labels[i : i + 1]).backward()
        complete = torch.cat([linear.weight.grad, linear.bias.grad[:, None]], 1)
        total += complete
        assert float(layer.along(direction)[i]) == pytest.approx(float((complete * direction).sum()), abs=1e-12)
        assert literal.gradient(features[i].tolist(), probs[i].tolist(), int(labels[i])) == pytest.approx(
            complete.flatten().numpy(), abs=1e-12
        )
    torch.testing.assert_close(layer.mean(), total / 9)


def test_blocks_of_rows_change_nothing(monkeypatch):
    complete = LastLayer(*draw_arrays(50))
    mean, along = complete.mean(), complete.along(complete.mean())
    monkeypatch.setattr(last_layer, "LAYER_BLOCK_ENTRIES", 70)  # seven rows a block
    assert len(list(complete.blocks())) > 5
    torch.testing.assert_close(complete.mean(), mean)
    torch.testing.assert_close(complete.along(mean), along)


@pytest.mark.parametrize("method", ["grad_match", "glister"])
def test_nobody_holds_whole_gradients(method):
    features, probs, labels = draw_arrays(200, d=40, c=30)
    held = draw_arrays(60, d=40, c=30, seed=1) if method == "glister" else ()
    with Largest() as largest:
        getattr(select, method)(features, probs, labels, *held, budget=20)
    assert 200 * 40 <= largest.numel < 2 * 200 * (41 + 30), "n x c x (d + 1) would be 246,000"


# ---- the pursuit


@pytest.mark.parametrize("lam", [0.0, 0.5, 20.0])
@pytest.mark.parametrize("seed", range(3))
def test_it_chooses_as_the_literal_pursuit(seed, lam):
    inputs = draw_arrays(40, d=6, c=4, seed=seed)
    grads = literal.gradients(*arrays(inputs))
    for budget in (1, 7, 40):
        got = grad_match(*inputs, budget=budget, lam=lam, tolerance=1e-8)
        assert got.index.tolist() == literal.matching_pursuit(grads, grads.mean(0), budget, lam, 1e-8)


def test_without_ridge_it_agrees_with_scikit_learn():
    """Where the strongest correlation is positive at every step, which scikit-learn does not ask for."""
    from sklearn.linear_model import orthogonal_mp

    agreed = 0
    for seed in range(12):
        inputs = draw_arrays(30, d=12, c=4, seed=seed)
        grads = literal.gradients(*arrays(inputs))
        goal = grads.mean(0)
        if literal.matching_pursuit(grads, goal, 6, 0, 0) != literal.matching_pursuit(
            grads, goal, 6, 0, 0, absolute=True
        ):
            continue
        theirs = orthogonal_mp(grads.T, goal, n_nonzero_coefs=6)
        mine = grad_match(*inputs, budget=6, lam=0)
        assert sorted(mine.index.tolist()) == np.flatnonzero(theirs).tolist()
        if (theirs >= 0).all():
            scale = theirs.sum() / 6
            np.testing.assert_allclose(mine.weight.numpy(), theirs[mine.index.numpy()] / scale, rtol=1e-4)
        agreed += 1
    assert agreed >= 4


@pytest.mark.parametrize("lam", [1e-6, 0.5])
def test_the_weights_are_those_of_scipy(lam):
    from scipy.optimize import nnls

    zeros = 0
    for seed in range(4):
        inputs = draw_arrays(25, d=3, c=3, seed=seed)
        grads = literal.gradients(*arrays(inputs))
        got = grad_match(*inputs, budget=20, lam=lam)
        selected = grads[got.index.numpy()]
        stacked = np.concatenate([selected.T, np.sqrt(lam) * np.eye(20)])
        want, _ = nnls(stacked, np.concatenate([grads.mean(0), np.zeros(20)]))
        np.testing.assert_allclose(got.weight.numpy(), want / want.mean(), rtol=1e-4, atol=1e-5)
        zeros += int((want == 0).sum())
    assert zeros > 0, "no weight was held at 0, so the constraint was not tested"


def test_it_matches_the_gradient_better_than_random_and_better_with_weights():
    inputs = draw_arrays(120, d=6, c=4)
    grads = literal.gradients(*arrays(inputs))
    goal = grads.mean(0)

    def off(selection):
        weight = np.zeros(120)
        weight[selection.index.numpy()] = selection.weight.numpy() / len(selection)
        best = (weight @ grads @ goal) / ((weight @ grads) ** 2).sum()  # the scale of a gradient is the step's affair
        return np.linalg.norm(best * weight @ grads - goal)

    mine = off(grad_match(*inputs, budget=15, lam=1e-3))
    equal = off(grad_match(*inputs, budget=15, lam=1e-3, weights=False))
    drawn = [off(select.random(inputs[2], budget=15, generator=stream(s, "r"))) for s in range(20)]
    assert mine < equal < min(drawn)


def test_planted_rows_of_the_goal_are_found_with_their_weights():
    """The held-out data are three of the rows, one of them twice: their gradients make the goal exactly."""
    features, probs, labels = draw_arrays(60, d=30, c=5)
    rows = [11, 11, 42, 7]
    got = grad_match(features, probs, labels, features[rows], probs[rows], labels[rows], budget=3, lam=0)
    assert sorted(got.index.tolist()) == [7, 11, 42]
    weight = dict(zip(got.index.tolist(), got.weight.tolist(), strict=True))
    assert weight == pytest.approx({11: 1.5, 42: 0.75, 7: 0.75}, rel=1e-4)
    with_copies = grad_match(features, probs, labels, features[rows], probs[rows], labels[rows], budget=10, lam=0)
    assert with_copies.index[:3].tolist() == got.index.tolist()
    grads = literal.gradients(*arrays((features, probs, labels)))
    straight = grads @ grads[rows].mean(0)
    left = [i for i in np.argsort(-straight).tolist() if i not in (7, 11, 42)]
    assert with_copies.index[3:].tolist() == left[:7], "filled up with those most along the goal"
    assert with_copies.weight[3:].tolist() == pytest.approx([0] * 7, abs=1e-4)


def test_a_twin_of_a_chosen_row_adds_nothing():
    features, probs, labels = draw_arrays(30, d=8, c=3)
    first = int(grad_match(features, probs, labels, budget=1).index)
    for selected in (features, probs, labels):
        selected[(first + 1) % 30] = selected[first]
    got = grad_match(features, probs, labels, budget=8, lam=0).index.tolist()
    ties = tie_order(30, 0).tolist()
    assert {first, (first + 1) % 30} & set(got) == {min(first, (first + 1) % 30, key=ties.index)}


def test_a_model_without_errors_gives_equal_weights_to_any():
    features, _, labels = draw_arrays(6)
    exact = torch.nn.functional.one_hot(labels, 3).double()
    got = grad_match(features, exact, labels, budget=4)
    assert got.weight.tolist() == [1, 1, 1, 1]
    assert got.index.tolist() != [0, 1, 2, 3]


def test_prefixes_nest_and_weights_can_be_switched_off():
    inputs = draw_arrays(50)
    complete = grad_match(*inputs, budget=50)
    for budget in (1, 13, 49):
        got = grad_match(*inputs, budget=budget)
        assert torch.equal(got.index, complete.index[:budget])
        assert {Reason(int(r)).word for r in got.reason} == {"covers", "covered"}
    plain = grad_match(*inputs, budget=50, weights=False)
    assert torch.equal(plain.index, complete.index)
    assert plain.weight.tolist() == [1] * 50
    assert complete.weight.unique().numel() > 10


def test_per_class_matches_each_class_to_its_own_mean():
    inputs = draw_arrays(60, seed=3)
    labels = inputs[2]
    got = select.per_class(grad_match)(*inputs, labels=labels, budget=20, lam=0.1)
    for c in range(3):
        ids = torch.nonzero(labels == c).flatten()
        mine = labels[got.index] == c
        class_result = grad_match(*[p[ids] for p in inputs], budget=int(mine.sum()), lam=0.1)
        assert got.index[mine].tolist() == ids[class_result.index].tolist()
        of_class = got.weight[mine]
        torch.testing.assert_close(of_class / of_class.mean(), class_result.weight)
    assert float(got.weight.mean()) == pytest.approx(1)
    held = draw_arrays(9, seed=8)
    complete = select.per_class(grad_match)(*inputs, *held, labels=labels, budget=20)
    ids = torch.nonzero(labels == 1).flatten()
    mine = complete.index[labels[complete.index] == 1]
    assert mine.tolist() == ids[grad_match(*[p[ids] for p in inputs], *held, budget=len(mine)).index].tolist()
    assert complete.index.tolist() != got.index.tolist()


# ---- weights of at least 0


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 40), st.integers(1, 60), st.sampled_from([0.0, 1e-3, 1.0]))
def test_nonnegative_least_squares(seed, k, rows, lam):
    """At most 1e-6 worse than SciPy's, whatever the rank."""
    from scipy.optimize import nnls

    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=(rows, k)), rng.normal(size=rows)
    stacked = np.concatenate([a, np.sqrt(lam) * np.eye(k)])
    goal = np.concatenate([b, np.zeros(k)])
    got = nonnegative(torch.from_numpy(stacked.T @ stacked), torch.from_numpy(stacked.T @ goal)).numpy()
    assert (got >= 0).all()
    want, best = nnls(stacked, goal)
    assert np.linalg.norm(stacked @ got - goal) <= best + 1e-6 * np.linalg.norm(goal)
    if lam:
        np.testing.assert_allclose(got, want, atol=1e-6)


def test_exchanging_all_wrong_signs_may_go_round_in_circles_but_ends(monkeypatch):
    from datawinnow.select import nnls

    monkeypatch.setattr(nnls, "PATIENCE", 0)  # one at a time from the first stall on
    rng = np.random.default_rng(0)
    for _ in range(20):
        a = rng.normal(size=(8, 20))
        gram = torch.from_numpy(a.T @ a + 1e-3 * np.eye(20))
        right = torch.from_numpy(rng.normal(size=20))
        weight = nonnegative(gram, right)
        slope = gram @ weight - right
        assert float(slope.min()) > -1e-6
        assert float(slope[weight > 0].abs().max()) < 1e-6
        assert 0 < int((weight > 0).sum()) < 20


# ---- what it refuses


def test_it_refuses_what_it_cannot_use():
    features, probs, labels = draw_arrays(8)
    with pytest.raises(ArgumentError, match=r"lam must be a number in \[0, 1e\+12\], got -1"):
        grad_match(features, probs, labels, budget=2, lam=-1)
    with pytest.raises(ArgumentError, match=r"tolerance must be a number in \[0, 1\], got 2"):
        grad_match(features, probs, labels, budget=2, tolerance=2)
    with pytest.raises(ArgumentError, match=r"probs must hold probabilities.*example 0: give softmax outputs"):
        grad_match(features, probs * 9, labels, budget=2)
    with pytest.raises(ArgumentError, match="labels has class 7 at example 5, but probs only 3 columns"):
        grad_match(features, probs, torch.tensor([0, 1, 2, 0, 1, 7, 0, 0]), budget=2)
    with pytest.raises(ArgumentError, match="features has 8, probs has 8, labels has 7"):
        grad_match(features, probs, labels[:7], budget=2)
    with pytest.raises(ArgumentError, match="val_features, val_probs and val_labels go together"):
        grad_match(features, probs, labels, features, budget=2)
    with pytest.raises(ArgumentError, match="val_features has 2 columns, but features has 4"):
        grad_match(features, probs, labels, features[:, :2], probs, labels, budget=2)
    with pytest.raises(ArgumentError, match="budget=6001, but grad_match solves for the weights of at most 6000"):
        grad_match(torch.zeros(7000, 1), torch.full((7000, 2), 0.5), torch.zeros(7000, dtype=torch.long), budget=6001)


def test_rows_with_nan_are_never_chosen():
    features, probs, labels = draw_arrays(12)
    features[3, 1] = torch.nan
    probs[7] = torch.nan
    got = grad_match(features, probs, labels, budget=10, missing="skip")
    ids = [i for i in range(12) if i not in (3, 7)]
    class_result = grad_match(features[ids], probs[ids], labels[ids], budget=10)
    assert got.index.tolist() == [ids[i] for i in class_result.index.tolist()]
    assert [i for i in range(12) if got.reason[i] == Reason.UNSCORED] == [3, 7]
    with pytest.raises(CapacityError, match="only 10 of 12 examples have a number in features and probs"):
        grad_match(features, probs, labels, budget=11, missing="skip")
    balanced = select.per_class(grad_match)(features, probs, labels, labels=labels, budget=1, missing="skip")
    assert [i for i in range(12) if balanced.reason[i] == Reason.UNSCORED] == [3, 7]


def test_weights_per_class_keep_the_ratio_between_the_classes_of_the_paper():
    """A class that the network has not fitted has larger gradients to match, and heavier examples."""
    rng = np.random.default_rng(0)
    n, classes, width, lam = 120, 3, 4, 0.5
    y = np.repeat(np.arange(classes), n // classes)
    h, z = rng.normal(size=(n, width)), rng.normal(size=(n, classes)) * 0.5
    z[np.arange(n), y] += np.array([5.0, 2.0, 0.3])[y]
    p = np.exp(z) / np.exp(z).sum(1, keepdims=True)
    error = p - np.eye(classes)[y]
    gradients = np.concatenate([(error[:, :, None] * h[:, None, :]).reshape(n, -1), error], 1)
    kwargs = {"labels": y, "budget": 18, "lam": lam, "tolerance": 0.0}
    selection = select.per_class(grad_match)(h, p, y, **kwargs)
    ids = selection.index.numpy()
    expected = np.zeros(len(ids))
    for c in range(classes):  # nonnegative ridge regression on the sum of the class's gradients, as published
        at = y[ids] == c
        stacked = np.vstack([gradients[ids[at]].T, np.sqrt(lam) * np.eye(at.sum())])
        expected[at] = scipy.optimize.nnls(stacked, np.r_[gradients[y == c].sum(0), np.zeros(at.sum())])[0]
    raw = select.per_class(grad_match)(h, p, y, mean_weight_one=False, **kwargs).weight
    np.testing.assert_allclose(raw, expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(selection.weight, expected / expected.mean(), rtol=1e-4, atol=1e-4)
    means = [float(selection.weight[torch.from_numpy(y[ids] == c)].mean()) for c in range(classes)]
    assert max(means) > 1.3 * min(means)


@pytest.mark.parametrize("lam", [0.0, 0.5, 20.0])
def test_the_ridge_of_the_weights_is_lam(lam):
    features, probs, labels = draw_arrays(7)
    selection = grad_match(features, probs, labels, budget=6, lam=lam, tolerance=0.0, mean_weight_one=False)
    gradients = np.array(literal.gradients(features.tolist(), probs.tolist(), labels.tolist()))
    stacked = np.vstack([gradients[selection.index.numpy()].T, np.sqrt(lam) * np.eye(6)])
    expected = scipy.optimize.nnls(stacked, np.r_[gradients.sum(0), np.zeros(6)])[0]
    np.testing.assert_allclose(selection.weight, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("k", "rank"), [(12, 3), (150, 20), (40, 1)])
def test_weights_of_gradients_that_depend_on_each_other_are_scipys(k, rank):
    """A singular system, without a ridge: weights are not unique, the least they reach is."""
    rng = np.random.default_rng(k)
    rows = rng.normal(size=(k, rank)) @ rng.normal(size=(rank, 30)) * 30
    goal = rng.normal(size=30) * 50
    gram, right = torch.from_numpy(rows @ rows.T), torch.from_numpy(rows @ goal)
    best = scipy.optimize.nnls(rows.T, goal)[0]

    def objective(w):
        return float(w @ gram.numpy() @ w / 2 - right.numpy() @ w)

    weight = nonnegative(gram, right).numpy()
    assert weight.min() >= 0
    assert objective(weight) == pytest.approx(objective(best), rel=1e-6)


def test_no_gradients_at_all_give_no_weights():
    assert nonnegative(torch.zeros(3, 3).double(), torch.zeros(3).double()).tolist() == [0, 0, 0]


def test_weights_of_a_held_out_goal_are_those_of_its_sum():
    """Of v held-out examples, not of the n that are chosen from."""
    features, probs, labels = draw_arrays(9)
    held_out = draw_arrays(25, seed=1)
    selection = grad_match(features, probs, labels, *held_out, budget=6, lam=0.5, tolerance=0.0, mean_weight_one=False)
    gradients = np.array(literal.gradients(features.tolist(), probs.tolist(), labels.tolist()))
    goal = np.array(literal.gradients(*(array.tolist() for array in held_out))).sum(0)
    stacked = np.vstack([gradients[selection.index.numpy()].T, np.sqrt(0.5) * np.eye(6)])
    expected = scipy.optimize.nnls(stacked, np.r_[goal, np.zeros(6)])[0]
    np.testing.assert_allclose(selection.weight, expected, rtol=1e-4, atol=1e-4)
