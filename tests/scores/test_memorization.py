"""Memorisation by subset training: the literal count, a real experiment small enough, and its error."""

import math
from importlib import import_module

import pytest
import torch
from scipy.spatial.distance import cdist

from datawinnow import scores
from datawinnow.core.errors import ArgumentError
from datawinnow.core.rng import stream
from tests.reference import scores_static as literal


def subsets(runs, n, share=0.7, seed=0):
    return torch.rand(runs, n, generator=stream(seed, "subsets")) < share


def test_memorization_matches_the_literal_count():
    mask = subsets(9, 60)
    mask[0], mask[1] = True, False
    correct = torch.rand(9, 60, generator=stream(1, "correct")) < torch.linspace(0, 1, 60)
    mask[:, 0], mask[:, 1] = True, False
    want = [literal.memorization(t, c) for t, c in zip(mask.T.tolist(), correct.T.tolist(), strict=True)]
    got = scores.memorization(mask, correct, missing="skip")
    torch.testing.assert_close(got, torch.tensor(want), rtol=1e-6, atol=1e-7, equal_nan=True)
    assert got[:2].isnan().all()
    assert scores.memorization(mask.float(), correct.int(), missing="skip")[2:].tolist() == got[2:].tolist()


def test_blocks_change_nothing(monkeypatch):
    mask, correct = subsets(30, 33), subsets(30, 33, 0.5, seed=1)
    complete = scores.memorization(mask, correct)
    monkeypatch.setattr(import_module("datawinnow.scores.memorization"), "COUNT_BLOCK_ENTRIES", 65)
    assert torch.equal(scores.memorization(mask, correct), complete)


def test_nearest_neighbours_memorise_the_mislabelled_and_nothing_typical():
    """1-NN on two far groups: a row is its own neighbour when trained on, and then always right."""
    n, runs = 60, 200
    g = stream(2, "groups")
    true = torch.arange(n) % 2
    x = torch.randn(n, 2, generator=g) + 20.0 * true[:, None]
    labels = true.clone()
    labels[7] = 1 - labels[7]
    mask = subsets(runs, n, seed=3)
    distance = torch.from_numpy(cdist(x, x))
    nearest = torch.where(mask[:, None, :], distance, math.inf).argmin(dim=2)  # (runs, n)
    score = scores.memorization(mask, labels[nearest] == labels)
    assert score[7] == 1
    rest = torch.arange(n) != 7
    assert score[rest].max() < 0.7  # row 7 misleads its neighbours where it was trained on
    assert score[rest].median() == 0
    assert scores.memorization.card.end == "high"


def test_an_example_without_a_counterpart_is_named():
    mask = torch.tensor([[1, 1, 0, 1], [0, 1, 0, 0], [1, 1, 0, 1]], dtype=torch.bool)
    correct = torch.ones_like(mask)
    with pytest.raises(ArgumentError, match=r"example 1 was trained on in every one of the 3 runs.*2 such.*\"skip\""):
        scores.memorization(mask, correct)
    mask[1, 1] = False
    with pytest.raises(ArgumentError, match=r"example 2 was trained on in no run.*1 such"):
        scores.memorization(mask, correct)
    for method in (scores.memorization, scores.memorization_error):
        assert method(mask, correct, missing="skip").isnan().tolist() == [False, False, True, False]
        with pytest.raises(ArgumentError, match="example 2"):
            method(mask, correct)


def test_what_memorization_refuses():
    mask = subsets(4, 6)
    with pytest.raises(
        ArgumentError, match=r"subset_correct must have the shape of subset_mask, \(4, 6\), got \(3, 6\)"
    ):
        scores.memorization(mask, mask[:3])
    with pytest.raises(ArgumentError, match="subset_correct must hold only 0 and 1"):
        scores.memorization(mask, torch.full((4, 6), 0.5))
    with pytest.raises(ArgumentError, match=r"subset_mask must have shape \(runs, n\), got \(6,\)"):
        scores.memorization(mask[0], mask)


@pytest.mark.parametrize("runs", [8, 40])
def test_the_error_covers_the_truth_as_often_as_it_says(runs):
    """10,000 examples whose true memorisation is known: 1.96 errors to either side hold it about 95% of the time."""
    n = 10_000
    mask = subsets(runs, n, seed=4)
    mask[0], mask[1] = True, False
    inside, outside = 0.9, 0.35
    correct = torch.rand(runs, n, generator=stream(5, "right")) < torch.where(mask, inside, outside)
    score, error = scores.memorization(mask, correct), scores.memorization_error(mask, correct)
    covered = float(((score - (inside - outside)).abs() <= 1.96 * error).float().mean())
    assert 0.92 < covered < 0.995
    spread = float(score.double().std())  # the errors are about what the scores spread by
    assert 0.85 * spread < float(error.mean()) < 1.35 * spread


def test_few_runs_that_agree_still_have_an_error():
    mask = torch.tensor([[True], [True], [False], [False]])
    assert float(scores.memorization_error(mask, mask)) > 0.2
    assert float(scores.memorization_error(mask.repeat(50, 1), mask.repeat(50, 1))) < 0.03
