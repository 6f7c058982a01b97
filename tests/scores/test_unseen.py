"""An example that was not seen in an epoch: it alone is affected, and only as if the epoch had not been."""

import itertools

import pytest
import torch

from datawinnow.core.arrays import TABLE
from datawinnow.core.errors import ArgumentError
from datawinnow.record import Recorder
from datawinnow.scores import METHODS, aum, aum_softmax, el2n, forgetting
from tests.conformance.cases import at, recorded

EPOCHS, N, MISSED, UNSEEN = 12, 9, 4, [2, 3, 7]
OVER_EPOCHS = {
    key: score
    for key, score in METHODS.items()
    if any(TABLE[need].axes[0].startswith("epochs") for need in score.card.needs)
}


def with_gaps(arrays):
    """The arrays of which example 4 was not seen in three epochs, as a recorder gives them."""
    out = {}
    for name, array in arrays.items():
        out[name] = array.clone()
        if name in TABLE and TABLE[name].axes[0].startswith("epochs"):
            array = array.float() if name == "correct" else array.clone()
            array[[epoch - (TABLE[name].axes[0] == "epochs-1") for epoch in UNSEEN], MISSED] = (
                False if name == "seen" else torch.nan
            )
            out[name] = array
    return out


def score_of(score, arrays, **options):
    return score(*[arrays[name] for name in score.card.needs], **options)


@pytest.mark.parametrize("key", OVER_EPOCHS)
def test_no_other_example_is_affected(key):
    score, arrays = OVER_EPOCHS[key], recorded(N)
    always_seen = [i for i in range(N) if i != MISSED]
    before, after = score_of(score, arrays), score_of(score, with_gaps(arrays), missing="skip")
    torch.testing.assert_close(after[always_seen], before[always_seen])


@pytest.mark.parametrize("key", [key for key in OVER_EPOCHS if "epoch" not in OVER_EPOCHS[key].card.options])
def test_the_gaps_are_an_error_unless_skipped(key):
    with pytest.raises(ArgumentError, match=f"example {MISSED}"):
        score_of(OVER_EPOCHS[key], with_gaps(recorded(N)))


@pytest.mark.parametrize("score", [aum, aum_softmax, el2n, forgetting], ids=lambda score: score.card.key)
def test_its_score_is_that_of_its_visits(score):
    arrays, options = recorded(N), {"first": 0, "last": EPOCHS} if score is el2n else {}
    visited = [epoch for epoch in range(EPOCHS) if epoch not in UNSEEN]
    alone = {name: array[visited] for name, array in at(arrays, [MISSED]).items() if array.shape[:1] == (EPOCHS,)}
    expected = score_of(score, alone, **options)
    got = score_of(score, with_gaps(arrays), missing="skip", **options)
    assert float(got[MISSED]) == pytest.approx(float(expected[0]))
    if score is not forgetting:  # a count can be the same
        assert float(expected[0]) != pytest.approx(float(score_of(score, arrays, **options)[MISSED]))


@pytest.mark.parametrize("consolidated", [False, True])
def test_a_recorder_gives_what_forgetting_needs(consolidated, tmp_path):
    g = torch.Generator().manual_seed(0)
    labels = torch.arange(N) % 3
    right = torch.rand(EPOCHS, N, generator=g) < 0.7
    recorder = Recorder(N, EPOCHS, path=tmp_path / "r" if consolidated else None)
    visits = [[] for _ in range(N)]
    for epoch in range(EPOCHS):
        ids = torch.randperm(N - 1, generator=g)[:5]  # the last example is never drawn
        guess = torch.where(right[epoch], labels, (labels + 1) % 3)
        recorder.write(epoch, ids, torch.nn.functional.one_hot(guess, 3).float()[ids] * 4, labels[ids])
        for i in ids.tolist():
            visits[i].append(bool(right[epoch, i]))
    if consolidated:
        recorder.consolidate()
    with pytest.raises(ArgumentError, match="not seen in epoch"):
        forgetting(recorder["correct"])
    counts = [sum(a and not b for a, b in itertools.pairwise(v)) if any(v) else EPOCHS for v in visits]
    result = forgetting(recorder["correct"], missing="skip")
    assert result[:-1].tolist() == counts[:-1]
    assert result[-1].isnan()
    assert torch.equal(result[:-1], forgetting(recorder["correct"], recorder["seen"], missing="skip")[:-1])


def test_seen_of_another_shape_is_refused():
    correct = torch.ones(4, 3)
    correct[1, 1] = torch.nan
    for values in (correct, torch.ones(4, 3)):
        with pytest.raises(ArgumentError, match=r"seen must have the shape of correct, \(4, 3\), got \(3, 4\)"):
            forgetting(values, torch.ones(3, 4), missing="skip")
