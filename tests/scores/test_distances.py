"""Moderate and prototypes: distances among features."""

import math
from importlib import import_module

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist
from sklearn.cluster import KMeans
from sklearn.datasets import load_digits

from datawinnow import scores, select
from datawinnow.core.errors import ArgumentError
from datawinnow.core.kmeans import kmeans
from datawinnow.core.rng import stream
from datawinnow.methods import METHODS
from datawinnow.select import top
from tests.reference import scores_static as literal


def classes(n=41, d=5, c=4):
    g = stream(0, "classes")
    y = torch.randint(0, c, (n,), generator=g)
    return torch.randn(n, d, generator=g) + 3 * torch.randn(c, d, generator=g)[y], y


def test_moderate_matches_the_literal_loop_and_numpy():
    h, y = classes()
    assert {int(m) % 2 for m in torch.bincount(y)} == {0, 1}, "classes of even and of odd size"
    got = scores.moderate(h.double(), y)
    want = literal.moderate(h.double().tolist(), y.tolist())
    torch.testing.assert_close(got, torch.tensor(want, dtype=torch.float64), rtol=1e-12, atol=1e-12)
    for c in range(4):
        middle = np.median(h[y == c].numpy(), axis=0)
        for metric in ("euclidean", "cosine"):
            away = cdist(h[y == c].numpy(), middle[None], metric)[:, 0]
            np.testing.assert_allclose(scores.moderate(h, y, metric=metric)[y == c].numpy(), away, rtol=1e-4, atol=1e-6)


def test_moderate_in_small_blocks_is_the_same(monkeypatch):
    h, y = classes()
    complete = scores.moderate(h, y)
    for module in ("inputs", "moderate"):
        monkeypatch.setattr(import_module(f"datawinnow.scores.{module}"), "ROW_BLOCK_ENTRIES", 3)
    assert torch.equal(scores.moderate(h, y), complete)


def test_moderate_keeps_neither_the_typical_nor_the_outlier():
    """21 ordinary rows on a ring of radius 1 to 2, three copies of the centre, one far away."""
    angle = torch.arange(20) * (2 * math.pi / 20)
    radius = 1 + torch.arange(20) / 20
    ring = torch.stack([angle.cos(), angle.sin()], 1) * radius[:, None]
    h = torch.cat([ring, torch.zeros(3, 2), torch.tensor([[50.0, 50.0]])])
    score = scores.moderate(h, torch.zeros(24, dtype=torch.int64))
    assert int(score.argmax()) == 23
    assert sorted(score.argsort()[:3].tolist()) == [20, 21, 22]
    kept = top(score, budget=12, end=scores.moderate.card.end).index.tolist()
    assert set(kept).isdisjoint({20, 21, 22, 23})


def test_the_median_is_not_moved_by_outliers():
    h = torch.tensor([[0.0], [1.0], [2.0], [3.0], [1e6]])
    assert scores.moderate(h, [0] * 5).tolist() == [2, 1, 0, 1, 1e6 - 2]


def test_moderate_without_a_direction_is_at_a_right_angle():
    h = torch.tensor([[0.0, 0.0], [1.0, 0.0], [3.0, 0.0], [0.0, 2.0]])
    assert scores.moderate(h, [0, 0, 0, 1], metric="cosine").tolist() == [1.0, 0.0, 0.0, 0.0]
    assert scores.moderate(torch.zeros(2, 3), [0, 0], metric="cosine").tolist() == [1.0, 1.0]


def test_what_moderate_refuses():
    h, y = classes()
    with pytest.raises(ArgumentError, match=r"metric must be one of 'euclidean', 'cosine', got 'manhattan'"):
        scores.moderate(h, y, metric="manhattan")
    with pytest.raises(ArgumentError, match=r"same number of examples.*features has 41, labels has 40"):
        scores.moderate(h, y[:40])
    with pytest.raises(ArgumentError, match=r"labels must be class ids of 0 and above, got -1"):
        scores.moderate(h, y - 1)


def test_nan_in_a_class_leaves_the_others_as_if_it_were_not_there():
    h, y = classes()
    gone = torch.arange(41) % 5 == 0
    broken = h.clone()
    broken[gone, 2] = math.nan
    score = scores.moderate(broken, y, missing="skip")
    assert torch.equal(score.isnan(), gone)
    assert torch.equal(score[~gone], scores.moderate(h[~gone], y[~gone]))


def test_a_class_of_nan_alone_stays_nan():
    h, y = classes()
    h[y == 2] = math.nan
    score = scores.moderate(h, y, missing="skip")
    assert torch.equal(score.isnan(), y == 2)
    assert torch.equal(score[y != 2], scores.moderate(h[y != 2], y[y != 2]))


def digits():
    return torch.from_numpy(load_digits().data).float()


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_prototypes_are_the_distances_of_scikit_learn(metric):
    """Its k-means from the same start (by eigenvectors there), SciPy's distances; well separated groups."""
    g = stream(1, "groups")
    x = torch.randn(6, 8, generator=g)[torch.arange(240) % 6] * 5 + torch.randn(240, 8, generator=g)
    rows = x.double().numpy()
    if metric == "cosine":
        rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    fitted = KMeans(6, init=literal.pca_part(rows, 6), n_init=1, tol=1e-4).fit(rows)
    want = cdist(x.double().numpy(), fitted.cluster_centers_, metric).min(axis=1)
    np.testing.assert_allclose(scores.prototypes(x, clusters=6, metric=metric).numpy(), want, rtol=1e-5, atol=1e-7)


def test_prototypes_have_as_many_centres_as_there_are_classes():
    x, labels = torch.randn(40, 3, generator=stream(0, "x")), torch.arange(40) % 4
    assert torch.equal(scores.prototypes(x, labels), scores.prototypes(x, clusters=4))
    assert torch.equal(scores.prototypes(x), scores.prototypes(x, clusters=10))
    assert torch.equal(scores.prototypes(x, labels, clusters=3), scores.prototypes(x, clusters=3))
    by_method, _ = METHODS["prototypes"].run({"features": x}, labels, keep=0.3, generator=stream(0, "s"))
    by_hand = select.top(scores.prototypes(x, clusters=4), budget=12)
    assert by_method.index.tolist() == by_hand.index.tolist()
    with pytest.raises(ArgumentError, match="same number of examples"):
        scores.prototypes(x, labels[1:])


def test_prototypes_agree_with_the_literal_distance_on_digits():
    x = digits()
    centres = kmeans(x, 10, unit=True).centres.tolist()
    rows = x[::60].tolist()
    want = [min(literal.cosine_distance(row, centre) for centre in centres) for row in rows]
    torch.testing.assert_close(scores.prototypes(x)[::60], torch.tensor(want), rtol=1e-5, atol=1e-6)


def test_duplicates_near_a_centre_are_typical_and_an_outlier_is_not():
    g = stream(2, "planted")
    centres = torch.eye(3) * 10
    x = centres[torch.arange(600) % 3] + torch.randn(600, 3, generator=g)
    x = torch.cat([x, centres[:1].repeat(5, 1), -torch.ones(1, 3) * 10])
    for metric in ("cosine", "euclidean"):
        score = scores.prototypes(x, clusters=3, metric=metric)
        assert int(score.argmax()) == 605, metric
        assert float(score[600:605].max()) < float(score[:600].quantile(0.1)), metric
    assert scores.prototypes.card.end == "high"
    assert set(top(scores.prototypes(x, clusters=3), budget=300).index.tolist()).isdisjoint(range(600, 605))


def test_prototypes_of_the_cosine_do_not_see_length():
    x = digits()[:300].double()
    longer = x * (0.5 + torch.rand(300, 1, generator=stream(3, "length"), dtype=torch.float64))
    torch.testing.assert_close(scores.prototypes(longer), scores.prototypes(x), rtol=1e-6, atol=1e-9)
    zero = torch.cat([x, torch.zeros(1, 64)])
    assert scores.prototypes(zero)[-1] == 1


def test_prototypes_depend_on_no_order_and_draw_nothing():
    x = digits()
    order = torch.randperm(len(x), generator=stream(4, "order"))
    state = torch.random.get_rng_state()
    torch.testing.assert_close(scores.prototypes(x[order]), scores.prototypes(x)[order], rtol=1e-5, atol=1e-7)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_prototypes_refuse_and_cap():
    x = digits()[:6]
    assert scores.prototypes(x, clusters=50).max() < 1e-12
    with pytest.raises(ArgumentError, match=r"clusters must be a whole number in \[1, .*got 0"):
        scores.prototypes(x, clusters=0)
    with pytest.raises(ArgumentError, match=r"metric must be one of 'cosine', 'euclidean', got 'dot'"):
        scores.prototypes(x, metric="dot")
    x[:] = math.nan
    assert scores.prototypes(x, missing="skip").isnan().all()
