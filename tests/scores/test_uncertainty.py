"""Margin, least confidence, loss and AUM on softmax; cleanlab has some of them under other names."""

import math

import numpy as np
import pytest
import torch
from cleanlab.internal.label_quality_utils import get_normalized_entropy
from cleanlab.rank import get_normalized_margin_for_each_label, get_self_confidence_for_each_label
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from datawinnow import scores
from datawinnow.core.errors import ArgumentError
from datawinnow.core.rng import stream
from datawinnow.record.signals import signals
from tests.reference import scores as literal


@pytest.fixture(scope="module")
def predicted():
    """One epoch: logits of 200 examples of 5 classes, and labels, some of them wrong."""
    g = stream(0, "logits")
    logits = torch.randn(200, 5, generator=g, dtype=torch.float64) * 2
    labels = torch.randint(0, 5, (200,), generator=g)
    recorded = {name: value[None].double() for name, value in signals(logits, labels).items()}
    return recorded, logits.softmax(1), labels


def test_cleanlab_gives_the_same_numbers(predicted):
    """Its quality scores are the recorded signals at one epoch, rescaled; recording is float32."""
    recorded, p, labels = predicted
    y, q = labels.numpy(), p.numpy()

    def close(got, want):
        np.testing.assert_allclose(got.numpy(), want, rtol=0, atol=2e-6)

    close((scores.aum_softmax(recorded["margin_softmax"]) + 1) / 2, get_normalized_margin_for_each_label(y, q))
    close((-scores.loss(recorded["loss"])).exp(), get_self_confidence_for_each_label(y, q))
    close(scores.entropy(recorded["entropy"]) / math.log(5), get_normalized_entropy(q))
    likeliest = q.argmax(1)
    close(1 - scores.least_confidence(p), get_self_confidence_for_each_label(likeliest, q))
    close((scores.margin(recorded["margin_top2"]) + 1) / 2, get_normalized_margin_for_each_label(likeliest, q))


def test_margin_and_least_confidence_by_sorting(predicted):
    recorded, p, _ = predicted
    ranked = [sorted(row, reverse=True) for row in p.tolist()]
    torch.testing.assert_close(
        scores.margin(recorded["margin_top2"]),
        torch.tensor([a - b for a, b, *_ in ranked], dtype=torch.float64),
        atol=1e-6,
        rtol=0,
    )
    assert scores.least_confidence(p).tolist() == [1 - row[0] for row in ranked]


def test_one_epoch_is_taken_where_asked_for():
    array = torch.arange(12.0).reshape(4, 3)
    for method, name in ((scores.margin, "margin_top2"), (scores.loss, "loss")):
        assert method(array).tolist() == [9, 10, 11]
        assert method(array, epoch=1).tolist() == [3, 4, 5]
        assert method(array, epoch=-4).tolist() == [0, 1, 2]
        method(array)[0] = -1
        assert array[3, 0] == 9
        with pytest.raises(ArgumentError, match=rf"epoch=4 is out of range: {name} has 4 epochs, 0 to 3"):
            method(array, epoch=4)


@pytest.mark.parametrize(
    ("options", "rows"),
    [({"first": 20, "last": 21}, slice(20, 21)), ({"first": 3, "last": 9}, slice(3, 9)), ({"last": 4}, slice(0, 4))]
    + [({"first": 25}, slice(25, 30)), ({"first": 28, "last": 99}, slice(28, 30))],
    ids=["one", "range", "to", "from", "clipped"],
)
def test_ranges_of_epochs(options, rows):
    """EL2N at one epoch is first=20, last=21; its own defaults fill in for what is not given."""
    array = torch.rand(30, 9, generator=stream(1, "loss"))
    want = torch.tensor([literal.mean(c) for c in array[rows].T.tolist()])
    torch.testing.assert_close(scores.loss(array, **options), want, rtol=1e-6, atol=0)
    if set(options) == {"first", "last"}:
        torch.testing.assert_close(scores.el2n(array, **options), want, rtol=1e-6, atol=0)
    array[~torch.isin(torch.arange(30), torch.arange(30)[rows])] = math.nan
    torch.testing.assert_close(scores.loss(array, **options), want, rtol=1e-6, atol=0)


def test_loss_over_the_epochs_seen():
    array = torch.tensor([[1.0, 2.0], [math.nan, 4.0], [3.0, math.nan]])
    assert scores.loss(array, first=0, missing="skip").tolist() == [2.0, 3.0]
    last = scores.loss(array, missing="skip")
    assert last[0] == 3
    assert math.isnan(last[1])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"first": 5}, r"first=5 is past the end: loss has 5 epochs, so first can be at most 4"),
        ({"first": 3, "last": 3}, r"last must be above first=3, got 3"),
        ({"epoch": 2, "last": 3}, r"give either epoch= or first= and last=, got epoch=2, first=None, last=3"),
        ({"first": -1}, r"first must be a whole number in \[0"),
        ({"last": 0}, r"last must be a whole number in \[1"),
    ],
    ids=["past", "empty", "both", "negative", "none"],
)
def test_epochs_that_cannot_be(options, words):
    with pytest.raises(ArgumentError, match=words):
        scores.loss(torch.rand(5, 3), **options)


def test_aum_softmax_is_the_mean_and_ranks_as_the_sum_of_the_ccs_code():
    array = torch.rand(12, 40, generator=stream(2, "aum")) * 2 - 1
    got = scores.aum_softmax(array)
    torch.testing.assert_close(got, torch.tensor([literal.mean(c) for c in array.T.tolist()]), rtol=1e-6, atol=1e-7)
    assert torch.equal(got.argsort(), array.double().sum(0).argsort())


@pytest.mark.parametrize(
    ("row", "words"),
    [([0.5, 0.3, 0.1], r"probs must sum to 1 .* got 0\.9 for example 3: pass the softmax")]
    + [([1.2, -0.1, -0.1], r"probs must hold probabilities in \[0, 1\], got 1\.2 for example 3")]
    + [([0.5, math.inf, 0.5], r"probs is inf for example 3 in column 1")],
    ids=["sum", "range", "inf"],
)
@pytest.mark.parametrize("missing", ["raise", "skip"])
def test_rows_that_are_no_distribution(row, words, missing):
    p = torch.full((6, 3), 1 / 3)
    p[3] = torch.tensor(row)
    if missing == "skip":
        p[1] = math.nan
    with pytest.raises(ArgumentError, match=words):
        scores.least_confidence(p, missing=missing)


def test_the_unsure_are_kept_and_the_mislabelled_have_the_highest_loss():
    """Digits with 5% of the labels wrong; a linear model that sees them all."""
    data = load_digits()
    x, true = data.data[:900] / 16, data.target[:900]
    flipped = torch.rand(len(x), generator=stream(3, "flip")).numpy() < 0.05
    y = np.where(flipped, (true + 3) % 10, true)
    model = LogisticRegression(C=0.05, max_iter=200).fit(x, y)
    p = torch.from_numpy(model.predict_proba(x))
    recorded = {name: value[None] for name, value in signals(p.log(), torch.from_numpy(y)).items()}
    for name, sign in (("loss", 1), ("el2n", 1), ("aum_softmax", -1), ("aum", -1)):
        method = scores.METHODS[name]
        assert (method.card.end == "high") == (sign > 0)
        assert roc_auc_score(flipped, sign * method(recorded[method.card.needs[0]])) > 0.97, name
    top = scores.grand_last(x, p, y)
    assert roc_auc_score(flipped, top) > 0.97
    # these do not look at the label: what is kept is what the model gets wrong on its own account
    wrong = p.argmax(1).numpy() != true
    for score, end in ((scores.margin(recorded["margin_top2"]), "low"), (scores.least_confidence(p), "high")):
        assert roc_auc_score(wrong, -score if end == "low" else score) > 0.9
    assert (scores.margin.card.end, scores.least_confidence.card.end) == ("low", "high")
