"""Equal scores: which are kept is drawn, so that no class of a dataset sorted by class vanishes."""

import pytest
import torch

from datawinnow import select
from datawinnow.core.budget import shares
from datawinnow.core.draw import ascending, largest, tie_order
from datawinnow.core.rng import stream
from datawinnow.instruct.quotas import cluster_quotas
from datawinnow.methods import METHODS

N, CLASSES = 160, 4
LABELS = torch.arange(N) // (N // CLASSES)
TIED = torch.zeros(N)
FAR = torch.arange(float(N))[:, None] * 1e6  # no message reaches a neighbour
CERTAIN = torch.nn.functional.one_hot(LABELS, CLASSES).double()  # gradients of zero
HELD_OUT = (FAR[:4] / 1e6, CERTAIN[:4], LABELS[:4])
SELECTORS = {
    "top": lambda budget, **k: select.top(TIED, budget=budget, **k),
    "top, low": lambda budget, **k: select.top(TIED, budget=budget, end="low", **k),
    "top, middle": lambda budget, **k: select.top(TIED, budget=budget, end="middle", **k),
    "bottom": lambda budget, **k: select.bottom(TIED, budget=budget, **k),
    "middle": lambda budget, **k: select.middle(TIED, budget=budget, **k),
    "d2": lambda budget, **k: select.d2(TIED, FAR, budget=budget, **k),
    "cal": lambda budget, **k: select.cal(FAR, torch.full((N, 2), 0.5), budget=budget, **k),
    "glister": lambda budget, **k: select.glister(FAR / 1e6, CERTAIN, LABELS, *HELD_OUT, budget=budget, refresh=3, **k),
    "grad_match": lambda budget, **k: select.grad_match(FAR / 1e6, CERTAIN, LABELS, budget=budget, **k),
    "cluster_quotas": lambda budget, **k: cluster_quotas(TIED, torch.zeros(N).long(), budget=budget, **k),
    "drop_tail": lambda budget, **k: select.drop_tail(select.top, fraction=0.5)(TIED, by=TIED, budget=budget, **k),
    "per_class": lambda budget, **k: select.per_class(select.top)(TIED, labels=LABELS, budget=budget, **k),
}
each = pytest.mark.parametrize("call", SELECTORS.values(), ids=SELECTORS.keys())


@each
def test_every_class_keeps_some_and_prefixes_nest(call):
    kept = call(48).index
    assert torch.bincount(LABELS[kept], minlength=CLASSES).min() >= 4
    assert torch.equal(call(48).index, kept)
    assert torch.equal(call(80).index[:48], kept) or call is SELECTORS["per_class"]


@each
def test_another_seed_keeps_others(call):
    seeds = [set(call(48, tie_seed=seed).index.tolist()) for seed in (0, 1, 2)]
    assert len({frozenset(s) for s in seeds}) == 3
    assert seeds[0] == set(call(48).index.tolist())


def test_the_tail_dropped_of_ties_is_drawn():
    selection = select.drop_tail(select.top, fraction=0.5)(TIED, by=TIED, budget=80)
    assert torch.bincount(LABELS[selection.index], minlength=CLASSES).min() >= 10


def test_the_tail_that_coverage_cuts_is_drawn():
    kept = select.coverage(TIED, budget=80, cutoff=0.5, generator=stream(0, "x")).index
    assert torch.bincount(LABELS[kept], minlength=CLASSES).min() >= 10
    assert set(kept.tolist()) != set(
        select.coverage(TIED, budget=80, cutoff=0.5, generator=stream(1, "x")).index.tolist()
    )


def test_a_method_draws_them_by_the_seed_of_the_run():
    correct = torch.ones(6, N, dtype=torch.bool)
    kept = [
        METHODS["forgetting"].run({"correct": correct}, LABELS, keep=0.3, generator=stream(seed, "select"))[0].index
        for seed in (0, 0, 1)
    ]
    assert torch.equal(kept[0], kept[1])
    assert not torch.equal(kept[0], kept[2])
    assert torch.bincount(LABELS[kept[0]], minlength=CLASSES).min() >= 4


def test_of_equal_classes_it_is_drawn_which_get_the_rest():
    labels = torch.arange(40) // 4
    balanced = select.per_class(select.top)
    selections = [balanced(torch.zeros(40), labels=labels, budget=4, tie_seed=seed) for seed in range(5)]
    kept = {frozenset(labels[selection.index].tolist()) for selection in selections}
    assert len(kept) > 1
    assert all(len(set(classes)) == 4 for classes in kept)
    assert shares(2, [1, 1, 1], order=[2, 0, 1]) == [1, 0, 1]


@pytest.mark.parametrize("seed", range(3))
def test_rankings_agree_with_a_sort_by_value_and_then_by_the_order_of_ties(seed):
    keys = torch.randint(0, 4, (50,), generator=stream(seed, "keys")).float()
    rank = {i: r for r, i in enumerate(tie_order(50, seed).tolist())}
    down = sorted(range(50), key=lambda i: (-float(keys[i]), rank[i]))
    up = sorted(range(50), key=lambda i: (float(keys[i]), rank[i]))
    assert ascending(keys, seed).tolist() == up
    for budget in (1, 17, 49, 50):
        assert largest(keys, budget, seed).tolist() == down[:budget]


def test_the_order_of_ties_is_uniform():
    first = torch.bincount(torch.tensor([int(tie_order(5, seed)[0]) for seed in range(1000)]), minlength=5)
    assert (first - 200).abs().max() < 4 * (1000 * 0.2 * 0.8) ** 0.5
