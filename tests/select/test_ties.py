"""Equal scores: which are kept is drawn, so that no class of a dataset sorted by class vanishes."""

import pytest
import torch

from datawinnow import select
from datawinnow.core.budget import shares
from datawinnow.core.draw import ascending, largest, tie_order
from datawinnow.core.neighbours import knn
from datawinnow.core.rng import stream
from datawinnow.data.examples import stratified
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
EQUAL = torch.ones(N, 3)
HALF = torch.full((N, 2), 0.5)
FORMS = ("dense", "sparse")
for form in FORMS:
    SELECTORS |= {
        f"facility_location, {form}": lambda budget, form=form, **k: select.facility_location(
            EQUAL, budget=budget, form=form, **k
        ),
        f"graph_cut, {form}": lambda budget, form=form, **k: select.graph_cut(EQUAL, budget=budget, form=form, **k),
        f"craig, {form}": lambda budget, form=form, **k: select.craig(
            EQUAL, HALF, torch.zeros(N).long(), budget=budget, form=form, **k
        ),
        f"boss, {form}": lambda budget, form=form, **k: select.boss(EQUAL, TIED, budget=budget, form=form, **k),
    }
SELECTORS |= {
    "facility_location, naive": lambda budget, **k: select.facility_location(EQUAL, budget=budget, greedy="naive", **k),
    "herding": lambda budget, **k: select.herding(EQUAL, budget=budget, **k),
    "log_det": lambda budget, **k: select.log_det(EQUAL, budget=budget, **k),
    "grad_match, one step": lambda budget, **k: select.grad_match(EQUAL, HALF, LABELS // 2, budget=budget, **k),
    "d2, equal features": lambda budget, **k: select.d2(TIED, EQUAL, budget=budget, **k),
    "cal, equal features": lambda budget, **k: select.cal(EQUAL, HALF, budget=budget, **k),
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


@pytest.mark.parametrize(
    "call",
    [
        lambda generator: select.k_center(EQUAL, budget=48, generator=generator),
        lambda generator: select.k_center(EQUAL, budget=48, first="mean", outliers=5, generator=generator),
        lambda generator: select.contextual_diversity(HALF, budget=48, generator=generator),
    ],
    ids=["k_center", "k_center, outliers", "contextual_diversity"],
)
def test_a_generator_seeds_the_ties(call):
    kept = [call(stream(seed, "x")).index for seed in (0, 0, 1)]
    assert torch.equal(kept[0], kept[1])
    assert set(kept[0].tolist()) != set(kept[2].tolist())
    assert torch.bincount(LABELS[kept[0]], minlength=CLASSES).min() >= 4


def test_stochastic_greedy_draws_them():
    kept = [
        select.facility_location(EQUAL, budget=48, greedy="stochastic", epsilon=1e-6, tie_seed=seed).index
        for seed in (0, 0, 1)
    ]
    assert torch.equal(kept[0], kept[1])
    assert not torch.equal(kept[0], kept[2])
    assert torch.bincount(LABELS[kept[0]], minlength=CLASSES).min() >= 4


@pytest.mark.parametrize("form", FORMS)
def test_of_twins_in_two_classes_sorted_by_class_both_classes_keep_some(form):
    """Every row of class 0 again in class 1: by row order all would be kept from class 0."""
    x = torch.randn(40, 6, generator=stream(0, "twins")).repeat(2, 1)
    kept = {
        "facility_location": select.facility_location(x, budget=20, form=form, neighbours=6),
        "graph_cut": select.graph_cut(x, budget=20, lam=3.0, form=form, neighbours=6),
        "log_det": select.log_det(x, budget=20),
        "k_center": select.k_center(x, budget=20, generator=stream(0, "x")),
    }
    for name, selection in kept.items():
        assert 3 <= int((selection.index < 40).sum()) <= 17, name


def test_neighbours_of_equal_rows_are_drawn():
    ids = knn(EQUAL, 4, tie_seed=0)[0]
    assert ids.max() > 40
    assert torch.equal(ids, knn(EQUAL, 4, tie_seed=0)[0])
    assert not torch.equal(ids, knn(EQUAL, 4, tie_seed=1)[0])
    x = torch.randn(N, 5, generator=stream(0, "knn"))
    for plain, drawn in zip(knn(x, 4), knn(x, 4, tie_seed=3), strict=True):
        assert torch.equal(plain, drawn)


def test_of_equal_classes_it_is_drawn_which_give_the_rest():
    labels = torch.arange(40).repeat_interleave(3)
    kept = [stratified(labels, 20, stream(seed, "x")) for seed in (0, 0, 1)]
    assert torch.equal(kept[0], kept[1])
    assert set(labels[kept[0]].tolist()) != set(labels[kept[2]].tolist())
    assert int((labels[kept[0]] >= 20).sum()) >= 4
    sizes = torch.bincount(labels[stratified(labels, 100, stream(0, "x"))], minlength=40)
    assert sorted(sizes.unique().tolist()) == [2, 3]
