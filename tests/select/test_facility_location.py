"""Facility location: the bound of greedy, an outside library's picks, and who is chosen first."""

import math

import numpy as np
import pytest
import torch

from datawinnow import select
from datawinnow.core.draw import tie_order
from datawinnow.core.errors import ArgumentError, CapacityError
from datawinnow.core.reason import Reason
from datawinnow.core.rng import stream
from datawinnow.select.similarity import build_form, feature_similarity
from tests.reference import submodular as literal


def points(n, d=3, seed=0):
    return torch.randn(n, d, generator=stream(seed, "facility", n))


def table(x, kind="cosine", gamma=0.5):
    by = {"cosine": literal.cosine_similarity, "rbf": lambda a, b: literal.rbf_similarity(a, b, gamma)}
    return literal.table([tuple(row) for row in x.double().tolist()], by[kind])


def clusters():
    """Eight around one direction, five around another, three around a third, and one far from all."""
    centres = torch.tensor([[1.0, 0, 0], [0, 1.0, 0], [0, 0, 1.0], [-1.0, -1.0, -1.0]])
    of = torch.tensor([0] * 8 + [1] * 5 + [2] * 3 + [3])
    return centres[of] + 0.05 * points(17), of


@pytest.mark.parametrize("kind", ["cosine", "rbf"])
def test_at_least_1_minus_1_over_e_of_the_best_by_brute_force(kind):
    """On 45 instances; the bound must also bind on something: the last examples would not reach it."""
    worst, careless = 1.0, 1.0
    for seed in range(15):
        x = points(10, seed=seed)
        s = table(x, kind, gamma=4.0)
        for budget in (2, 3, 5):
            kept = select.facility_location(x, budget=budget, similarity=kind, gamma=4.0).index.tolist()
            top = literal.best(lambda c, s=s: literal.facility_location(s, c), 10, budget)
            worst = min(worst, literal.facility_location(s, kept) / top)
            careless = min(careless, literal.facility_location(s, list(range(10 - budget, 10))) / top)
    assert worst >= 1 - 1 / math.e
    assert worst > 0.9  # what greedy does in practice
    assert careless < worst


@pytest.mark.parametrize("form", ["dense", "blocked", "sparse"])
@pytest.mark.parametrize("greedy", ["lazy", "naive"])
@pytest.mark.parametrize("kind", ["cosine", "rbf"])
def test_picks_are_those_of_the_literal_loop(kind, greedy, form):
    x = points(18)
    s = table(x, kind)
    if form == "sparse":
        edges = literal.joined(s, 4)
        s = [[v if (i, j) in edges else 0.0 for j, v in enumerate(row)] for i, row in enumerate(s)]
    want = literal.greedy(lambda c: literal.facility_location(s, c), 18, 12, digits=6, order=tie_order(18, 0).tolist())
    got = select.facility_location(
        x, budget=12, similarity=kind, gamma=0.5, form=form, greedy=greedy, neighbours=4
    ).index.tolist()
    assert got == want


@pytest.mark.parametrize("form", ["dense", "sparse"])
def test_picks_and_gains_are_submodlibs(form):
    """On the same similarities; its sparse mode takes a SciPy matrix of the same graph."""
    submodlib, sparse = pytest.importorskip("submodlib"), pytest.importorskip("scipy.sparse")
    n, budget = 150, 30
    x = points(n, d=6)
    alike = build_form(feature_similarity(x, "cosine", None), form, 8, 0)
    if form == "dense":
        options = {"mode": "dense", "sijs": alike.kept.astype(np.float64), "separate_rep": False}
    else:
        matrix = sparse.csr_matrix((alike.values.astype(np.float64), alike.ends, alike.starts), shape=(n, n))
        options = {"mode": "sparse", "sijs": matrix, "num_neighbors": 8}
    theirs = submodlib.FacilityLocationFunction(n=n, **options).maximize(
        budget=budget, optimizer="LazyGreedy", stopIfZeroGain=False, stopIfNegativeGain=False, show_progress=False
    )
    ours = select.facility_location(x, budget=budget, form=form, neighbours=8).index.tolist()
    assert ours == [i for i, _ in theirs]
    s = np.zeros((n, n))
    for j in range(n):
        where, values = alike.row(j)
        s[j, where] = values
    value = [s[ours[:k]].max(0).sum() if k else 0.0 for k in range(budget + 1)]
    np.testing.assert_allclose(np.diff(value), [gain for _, gain in theirs], rtol=1e-4, atol=1e-4)  # theirs is float32


@pytest.mark.parametrize("form", ["dense", "blocked", "sparse"])
def test_the_largest_cluster_comes_first_and_the_outlier_last(form):
    x, of = clusters()
    kept = select.facility_location(x, budget=4, similarity="rbf", gamma=2.0, form=form, neighbours=4).index
    assert of[kept].tolist() == [0, 1, 2, 3]


def test_of_duplicates_one_is_kept_a_drawn_one():
    x = points(9)
    doubled = torch.cat([x, x])
    kept = select.facility_location(doubled, budget=9).index
    once = select.facility_location(x, budget=9).index
    assert torch.equal(kept % 9, once)
    ties = tie_order(18, 0).tolist()
    assert all(i == min(i % 9, i % 9 + 9, key=ties.index) for i in kept.tolist())
    assert select.facility_location(torch.ones(6, 2), budget=4).index.tolist() == tie_order(6, 0)[:4].tolist()


@pytest.mark.parametrize("greedy", ["lazy", "naive"])
@pytest.mark.parametrize("form", ["dense", "sparse"])
def test_prefixes_nest(form, greedy):
    x = points(40)
    complete = select.facility_location(x, budget=40, form=form, greedy=greedy, neighbours=3).index
    assert torch.equal(complete.sort().values, torch.arange(40))
    for budget in (1, 9, 39):
        prefix = select.facility_location(x, budget=budget, form=form, greedy=greedy, neighbours=3).index
        assert torch.equal(prefix, complete[:budget])


def test_a_dropped_example_that_no_kept_one_is_like_is_not_called_covered():
    x = torch.tensor([[0.0], [0.1], [0.2], [50.0], [50.1]])
    got = select.facility_location(x, budget=1, similarity="rbf", form="sparse", neighbours=1)
    assert got.index.tolist() == [1]
    assert [Reason(int(r)).word for r in got.reason] == ["covered", "covers", "covered", "below_cut", "below_cut"]
    all_alike = select.facility_location(x, budget=1, similarity="rbf", form="dense")
    assert {Reason(int(r)).word for r in all_alike.reason} == {"covers", "covered"}


def test_dot_counts_no_negative_product():
    x = torch.tensor([[1.0, 0.0], [0.9, 0.1], [-3.0, 0.0], [0.0, 0.5]])
    assert select.facility_location(x, budget=3, similarity="dot").index.tolist() == [2, 0, 3]


def test_skipped_examples_are_as_if_not_there():
    x = points(20)
    broken = x.clone()
    broken[[3, 11], 1] = torch.nan
    rest = torch.tensor([i for i in range(20) if i not in (3, 11)])
    for form in ("dense", "sparse"):
        got = select.facility_location(broken, budget=3, missing="skip", form=form, neighbours=2)
        want = select.facility_location(x[rest], budget=3, form=form, neighbours=2)
        assert torch.equal(got.index, rest[want.index])
        assert torch.equal(got.reason[rest], want.reason)
        assert [Reason(int(r)).word for r in got.reason[[3, 11]]] == ["unscored", "unscored"]
        assert (Reason.BELOW_CUT in got.reason.tolist()) == (form == "sparse")
    with pytest.raises(CapacityError, match="only 18 of 20 examples have a number in features"):
        select.facility_location(broken, budget=19, missing="skip")


def test_stochastic_comes_near_and_its_seed_is_an_option():
    x = points(200, d=5)
    s = np.array(table(x))

    def value(chosen):
        return s[chosen].max(0).sum()

    exact = value(select.facility_location(x, budget=20).index.tolist())
    kept = [select.facility_location(x, budget=20, greedy="stochastic", sample_seed=k).index.tolist() for k in range(3)]
    assert kept[0] == select.facility_location(x, budget=20, greedy="stochastic").index.tolist()
    assert kept[0] != kept[1]
    drawn = [value(torch.randperm(200, generator=stream(k, "random"))[:20].tolist()) for k in range(3)]
    assert min(value(k) for k in kept) > max(drawn)
    assert min(value(k) for k in kept) > 0.97 * exact


def test_it_is_checked_before_anything_is_computed():
    with pytest.raises(ArgumentError, match="greedy must be one of"):
        select.facility_location(points(4), budget=2, greedy="fast")
    with pytest.raises(ArgumentError, match=r"features must have shape \(n, d\), got \(4,\)"):
        select.facility_location(torch.ones(4), budget=2)
