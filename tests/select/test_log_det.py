"""Log-determinant: the d x d form against the determinant itself, and diversity."""

import math

import numpy as np
import pytest
import torch

from datawinnow import select
from datawinnow.core.draw import tie_order
from datawinnow.core.errors import ArgumentError
from datawinnow.core.rng import stream
from datawinnow.select.log_det import LogDet
from tests.reference import submodular as literal


def points(n, d=3, seed=0):
    return torch.randn(n, d, generator=stream(seed, "log det", n), dtype=torch.float64)


def scaled(x, kind="dot"):
    length = x.norm(dim=1, keepdim=True)
    return x / (length if kind == "cosine" else length.square().mean().sqrt())


def kernel(phi, ridge):
    return (phi @ phi.T + ridge * torch.eye(len(phi), dtype=torch.float64)).tolist()


@pytest.mark.parametrize("greedy", ["lazy", "naive"])
@pytest.mark.parametrize("ridge", [1e-3, 1.0])
@pytest.mark.parametrize("kind", ["dot", "cosine"])
def test_picks_are_those_of_the_literal_determinant_past_d_too(kind, ridge, greedy):
    x = points(16)
    k = kernel(scaled(x, kind), ridge)
    want = literal.greedy(lambda c: literal.log_det(k, c), 16, 12, order=tie_order(16, 0).tolist())
    got = select.log_det(x, budget=12, similarity=kind, ridge=ridge, greedy=greedy).index.tolist()
    assert got == want


@pytest.mark.parametrize("ridge", [1e-6, 1.0])
def test_gains_stay_right_over_many_picks(ridge):
    """They are sums of 300 updates of a nearly singular inverse; PyTorch's slogdet is the outside answer."""
    phi = scaled(points(400, d=12))
    objective = LogDet(phi, 300, ridge)
    rest = np.arange(300, 400)
    objective.gains(rest[:20])  # so that some have an update every time and others none until the end
    for j in range(300):
        objective.add(j)
        objective.gains(rest[20:40])
    k = torch.tensor(kernel(phi, ridge), dtype=torch.float64)
    complete = torch.linalg.slogdet(k[:300, :300]).logabsdet
    got = objective.gains(rest)
    for at in (0, 25, 60):
        ids = [*range(300), 300 + at]
        want = float(torch.linalg.slogdet(k[ids][:, ids]).logabsdet - complete) - math.log(ridge)
        assert got[at] == pytest.approx(want, rel=1e-4, abs=1e-6)


def test_picks_are_submodlibs():
    submodlib = pytest.importorskip("submodlib")
    n, budget, ridge = 80, 8, 0.1
    x = points(n, d=10)
    s = (scaled(x) @ scaled(x).T).numpy()
    theirs = submodlib.LogDeterminantFunction(n=n, mode="dense", lambdaVal=ridge, sijs=s).maximize(
        budget=budget, optimizer="NaiveGreedy", stopIfZeroGain=False, stopIfNegativeGain=False, show_progress=False
    )
    assert select.log_det(x, budget=budget, ridge=ridge).index.tolist() == [i for i, _ in theirs]


def test_an_orthogonal_point_is_preferred_to_a_near_duplicate():
    x = torch.tensor([[2.0, 0.0, 0.0], [1.99, 0.01, 0.0], [0.0, 0.4, 0.0], [1.98, 0.0, 0.01], [0.0, 0.0, 0.3]])
    assert select.log_det(x, budget=5).index.tolist()[:3] == [0, 2, 4]
    assert sorted(select.log_det(x, budget=3, similarity="cosine").index.tolist()) == [0, 2, 4]


def test_scale_does_not_matter_and_length_does():
    x = points(20).float()
    want = select.log_det(x, budget=8).index
    assert int(want[0]) == int(x.norm(dim=1).argmax())
    assert torch.equal(select.log_det(x * 1024, budget=8).index, want)
    assert not torch.equal(select.log_det(x, budget=8, similarity="cosine").index, want)


def test_duplicates_tie_and_one_is_drawn():
    ties = tie_order(180, 0).tolist()
    for greedy in ("lazy", "naive"):
        complete = select.log_det(points(90, d=7).repeat(2, 1), budget=180, greedy=greedy).index.tolist()
        first = [complete.index(i) < complete.index(i + 90) for i in range(90)]
        assert first == [ties.index(i) < ties.index(i + 90) for i in range(90)]
    assert select.log_det(torch.ones(6, 2), budget=4).index.tolist() == tie_order(6, 0)[:4].tolist()


@pytest.mark.parametrize("greedy", ["lazy", "naive"])
def test_prefixes_nest_and_a_row_of_zeros_comes_last(greedy):
    x = points(40, d=5)
    x[7] = 0
    for kind in ("dot", "cosine"):
        complete = select.log_det(x, budget=40, similarity=kind, greedy=greedy).index
        assert int(complete[-1]) == 7
        for budget in (1, 9, 39):
            prefix = select.log_det(x, budget=budget, similarity=kind, greedy=greedy).index
            assert torch.equal(prefix, complete[:budget])


def test_stochastic_is_more_diverse_than_random():
    x = points(200, d=8)
    k = torch.tensor(kernel(scaled(x), 0.01), dtype=torch.float64)

    def value(chosen):
        return float(torch.linalg.slogdet(k[chosen][:, chosen]).logabsdet)

    exact = value(select.log_det(x, budget=15).index)
    sampled = [value(select.log_det(x, budget=15, greedy="stochastic", sample_seed=s).index) for s in range(3)]
    drawn = [value(torch.randperm(200, generator=stream(s, "random"))[:15]) for s in range(3)]
    assert max(drawn) < min(sampled) <= exact + 1e-9


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"ridge": 0.0}, r"ridge must be a number in \[1e-06, .*got 0\.0"),
        ({"similarity": "rbf"}, "similarity must be one of 'dot', 'cosine', got 'rbf'"),
        ({"greedy": "fast"}, "greedy must be one of"),
    ],
    ids=["ridge", "similarity", "greedy"],
)
def test_options_out_of_range_are_named(options, words):
    with pytest.raises(ArgumentError, match=words):
        select.log_det(points(4), budget=2, **options)
