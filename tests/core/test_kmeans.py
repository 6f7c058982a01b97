"""k-means against scikit-learn, brute force and its own definition."""

import itertools
import math

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans
from sklearn.datasets import load_digits

from datawinnow.core import kmeans as module
from datawinnow.core.errors import ArgumentError
from datawinnow.core.kmeans import kmeans
from datawinnow.core.rng import stream
from tests.reference import scores_static as literal


def blobs(n=300, k=5, d=4, apart=4.0, seed=0):
    g = stream(seed, "blobs", k, d)
    centres = torch.randn(k, d, generator=g) * apart
    return centres[torch.arange(n) % k] + torch.randn(n, d, generator=g)


def digits():
    return torch.from_numpy(load_digits().data).float()


def inertia(x, labels):
    return sum(float(((x[labels == c] - x[labels == c].mean(0)) ** 2).sum()) for c in set(labels.tolist()))


STARTS = [{"init": "principal"}, {"init": "++", "generator": 0}]
every_start = pytest.mark.parametrize("start", STARTS, ids=["principal", "++"])


def run(x, k, start, **kwargs):
    options = dict(start) | kwargs
    if "generator" in options:
        options["generator"] = stream(options["generator"], "kmeans")
    return kmeans(x, k, **options)


@every_start
@pytest.mark.parametrize("k", [1, 3, 10, 40])
def test_inertia_is_that_of_scikit_learn_or_less(start, k):
    """One start here against the worst and the best of ten there, on real data."""
    x = digits()
    got = run(x, k, start, tolerance=0.0, iterations=300).inertia
    single = [KMeans(k, n_init=1, random_state=s, tol=0).fit(x.numpy()).inertia_ for s in range(10)]
    assert min(single) * 0.98 <= got <= max(single) * 1.001


@pytest.mark.parametrize("k", [2, 5, 9])
def test_the_default_is_lloyd_from_pca_part(k):
    """The start by whole covariance matrices, and scikit-learn from there."""
    x = blobs(k=6).double()
    start = literal.pca_part(x.numpy(), k)
    theirs = KMeans(k, init=start, n_init=1, tol=0, max_iter=300).fit(x.numpy())
    ours = kmeans(x, k, tolerance=0.0, iterations=300)
    assert ours.inertia == pytest.approx(theirs.inertia_, rel=1e-9)
    assert {tuple(sorted(np.flatnonzero(theirs.labels_ == c))) for c in range(k)} == {
        tuple(torch.nonzero(ours.assignment == c).flatten().tolist()) for c in range(k)
    }


def test_the_start_splits_across_the_principal_direction_even_past_an_outlier():
    """The farthest row, from which the direction is sought, lies almost at a right angle to it."""
    x = torch.randn(400, 3, generator=stream(0, "long"), dtype=torch.float64) * torch.tensor([10.0, 3.0, 1.0])
    x[0] = torch.tensor([0.5, 70.0, 0.0])
    start = module.principal_start(module.ClusterRows(x, False), 2)
    want = literal.pca_part(x.numpy(), 2)
    np.testing.assert_allclose(sorted(start.tolist()), sorted(want.tolist()), rtol=1e-9)
    np.testing.assert_allclose(sorted(start[:, 0].abs().tolist()), [8, 8], atol=1.0)  # split along the long axis


def test_clusters_are_numbered_along_the_direction_whatever_comes_first():
    x = torch.tensor([[-3.0, 1.0], [3.0, -1.0], [-3.5, 1.0], [3.5, -1.0]])
    assert kmeans(x, 2).assignment.tolist() == [0, 1, 0, 1]
    assert kmeans(x.flip(0), 2).assignment.tolist() == [1, 0, 1, 0]


@every_start
def test_the_best_of_all_partitions_of_separate_groups(start):
    x = torch.cat(
        [blobs(m, 1, 2, 0.0, seed=s) + offset for s, (m, offset) in enumerate([(3, 0.0), (3, 12.0), (2, -15.0)])]
    )
    got = run(x, 3, start)
    best = min(inertia(x, torch.tensor([0, *labels])) for labels in itertools.product(range(3), repeat=7))
    assert got.inertia == pytest.approx(best, rel=1e-5)


@every_start
@pytest.mark.parametrize("unit", [False, True])
def test_the_answer_is_a_fixed_point(start, unit):
    x = digits()
    centres, assignment, total = run(x, 12, start, unit=unit, tolerance=0.0, iterations=300)
    rows = x.double() / x.double().norm(dim=1, keepdim=True) if unit else x.double()
    distance = torch.cdist(rows, centres)
    assert torch.equal(assignment, distance.argmin(dim=1))
    for c in range(12):
        torch.testing.assert_close(centres[c], rows[assignment == c].mean(0), rtol=1e-9, atol=1e-12)
    assert total == pytest.approx(float(distance.amin(dim=1).square().sum()), rel=1e-9)


def test_tolerance_stops_early_and_still_assigns_to_the_centres_given():
    x = digits()
    exact = kmeans(x, 20, tolerance=0.0, iterations=300)
    for options in ({"tolerance": 0.05}, {"iterations": 2}):
        early = kmeans(x, 20, **options)
        assert exact.inertia < early.inertia < exact.inertia * 1.1
        distance = torch.cdist(x.double(), early.centres)
        assert torch.equal(early.assignment, distance.argmin(dim=1))
        assert early.inertia == pytest.approx(float(distance.amin(dim=1).square().sum()), rel=1e-9)


def test_the_order_of_the_rows_has_no_part_in_it():
    x = blobs(400, 7, 5, 1.5)
    order = torch.randperm(len(x), generator=stream(0, "order"))
    straight, permuted = kmeans(x, 9), kmeans(x[order], 9)
    assert torch.equal(permuted.assignment, straight.assignment[order])
    torch.testing.assert_close(permuted.centres, straight.centres, rtol=1e-12, atol=1e-12)


def test_the_generator_decides_and_nothing_else_does():
    x = blobs(200, 8, 3, 1.0)
    state = torch.random.get_rng_state()
    one, two, other = (run(x, 12, {"init": "++", "generator": s}) for s in (0, 0, 1))
    assert torch.equal(one.centres, two.centres)
    assert not torch.equal(one.centres, other.centres)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_plus_plus_starts_one_in_each_far_group():
    x = torch.cat([torch.randn(50, 2, generator=stream(i, "group")) * 0.01 + 1000 * i for i in range(6)])
    start = module.plus_plus_start(module.ClusterRows(x, False), 6, stream(0, "draw"))
    assert sorted((start[:, 0] / 1000).round().tolist()) == [0, 1, 2, 3, 4, 5]


def test_the_best_of_a_few_draws_leaves_less_than_one_draw_a_time():
    x = digits()[:300].double()
    plain = [literal.plus_plus(x.numpy(), 20, np.random.default_rng(seed)) for seed in range(20)]
    rows = module.ClusterRows(x, False)
    greedy = [
        torch.cdist(x, module.plus_plus_start(rows, 20, stream(s, "draw"))).amin(1).square().sum() for s in range(20)
    ]
    assert 0.75 < float(np.mean(greedy)) / float(np.mean(plain)) < 0.92


@pytest.mark.parametrize("copies", [7, 11, 37, 49])
def test_equal_rows_whose_mean_rounds_stay_together(copies):
    x = torch.tensor([[0.1, 0.3]], dtype=torch.float64).repeat(copies, 1)
    rows = module.ClusterRows(x, False)
    assert module.measure_subset(rows, None).square > 0, "the mean of these copies rounds"
    torch.testing.assert_close(module.principal_start(rows, 3), x[:3])
    centres, assignment, _ = kmeans(x, 3)
    assert assignment.unique().numel() == 1
    torch.testing.assert_close(centres, x[:3])


def test_small_chunks_give_the_same(monkeypatch):
    x = digits()[:200]
    at_once = kmeans(x, 11)
    sizes = []
    take = module.ClusterRows.take

    def watched(self, ids):
        taken = take(self, ids)
        sizes.append(len(taken))
        return taken

    monkeypatch.setattr(module, "CHUNK_ENTRIES", 64 * 30)
    monkeypatch.setattr(module.ClusterRows, "take", watched)
    chunked = kmeans(x, 11)
    assert max(sizes) <= 30
    assert torch.equal(chunked.assignment, at_once.assignment)
    torch.testing.assert_close(chunked.centres, at_once.centres, rtol=1e-9, atol=1e-9)


def test_an_empty_cluster_begins_anew_at_the_farthest_row():
    x = torch.tensor([[0.0], [1.0], [2.0], [10.0], [11.0], [30.0]], dtype=torch.float64)
    start = torch.tensor([[3.0], [500.0], [900.0]], dtype=torch.float64)
    centres, assignment, total = module.lloyd(module.ClusterRows(x, False), start, 100, 0.0)
    assert assignment.tolist() == [0, 0, 0, 2, 2, 1]
    assert centres.flatten().tolist() == [1.0, 30.0, 10.5]
    assert total == pytest.approx(2.5)


@every_start
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_fewer_distinct_rows_than_clusters(start, dtype):
    x = (torch.tensor([[0.1, 0.2], [0.7, 0.3], [5.1, 0.0]], dtype=dtype)).repeat(7, 1)
    centres, assignment, total = run(x, 6, start)
    assert total < 1e-25
    assert centres.shape == (6, 2)
    assert [assignment[i::3].unique().numel() for i in range(3)] == [1, 1, 1]
    assert assignment.unique().numel() == 3


@every_start
def test_every_row_its_own_cluster_and_one_for_all(start):
    x = blobs(17, 3, 2)
    assert run(x, 17, start).inertia < 1e-20
    one = run(x, 1, start)
    torch.testing.assert_close(one.centres[0], x.double().mean(0))
    assert one.inertia == pytest.approx(inertia(x.double(), torch.zeros(17)))
    assert run(x[:1], 1, start).inertia == 0


def test_far_from_the_origin_no_digits_are_lost():
    x = blobs(200, 4, 3).double()
    near, far = kmeans(x, 4), kmeans(x + 1e6, 4)
    assert torch.equal(near.assignment, far.assignment)
    assert far.inertia == pytest.approx(near.inertia, rel=1e-6)


def test_unit_rows_forget_their_length():
    g = stream(0, "unit")
    x = blobs(90, 3, 4).double()
    longer = x * (0.1 + 10 * torch.rand(90, 1, generator=g, dtype=torch.float64))
    assert torch.equal(kmeans(x, 3, unit=True).assignment, kmeans(longer, 3, unit=True).assignment)
    assert not torch.equal(kmeans(x, 3).assignment, kmeans(longer, 3).assignment)
    x[4] = 0
    assert math.isfinite(kmeans(x, 3, unit=True).inertia)


def test_what_cannot_be_is_refused_by_name():
    x = blobs(20, 2, 3)
    with pytest.raises(ArgumentError, match="k must be at most the number of rows, 20, got 21"):
        kmeans(x, 21)
    for k in (0, -1, 2.5, True):
        with pytest.raises(ArgumentError, match=r"k must be a whole number in \[1"):
            kmeans(x, k)
    with pytest.raises(ArgumentError, match=r"init must be one of 'principal', '\+\+', got 'random'"):
        kmeans(x, 2, init="random")
    with pytest.raises(ArgumentError, match=r"generator must be a torch\.Generator, got None"):
        kmeans(x, 2, init="++")
    with pytest.raises(ArgumentError, match=r'generator is for init="\+\+"'):
        kmeans(x, 2, generator=stream(0, "x"))
    with pytest.raises(ArgumentError, match="iterations must be a whole number"):
        kmeans(x, 2, iterations=0)
    with pytest.raises(ArgumentError, match=r"tolerance must be a number in \[0, inf\], got -1"):
        kmeans(x, 2, tolerance=-1)
    x[7, 1] = math.nan
    with pytest.raises(ArgumentError, match="x is nan for example 7 in column 1"):
        kmeans(x, 2)
