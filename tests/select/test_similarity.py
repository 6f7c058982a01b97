"""Similarities: each kind against the equation, and one answer whatever the form."""

import numpy as np
import pytest
import torch

from datawinnow.core.errors import ArgumentError
from datawinnow.core.rng import stream
from datawinnow.select import similarity
from datawinnow.select.similarity import Matrix, Similarity, Sparse, build_form, feature_similarity
from tests.reference import submodular as literal

N = 23
EXACT = 2.0**-24


def points(n=N, d=4, seed=0):
    return torch.randn(n, d, generator=stream(seed, "similarity", n))


def of_kind(kind, x, gamma=0.3):
    """The similarity of a kind, and the literal table of it."""
    xs = [tuple(row) for row in x.double().tolist()]
    if kind == "distance":
        errors = torch.randn(len(x), 3, generator=stream(1, "errors", len(x)), dtype=torch.float64)
        complete = [literal.last_layer_gradient(h, e, -1) for h, e in zip(xs, errors.tolist(), strict=True)]
        reach = 2 * max(literal.dot(g, g) for g in complete) ** 0.5
        table = literal.table(complete, lambda a, b: 1 - literal.distance(a, b) / reach)
        return Similarity([(errors, 0.0), (x, 1.0)], "distance"), torch.tensor(table)
    longest = max(literal.dot(a, a) for a in xs)
    by = {
        "cosine": literal.cosine_similarity,
        "rbf": lambda a, b: literal.rbf_similarity(a, b, gamma),
        "dot": lambda a, b: max(0.0, literal.dot(a, b) / longest),
    }
    return feature_similarity(x, kind, gamma), torch.tensor(literal.table(xs, by[kind]))


every_kind = pytest.mark.parametrize("kind", ["cosine", "rbf", "dot", "distance"])


@every_kind
def test_blocks_are_the_equation_on_a_grid(kind):
    alike, want = of_kind(kind, points())
    got = alike.block(np.arange(N))
    assert got.dtype == torch.float32
    torch.testing.assert_close(got.double(), want.double(), rtol=0, atol=EXACT)
    assert torch.equal(got, got.T)
    assert torch.equal(got * 2**24, (got * 2**24).round())
    np.testing.assert_array_equal(alike.diagonal(), got.diagonal().numpy())


@every_kind
def test_pairs_and_rows_are_those_of_the_block(kind):
    alike, _ = of_kind(kind, points())
    complete = alike.block(np.arange(N))
    a, b = torch.nonzero(torch.ones(N, N) - torch.eye(N), as_tuple=True)
    assert torch.equal(alike.pairs(a, b), complete[a, b])
    assert torch.equal(alike.block(np.array([7, 2])), complete[[7, 2]])


def test_gamma_is_one_over_the_mean_squared_distance():
    x = points() + 5
    want = 1 / literal.mean_squared_distance(x.double().tolist())
    assert feature_similarity(x, "rbf", None).gamma == pytest.approx(want, rel=1e-9)
    assert feature_similarity(x, "rbf", 0.7).gamma == 0.7
    assert feature_similarity(torch.ones(4, 2), "rbf", None).block(np.arange(4)).eq(1).all()


def test_a_row_of_zeros_is_at_a_right_angle_to_all_but_itself():
    alike = feature_similarity(torch.tensor([[0.0, 0.0], [1.0, 2.0], [0.0, 0.0]]), "cosine", None)
    assert alike.block(np.arange(3)).tolist() == [[1.0, 0.5, 0.5], [0.5, 1.0, 0.5], [0.5, 0.5, 1.0]]
    assert build_form(alike, "sparse", 2, 0).values.tolist() == [1.0, 0.5, 0.5, 0.5, 1.0, 0.5, 0.5, 0.5, 1.0]


def test_all_gradients_zero_are_all_alike():
    zero = Similarity([(torch.zeros(3, 2), 0.0), (points(3), 1.0)], "distance")
    assert zero.block(np.arange(3)).eq(1).all()


@every_kind
@pytest.mark.parametrize("small", [False, True], ids=["one block", "many blocks"])
def test_forms_agree_to_the_bit(kind, small, monkeypatch):
    if small:
        monkeypatch.setattr(similarity, "BLOCK_BYTES", 8 * N * 3)
        monkeypatch.setattr(similarity, "COLUMN_BLOCK", 5)
    alike, want = of_kind(kind, points())
    forms = [
        build_form(alike, "dense", 1, 0),
        build_form(alike, "blocked", 1, 0),
        build_form(alike, "sparse", N - 1, 0),
    ]
    assert isinstance(forms[2], Sparse)
    best = (torch.rand(N, generator=stream(0, "best")) * 2**24).round().div(2**24).numpy()
    for ids in (np.arange(N), np.array([3, 1, 8]), np.array([5])):
        gains = np.maximum(want.numpy()[ids] - best, 0).sum(1)
        np.testing.assert_allclose(forms[0].excess(ids, best), gains, rtol=0, atol=N * EXACT)
        for other in forms[1:]:
            np.testing.assert_array_equal(other.excess(ids, best), forms[0].excess(ids, best))
    for other in forms:
        where, values = other.row(4)
        row = np.zeros(N, dtype=np.float32)
        row[where] = values
        np.testing.assert_array_equal(row, alike.block(np.array([4]))[0].numpy())


@every_kind
@pytest.mark.parametrize("k", [1, 4])
def test_the_graph_joins_those_of_which_either_is_near_the_other(kind, k):
    alike, table = of_kind(kind, points())
    graph = build_form(alike, "sparse", k, 0)
    complete = alike.block(np.arange(N)).numpy()
    got = {(i, int(j)): v for i in range(N) for j, v in zip(*graph.row(i), strict=True)}
    assert set(got) == literal.joined(table.tolist(), k)
    assert all(complete[i, j] == v for (i, j), v in got.items())


def test_blocked_keeps_nothing_and_makes_no_large_block(monkeypatch):
    monkeypatch.setattr(similarity, "BLOCK_BYTES", 8 * N * 4)
    alike, _ = of_kind("cosine", points())
    blocks, block = [], alike.block
    monkeypatch.setattr(alike, "block", lambda ids: blocks.append(len(ids)) or block(ids))
    form = build_form(alike, "blocked", 1, 0)
    assert not blocks
    form.excess(np.arange(N), np.zeros(N, dtype=np.float32))
    assert blocks == [4, 4, 4, 4, 4, 3]
    assert form.kept is None


def test_auto_is_dense_when_small_and_a_graph_above():
    assert build_form(feature_similarity(points(), "cosine", None), "auto", 3, 0).kept is not None
    large = feature_similarity(torch.arange(8001.0)[:, None].sin(), "dot", None)
    large.nearest = lambda k, tie_seed: torch.zeros(8001, k, dtype=torch.int64)  # which form is all that is asked
    assert isinstance(build_form(large, "auto", 2, 0), Sparse)
    assert isinstance(build_form(large, "blocked", 2, 0), Matrix)


def test_dense_above_a_gigabyte_is_refused_with_advice():
    alike = feature_similarity(torch.ones(15_812, 1), "cosine", None)
    with pytest.raises(
        ArgumentError, match=r"form=\"dense\" would keep 1\.0 GB .* of 15812 .*form=\"sparse\".*per_class"
    ):
        build_form(alike, "dense", 32, 0)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"form": "full"}, "form must be one of 'auto', 'dense', 'blocked', 'sparse', got 'full'"),
        ({"neighbours": 0}, r"neighbours must be a whole number in \[1, .*got 0"),
        ({"similarity": "l1"}, "similarity must be one of 'cosine', 'rbf', 'dot', got 'l1'"),
        ({"gamma": -1.0}, r"gamma must be a number in .*got -1\.0"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_options_out_of_range_are_named(options, words):
    chosen = {"form": "auto", "neighbours": 3, "similarity": "rbf", "gamma": None} | options
    with pytest.raises(ArgumentError, match=words):
        build_form(
            feature_similarity(points(), chosen["similarity"], chosen["gamma"]),
            chosen["form"],
            chosen["neighbours"],
            0,
        )
