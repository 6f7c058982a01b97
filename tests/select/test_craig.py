"""CRAIG: gradients that PyTorch computes, the paper's loop, and what the weights are for."""

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from datawinnow import select
from datawinnow.core.draw import tie_order
from datawinnow.core.errors import ArgumentError
from datawinnow.core.rng import stream
from datawinnow.select import similarity
from tests.reference import submodular as literal


def probed(n=24, d=4, c=3, seed=0):
    """Features, probabilities of a linear layer on them, and labels; and that layer."""
    g = stream(seed, "craig", n)
    weight, bias = torch.randn(c, d, generator=g), torch.randn(c, generator=g)
    labels = torch.randint(0, c, (n,), generator=g)
    features = torch.randn(n, d, generator=g) + torch.eye(c, d)[labels]
    return features, (features @ weight.T + bias).softmax(1), labels, (weight, bias)


def gradients(features, labels, layer):
    """(n, c (d + 1)) by autograd, one example at a time: the outside answer to the factorised form."""
    out = []
    for h, y in zip(features.double(), labels, strict=True):
        weight, bias = (p.double().clone().requires_grad_() for p in layer)
        cross_entropy((weight @ h + bias)[None], y[None]).backward()
        out.append(torch.cat([weight.grad, bias.grad[:, None]], 1).flatten())
    return torch.stack(out)


@pytest.mark.parametrize("form", ["dense", "blocked", "sparse"])
@pytest.mark.parametrize("greedy", ["lazy", "naive"])
@pytest.mark.parametrize("seed", [0, 1])
def test_picks_and_weights_are_those_of_the_paper_on_autograds_gradients(seed, greedy, form):
    """The auxiliary distance of the loop is the largest of all, here it is a bound on that: the picks do not depend."""
    features, probs, labels, layer = probed(seed=seed)
    complete = gradients(features, labels, layer)
    rows = zip(features.tolist(), probs.tolist(), labels.tolist(), strict=True)
    np.testing.assert_allclose(complete, [literal.last_layer_gradient(*row) for row in rows], atol=1e-5)
    want, sizes = literal.craig(complete.tolist(), 7, tie_order(24, 0).tolist())
    got = select.craig(features, probs, labels, budget=7, greedy=greedy, form=form, neighbours=23)
    assert got.index.tolist() == want
    assert (got.weight * 24 / 7).round().tolist() == sizes
    assert float(got.weight.sum()) == pytest.approx(7, abs=1e-5)


def test_weights_do_not_depend_on_the_form():
    """On a graph of two neighbours most dropped examples have no kept neighbour, and still are in a cluster."""
    features, probs, labels, layer = probed(40)
    got = select.craig(features, probs, labels, budget=5, form="sparse", neighbours=2)
    near = torch.cdist(gradients(features, labels, layer), gradients(features, labels, layer)[got.index]).argmin(1)
    assert (got.weight * 40 / 5).round().tolist() == torch.bincount(near, minlength=5).tolist()


def test_clusters_of_gradients_are_found_by_size_and_weighed_by_it():
    of = torch.tensor([0] * 6 + [1] * 4 + [2] * 2)
    features = torch.tensor([[4.0, 0.0], [0.0, 3.0], [-2.0, -1.0]])[of] + 0.01 * probed(12, d=2)[0]
    probs = torch.tensor([[0.5, 0.5]]).expand(12, 2)
    got = select.craig(features, probs, torch.zeros(12, dtype=torch.int64), budget=3)
    assert of[got.index].tolist() == [0, 1, 2]
    torch.testing.assert_close(got.weight, torch.tensor([6.0, 4.0, 2.0]) / 4)
    flat = select.craig(features, probs, torch.zeros(12, dtype=torch.int64), budget=3, weights=False)
    assert torch.equal(flat.index, got.index)
    assert flat.weight.tolist() == [1.0, 1.0, 1.0]


def test_the_weighted_gradient_of_the_subset_is_near_that_of_all():
    """What it is for: nearer than the same picks without weights, and than random subsets."""
    features, probs, labels, layer = probed(200, seed=4)
    complete = gradients(features, labels, layer)

    def miss(index, weight):
        return float((complete.mean(0) - (weight[:, None] * complete[index]).mean(0)).norm())

    got = select.craig(features, probs, labels, budget=20)
    drawn = [torch.randperm(200, generator=stream(s, "random"))[:20] for s in range(9)]
    by_chance = float(np.median([miss(i, torch.ones(20, dtype=torch.float64)) for i in drawn]))
    own_miss = miss(got.index, got.weight.double())
    assert own_miss < 0.6 * by_chance
    assert own_miss < miss(got.index, torch.ones(20, dtype=torch.float64))


def test_examples_that_teach_nothing_more_are_one_cluster():
    """Right and sure: gradients of nearly zero, wherever the features lie. One is kept for all of them."""
    features, _, labels, _ = probed(20)
    probs = torch.full((20, 3), 0.001).scatter_(1, labels[:, None], 0.998)
    hard = torch.tensor([2, 9, 14])
    probs[hard] = probs[hard].roll(1, 1)
    got = select.craig(features, probs, labels, budget=4)
    assert set(hard.tolist()) < set(got.index.tolist())
    easy = next(k for k, i in enumerate(got.index.tolist()) if i not in hard.tolist())
    assert float(got.weight[easy]) == pytest.approx(17 * 4 / 20)


@pytest.mark.parametrize("at_once", [1, 4, 100])
def test_duplicates_have_one_cluster_unless_more_are_kept(at_once, monkeypatch):
    monkeypatch.setattr(similarity, "BLOCK_BYTES", 8 * 18 * at_once)
    features, probs, labels, _ = probed(6)
    thrice = [torch.cat([a, a, a]) for a in (features, probs, labels)]
    got = select.craig(*thrice, budget=6)
    assert sorted((got.index % 6).tolist()) == list(range(6))
    assert got.weight.tolist() == [1.0] * 6
    got = select.craig(*thrice, budget=12)  # those of a kind that are not kept are with the first
    kinds = (got.index % 6).tolist()
    assert (got.weight * 18 / 12).round().tolist() == [4.0 - kinds.count(k) for k in kinds[:6]] + [1.0] * 6
    assert select.craig(*thrice, budget=18).weight.tolist() == [1.0] * 18


def test_per_class_is_the_papers():
    features, probs, labels, layer = probed(30, seed=2)
    got = select.per_class(select.craig)(features, probs, labels, labels=labels, budget=9)
    complete = gradients(features, labels, layer)
    for c in range(3):
        members = torch.nonzero(labels == c).flatten()
        mine = labels[got.index] == c
        ties = tie_order(len(members), 0).tolist()
        want, sizes = literal.craig(complete[members].tolist(), int(mine.sum()), ties)
        assert got.index[mine].tolist() == members[want].tolist()
        weight = torch.tensor(sizes) * (9 / 30)  # one scale for all classes
        torch.testing.assert_close(got.weight[mine], weight)


def test_prefixes_nest():
    features, probs, labels, _ = probed(30)
    complete = select.craig(features, probs, labels, budget=30).index
    for budget in (1, 8, 29):
        assert torch.equal(select.craig(features, probs, labels, budget=budget).index, complete[:budget])


def test_what_does_not_fit_is_named():
    features, probs, labels, _ = probed()
    with pytest.raises(ArgumentError, match=r"probs must hold probabilities in \[0, 1\]"):
        select.craig(features, probs * 3, labels, budget=2)
    with pytest.raises(ArgumentError, match=r"class 3 .* only 3 columns"):
        select.craig(features, probs, labels + 1, budget=2)
    with pytest.raises(ArgumentError, match="features has 24, probs has 23"):
        select.craig(features, probs[1:], labels, budget=2)
    with pytest.raises(ArgumentError, match="weights must be one of True, False, got 'yes'"):
        select.craig(features, probs, labels, budget=2, weights="yes")
