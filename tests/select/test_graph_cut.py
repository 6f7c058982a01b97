"""Graph cut: against loops and an outside library, and what lam does."""

import math

import numpy as np
import pytest
import torch

from datawinnow import select
from datawinnow.core.draw import tie_order
from datawinnow.core.errors import ArgumentError
from datawinnow.core.rng import stream
from datawinnow.select.similarity import build_form, feature_similarity
from tests.reference import submodular as literal


def points(n, d=3, seed=0):
    return torch.randn(n, d, generator=stream(seed, "graph cut", n))


def table(x):
    return literal.table([tuple(row) for row in x.double().tolist()], literal.cosine_similarity)


@pytest.mark.parametrize("form", ["dense", "blocked", "sparse"])
@pytest.mark.parametrize("greedy", ["lazy", "naive"])
@pytest.mark.parametrize("lam", [0.0, 0.5, 3.0])
def test_picks_are_those_of_the_literal_loop(lam, greedy, form):
    x = points(18)
    s = table(x)
    if form == "sparse":
        edges = literal.joined(s, 4)
        s = [[v if (i, j) in edges else 0.0 for j, v in enumerate(row)] for i, row in enumerate(s)]
    want = literal.greedy(lambda c: literal.graph_cut(s, c, lam), 18, 13, digits=5, order=tie_order(18, 0).tolist())
    got = select.graph_cut(x, budget=13, lam=lam, form=form, greedy=greedy, neighbours=4).index.tolist()
    assert got == want


def test_the_diagonal_counts_where_it_is_not_one():
    x = points(16, seed=3)
    longest = max(literal.dot(a, a) for a in x.double().tolist())
    s = literal.table(x.double().tolist(), lambda a, b: max(0.0, literal.dot(a, b) / longest))
    want = literal.greedy(lambda c: literal.graph_cut(s, c, 2.0), 16, 10, digits=5, order=tie_order(16, 0).tolist())
    assert select.graph_cut(x, budget=10, lam=2.0, similarity="dot").index.tolist() == want


def test_up_to_a_half_it_is_monotone_and_greedy_keeps_its_bound():
    for seed in range(12):
        x = points(10, seed=seed)
        s = table(x)
        kept = select.graph_cut(x, budget=10, lam=0.5).index.tolist()
        values = [literal.graph_cut(s, kept[:k], 0.5) for k in range(11)]
        assert min(np.diff(values)) >= -1e-6
        top = literal.best(lambda c, s=s: literal.graph_cut(s, c, 0.5), 10, 4)
        assert values[4] >= (1 - 1 / math.e) * top
        assert values[4] > literal.graph_cut(s, kept[-4:], 0.5)


@pytest.mark.parametrize("lam", [0.4, 1.5])
def test_picks_are_submodlibs(lam):
    submodlib = pytest.importorskip("submodlib")
    n, budget = 120, 25
    x = points(n, d=6)
    s = build_form(feature_similarity(x, "cosine", None), "dense", 1, 0).kept.astype(np.float64)
    theirs = submodlib.GraphCutFunction(n=n, mode="dense", lambdaVal=lam, ggsijs=s, separate_rep=False).maximize(
        budget=budget, optimizer="NaiveGreedy", stopIfZeroGain=False, stopIfNegativeGain=False, show_progress=False
    )
    assert select.graph_cut(x, budget=budget, lam=lam).index.tolist() == [i for i, _ in theirs]


def test_lam_turns_from_the_middle_to_the_spread():
    """Nine in one place, one each in three others: without lam all picks are in the crowd, with a large one, one."""
    centres = torch.eye(4)
    of = torch.tensor([0] * 9 + [1, 2, 3])
    x = centres[of] + 0.02 * points(12, d=4)
    assert of[select.graph_cut(x, budget=4, lam=0.0).index].tolist() == [0, 0, 0, 0]
    assert sorted(of[select.graph_cut(x, budget=4, lam=8.0).index].tolist()) == [0, 1, 2, 3]


def test_ties_are_drawn_and_prefixes_nest():
    assert select.graph_cut(torch.ones(6, 2), budget=4, lam=2.0).index.tolist() == tie_order(6, 0)[:4].tolist()
    x = points(9).repeat(2, 1)
    complete = select.graph_cut(x, budget=18, lam=1.0).index
    where = {int(i): k for k, i in enumerate(complete)}
    ties = tie_order(18, 0).tolist()
    assert all((where[i] < where[i + 9]) == (ties.index(i) < ties.index(i + 9)) for i in range(9))
    for budget in (1, 7, 17):
        assert torch.equal(select.graph_cut(x, budget=budget, lam=1.0).index, complete[:budget])


def test_a_negative_lam_is_refused():
    with pytest.raises(ArgumentError, match=r"lam must be a number in \[0, .*got -0\.1"):
        select.graph_cut(points(4), budget=2, lam=-0.1)
