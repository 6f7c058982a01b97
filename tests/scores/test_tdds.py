"""TDDS against its closed form, its golden values and planted rows."""

import math

import pytest
import torch

from datawinnow import scores
from datawinnow.core.epochs import GRAIN
from datawinnow.core.errors import ArgumentError
from datawinnow.core.rng import stream
from datawinnow.record import kl_step
from tests.reference import scores_static as literal


def columns(array):
    return [[None if math.isnan(v) else v for v in column] for column in array.double().T.tolist()]


@pytest.mark.parametrize(("window", "decay"), [(10, 0.9), (3, 0.9), (20, 0.5), (30, 0.9), (5, 1.0)])
def test_tdds_matches_the_closed_form(window, decay):
    kl = torch.rand(29, 40, generator=stream(0, "kl"))
    want = torch.tensor([literal.tdds(c, window, decay) for c in columns(kl)])
    got = scores.tdds(kl, window=window, decay=decay)
    torch.testing.assert_close(got, want, rtol=1e-6, atol=0)
    double = scores.tdds(kl.double(), window=window, decay=decay)
    torch.testing.assert_close(
        double, torch.tensor([literal.tdds(c, window, decay) for c in columns(kl)], dtype=torch.float64)
    )


def test_from_predictions_to_the_score():
    """static.md 4.2 whole: what the recorder keeps of the softmax, then the score."""
    p = (torch.randn(13, 6, 4, generator=stream(1, "p"), dtype=torch.float64) * 2).softmax(2)
    kl = torch.stack([kl_step(p[t], p[t + 1]) for t in range(12)])
    rows = [[p[t, i].tolist() for t in range(13)] for i in range(6)]
    want = [literal.tdds(literal.kl_step(row), 5, 0.9) for row in rows]
    torch.testing.assert_close(scores.tdds(kl, window=5), torch.tensor(want, dtype=torch.float64), rtol=1e-9, atol=0)


def test_the_last_window_has_the_weight_nine_tenths():
    """One change of 1 in the last window alone: R = sqrt(1 - 1/2) of two terms, twice."""
    kl = torch.zeros(10, 2)
    kl[-1, 0] = 1
    kl[0, 1] = 1
    score = scores.tdds(kl, window=3)
    assert float(score[0]) == pytest.approx(0.9 * math.sqrt(0.5), rel=1e-6)
    assert float(score[1]) == pytest.approx(0.9 * 0.1**8 * math.sqrt(0.5), rel=1e-6)
    assert scores.tdds(torch.full((9, 1), 0.25), window=4).tolist() == [0.0]


def test_what_moves_late_and_unevenly_comes_first():
    """Still; moving evenly; moving unevenly early; the same late: TDDS keeps the last."""
    t = torch.arange(29)
    uneven = (t % 3 == 0).float()
    rows = [torch.zeros(29), torch.full((29,), 0.5), uneven * (t < 12), uneven * (t >= 12)]
    score = scores.tdds(torch.stack(rows, 1))
    assert score.argsort(stable=True).tolist() == [0, 1, 2, 3]
    assert scores.tdds.card.end == "high"


def test_epochs_not_seen_are_left_out():
    kl = torch.rand(29, 40, generator=stream(2, "kl"), dtype=torch.float64)
    kl[torch.rand(kl.shape, generator=stream(3, "nan")) < 0.5] = math.nan
    kl[:, 0] = math.nan
    kl[:, 1] = math.nan
    kl[7, 1] = 0.5
    kl[:, 2] = 1.0
    with pytest.raises(ArgumentError, match=r"kl_step is nan for example 0 in row 0 .*missing=\"skip\""):
        scores.tdds(kl)
    got = scores.tdds(kl, window=6, missing="skip")
    want = torch.tensor([literal.tdds(c, 6, 0.9) for c in columns(kl)], dtype=torch.float64)
    torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-12, equal_nan=True)
    assert got[:2].isnan().all()
    assert got[2:].isfinite().all()
    complete = scores.tdds(kl[:, 2:3], window=6)
    assert torch.equal(got[2:3], complete), "a neighbour's gap changes nothing"


@pytest.mark.parametrize("decay", [0.9, 1.0])
def test_a_gap_in_the_first_window_alone_is_noticed(decay):
    kl = torch.rand(8, 3, generator=stream(4, "kl"))
    kl[0, 1] = math.nan
    got = scores.tdds(kl, window=4, decay=decay, missing="skip")
    want = torch.tensor([literal.tdds(c, 4, decay) for c in columns(kl)])
    torch.testing.assert_close(got, want, rtol=1e-6, atol=0)


def test_an_answer_does_not_depend_on_the_block_or_thread():
    kl = torch.rand(12, GRAIN + 9, generator=stream(5, "kl"))
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        complete = scores.tdds(kl, window=5)
    finally:
        torch.set_num_threads(before)
    for edge in (slice(0, 5), slice(GRAIN // 5 - 3, GRAIN // 5 + 3), slice(GRAIN, None)):
        torch.testing.assert_close(scores.tdds(kl[:, edge], window=5), complete[edge], rtol=0, atol=1e-7)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            {},
            r"9 recorded epochs are too few for a score over windows of 10 epochs: record at least 10",
        ),
        ({"window": 2}, r"window must be a whole number in \[3"),
        ({"window": 5, "decay": 0}, r"decay must be above 0"),
        ({"window": 5, "decay": 1.1}, r"decay must be a number in \[0, 1\], got 1\.1"),
        ({"window": 5, "missing": "drop"}, r"missing must be .*got 'drop'"),
    ],
    ids=["short", "window", "zero", "above", "missing"],
)
def test_what_tdds_refuses(options, words):
    with pytest.raises(ArgumentError, match=words):
        scores.tdds(torch.rand(8, 3), **options)
