"""Exact neighbours in blocks: against scikit-learn, ties, duplicates, far-out points, memory."""

import math

import pytest
import torch

from datawinnow.core import neighbours
from datawinnow.core.errors import ArgumentError
from datawinnow.core.neighbours import centred, knn, sq_distances, squared_norms, symmetric_graph, unit_rows
from datawinnow.core.rng import stream
from tests.reference import geometry as literal


def points(n, d, *path):
    return torch.randn(n, d, generator=stream(0, "neighbours", n, d, *path))


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("chunk", [None, 1, 7, 10_000])
def test_neighbours_are_those_of_scikit_learn(metric, chunk):
    from sklearn.neighbors import NearestNeighbors

    x = points(120, 5)
    # asked about the fitted points without naming them, scikit-learn leaves a point out of its own neighbours
    result = NearestNeighbors(n_neighbors=6, metric=metric, algorithm="brute").fit(x.double().numpy()).kneighbors()
    ids, distances = knn(x, 6, metric=metric, chunk=chunk)
    assert torch.equal(ids, torch.from_numpy(result[1]))
    torch.testing.assert_close(distances, torch.from_numpy(result[0]).float(), rtol=1e-5, atol=1e-6)


def test_neighbours_are_those_of_the_loop():
    x = points(40, 3)
    ids, distances = knn(x, 4)
    for i in range(40):
        assert ids[i].tolist() == literal.nearest(x.tolist(), i, 4)
        apart = [literal.distance(x[i].tolist(), x[j].tolist()) for j in ids[i]]
        assert distances[i].tolist() == pytest.approx(apart, rel=1e-6)


def test_ties_go_to_the_smaller_id_however_many():
    ids, distances = knn(torch.ones(30, 4), 3)
    assert ids[0].tolist() == [1, 2, 3]
    assert ids[2].tolist() == [0, 1, 3]
    assert ids[29].tolist() == [0, 1, 2]
    assert (distances == 0).all()
    ring = torch.tensor([[0.0, 0.0], [2.0, 0.0], [0.0, 1.0], [1.0, 0.0], [0.0, -1.0], [-1.0, 0.0]])
    assert knn(ring, 2)[0][0].tolist() == [2, 3]
    assert knn(ring, 5)[0][0].tolist() == [2, 3, 4, 5, 1]


def test_more_ties_than_candidates_still_go_to_the_smaller_id():
    grid = torch.eye(20)  # all at the same distance from each other
    ids, _ = knn(grid, 2)
    assert ids.tolist() == [[1, 2], [0, 2]] + [[0, 1]] * 18


def test_a_duplicate_is_at_exactly_nothing_even_far_from_the_origin():
    x = points(50, 64) * 0.01 + 300.0
    x[31] = x[4]
    ids, distances = knn(x, 3)
    assert (int(ids[4, 0]), float(distances[4, 0])) == (31, 0.0)
    assert (int(ids[31, 0]), float(distances[31, 0])) == (4, 0.0)
    exact = torch.cdist(x.double(), x.double())
    torch.testing.assert_close(distances, exact.gather(1, ids).float(), rtol=1e-4, atol=1e-6)
    exact.fill_diagonal_(torch.inf)
    torch.testing.assert_close(distances, exact.sort().values[:, :3].float(), rtol=1e-4, atol=1e-6)


def test_cosine_sees_no_length_and_puts_a_zero_row_at_one():
    x = torch.tensor([[1.0, 0.0], [1e25, 0.0], [0.0, 0.0], [-1e-30, 0.0], [0.0, 3.0]])
    ids, distances = knn(x, 4, metric="cosine")
    assert ids[0].tolist() == [1, 2, 4, 3]
    assert distances[0].tolist() == [0.0, 1.0, 1.0, 2.0]
    assert distances[2].tolist() == [1.0] * 4


def test_double_stays_double_and_inputs_are_untouched():
    x = points(20, 3).double() + 1e6
    before = x.clone()
    ids, distances = knn(x, 2)
    assert distances.dtype is torch.float64
    assert torch.equal(x, before)
    exact = torch.cdist(x, x, compute_mode="donot_use_mm_for_euclid_dist")
    torch.testing.assert_close(distances, exact.gather(1, ids), rtol=1e-9, atol=1e-9)


def test_no_neighbours_of_one_point():
    ids, distances = knn([[1.0, 2.0]], 0)
    assert ids.shape == distances.shape == (1, 0)


@pytest.mark.parametrize(
    ("x", "k", "options", "words"),
    [
        (torch.zeros(3, 2), 3, {}, r"k must be a whole number in \[0, 2\], got 3"),
        (torch.zeros(3), 1, {}, r"x must have shape \(n, d\), got \(3,\)"),
        ([[1.0], [math.nan]], 1, {}, "x is nan for example 1"),
        (torch.zeros(3, 2), 1, {"metric": "l1"}, "metric must be one of 'euclidean', 'cosine', got 'l1'"),
        (torch.zeros(3, 2), 1, {"chunk": 0}, r"chunk must be a whole number .* got 0"),
        ([[1.0], [3e20]], 1, {}, "x is too large to be squared in torch.float32: the norm of example 1 is 3e"),
    ],
    ids=["k", "shape", "nan", "metric", "chunk", "large"],
)
def test_what_cannot_be_is_refused(x, k, options, words):
    x = x.float() if isinstance(x, torch.Tensor) else torch.tensor(x)
    with pytest.raises(ArgumentError, match=words):
        knn(x, k, **options)


def test_no_block_is_larger_than_said(monkeypatch):
    monkeypatch.setattr(neighbours, "BLOCK_ENTRIES", 1 << 12)
    sizes = []
    product = torch.addmm

    def watched(*args, **kwargs):
        out = product(*args, **kwargs)
        sizes.append(out.numel())
        return out

    x = points(300, 4)
    want = knn(x, 5, chunk=300)
    monkeypatch.setattr(torch, "addmm", watched)
    got = knn(x, 5)
    assert torch.equal(got[0], want[0])
    assert max(sizes) <= 1 << 12
    assert sum(sizes) == 300 * 300


def test_squared_distances_are_those_of_differences():
    a, b = points(9, 6, "a"), points(13, 6, "b")
    want = (a[:, None] - b).square().sum(-1)
    torch.testing.assert_close(sq_distances(a, b), want, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(sq_distances(a, b, squared_norms(b)), want, rtol=1e-5, atol=1e-5)
    far = a + 1e3
    assert (sq_distances(far, far) >= 0).all()


def test_only_far_out_points_are_copied():
    x = points(50, 4)
    assert centred("x", x)[0] is x
    moved, squares = centred("x", x + 100)
    torch.testing.assert_close(moved.mean(0), torch.zeros(4), rtol=0, atol=1e-4)
    torch.testing.assert_close(squares, moved.square().sum(1), rtol=1e-5, atol=0)


def test_unit_rows_have_norm_one_whatever_their_size():
    x = torch.tensor([[3.0, 4.0], [3e-30, 4e-30], [3e30, 4e30], [0.0, 0.0]])
    torch.testing.assert_close(unit_rows(x), torch.tensor([[0.6, 0.8]] * 3 + [[0.0, 0.0]]))


def test_the_graph_has_every_edge_once_in_each_direction():
    x = points(60, 3)
    ids, distances = knn(x, 4)
    graph = symmetric_graph(ids, distances)
    joined = torch.zeros(60, 60, dtype=torch.bool)
    joined[torch.arange(60)[:, None], ids] = True
    joined |= joined.T.clone()
    assert graph.to.numel() == int(joined.sum())
    for i in range(60):
        edges = slice(int(graph.start[i]), int(graph.start[i + 1]))
        assert graph.to[edges].tolist() == joined[i].nonzero().flatten().tolist()
        apart = [literal.distance(x[i].tolist(), x[j].tolist()) for j in graph.to[edges]]
        assert graph.distance[edges].tolist() == pytest.approx(apart, rel=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_neighbours_within_tight_clusters_far_apart(dtype):
    """The product of rows loses what distances within a cluster are; differences keep it."""
    g = stream(0, "tight")
    inside = torch.randn(60, 3, generator=g, dtype=torch.float64).to(dtype)
    scale = 1.0 if dtype is torch.float32 else 1e-5
    x = inside * scale + torch.tensor([[1e4], [-1e4]], dtype=dtype).repeat(30, 1)
    ids, distances = knn(x, 4)
    apart = torch.cdist(x.double(), x.double(), compute_mode="donot_use_mm_for_euclid_dist").fill_diagonal_(torch.inf)
    expected = apart.sort(dim=1)
    assert torch.equal(ids, expected.indices[:, :4])
    torch.testing.assert_close(distances, expected.values[:, :4].to(dtype))


def test_a_row_of_zeros_is_behind_what_is_nearer_than_a_right_angle():
    x = torch.tensor([[1.0, 0.0], [0.0, 0.0], [1.0, 0.8], [1.0, -1.0], [-1.0, 0.0]])
    ids, distances = knn(x, 4, metric="cosine")
    assert ids[0].tolist() == [2, 3, 1, 4]
    assert distances[0].tolist() == pytest.approx([1 - 1 / 1.64**0.5, 1 - 0.5**0.5, 1, 2])
