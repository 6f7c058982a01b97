"""CAL: the loop's scores, the example on the boundary and the mislabelled, the other form and end, zeros."""

import math
import sys

import pytest
import torch

from datawinnow import select
from datawinnow.core.draw import largest
from datawinnow.core.errors import ArgumentError
from datawinnow.core.rng import stream
from tests.reference import geometry as literal


def g(*path):
    return stream(0, "cal", *path)


def made_up(n, *path):
    return torch.randn(n, 3, generator=g("x", *path)), torch.randn(n, 4, generator=g("p", *path)).softmax(1)


def kept(x, probs, budget, **options):
    return select.cal(x, probs, budget=budget, **options).index.tolist()


@pytest.mark.parametrize("k", [1, 5, 39])
def test_the_ranking_is_that_of_the_loop(k):
    x, probs = made_up(40)
    score = literal.cal_scores(x.tolist(), probs.tolist(), k)
    want = sorted(range(40), key=lambda i: (-score[i], i))
    assert kept(x, probs, 40, neighbours=k) == want
    assert kept(x, probs, 7, neighbours=k, end="low") == want[::-1][:7]


def test_neighbours_and_divergences_by_scikit_learn_and_scipy():
    special = pytest.importorskip("scipy.special")
    from sklearn.neighbors import NearestNeighbors

    x, probs = made_up(150)
    near = NearestNeighbors(n_neighbors=10).fit(x.numpy()).kneighbors(return_distance=False)
    p = probs.double().numpy()
    contrast = special.rel_entr(p[near], p[:, None]).sum(-1).mean(1)
    assert kept(x, probs, 30) == largest(torch.from_numpy(contrast), 30).tolist()
    both = (contrast + special.rel_entr(p[:, None], p[near]).sum(-1).mean(1)) / 2
    assert kept(x, probs, 30, symmetric=True) == largest(torch.from_numpy(both), 30).tolist()
    assert kept(x, probs, 30, symmetric=True, end="low") == largest(-torch.from_numpy(both), 30).tolist()


def test_the_boundary_comes_first_and_the_easy_last():
    """Two classes on a line, told apart at 0; then one example in the middle of a class is predicted as the other."""
    at = torch.linspace(-3, 3, 60)[:, None]
    probs = torch.cat([torch.sigmoid(-9 * at), torch.sigmoid(9 * at)], dim=1)
    order = kept(at, probs, 60, neighbours=6)
    assert set(order[:4]) <= set(range(24, 36))
    assert min(abs(i - 29.5) for i in order[-20:]) > 8
    probs[10] = probs[50]  # in the middle of the other side
    assert kept(at, probs, 60, neighbours=6)[0] == 10


def test_the_direction_of_the_divergence():
    """0 is undecided among the sure, 3 is sure among the undecided: KL(p_j || p_i) is larger for 3."""
    x = [[0.0], [1.0], [-1.0], [100.0], [101.0], [99.0], [102.0], [98.0]]
    half, sure = [0.5, 0.5], [0.999, 0.001]
    probs = [half, sure, sure, sure, half, half, half, half]
    assert kept(x, probs, 1, neighbours=2) == [3]
    score = literal.cal_scores(x, probs, 2)
    assert score[3] > 2 * score[0] > 0


def test_a_class_predicted_with_zero_gives_no_infinity():
    x, _ = made_up(12)
    probs = torch.eye(3)[torch.arange(12) % 3]
    probs[4] = probs[5] = torch.tensor([0.0, 1.0, 0.0])
    assert sorted(kept(x, probs, 12, neighbours=2)) == list(range(12))
    same = torch.eye(3)[torch.zeros(12, dtype=torch.int64)]
    assert len(kept(x, same, 3)) == 3


def test_one_example_has_no_neighbours():
    assert kept([[1.0]], [[0.3, 0.7]], 1) == [0]


def test_blocks_change_nothing(monkeypatch):
    x, probs = made_up(100)
    want = kept(x, probs, 100, neighbours=4)
    monkeypatch.setattr(sys.modules["datawinnow.select.cal"], "CONTRAST_BLOCK", 50)
    assert kept(x, probs, 100, neighbours=4) == want


def test_an_example_without_numbers_is_nobodys_neighbour():
    x, probs = made_up(30)
    x[4, 0] = math.nan
    probs[9] = math.nan
    rest = [i for i in range(30) if i not in (4, 9)]
    score = literal.cal_scores(x[rest].tolist(), probs[rest].tolist(), 5)
    want = sorted(range(28), key=lambda i: (-score[i], i))
    assert kept(x, probs, 28, neighbours=5, missing="skip") == [rest[i] for i in want]
    with pytest.raises(ArgumentError, match="at most 28"):
        kept(x, probs, 29, missing="skip")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"neighbours": 0}, r"neighbours must be a whole number in \[1, .* got 0"),
        ({"end": "middle"}, "end must be one of 'high', 'low', got 'middle'"),
        ({"symmetric": 2}, "symmetric must be one of False, True, got 2"),
        ({"probs": torch.full((9, 2), 0.5)}, "features is about 8 examples, but probs about 9"),
        ({"probs": torch.full((8, 2), 0.7)}, "probs must sum to 1 over the classes, got 1.4 for example 0"),
    ],
    ids=["neighbours", "end", "symmetric", "sizes", "sum"],
)
def test_what_cannot_be_is_refused(options, words):
    x, probs = made_up(8)
    options = {"probs": probs} | options
    with pytest.raises(ArgumentError, match=words):
        kept(x, budget=2, **options)


def test_neighbours_are_of_the_class_when_wrapped():
    x, probs = made_up(40)
    labels = torch.arange(40) % 2
    got = select.per_class(select.cal)(x, probs, labels=labels, budget=10, neighbours=3).index
    for c in range(2):
        score = literal.cal_scores(x[labels == c].tolist(), probs[labels == c].tolist(), 3)
        want = sorted(range(20), key=lambda i: (-score[i], i))[:5]
        assert got[labels[got] == c].tolist() == [2 * i + c for i in want]


def test_the_symmetric_form_is_half_of_both_divergences():
    special = pytest.importorskip("scipy.special")
    x, probs = made_up(20)
    p = probs.double().numpy()
    both = special.rel_entr(p[None], p[:, None]).sum(-1) + special.rel_entr(p[:, None], p[None]).sum(-1)
    near = torch.cdist(x, x).fill_diagonal_(math.inf).argsort(1)[:, :4].numpy()
    expected = [both[i, near[i]].mean() / 2 for i in range(20)]
    contrast = select.cal_contrast(x, probs, neighbours=4, symmetric=True)
    torch.testing.assert_close(contrast.double(), torch.tensor(expected), rtol=1e-4, atol=1e-6)
