"""The mean of a score over runs."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import rankdata, sem

from datawinnow import scores
from datawinnow.core.card import card_of
from datawinnow.core.errors import ArgumentError
from datawinnow.core.rng import stream
from datawinnow.scores import over_runs

RUNS, N = 4, 30


def norms(runs=RUNS, epochs=25):
    return [torch.rand(epochs, N, generator=stream(run, "norms")) * 1.4 for run in range(runs)]


def test_mean_and_error_are_those_of_scipy():
    """EL2N at epoch 20, averaged over runs: the form in the paper."""
    runs = norms()
    each = np.stack([run[20].numpy() for run in runs])
    mean, error = over_runs(scores.el2n).with_error(runs, first=20, last=21)
    np.testing.assert_allclose(mean.numpy(), each.mean(0), rtol=1e-6)
    np.testing.assert_allclose(error.numpy(), sem(each, axis=0), rtol=1e-5)
    assert mean.dtype == torch.float32
    assert torch.equal(over_runs(scores.el2n)(runs, first=20, last=21), mean)
    assert over_runs(scores.el2n)([run.double() for run in runs]).dtype == torch.float64


def test_ranks_are_averaged_as_scipy_ranks_them():
    """Rank (r - 1/2) / n, ties shared; one run with large scores counts no more than another."""
    runs = [(run[:1] * 4).round() for run in norms()]
    runs[1] = runs[1] * 1000
    ranks = np.stack([(rankdata(run[0].numpy()) - 0.5) / N for run in runs])
    mean, error = over_runs(scores.grand_full, by="rank").with_error([run[0] for run in runs])
    np.testing.assert_allclose(mean.numpy(), ranks.mean(0), rtol=1e-6)
    np.testing.assert_allclose(error.numpy(), sem(ranks, axis=0), rtol=1e-5)


def test_an_example_counts_in_the_runs_that_saw_it():
    runs = [run[0] for run in norms()]
    runs[0][3] = runs[2][3] = math.nan
    for run in runs:
        run[5] = math.nan
    for run in runs[1:]:
        run[8] = math.nan
    with pytest.raises(ArgumentError, match=r"run 0: grad_norm is nan for example 3 .*missing=\"skip\""):
        over_runs(scores.grand_full)(runs)
    mean, error = over_runs(scores.grand_full).with_error(runs, missing="skip")
    each = np.ma.masked_invalid(np.stack([run.numpy() for run in runs]))
    rest = [i for i in range(N) if i != 5]
    np.testing.assert_allclose(mean.numpy()[rest], each.mean(0).data[rest], rtol=1e-6)
    assert math.isnan(mean[5])
    assert error.isnan().tolist() == [i in (5, 8) for i in range(N)]
    np.testing.assert_allclose(float(error[3]), sem([float(runs[1][3]), float(runs[3][3])]), rtol=1e-5)
    ranked = over_runs(scores.grand_full, by="rank")(runs, missing="skip")
    want = [(rankdata(run, nan_policy="omit") - 0.5) / int((~run.isnan()).sum()) for run in runs]
    np.testing.assert_allclose(ranked.numpy(), np.ma.masked_invalid(want).mean(0).filled(np.nan), rtol=1e-6)


def test_an_array_that_serves_all_runs():
    g = stream(9, "runs")
    y = torch.randint(0, 3, (N,), generator=g)
    h = [torch.randn(N, 4, generator=g) for _ in range(3)]
    p = [torch.randn(N, 3, generator=g).softmax(1) for _ in range(3)]
    want = torch.stack([scores.grand_last(a, b, y) for a, b in zip(h, p, strict=True)]).mean(0)
    for labels in (y, y.numpy(), [y, y, y]):
        torch.testing.assert_close(over_runs(scores.grand_last)(h, p, labels), want)
    with pytest.raises(ArgumentError, match=r"as many runs, but have 3 \(features\), 3 \(probs\), 30 \(labels\)"):
        over_runs(scores.grand_last)(h, p, y.tolist())


def test_the_card_is_the_score_s_own_but_for_its_name():
    wrapped = over_runs(scores.aum)
    assert card_of(wrapped) is wrapped.card
    assert (wrapped.card.key, wrapped.card.end, wrapped.card.needs) == ("over_runs_aum", "low", ("margin",))
    assert wrapped.card.options == scores.aum.card.options


def test_a_callable_of_one_s_own():
    def doubled(grad_norm):
        return torch.as_tensor(grad_norm) * 2

    assert over_runs(doubled)([[1.0, 2.0], [3.0, 2.0]]).tolist() == [4.0, 4.0]
    with pytest.raises(ArgumentError, match="run 1: the score is nan for example 0"):
        over_runs(doubled)([[1.0], [math.nan]])


def test_one_run_has_a_mean_and_no_error():
    mean, error = over_runs(scores.grand_full).with_error([[1.0, 2.0]])
    assert mean.tolist() == [1.0, 2.0]
    assert error.isnan().all()


@pytest.mark.parametrize(
    ("arrays", "options", "words"),
    [
        (([],), {}, r"over_runs_grand_full takes a list with one array a run .*grad_norm of 0 runs"),
        ((torch.ones(4),), {}, r"takes a list with one array a run for at least one of grad_norm, got no list"),
        (([[1.0, 2.0], [1.0]],), {}, r"run 1 is about 1 examples, but run 0 about 2"),
        (([[1.0, 2.0], [1.0, -2.0]],), {}, r"run 1: grad_norm must be 0 or above"),
        (([[1.0, 2.0]],), {"missing": "drop"}, r"missing must be one of 'raise', 'skip', got 'drop'"),
    ],
    ids=["none", "array", "sizes", "inside", "missing"],
)
def test_what_over_runs_refuses(arrays, options, words):
    with pytest.raises(ArgumentError, match=words):
        over_runs(scores.grand_full)(*arrays, **options)


def test_averages_of_what():
    with pytest.raises(ArgumentError, match="by must be one of 'score', 'rank', got 'mean'"):
        over_runs(scores.aum, by="mean")
    with pytest.raises(ArgumentError, match="expected a method's name or a callable, got 3"):
        over_runs(3)
